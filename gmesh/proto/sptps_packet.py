"""What is around and inside the records of VPN packets: node ids, record types, frames (data-sptps 1 to 3).

Not here: the records themselves (`sptps_flow.py`), and which way a datagram goes.
"""

from __future__ import annotations

import functools
import hashlib

from gmesh.errors import DatagramError
from gmesh.proto.compression import Transform, compression_problem, make_compressor, make_decompressor
from gmesh.proto.probe import PROBE_TYPE
from gmesh.proto.sptps_flow import OVERHEAD
from gmesh.values import ETHERNET_HEADER, MTU

ID_SIZE = 6
HEAD_SIZE = 2 * ID_SIZE
"""Bytes before the record of a datagram: the ids of its destination and of the node that sealed it."""
NULL_ID = bytes(ID_SIZE)
"""The destination of a datagram that comes straight from the node that sealed it."""
DATAGRAM_OVERHEAD = HEAD_SIZE + OVERHEAD
"""Bytes of a UDP datagram besides the data of its record."""

PLAIN = 0
COMPRESSED = 1
"""Bit of a record type: the data is compressed."""
WITH_HEADER = 2
"""Bit of a record type: the data begins with an Ethernet header."""
PROBE = 4

_ZLIB_LEVELS = 9

_MADE_UP_HEADERS = {4: bytes(12) + b"\x08\x00", 6: bytes(12) + b"\x86\xdd"}
"""By the version of the IP packet: what is put before a packet that came without a header."""


@functools.lru_cache(maxsize=16384)
def node_id(name: str) -> bytes:
    """The 6 bytes that stand for a node in datagrams (data-sptps 1)."""
    return hashlib.sha512(name.encode("ascii")).digest()[:ID_SIZE]


class FrameCodec:
    """Frames to the types and data of records and back, for one session.

    ``compression`` is the level that the peer announced, ``own_compression`` the one that we announced. Compression is
    voluntary for each packet, so a level that cannot be done here is only never used.
    """

    __slots__ = ("_compress", "_decompress", "_own_compression", "with_header")

    def __init__(self, compression: int, own_compression: int, *, with_header: bool) -> None:
        """``with_header``: frames travel with their Ethernet header, as in switch and hub mode."""
        self.with_header = with_header
        self._own_compression = own_compression
        self._compress: Transform | None = None if compression_problem(compression) else make_compressor(compression)
        self._decompress: Transform | None = (
            None if compression_problem(own_compression) else make_decompressor(own_compression)
        )

    def pack(self, frame: bytes) -> tuple[int, bytes]:
        """Type and data of the record for ``frame``."""
        kind, data = (WITH_HEADER, frame) if self.with_header else (PLAIN, frame[ETHERNET_HEADER:])
        if self._compress is not None:
            smaller = self._compress(data)
            if len(smaller) < len(data):
                return kind | COMPRESSED, smaller
        return kind, data

    def unpack(self, kind: int, data: bytes) -> bytes:
        """The frame of an authentic record that is no probe: 14 to 1518 bytes, and no probe either.

        Raises DatagramError; its texts are few enough to count by.
        """
        if kind:
            if kind & ~(COMPRESSED | WITH_HEADER):
                raise DatagramError("record type")
            if kind & COMPRESSED:
                data = self._inflate(data)
        if kind & WITH_HEADER:
            frame = data
            if frame[12:ETHERNET_HEADER] == PROBE_TYPE:
                raise DatagramError("probe as a frame")
        elif self.with_header:
            raise DatagramError("no Ethernet header")
        else:
            header = _MADE_UP_HEADERS.get(data[0] >> 4) if data else None
            if header is None:
                raise DatagramError("no IP packet")
            frame = header + data
        if not ETHERNET_HEADER <= len(frame) <= MTU:
            raise DatagramError("frame length")
        return frame

    def mended(self, packet: bytes) -> bytes:
        """The frame of a PACKET, which tinc compresses though nothing there can say so (data-sptps 5).

        In router mode 14 meaningless bytes are in front of the compressed IP packet. What is a frame as it is, or
        cannot be made one, stays as it is; a whole frame is told from a compressed one by zlib's checksum only.
        """
        if self._decompress is None:
            return packet
        try:
            if self.with_header:
                return self._inflate(packet) if self._own_compression <= _ZLIB_LEVELS else packet
            version = packet[ETHERNET_HEADER] >> 4 if len(packet) > ETHERNET_HEADER else 0
            if packet[12:ETHERNET_HEADER] == _MADE_UP_HEADERS.get(version, b"")[12:]:
                return packet
            return self.unpack(COMPRESSED, packet[ETHERNET_HEADER:])
        except DatagramError:
            return packet

    def _inflate(self, data: bytes) -> bytes:
        if self._decompress is None:
            raise DatagramError("compressed, though not announced")
        return self._decompress(data)
