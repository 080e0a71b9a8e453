"""Signals become calls in the loop (daemon-cli 3). Not here: what those calls do."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

import gevent

from gmesh.daemon.logging_setup import NOTICE, log


@dataclass(frozen=True, slots=True)
class SignalActions:
    """What each signal asks for. All run in the loop, each in a greenlet of its own, and should be short.

    TERM, QUIT and INT stop; HUP reloads and reopens the log; ALRM retries; USR1 and USR2 dump as 1.0 does; WINCH
    purges.
    """

    stop: Callable[[], None]
    reload: Callable[[], None]
    retry: Callable[[], None]
    dump_connections: Callable[[], None]
    dump_all: Callable[[], None]
    purge: Callable[[], None]


class Signals:
    """Handlers from `install` to `remove`. A second stopping signal ends the process at once with 1."""

    def __init__(self, actions: SignalActions, exit_now: Callable[[int], object] = os._exit) -> None:
        self._actions = actions
        self._exit_now = exit_now
        self._stopping = False
        self._watchers: list[object] = []

    def install(self) -> None:
        """Must run in the main thread, after the last fork."""
        actions = self._actions
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
            self._on(number, self._stop)
        self._on(signal.SIGHUP, actions.reload)
        self._on(signal.SIGALRM, actions.retry)
        self._on(signal.SIGUSR1, actions.dump_connections)
        self._on(signal.SIGUSR2, actions.dump_all)
        self._on(signal.SIGWINCH, actions.purge)

    def _on(self, number: signal.Signals, action: Callable[[], None]) -> None:
        quiet = number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)

        def handle() -> None:
            if not quiet:
                log(0, NOTICE, f"Got {number.name.removeprefix('SIG')} signal")
            try:
                action()
            except Exception as error:
                log(0, logging.ERROR, f"Internal error after signal {number.name}: {error}", exception=error)

        self._watchers.append(gevent.signal_handler(number, handle))

    def _stop(self) -> None:
        if self._stopping:
            self._exit_now(1)
        self._stopping = True
        self._actions.stop()

    def remove(self) -> None:
        """Give the signals back to the system's defaults."""
        for watcher in self._watchers:
            watcher.cancel()  # type: ignore[attr-defined]
        self._watchers.clear()
