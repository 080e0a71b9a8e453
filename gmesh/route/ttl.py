"""DecrementTTL: relayed packets lose a hop (topology 9.5).

Not here: the error for a packet that has none left.
"""

from __future__ import annotations

from gmesh.route import ethernet
from gmesh.route.checksum import updated


def decremented(frame: bytes) -> bytes | None:
    """``frame`` with one hop less, or None where its last hop is used up.

    Looks behind one VLAN tag. What is neither IPv4 nor IPv6, or too short for its header, stays as it is.
    """
    kind, start = ethernet.payload(frame)
    if kind == ethernet.IPV4 and len(frame) >= start + 20:
        at = start + 8
        if frame[at] <= 1:
            return None
        word = frame[at] << 8 | frame[at + 1]
        fixed = updated(frame[at + 2] << 8 | frame[at + 3], word, word - 0x100)
        return frame[:at] + (word - 0x100).to_bytes(2, "big") + fixed.to_bytes(2, "big") + frame[at + 4 :]
    if kind == ethernet.IPV6 and len(frame) >= start + 40:
        at = start + 7
        if frame[at] <= 1:
            return None
        return frame[:at] + bytes((frame[at] - 1,)) + frame[at + 1 :]
    return frame
