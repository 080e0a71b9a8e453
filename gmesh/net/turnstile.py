"""Lets strangers' handshakes take the processor in turns, one step at a time (requirement 18).

A step may cost a private RSA operation (5 ms for 2048 bits, 25 ms for 4096), which nothing can interrupt. So no more
than half of the loop's time goes to strangers, and a source that asks for much waits behind one that asks for little.
Not here: how many strangers there may be (`strangers.py`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gevent
import gevent.event

REST = 1.0
"""Seconds of rest after a step, for each second that it took."""


class Turnstile:
    """One passes at a time. Those who wait are taken by source in turn, and in their order within a source."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._busy = False
        self._waiting: OrderedDict[str, deque[gevent.event.Event]] = OrderedDict()

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    @contextmanager
    def turn(self, source: str) -> Iterator[None]:
        """The block runs when it is its turn, and must not yield; the rest that it costs is part of the turn."""
        self._enter(source)
        began = self._clock()
        try:
            yield
        finally:
            # A step that failed has cost as much as any other.
            try:
                gevent.sleep((self._clock() - began) * REST)
            finally:
                self._hand_over()

    def _enter(self, source: str) -> None:
        if not self._busy:
            self._busy = True
            return
        called = gevent.event.Event()
        self._waiting.setdefault(source, deque()).append(called)
        try:
            called.wait()
        except BaseException:
            # Killed while it waited, maybe just after its turn had come.
            if called.is_set():
                self._hand_over()
            else:
                self._waiting[source].remove(called)
                if not self._waiting[source]:
                    del self._waiting[source]
            raise

    def _hand_over(self) -> None:
        if not self._waiting:
            self._busy = False
            return
        source, queue = self._waiting.popitem(last=False)
        called = queue.popleft()
        if queue:
            self._waiting[source] = queue
        called.set()
