"""How long to wait between attempts for one outgoing connection. Pure: the random factor is an argument.

Not here: connecting (`dialer.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

QUICK_DELAY = 0.5
"""Seconds between attempts while an answer may come at any moment: its peer's return costs a connector less than 1 s
(requirement 17), and a refused SYN every now and then costs nobody anything."""

QUICK_PERIOD = 60.0
"""Seconds for which attempts stay quick after a start or a loss."""

STEP = 5.0
"""Seconds by which the wait grows per round afterwards (meta-legacy 10)."""


@dataclass(slots=True)
class Backoff:
    """Waits in seconds; `minimum` and `maximum` are MinTimeout and MaxTimeout."""

    minimum: float
    maximum: float
    began: float = 0.0
    rounds: int = 0

    def restart(self, now: float) -> None:
        """An established connection was lost, or the administrator wants an attempt now."""
        self.began = now
        self.rounds = 0

    def delay(self, now: float, jitter: float) -> float:
        """The wait before the next round. ``jitter`` is uniform in 0..1 and spreads peers that lost the same node."""
        if now - self.began < QUICK_PERIOD:
            wait = QUICK_DELAY
        else:
            self.rounds += 1
            wait = STEP * self.rounds
        wait = min(max(wait, self.minimum), self.maximum)
        return wait * (0.7 + 0.3 * jitter)
