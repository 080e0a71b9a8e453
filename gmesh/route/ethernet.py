"""The few facts about Ethernet frames that every part of routing needs.

Not here: anything about IP.
"""

from __future__ import annotations

from gmesh.values import ETHERNET_HEADER

ARP = b"\x08\x06"
IPV4 = b"\x08\x00"
IPV6 = b"\x86\xdd"
VLAN = b"\x81\x00"

VLAN_TAG = 4


def payload(frame: bytes) -> tuple[bytes, int]:
    """The EtherType (2 bytes) and the offset of the payload, both behind one VLAN tag if there is one."""
    kind = frame[12:14]
    if kind == VLAN:
        return frame[16:18], ETHERNET_HEADER + VLAN_TAG
    return kind, ETHERNET_HEADER


def answer_header(frame: bytes, start: int) -> bytes:
    """The link header, up to offset ``start``, of an answer to ``frame``: addresses swapped, tag and type kept."""
    return frame[6:12] + frame[0:6] + frame[12:start]
