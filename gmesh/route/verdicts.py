"""What routing can say about a frame.

Not here: how a frame gets there. The data plane applies the sending decision (data-legacy 6) to a `ToNode`.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class ToDevice(NamedTuple):
    """Write ``frame`` to the own tun or tap device."""

    frame: bytes


class ToNode(NamedTuple):
    """Send ``frame`` to ``node``.

    ``node`` owns the destination and may lie behind relays, unless ``exact``: then it is the very node to address
    (broadcast copies, fragments, replies to a relay).
    """

    node: str
    frame: bytes
    exact: bool = False


class Drop(NamedTuple):
    """Forget the frame. ``reason`` is a constant of this module or a value of `icmp.Trouble`: fit to be counted by."""

    reason: str


Verdict: TypeAlias = ToDevice | ToNode | Drop

TOO_SHORT = "too short"
UNKNOWN_TYPE = "unknown EtherType"
LOOP = "loop"
BAD_PACKET = "malformed packet"
NO_RECEIVER = "no receiver"
NOT_ANSWERED = "neighbour request not answered"
"""Address resolution that is not ours to answer (topology 9.7)."""
