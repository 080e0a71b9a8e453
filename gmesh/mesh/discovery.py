"""Which addresses of a node are probed while UDP to it is not proved, and when again.

Not here: the probes themselves and what their answers mean (`udp.py`), the strategy against NATs (`punching.py`).
"""

from __future__ import annotations

from typing import NamedTuple

from gmesh.mesh.candidates import Candidates, Source
from gmesh.mesh.health import NEVER, Timing
from gmesh.mesh.pmtu import SMALL_PROBE
from gmesh.mesh.punching import OPENING_SECONDS, step
from gmesh.values import Address

IDLE = 30.0
"""Without traffic for so many seconds a search only goes on at the ping interval."""
NEARBY_FOR, NEARBY_INTERVAL = 10.0, 1.0
"""LocalDiscovery: how long after a search began everybody in our own network is asked, and how often."""
OTHERS_INTERVAL = 2.0
"""How often the addresses of a dead path that were not in use are tried."""
SOUNDINGS = 3.0
"""For so many seconds a node that need not answer is asked once a second."""


class Ask(NamedTuple):
    """A probe of ``size`` bytes; ``ttl`` is 0 for the system's."""

    address: Address
    size: int = SMALL_PROBE
    ttl: int = 0


class Discovery:
    """Each method returns what is asked now; `next_probe` is when to call one again."""

    def __init__(self, candidates: Candidates, timing: Timing, ping_interval: float, *, smaller: bool) -> None:
        """``smaller``: our name is the smaller one of the two."""
        self.timing = timing
        self.ping_interval = ping_interval
        self.next_probe = NEVER
        self.local = False
        self.nats = True
        """Whether NATs may be before both ends, so that the order of probes matters."""
        self._candidates = candidates
        self._smaller = smaller
        self._started = 0.0
        self._died = 0.0
        self._nearby_at = -NEVER

    def begin(self, now: float) -> None:
        """A search begins."""
        self._started = now

    def died(self, now: float) -> None:
        """The path that was in use is silent."""
        self._died = now
        self.next_probe = now + self.timing.dead_interval / 2

    def renew(self, now: float) -> None:
        """Something is other than it was: a search that is past its beginning begins anew."""
        if now - self._started > OPENING_SECONDS:
            self._started = now

    def resume(self, now: float, last_wanted: float) -> None:
        """A search that lay idle begins anew; what brings us to it usually starts the other end's too."""
        if now - self._started > IDLE and now - last_wanted > IDLE:
            self._started = now

    def search(
        self, now: float, last_wanted: float, *, neighbour: bool, address: Address | None, first_guess: int
    ) -> list[Ask]:
        """Never answered. ``first_guess`` is the size that a common path carries."""
        elapsed = now - self._started
        plan = step(elapsed, smaller=self._smaller, nats=self.nats)
        idle = elapsed > IDLE and now - last_wanted > IDLE
        pause = min(plan.interval, plan.remaining, self.timing.search_interval if plan.send else NEVER)
        self.next_probe = now + (self.ping_interval if idle else pause)
        if not plan.send and not idle:
            return []
        asks = [
            Ask(candidate, ttl=0 if known.source is Source.LOCAL else plan.ttl)
            for candidate, known in self._candidates.items()
        ]
        if self.local and elapsed < NEARBY_FOR and now - self._nearby_at >= NEARBY_INTERVAL:
            self._nearby_at = now
            asks += [Ask(near) for near in self._candidates.nearby()]
        if neighbour and elapsed < 1 and address is not None:
            # A neighbour's address is known from TCP, so that a large datagram is no gift to a stranger.
            asks.append(Ask(address, first_guess))
        return asks

    def revive(self, now: float, last_wanted: float, address: Address | None) -> list[Ask]:
        """Was confirmed, then silent."""
        pause = self.timing.dead_interval
        if now - last_wanted > self.timing.active_for:
            pause = min(max(pause, (now - self._died) / 4), self.ping_interval)
        self.next_probe = now + pause
        return [
            Ask(candidate)
            for candidate, known in self._candidates.items()
            if candidate == address or now - known.probed_at >= OTHERS_INTERVAL
        ]

    def sound_out(self, now: float, address: Address | None) -> list[Ask]:
        """Where no proof is needed: a few questions, so that a node that answers is watched from then on."""
        self.next_probe = now + (1.0 if now - self._started < SOUNDINGS else self.ping_interval)
        return [] if address is None else [Ask(address)]
