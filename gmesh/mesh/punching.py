"""When to send probes to a node that has not answered yet: the strategy table of hole punching (topology 12 d).

Only times. Not here: to which addresses (`udp.py`) and how the other end's addresses are learnt (`channels.py`).

Most NATs drop what they do not know, and then any order of probes works: both ends simply probe. A NAT that rejects or
that remembers unknown packets can be spoiled by a probe that comes before its own side has sent (requirement 15). The
cure is to stay silent longer than such half-open entries live (about 30 s) and to start again in another order: with
openers that die before they reach the other NAT, or with one end first. Both ends began within a second of each other,
because the same exchange of keys started both, and they take turns by the order of their names.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Turn(Enum):
    """Which end sends during a phase; names compare as bytes."""

    BOTH = auto()
    SMALLER = auto()
    LARGER = auto()
    NEITHER = auto()


@dataclass(frozen=True, slots=True)
class Phase:
    """``duration`` and ``interval`` are seconds. ``ttl`` is that of probes across the Internet, 0 for the system's."""

    duration: float
    interval: float
    turn: Turn = Turn.BOTH
    ttl: int = 0


SILENCE = Phase(35.0, 35.0, Turn.NEITHER)

OPENING: tuple[Phase, ...] = (
    Phase(3.0, 0.25),
    Phase(7.0, 0.5),
    Phase(20.0, 1.0),
)
"""Passed through once."""

OPENING_SECONDS = sum(phase.duration for phase in OPENING)

OPENER = Phase(0.75, 0.25, Turn.BOTH, ttl=2)
"""Before anything else where NATs may be before both ends: it opens ours and dies before it can spoil the peer's. The
other end's opener leaves within one relayed message of ours: busy machines included, sooner than our first probe that
could arrive."""

NAT_CYCLE: tuple[Phase, ...] = (
    SILENCE,
    Phase(4.0, 0.5, Turn.BOTH, ttl=2),
    Phase(5.0, 0.5),
    SILENCE,
    Phase(1.5, 0.25, Turn.SMALLER),
    Phase(5.0, 0.5),
    SILENCE,
    Phase(1.5, 0.25, Turn.LARGER),
    Phase(5.0, 0.5),
    SILENCE,
    Phase(4.0, 0.5, Turn.BOTH, ttl=4),
    Phase(5.0, 0.5),
)
"""Repeated for ever where NATs may be before both ends, so that only punching helps."""

PLAIN_CYCLE: tuple[Phase, ...] = (Phase(10.0, 1.0),)
"""Repeated for ever otherwise, where probes can spoil nothing: for neighbours, whose address is no secret of a NAT, and
where one end is surely in the open, which then answers to wherever it sees the other."""


@dataclass(frozen=True, slots=True)
class Step:
    """What holds now: send every ``interval`` seconds if ``send``; look again after ``remaining`` seconds."""

    send: bool
    interval: float
    ttl: int
    remaining: float


def step(elapsed: float, *, smaller: bool, nats: bool) -> Step:
    """The step after ``elapsed`` seconds of search. ``smaller``: our name is the smaller one of the two. ``nats``: they
    may be before both of us."""
    rest = max(elapsed, 0.0)
    for phase in (OPENER, *OPENING) if nats else OPENING:
        if rest < phase.duration:
            return _step(phase, rest, smaller)
        rest -= phase.duration
    cycle = NAT_CYCLE if nats else PLAIN_CYCLE
    rest %= sum(phase.duration for phase in cycle)
    for phase in cycle:
        if rest < phase.duration:
            return _step(phase, rest, smaller)
        rest -= phase.duration
    return _step(cycle[-1], cycle[-1].duration, smaller)


def _step(phase: Phase, into: float, smaller: bool) -> Step:
    ours = phase.turn is Turn.BOTH or (phase.turn is Turn.SMALLER) == smaller
    send = ours and phase.turn is not Turn.NEITHER
    return Step(send, phase.interval, phase.ttl, max(phase.duration - into, 0.05))
