"""ICMP and ICMPv6 error messages (topology 9.4): their bytes, when none may be sent, and how many.

Not here: which error a frame deserves.
"""

from __future__ import annotations

from enum import Enum

from gmesh.route import ethernet
from gmesh.route.checksum import checksum, pseudo_header


class Trouble(Enum):
    """What can be wrong with a packet that its sender should hear about; the value is the reason in a `Drop`."""

    UNKNOWN = "no subnet"
    UNREACHABLE = "unreachable"
    PROHIBITED = "prohibited"
    TIME_EXCEEDED = "TTL expired"
    TOO_BIG = "too big"


IPV4_CODES = {
    Trouble.UNKNOWN: (3, 6),
    Trouble.UNREACHABLE: (3, 0),
    Trouble.PROHIBITED: (3, 9),
    Trouble.TIME_EXCEEDED: (11, 0),
    Trouble.TOO_BIG: (3, 4),
}
IPV6_CODES = {
    Trouble.UNKNOWN: (1, 3),
    Trouble.UNREACHABLE: (1, 0),
    Trouble.PROHIBITED: (1, 1),
    Trouble.TIME_EXCEEDED: (3, 0),
    Trouble.TOO_BIG: (2, 0),
}
"""(type, code) by RFC 792, 1122 and 4443."""

_LONGEST = 576
"""Bytes of an answer from its IP header on."""
_ICMP = 1
_ICMPV6 = 58
_IPV4_ERRORS = frozenset((3, 4, 5, 11, 12))
_UNSPECIFIED = bytes(16)
_IPV6_EXTENSIONS = frozenset((0, 43, 60))
"""Hop-by-hop options, routing and destination options: all with the same length field."""
_FRAGMENT = 44


def answerable(frame: bytes) -> bool:
    """Whether the sender of ``frame`` may be told about a trouble at all."""
    kind, start = ethernet.payload(frame)
    if kind == ethernet.IPV4:
        return _ipv4_answerable(frame, start)
    return kind == ethernet.IPV6 and _ipv6_answerable(frame, start)


def error(trouble: Trouble, frame: bytes, mtu: int = 0, source: bytes | None = None) -> bytes:
    """The frame that tells the sender of ``frame``, which must be `answerable`, about ``trouble``.

    ``mtu`` counts from the IP header on and is used with `Trouble.TOO_BIG` only. ``source`` (4 or 16 bytes) replaces
    the original destination as the sender of the answer.
    """
    kind, start = ethernet.payload(frame)
    build = _ipv4_error if kind == ethernet.IPV4 else _ipv6_error
    return build(trouble, frame, start, mtu, source)


def _ipv4_error(trouble: Trouble, frame: bytes, start: int, mtu: int, source: bytes | None) -> bytes:
    original = frame[start : start + _LONGEST - 28]
    head = bytes(IPV4_CODES[trouble])
    tail = mtu.to_bytes(4, "big") + original
    message = head + checksum(head + b"\0\0" + tail).to_bytes(2, "big") + tail
    # 45 and no service; length; no id, no fragment; TTL 255, ICMP; checksum; addresses
    before = b"\x45\0" + (20 + len(message)).to_bytes(2, "big") + b"\0\0\0\0\xff\x01"
    addresses = (source or frame[start + 16 : start + 20]) + frame[start + 12 : start + 16]
    header = before + checksum(before + addresses).to_bytes(2, "big") + addresses
    return ethernet.answer_header(frame, start) + header + message


def _ipv6_error(trouble: Trouble, frame: bytes, start: int, mtu: int, source: bytes | None) -> bytes:
    original = frame[start : start + _LONGEST - 48]
    head = bytes(IPV6_CODES[trouble])
    tail = mtu.to_bytes(4, "big") + original
    sender, receiver = source or frame[start + 24 : start + 40], frame[start + 8 : start + 24]
    covered = pseudo_header(sender, receiver, 4 + len(tail), _ICMPV6) + head + b"\0\0" + tail
    message = head + checksum(covered).to_bytes(2, "big") + tail
    header = b"\x60\0\0\0" + len(message).to_bytes(2, "big") + b"\x3a\xff" + sender + receiver
    return ethernet.answer_header(frame, start) + header + message


def _ipv4_answerable(frame: bytes, start: int) -> bool:
    """RFC 1122, 3.2.2: nothing about errors, later fragments, or from or to anything but one host."""
    if len(frame) < start + 20:
        return False
    source, destination = frame[start + 12], frame[start + 16]
    # 0/8 names no host; 224/4 is multicast, 240/4 holds the broadcast address and nothing in use.
    if source == 0 or source >= 224 or destination >= 224:
        return False
    if frame[start + 6] & 0x1F or frame[start + 7]:
        return False
    if frame[start + 9] == _ICMP:
        message = start + (frame[start] & 0x0F) * 4
        return message < len(frame) and frame[message] not in _IPV4_ERRORS
    return True


def _ipv6_answerable(frame: bytes, start: int) -> bool:
    """RFC 4443, 2.4 (e), a little stricter: never to multicast, because the answer would bear it as its source."""
    if len(frame) < start + 40:
        return False
    source = frame[start + 8 : start + 24]
    if source[0] == 0xFF or source == _UNSPECIFIED or frame[start + 24] == 0xFF:
        return False
    following, offset = frame[start + 6], start + 40
    while True:
        if following in _IPV6_EXTENSIONS:
            if offset + 8 > len(frame):
                return False
            following, offset = frame[offset], offset + 8 + frame[offset + 1] * 8
        elif following == _FRAGMENT:
            if offset + 8 > len(frame) or frame[offset + 2] or frame[offset + 3] & 0xF8:
                return False
            following, offset = frame[offset], offset + 8
        else:
            break
    if following == _ICMPV6:
        return offset < len(frame) and frame[offset] >= 128
    return True


class ErrorLimit:
    """At most ``most`` errors within any ``period`` seconds, all kinds together (topology 9.4)."""

    __slots__ = ("_next", "_period", "_times")

    def __init__(self, most: int = 3, period: float = 1.0) -> None:
        self._times = [float("-inf")] * most
        self._next = 0
        self._period = period

    def allows(self, now: float) -> bool:
        """Whether one more may be sent at ``now``; if so, it counts as sent."""
        if now - self._times[self._next] < self._period:
            return False
        self._times[self._next] = now
        self._next = (self._next + 1) % len(self._times)
        return True
