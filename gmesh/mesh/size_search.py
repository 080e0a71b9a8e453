"""When which sizes are tried on a path that lives: searched, verified while there is traffic, and tried larger.

Not here: the bounds and the sizes of a round (`pmtu.py`), and the probes themselves (`udp.py`).
"""

from __future__ import annotations

from gmesh.mesh.health import NEVER, Timing
from gmesh.mesh.pmtu import PathMtu, Purpose, Round

SHORTEST_PAUSE = 0.1
LONGEST_PAUSE = 1.0
"""Seconds between two tries of a round: a little more than an answer takes."""


class SizeSearch:
    """Drives a `PathMtu`. ``next_round`` is when `step` wants to be called."""

    def __init__(self, mtu: PathMtu, timing: Timing, ping_interval: float) -> None:
        self.timing = timing
        self.ping_interval = ping_interval
        self.next_round = NEVER
        self._mtu = mtu
        self._verified_at = self._grown_at = -NEVER

    def restart(self) -> None:
        """Another path: nothing is known of its sizes."""
        self._mtu.restart()
        self._verified_at = self._grown_at = -NEVER
        self.next_round = NEVER

    def stop(self) -> None:
        """Nothing is tried until `hurry`; what was found stays."""
        self._mtu.round = None
        self.next_round = NEVER

    def hurry(self, now: float) -> None:
        self.next_round = min(self.next_round, now)

    def confirmed(self, now: float) -> None:
        """The path was proved to live."""
        self._verified_at = -NEVER
        self._grown_at = now
        self.hurry(now)

    def moved(self) -> None:
        """The node is somewhere else, where the size may be another."""
        self._verified_at = -NEVER

    def grow(self, now: float) -> None:
        """The network may have changed: try a larger size at once."""
        self._grown_at = -NEVER
        self.hurry(now)

    def step(
        self, now: float, *, family: int, proved_at: float, doubtful: bool, reply_time: float, active: bool
    ) -> Round | None:
        """The round whose sizes are to be sent now, if there is one. ``proved_at`` is when the path lived last,
        ``doubtful`` whether that is in question, ``active`` whether there is traffic."""
        self.next_round = NEVER
        if doubtful:
            # What is unanswered now says nothing about sizes; soon the path is either proved or dead.
            self.next_round = now + SHORTEST_PAUSE
            return None
        current = self._mtu.round
        if current is not None and current.tries >= self._tries(current.purpose):
            lives = proved_at >= current.started
            if self._mtu.failed(lives) is not None and not lives:
                self.next_round = now + self.timing.proof_interval
                return None
            current = None
        if current is None:
            current = self._next_purpose(now, family, active)
        if current is None:
            due = min(self._verify_due(active), self._grow_due(active))
            self.next_round = max(due, now + SHORTEST_PAUSE)
            return None
        current.tries += 1
        self.next_round = now + min(max(SHORTEST_PAUSE, 1.2 * reply_time), LONGEST_PAUSE)
        return current

    def _tries(self, purpose: Purpose) -> int:
        return self.timing.verify_tries if purpose is Purpose.VERIFY else self.timing.search_tries

    def _next_purpose(self, now: float, family: int, active: bool) -> Round | None:
        if not self._mtu.settled:
            current = self._mtu.begin(now, Purpose.SEARCH, family)
            if current is not None:
                return current
        if now >= self._verify_due(active):
            self._verified_at = now
            current = self._mtu.begin(now, Purpose.VERIFY, family)
            if current is not None:
                return current
        if now >= self._grow_due(active):
            self._grown_at = now
            return self._mtu.begin(now, Purpose.GROW, family)
        return None

    def _verify_due(self, active: bool) -> float:
        """An idle path need not be verified: that is done as soon as it has traffic."""
        return self._verified_at + self.timing.verify_interval if active else NEVER

    def _grow_due(self, active: bool) -> float:
        return self._grown_at + (min(self.timing.grow_interval, self.ping_interval) if active else self.ping_interval)
