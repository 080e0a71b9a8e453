"""The memory of gossip lines that were handled already (topology 2.1): it is what ends a flood.

Not here: what to do with a line that was seen.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice


class SeenLines:
    """Whole lines with the time at which each was first seen, at most ``limit`` of them, each for ``lifetime`` seconds.

    Only the 64-bit keyed hash that Python gives strings is kept: a quarter of the memory, and two lines of one minute
    share one with a probability below 1e-8 at the default bound. The facts that lines are about can be kept as well.
    """

    def __init__(self, limit: int, lifetime: float) -> None:
        self.limit = limit
        self.lifetime = lifetime
        self._times: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._times)

    def since(self, line: Hashable) -> float | None:
        """When the line was first seen, None where it was not (or that was too long ago)."""
        return self._times.get(hash(line))

    def remember(self, line: Hashable, now: float) -> None:
        """Keep the line; the oldest ones go when there are too many."""
        key = hash(line)
        times = self._times
        if key in times:
            # Re-inserted at the end, because expiry relies on the order of times.
            del times[key]
        times[key] = now
        if len(times) > self.limit:
            self._make_room()

    def _make_room(self) -> None:
        """Forget some of the oldest: one at a time, the search for it would pass over the places of all before."""
        for key in list(islice(self._times, self.limit // 16 + 1)):
            del self._times[key]

    def expire(self, now: float) -> None:
        """Drop what is older than the lifetime."""
        before = now - self.lifetime
        times = self._times
        old = []
        for key, time in times.items():
            if time > before:
                break
            old.append(key)
        for key in old:
            del times[key]
        if len(old) > len(times):
            # A dictionary keeps the room of all that was ever in it.
            self._times = dict(times)
