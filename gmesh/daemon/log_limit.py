"""How many lines of one kind the log takes, so that nobody outside can fill a disk.

Pure: time is an argument. Not here: where lines go and what they look like (`logging_setup`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from gmesh.mesh.limits import TokenBucket


@dataclass(slots=True)
class _Window:
    """One key's present window: when it began, what it let through, what it held back."""

    began: float
    level: int
    debug: int
    text: str
    passed: int = 0
    withheld: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """Stands in for ``count`` withheld lines; ``text`` is the first line of their window."""

    level: int
    debug: int
    count: int
    text: str

    def __str__(self) -> str:
        return f"{self.count} more like this were left out: {self.text[:200]}"


class LogLimiter:
    """Lets ``burst`` lines per key pass in each ``interval`` seconds, and a bounded sum over all keys.

    The sum is a bucket of ``total_burst`` lines that refills at ``total_rate`` lines a second: somebody who can invent
    new keys (strangers' addresses, names) fills that and no more. At most ``max_keys`` keys are remembered.
    """

    def __init__(
        self,
        burst: int = 5,
        interval: float = 10.0,
        total_burst: int = 200,
        total_rate: float = 2.0,
        max_keys: int = 1000,
    ) -> None:
        self._burst = burst
        self._interval = interval
        self._max_keys = max_keys
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._sum = TokenBucket(total_burst, total_rate, 0.0)
        self._forgotten = 0

    def admit(self, key: str, level: int, debug: int, text: str, now: float) -> bool:
        """Whether this line may be written. An empty key always may."""
        if not key:
            return True
        window = self._windows.get(key)
        if window is None or now - window.began >= self._interval:
            withheld = window.withheld if window else 0
            first = window.text if window and withheld else text
            window = _Window(now, level, debug, first, withheld=withheld)
            self._windows[key] = window
            self._windows.move_to_end(key)
            if len(self._windows) > self._max_keys:
                self._forgotten += self._windows.popitem(last=False)[1].withheld
        if window.passed >= self._burst or not self._sum.take(now):
            window.withheld += 1
            return False
        window.passed += 1
        return True

    def due(self, now: float) -> Iterator[Summary]:
        """Summaries of windows that have ended with lines withheld; each is given once.

        Summaries spend from the same bucket, so that they cannot become the flood themselves; without a token
        they wait.
        """
        while self._windows:
            key, window = next(iter(self._windows.items()))
            if now - window.began < self._interval:
                break
            if window.withheld and window.passed < self._burst:
                # Not this kind but the sum over all was too much, as when names are made up: no line for each.
                self._forgotten += window.withheld
            elif window.withheld:
                if not self._sum.take(now):
                    break
                yield Summary(window.level, window.debug, window.withheld, window.text)
            self._windows.pop(key, None)
        if self._forgotten and self._sum.take(now):
            count, self._forgotten = self._forgotten, 0
            yield Summary(30, 0, count, "messages of many different kinds")
