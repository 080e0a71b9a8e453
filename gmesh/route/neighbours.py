"""Answers for a tap device's kernel that asks for hardware addresses in router mode (topology 9.7).

Not here: whose address is asked for; `Request.target` says which, the caller looks it up.
"""

from __future__ import annotations

from dataclasses import dataclass

from gmesh.route import ethernet
from gmesh.route.checksum import checksum, pseudo_header
from gmesh.values import SubnetKind

_ARP_LENGTH = 42
_ARP_REQUEST = b"\x00\x01\x08\x00\x06\x04\x00\x01"
_ARP_REPLY = b"\x00\x01\x08\x00\x06\x04\x00\x02"
_SOLICITATION = 135
_ADVERTISEMENT = 136
_ICMPV6 = 58
_ND_LENGTH = 78
_SOURCE_LINK = b"\x01\x01"
_TARGET_LINK = b"\x02\x01"


@dataclass(frozen=True, slots=True)
class Request:
    """A well-formed question: ``target`` (4 or 16 bytes by ``kind``) and the frame that answers it."""

    kind: SubnetKind
    target: bytes
    answer: bytes


def is_solicitation(frame: bytes) -> bool:
    """Whether an IPv6 ``frame`` of at least 54 bytes is a neighbour solicitation."""
    return frame[20] == _ICMPV6 and len(frame) > 54 and frame[54] == _SOLICITATION


def _made_up(hardware: bytes) -> bytes:
    """An address unlike the asker's own, the same for every target: the frames go to us whatever it is."""
    return hardware[:5] + bytes((hardware[5] ^ 0xFF,))


def arp_request(frame: bytes) -> Request | None:
    """Read an ARP request for an IPv4 address over Ethernet; None for any other frame."""
    if len(frame) < _ARP_LENGTH or frame[12:14] != ethernet.ARP or frame[14:22] != _ARP_REQUEST:
        return None
    asker, target = frame[22:32], frame[38:42]
    ours = _made_up(frame[6:12])
    answer = frame[6:12] + ours + ethernet.ARP + _ARP_REPLY + ours + target + asker
    return Request(SubnetKind.IPV4, target, answer)


def solicitation(frame: bytes) -> Request | None:
    """Read a neighbour solicitation; None if it is incomplete, its checksum is wrong, or it has no one to answer."""
    if len(frame) < _ND_LENGTH or not is_solicitation(frame) or frame[55]:
        return None
    asker, asked, target = frame[22:38], frame[38:54], frame[62:78]
    length = frame[18] << 8 | frame[19]
    if length < 24 or 54 + length > len(frame):
        return None
    message = frame[54 : 54 + length]
    if checksum(pseudo_header(asker, asked, length, _ICMPV6) + message) != 0:
        return None
    if not any(asker):  # duplicate address detection: the kernel has no address yet that an answer could go to
        return None
    option = b""
    ours = _made_up(frame[6:12])
    if length >= 32:
        if frame[78:80] != _SOURCE_LINK:
            return None
        option = _TARGET_LINK + ours
    body = b"\x40\0\0\0" + target + option
    head = bytes((_ADVERTISEMENT, 0))
    size = 4 + len(body)
    total = checksum(pseudo_header(target, asker, size, _ICMPV6) + head + b"\0\0" + body)
    header = b"\x60\0\0\0" + size.to_bytes(2, "big") + b"\x3a\xff" + target + asker
    answer = frame[6:12] + ours + ethernet.IPV6 + header + head + total.to_bytes(2, "big") + body
    return Request(SubnetKind.IPV6, target, answer)
