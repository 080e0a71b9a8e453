"""The priority of the packet in a frame, for PriorityInheritance (requirement 19).

Not here: setting it (`sockets.py`).
"""

from __future__ import annotations


def traffic_class(frame: bytes) -> int:
    """The priority (DSCP) bits of the IP packet in a frame, behind a VLAN tag too, 0 for others.

    The congestion bits stay 0: a mark that the outer packet gets on its way would be lost with it.
    """
    start = 18 if frame[12:14] == b"\x81\x00" else 14
    header = frame[start : start + 2]
    if len(header) == 2:
        if header[0] >> 4 == 4 and frame[start - 2 : start] == b"\x08\x00":
            return header[1] & 0xFC
        if header[0] >> 4 == 6 and frame[start - 2 : start] == b"\x86\xdd":
            return ((header[0] << 4) & 0xF0 | header[1] >> 4) & 0xFC
    return 0
