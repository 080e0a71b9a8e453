"""Answers to gossip that contradicts what we know: how many, when, and to whom (topology 3.4, requirement 7).

Stock daemons stop everything when another node uses their name; here only these answers wait. Not here: what the
answer says, which `gossip.py` works out from the registry at the moment it is sent.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from gmesh.mesh.limits import TokenBucket
from gmesh.values import Subnet

EdgeFact: TypeAlias = tuple[str, str, str]
SubnetFact: TypeAlias = tuple[str, str, Subnet]
Fact: TypeAlias = EdgeFact | SubnetFact
"""``("edge", source, target)`` or ``("subnet", owner, subnet)``: also what outboxes coalesce by."""

BURST = 200
RATE = 20.0
MAX_PENDING = 2000
CONFLICT_THRESHOLD = 100
"""Contradicting adds and, as well, deletes within one check that mean another node has our name."""
SHORTEST_HOLD = 10.0
LONGEST_HOLD = 3600.0
REPAIR_DELAY = 2.0
"""Seconds before a neighbour that seems to be behind is told; what is on its way usually arrives before."""


class Corrections:
    """Two queues, each fact at most once per connection: about ourselves (due at once), and repairs (due later)."""

    def __init__(self, now: float) -> None:
        self.adds = 0
        self.deletes = 0
        self._bucket = TokenBucket(BURST, RATE, now)
        self._hold = SHORTEST_HOLD
        self._held_until = -math.inf
        self._count_from = -math.inf
        self._own: dict[tuple[Fact, int | None], float] = {}
        self._repairs: dict[tuple[Fact, int | None], float] = {}

    def __len__(self) -> int:
        return len(self._own) + len(self._repairs)

    def want(self, fact: Fact, connection: int, now: float) -> None:
        """A neighbour said something wrong about ourselves."""
        _add(self._own, (fact, connection), now)

    def want_repair(self, fact: Fact, connection: int, now: float, delay: float = REPAIR_DELAY) -> None:
        """A neighbour may know something else than we do: tell it our version in a while."""
        _add(self._repairs, (fact, connection), now + delay)

    def connection_lost(self, connection: int) -> None:
        """What it should have been told goes to everyone: the wrong line may have gone on from there."""
        for queue in (self._own, self._repairs):
            for key in [key for key in queue if key[1] == connection]:
                queue.setdefault((key[0], None), queue.pop(key))

    def take(self, now: float) -> list[tuple[Fact, int | None]]:
        """What may be sent now: facts, each with its connection or None for all."""
        taken: list[tuple[Fact, int | None]] = []
        if now < self._held_until:
            return taken
        for queue in (self._own, self._repairs):
            while queue:
                key, due = next(iter(queue.items()))
                if due > now or not self._bucket.take(now):
                    break
                del queue[key]
                taken.append(key)
        return taken

    def next_timeout(self, now: float) -> float:
        heads = [next(iter(queue.values())) for queue in (self._own, self._repairs) if queue]
        if not heads:
            return math.inf
        return max(min(heads), self._held_until, self._bucket.available_at(now))

    def check(self, now: float, interval: float) -> float:
        """To be called every ``interval`` seconds. Returns for how many answers are held back from now, usually 0.

        What came during a hold does not count, so that there is a try between two of them.
        """
        conflict = self.adds > CONFLICT_THRESHOLD and self.deletes > CONFLICT_THRESHOLD
        self.adds = self.deletes = 0
        if now < self._count_from:
            return 0.0
        if not conflict:
            self._hold = max(SHORTEST_HOLD, self._hold / 2)
            return 0.0
        hold = self._hold
        self._held_until = now + hold
        self._count_from = self._held_until + interval
        self._hold = min(LONGEST_HOLD, hold * 2)
        return hold


def _add(queue: dict[tuple[Fact, int | None], float], key: tuple[Fact, int | None], due: float) -> None:
    if len(queue) < MAX_PENDING:
        queue.setdefault(key, due)
