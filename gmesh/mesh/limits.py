"""A token bucket on the caller's clock. Not here: what is limited."""

from __future__ import annotations

_ALMOST = 1 - 1e-6
"""Counts as a whole token: what `available_at` promises has to be there in spite of rounding."""


class TokenBucket:
    """Allows ``burst`` at once and ``rate`` per second in the long run."""

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self.burst = burst
        self.rate = rate
        self._tokens = burst
        self._updated = now

    def take(self, now: float) -> bool:
        """Use one token; False where there is none."""
        self._refill(now)
        if self._tokens < _ALMOST:
            return False
        self._tokens = max(0.0, self._tokens - 1)
        return True

    def available_at(self, now: float) -> float:
        """When the next token is there; ``now`` if it already is."""
        self._refill(now)
        return now if self._tokens >= _ALMOST else now + (1 - self._tokens) / self.rate

    def _refill(self, now: float) -> None:
        if now > self._updated:
            self._tokens = min(self.burst, self._tokens + (now - self._updated) * self.rate)
            self._updated = now
