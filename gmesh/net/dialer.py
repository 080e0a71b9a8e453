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
from gmesh.net.backoff import Backoff, Grudges
from gmesh.net.peer import PeerConnection
from gmesh.net.proxy import ProxyConnector
from gmesh.net.race import Connected, Race, RaceHost
from gmesh.net.resolver import Resolved
from gmesh.values import Address

STAGGER = 0.25
"""Seconds after which the next address is tried as well, while the one before has not answered (RFC 8305)."""


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
        self._grudges = Grudges(lambda: self.backoff.maximum)
        self._current: PeerConnection | None = None
        self._tried: list[Address] = []
        """The addresses of the last round, those included that had to rest."""

    def nudge(self) -> None:
        """Try at once and often: somebody has a reason to believe that it works now."""
        self.backoff.restart(self._clock())
        self._grudges.forget()
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
                if self._host.connected(self.name):
                    self._race.abandon()
                    lived: float | None = self._await_loss()
                else:
                    lived = self._round()
                self._pause(lived)
        finally:
            self._race.abandon()

    def _await_loss(self) -> float:
        """Returns for how many seconds the connection lived that somebody made."""
        began = self._clock()
        self._grudges.forget()
        while not self._over and self._host.connected(self.name):
            self._news.wait()
            self._news.clear()
        return self._clock() - began

    def _pause(self, lived: float | None) -> None:
        """Wait until the next round is due; a connection that comes up late is served meanwhile."""
        end = self._next_round(lived)
        while not self._nudged and not self._over and (left := end - self._clock()) > 0:
            late = self._serve_winner()
            if late is not None:
                end = self._next_round(late)
            else:
                self._news.wait(left)
                self._news.clear()

    def _next_round(self, lived: float | None) -> float:
        """When it is due: after the loss of a connection that lived for so many seconds, or after none at all."""
        now = self._clock()
        if self._over or self._host.connected(self.name):
            return now
        if lived is None:
            futile = not self._race.hopeful and not self._race.running
            wait = self.backoff.delay(now, random.random(), absent=self._race.absent, futile=futile)
            self._race.absent = self._race.hopeful = False
            if self._tried:
                wait = max(wait, min(map(self._grudges.until, self._tried)) - now)
        else:
            wait = self.backoff.after_loss(lived, now, random.random())
            if self.backoff.disagrees:
                text = (
                    f"{self.backoff.losses} connections in a row with {self.name} were lost within seconds: perhaps "
                    f"another node uses our name, or {self.name}'s; waiting {wait:.1f} seconds"
                )
                self._host.log(0, text, f"disagreement {self.name}")
        if wait > 0:
            text = f"Trying to re-establish outgoing connection to {self.name} in {wait:.1f} seconds"
            self._host.log(1, text, f"redial {self.name}")
        return now + wait

    def _round(self) -> float | None:
        """Try all addresses in their order, each after the one before has failed or kept silent for `STAGGER`.

        Returns for how long a connection was active that was established and has ended; None where there was none.
        Attempts without an answer go on. Through a proxy every address has all the time it needs: what is slow there is
        the proxy, for all addresses alike.
        """
        proxy = self._proxy()
        patience = STAGGER if proxy is None else self._race.timeout
        self._tried = []
        try:
            candidates = self._host.candidates(self.name)
        except GmeshError as error:
            self._host.log(0, f"Could not set up a meta connection to {self.name}: {error}", f"candidates {self.name}")
            return None
        for host, port in candidates:
            try:
                resolved = self._host.resolve(host, port) if proxy is None else proxy.targets(host, port)
            except GmeshError as error:
                self._host.log(1, f"Address of {self.name}: {error}", f"resolve {self.name} {host}")
                # Name servers come back by themselves.
                self._race.hopeful = True
                continue
            for family, sockaddr in resolved:
                if self._over or self._host.connected(self.name):
                    return None
                address = Address.from_sockaddr(sockaddr)
                self._tried.append(address)
                if self._grudges.until(address) > self._clock():
                    self._race.hopeful = True
                    continue
                self._race.start(family, sockaddr, proxy)
                lived = self._await_winner(patience)
                if lived is not None:
                    return lived
        return None

    def _await_winner(self, patience: float) -> float | None:
        """Serve what gets connected until all attempts have ended or ``patience`` seconds are over."""
        end = self._clock() + patience
        while True:
            lived = self._serve_winner()
            if lived is not None:
                return lived
            left = end - self._clock()
            if left <= 0 or not self._race.running:
                return None
            self._news.wait(left)
            self._news.clear()

    def _serve_winner(self) -> float | None:
        """Serve connections that have been made, until there is none or one was established before it ended."""
        while (won := self._race.take()) is not None:
            lived = self._serve(won)
            if lived is not None:
                return lived
        return None

    def _serve(self, won: Connected) -> float | None:
        """Returns for how long the connection lived, None where it never became active."""
        sock, address = won
        # The others would only be closed by the peer. If this one fails they are tried again.
        self._race.abandon()
        began = self._clock()
        try:
            if self._over or self._host.connected(self.name):
                return None
            self._current = self._host.connection(sock, address, self.name)
            self._current.run()
            active = self._current.active
        finally:
            self._current = None
            sock.close()
        now = self._clock()
        if active:
            self._grudges.forget()
            return now - began
        # One that said nothing until its time was over has set its own pace, and may have been frozen.
        if now - began < self._race.timeout and not self._nudged and not self._host.connected(self.name):
            self._grudges.note(address, now, random.random())
        return None
