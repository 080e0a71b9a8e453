"""ClampMSS: TCP is told not to send segments that the path would have to cut (topology 9.4).

Not here: whether clamping is wanted, and between which MTUs.
"""

from __future__ import annotations

from gmesh.route import ethernet
from gmesh.route.checksum import updated

_SIGN = b"\x02\x04"
"""How an MSS option begins: kind and length."""
_FIRST, _END = 14 + 20 + 20, 14 + 4 + 60 + 60 + 60
"""Where it can lie at the earliest, and where at the latest it ends: tag and headers as long as they can be."""

_TCP = 6
_IPV4_IN_IPV4 = 4


def may_carry_mss(frame: bytes) -> bool:
    """A quick look, so that only few frames need `clamped`: False is certain, True is not."""
    return frame.find(_SIGN, _FIRST, _END) >= 0


def clamped(frame: bytes, mtu: int) -> bytes:
    """``frame``, its MSS option lowered to what fits a frame of ``mtu`` bytes; the same object if nothing changes.

    Looks behind one VLAN tag and one IPv4-in-IPv4 header; IPv6 only without extension headers.
    """
    tcp = _tcp_offset(frame)
    if tcp == 0:
        return frame
    value_at = _mss_offset(frame, tcp)
    limit = mtu - tcp - 20
    if value_at == 0 or limit <= 0:
        return frame
    mss = frame[value_at] << 8 | frame[value_at + 1]
    if mss <= limit:
        return frame
    old, new = mss, limit
    if (value_at - tcp) & 1:  # spread over two words of the sum: adding it with its bytes swapped does the same
        old, new = _swapped(old), _swapped(new)
    at = tcp + 16
    fixed = updated(frame[at] << 8 | frame[at + 1], old, new).to_bytes(2, "big")
    return frame[:at] + fixed + frame[at + 2 : value_at] + limit.to_bytes(2, "big") + frame[value_at + 2 :]


def _swapped(word: int) -> int:
    return (word & 0xFF) << 8 | word >> 8


def _tcp_offset(frame: bytes) -> int:
    """Where a complete TCP header begins, or 0."""
    kind, start = ethernet.payload(frame)
    if kind == ethernet.IPV6:
        if len(frame) < start + 60 or frame[start + 6] != _TCP:
            return 0
        return start + 40
    if kind != ethernet.IPV4:
        return 0
    start, protocol = _behind_ipv4(frame, start)
    if protocol == _IPV4_IN_IPV4:
        start, protocol = _behind_ipv4(frame, start)
    return start if protocol == _TCP and len(frame) >= start + 20 else 0


def _behind_ipv4(frame: bytes, start: int) -> tuple[int, int]:
    """Offset and protocol number of what begins behind the IPv4 header at ``start``; (0, -1) where nothing does."""
    if len(frame) < start + 20 or frame[start] >> 4 != 4 or frame[start] & 0x0F < 5:
        return 0, -1
    if frame[start + 6] & 0x1F or frame[start + 7]:
        return 0, -1
    return start + (frame[start] & 0x0F) * 4, frame[start + 9]


def _mss_offset(frame: bytes, tcp: int) -> int:
    """Where the value of the MSS option lies, or 0."""
    end = tcp + (frame[tcp + 12] >> 4) * 4
    if end > len(frame):
        return 0
    at = tcp + 20
    while at + 1 < end:
        kind = frame[at]
        if kind == 0:
            return 0
        if kind == 1:
            at += 1
            continue
        length = frame[at + 1]
        if kind == 2:
            return at + 2 if length == 4 and at + 4 <= end else 0
        if length < 2:
            return 0
        at += length
    return 0
