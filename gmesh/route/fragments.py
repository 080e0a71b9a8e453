"""Cutting IPv4 packets that are too big for the way ahead (topology 9.4).

Not here: deciding that one is too big, or putting fragments together again, which is the receiver's work.
"""

from __future__ import annotations

from gmesh.route import ethernet
from gmesh.route.checksum import checksum

_HEADER = 20
_MORE = 0x2000
_OFFSET = 0x1FFF


def fragments(frame: bytes, mtu: int) -> list[bytes]:
    """``frame`` (IPv4, perhaps behind a VLAN tag) as frames of at most ``mtu`` bytes, link header included.

    Empty if it cannot be cut: it has IP options, its length is not what its header says, or its end lies beyond what
    an offset can express.
    """
    _, start = ethernet.payload(frame)
    data = start + _HEADER
    if len(frame) < data or frame[start] != 0x45:
        return []
    if int.from_bytes(frame[start + 2 : start + 4], "big") != len(frame) - start:
        return []
    step = (mtu - data) // 8 * 8
    flags = int.from_bytes(frame[start + 6 : start + 8], "big")
    if step <= 0 or (flags & _OFFSET) * 8 + len(frame) - data > 0xFFFF:
        return []
    link, service, identity = frame[:start], frame[start : start + 2], frame[start + 4 : start + 6]
    life, addresses = frame[start + 8 : start + 10], frame[start + 12 : data]
    pieces = []
    for at in range(data, len(frame), step):
        piece = frame[at : at + step]
        # Only the last piece may end the packet, and only if the packet was not a fragment with more to come.
        more = _MORE if at + step < len(frame) else 0
        place = ((flags | more) + (at - data) // 8).to_bytes(2, "big")
        before = service + (_HEADER + len(piece)).to_bytes(2, "big") + identity + place + life
        pieces.append(link + before + checksum(before + addresses).to_bytes(2, "big") + addresses + piece)
    return pieces
