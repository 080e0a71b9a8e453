"""Every greenlet of the daemon is spawned here, so that none ends unseen.

Not here: what the greenlets do, and how the daemon stops in good order (`daemon`).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Literal

import gevent
from gevent import Greenlet

from gmesh.daemon.logging_setup import log

Policy = Literal["log", "restart", "fatal"]

FIRST_DELAY = 0.1
"""Seconds until a failed greenlet of policy ``restart`` runs again; doubled by every further failure."""

LONGEST_DELAY = 30.0
HEALTHY_AFTER = 60.0
"""A run of this many seconds counts as healthy: the next failure starts again with `FIRST_DELAY`."""


class State(Enum):
    """Life of the supervisor."""

    RUNNING = "running"
    STOPPING = "stopping"


class Supervisor:
    """Spawns, watches and kills greenlets.

    ``on_fatal`` is called once, with the reason, when a greenlet of policy ``fatal`` fails; it must only ask for the
    end (set an event) and not wait for it. ``clock`` is monotonic seconds.
    """

    def __init__(self, on_fatal: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._on_fatal = on_fatal
        self._clock = clock
        self._greenlets: dict[Greenlet, str] = {}
        self._state = State.RUNNING
        self.failures: Counter[str] = Counter()
        """Exceptions so far, by the greenlet's kind: its name up to the first blank."""

    @property
    def names(self) -> list[str]:
        """Names of the living greenlets, in the order of their spawning."""
        return list(self._greenlets.values())

    def spawn(self, name: str, function: Callable[..., Any], *args: Any, policy: Policy = "log") -> Greenlet:
        """Run ``function(*args)`` in a greenlet named ``name`` (kind, blank, particulars: ``reader alpha``).

        When it raises: logged and counted; then ``log``: that was all; ``restart``: it is called again with the same
        arguments after a growing delay, for ever; ``fatal``: the daemon is asked to end. Returning ends it quietly,
        and so does being killed.
        """
        greenlet = Greenlet(self._run, name, function, args, policy)
        self._greenlets[greenlet] = name
        greenlet.link(self._forget)
        greenlet.start()
        return greenlet

    def _forget(self, greenlet: Greenlet) -> None:
        self._greenlets.pop(greenlet, None)

    def _run(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], policy: Policy) -> None:
        delay = FIRST_DELAY
        while True:
            started = self._clock()
            try:
                function(*args)
            except Exception as error:
                self._failed(name, error)
            else:
                return
            if policy != "restart" or self._state is State.STOPPING:
                break
            delay = FIRST_DELAY if self._clock() - started >= HEALTHY_AFTER else delay
            gevent.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)
        if policy == "fatal" and self._state is State.RUNNING:
            self._state = State.STOPPING
            self._on_fatal(f"{name} failed")

    def _failed(self, name: str, error: Exception) -> None:
        kind = name.partition(" ")[0]
        self.failures[kind] += 1
        log(
            0,
            logging.ERROR,
            f"Internal error in {name}: {type(error).__name__}: {error}",
            key=f"failure {kind} {type(error).__name__}",
        )
        log(1, logging.ERROR, f"Traceback of {name}:", key=f"traceback {kind}", exception=error)

    def kill_all(self, keep: Iterable[str] = (), timeout: float = 5.0) -> list[str]:
        """Kill all greenlets but the caller's own and those whose kind is in ``keep``, and wait for their ends.

        ``timeout`` is in seconds. Nothing is restarted from now on. Returns the names of those that did not end
        in time.
        """
        self._state = State.STOPPING
        kept = set(keep)
        current = gevent.getcurrent()
        doomed = [
            greenlet
            for greenlet, name in self._greenlets.items()
            if greenlet is not current and name.partition(" ")[0] not in kept
        ]
        gevent.killall(doomed, block=False)
        gevent.joinall(doomed, timeout=timeout)
        left = [self._greenlets[greenlet] for greenlet in doomed if not greenlet.dead and greenlet in self._greenlets]
        for name in left:
            log(0, logging.WARNING, f"{name} does not end")
        return left
