"""How long to wait between attempts for one outgoing connection. Pure: the random factor is an argument.

What costs nobody anything is repeated quickly; what the other end has to deal with is not. Not here: connecting
(`dialer.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gmesh.values import Address

QUICK_DELAY = 0.5
"""Seconds between attempts while an answer may come at any moment: its peer's return costs a connector less than 1 s
(requirement 17), and a refused SYN every now and then costs nobody anything."""

QUICK_PERIOD = 60.0
"""Seconds for which attempts stay quick after a start or a loss, whatever becomes of them."""

ABSENT_DELAY = 0.8
ABSENT_PERIOD = 3600.0
"""Afterwards, and until that many seconds are over, while the peer's system says at once that nobody listens there: it
is up, so its daemon may be back at any moment."""

STEP = 5.0
"""Seconds by which the wait grows per round afterwards (meta-legacy 10), and per refusal of one address."""

FIRST_REFUSAL = 1.0
"""Seconds until an address that refused us is tried once more: its daemon may just have been ending."""

STABLE_AFTER = 5.0
"""A connection that lived for so many seconds is dialled anew at once when it is lost."""

QUICK_LOSSES = 2
LONGEST_DAMPING = 30.0
"""One that lives shorter is dialled anew quickly twice in a row; then the wait doubles up to this many seconds, so that
two daemons which cannot agree, or two of one name, do not replace each other several times a second."""

MAX_GRUDGES = 64


def _spread(wait: float, jitter: float) -> float:
    """``jitter`` is uniform in 0..1 and spreads peers that lost the same node."""
    return wait * (0.7 + 0.3 * jitter)


@dataclass(slots=True)
class Backoff:
    """Waits in seconds; `minimum` and `maximum` are MinTimeout and MaxTimeout.

    ``losses`` counts connections in a row that were lost soon after they had become active.
    """

    minimum: float
    maximum: float
    began: float = 0.0
    rounds: int = 0
    losses: int = 0
    damping: float = 0.0

    def restart(self, now: float) -> None:
        """An established connection was lost, or the administrator wants an attempt now."""
        self.began = now
        self.rounds = self.losses = 0
        self.damping = 0.0

    def delay(self, now: float, jitter: float, *, absent: bool = False, futile: bool = False) -> float:
        """The wait before the next round after one that led to nothing. ``absent``: a system said that nobody listens.

        Then a loss before it was the end of a daemon, not a disagreement. ``futile``: nothing could be tried at all, so
        no answer may come at any moment: somebody has to change something here first.
        """
        outage = now - self.began
        if absent:
            self.losses, self.damping = 0, 0.0
        if outage < QUICK_PERIOD and not futile:
            return _spread(self._bounded(QUICK_DELAY), jitter)
        if absent and outage < ABSENT_PERIOD:
            return _spread(self._bounded(ABSENT_DELAY), jitter)
        self.rounds += 1
        return _spread(self._bounded(STEP * self.rounds), jitter)

    def after_loss(self, lived: float, now: float, jitter: float) -> float:
        """The wait after the loss of a connection that was active for ``lived`` seconds; 0 means at once."""
        if lived >= max(STABLE_AFTER, 2 * self.damping):
            self.restart(now)
            return 0.0
        self.began = now
        self.rounds = 0
        self.losses += 1
        doublings = min(max(self.losses - QUICK_LOSSES, 0), 10)
        self.damping = self._bounded(min(QUICK_DELAY * 2**doublings, LONGEST_DAMPING))
        return _spread(self.damping, jitter)

    @property
    def disagrees(self) -> bool:
        """Whether so many connections were lost at once that somebody ought to know."""
        return self.losses > QUICK_LOSSES

    def _bounded(self, wait: float) -> float:
        return min(max(wait, self.minimum), self.maximum)


@dataclass(slots=True)
class Grudges:
    """Addresses where somebody answered who refused us, or was somebody else: they rest, while others are tried.

    ``maximum`` gives MaxTimeout.
    """

    maximum: Callable[[], float]
    _held: dict[Address, tuple[int, float]] = field(default_factory=dict)

    def note(self, address: Address, now: float, jitter: float) -> None:
        """An attempt there ended before the connection was active."""
        refusals = self._held.pop(address, (0, 0.0))[0] + 1
        wait = FIRST_REFUSAL if refusals == 1 else STEP * (refusals - 1)
        self._held[address] = refusals, now + _spread(min(wait, self.maximum()), jitter)
        while len(self._held) > MAX_GRUDGES:
            del self._held[next(iter(self._held))]

    def until(self, address: Address) -> float:
        """When the address may be tried again; 0 where it is not held."""
        return self._held.get(address, (0, 0.0))[1]

    def forget(self) -> None:
        """The node let us in, or somebody has a reason to believe that it will."""
        self._held.clear()
