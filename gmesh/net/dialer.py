"""One outgoing connection, kept up for ever: resolve, connect, serve, wait, again (meta-legacy 10).

Not here: which nodes are dialled (the daemon), how long to wait (`backoff.py`), making TCP connections (`race.py`), and
what is said on one (`peer.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gevent.event

from gmesh.errors import GmeshError
from gmesh.net.backoff import Backoff
from gmesh.net.peer import PeerConnection
from gmesh.net.proxy import ProxyConnector
from gmesh.net.race import Connected, Race, RaceHost
from gmesh.net.resolver import Resolved
from gmesh.values import Address

STAGGER = 0.25
"""Seconds after which the next address is tried as well, while the one before has not answered (RFC 8305)."""

STABLE_AFTER = 5.0
"""A connection that lived for so many seconds is dialled anew at once when it is lost; a shorter one after a wait, so
that two daemons which cannot agree do not keep each other busy."""


class DialerHost(RaceHost, Protocol):
    """What a dialer needs from the daemon."""

    def candidates(self, name: str) -> Sequence[tuple[str, str]]:
        """(host, port) pairs to try, read anew for each round. Raises GmeshError where there are none."""

    def resolve(self, host: str, port: str) -> Resolved:
        """Socket addresses of one candidate, looked up anew. May wait; raises GmeshError."""

    def connected(self, name: str) -> bool:
        """Whether an active connection to the node exists, whoever opened it."""

    def connection(self, sock: Any, address: Address, name: str) -> PeerConnection: ...


class Dialer:
    """Keeps a connection to node ``name``. `run()` goes on until `hang_up`, or until its greenlet is killed."""

    def __init__(
        self,
        name: str,
        host: DialerHost,
        *,
        backoff: Backoff,
        connect_timeout: float,
        clock: Callable[[], float],
        proxy: Callable[[], ProxyConnector | None] = lambda: None,
    ) -> None:
        """``proxy`` says in each round by what proxy to connect, if by any."""
        self.name = name
        self._proxy = proxy
        self.backoff = backoff
        self._host = host
        self._clock = clock
        self._news = gevent.event.Event()
        self._nudged = False
        self._over = False
        self._race = Race(name, host, self._news, connect_timeout)
        self._current: PeerConnection | None = None

    def nudge(self) -> None:
        """Try at once and often: somebody has a reason to believe that it works now."""
        self.backoff.restart(self._clock())
        self._nudged = True
        self._news.set()

    def lost(self) -> None:
        """An active connection to the node has ended."""
        self._news.set()

    def hang_up(self, reason: str) -> None:
        """Dial no more, and close the connection that this dialer opened, if there is one."""
        self._over = True
        self.nudge()
        if self._current is not None:
            self._current.close(reason)

    def run(self) -> None:
        self.backoff.restart(self._clock())
        try:
            while not self._over:
                self._nudged = False
                began = self._clock()
                if self._host.connected(self.name):
                    self._race.abandon()
                    self._await_loss()
                    established = True
                else:
                    established = self._round()
                if established and self._clock() - began >= STABLE_AFTER:
                    self.backoff.restart(self._clock())
                else:
                    self._pause()
        finally:
            self._race.abandon()

    def _await_loss(self) -> None:
        while not self._over and self._host.connected(self.name):
            self._news.wait()
            self._news.clear()

    def _pause(self) -> None:
        """Wait until the next round is due; a connection that comes up late is served meanwhile."""
        if self._over or self._host.connected(self.name):
            return
        delay = self.backoff.delay(self._clock(), random.random())
        text = f"Trying to re-establish outgoing connection to {self.name} in {delay:.1f} seconds"
        self._host.log(1, text, f"redial {self.name}")
        end = self._clock() + delay
        while not self._nudged and (left := end - self._clock()) > 0:
            if self._serve_winner():
                return
            self._news.wait(left)
            self._news.clear()

    def _round(self) -> bool:
        """Try all addresses in their order, each after the one before has failed or kept silent for `STAGGER`.

        Returns whether a connection was established (and has ended). Attempts without an answer go on. Through a proxy
        every address has all the time it needs: what is slow there is the proxy, for all addresses alike.
        """
        proxy = self._proxy()
        patience = STAGGER if proxy is None else self._race.timeout
        try:
            candidates = self._host.candidates(self.name)
        except GmeshError as error:
            self._host.log(0, f"Could not set up a meta connection to {self.name}: {error}", f"candidates {self.name}")
            return False
        for host, port in candidates:
            try:
                resolved = self._host.resolve(host, port) if proxy is None else proxy.targets(host, port)
            except GmeshError as error:
                self._host.log(1, f"Address of {self.name}: {error}", f"resolve {self.name} {host}")
                continue
            for family, sockaddr in resolved:
                if self._over or self._host.connected(self.name):
                    return False
                self._race.start(family, sockaddr, proxy)
                if self._await_winner(patience):
                    return True
        return False

    def _await_winner(self, patience: float) -> bool:
        """Serve what gets connected until all attempts have ended or ``patience`` seconds are over."""
        end = self._clock() + patience
        while True:
            if self._serve_winner():
                return True
            left = end - self._clock()
            if left <= 0 or not self._race.running:
                return False
            self._news.wait(left)
            self._news.clear()

    def _serve_winner(self) -> bool:
        """Serve connections that have been made, until there is none or one was established before it ended."""
        while (won := self._race.take()) is not None:
            if self._serve(won):
                return True
        return False

    def _serve(self, won: Connected) -> bool:
        sock, address = won
        # The others would only be closed by the peer. If this one fails they are tried again.
        self._race.abandon()
        try:
            if self._over or self._host.connected(self.name):
                return False
            self._current = self._host.connection(sock, address, self.name)
            self._current.run()
            return self._current.active
        finally:
            self._current = None
            sock.close()
