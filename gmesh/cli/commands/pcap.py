"""``gmesh pcap``: the packets of the daemon's device as a capture file on standard output (control 4)."""

from __future__ import annotations

import re
import struct
import sys
import time

from gmesh.cli.context import CommandError, Context, expect
from gmesh.proto.control import ControlCode

LONGEST = 9018
"""Bytes of a frame that readers are told to expect when no length is asked for."""

_FILE_HEADER = struct.Struct("=IHHiIII")
_RECORD_HEADER = struct.Struct("=IIII")
_MAGIC, _VERSION, _ETHERNET = 0xA1B2C3D4, (2, 4), 1


def run(context: Context, arguments: list[str]) -> int:
    """``pcap [SNAPLEN]``, until interrupted or the daemon ends."""
    expect(arguments, 0, 1)
    length = 0
    if arguments:
        digits = re.match(r"\s*\+?[0-9]{1,9}", arguments[0])
        length = int(digits[0]) if digits else 0
    out = sys.stdout.buffer
    if sys.stdout.isatty():
        raise CommandError("A capture file is not for a terminal: use `gmesh pcap | tcpdump -r -', or `> FILE'.")
    connection = context.connect()
    connection.send(ControlCode.PCAP, length)
    try:
        out.write(file_header(length or LONGEST))
        out.flush()
        for frame in connection.stream(ControlCode.PCAP):
            out.write(record(frame, time.time_ns() // 1000))
            out.flush()
    except KeyboardInterrupt:
        return 0
    finally:
        context.disconnect()
    return 0


def file_header(length: int) -> bytes:
    """The start of a pcap file of Ethernet frames, ``length`` bytes of each at most, in this machine's byte order."""
    return _FILE_HEADER.pack(_MAGIC, *_VERSION, 0, 0, length, _ETHERNET)


def record(frame: bytes, now_us: int) -> bytes:
    """A frame with its header; ``now_us`` is microseconds since 1970. Its real length is not known to us."""
    return _RECORD_HEADER.pack(*divmod(now_us, 1_000_000), len(frame), len(frame)) + frame
