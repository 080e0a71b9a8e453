"""One outgoing connection, kept up for ever: resolve, connect, serve, wait, again (meta-legacy 10).

Not here: which nodes are dialled (the daemon), how long to wait (`backoff.py`), the connection itself (`peer.py`).
"""

from __future__ import annotations

import random
import socket as std_socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gevent.event
import gevent.socket

from gmesh.errors import GmeshError
from gmesh.net.backoff import Backoff
from gmesh.net.peer import PeerConnection, reason_of, tune_meta_socket
from gmesh.net.resolver import SockAddr, resolve
from gmesh.values import Address


class DialerHost(Protocol):
    """What a dialer needs from the daemon."""

    def candidates(self, name: str) -> Sequence[tuple[str, str]]:
        """(host, port) pairs to try, read anew for each round. Raises GmeshError where there are none."""

    def connected(self, name: str) -> bool:
        """Whether an active connection to the node exists, whoever opened it."""

    def prepare(self, sock: Any, family: int) -> None:
        """Bind and mark an outgoing socket as configured. Raises OSError."""

    def connection(self, sock: Any, address: Address, name: str) -> PeerConnection: ...

    def log(self, debug: int, text: str, key: str = "") -> None: ...


class Dialer:
    """Keeps a connection to node ``name``. `run()` never returns; end it by killing its greenlet."""

    def __init__(
        self,
        name: str,
        host: DialerHost,
        *,
        backoff: Backoff,
        connect_timeout: float,
        family: int,
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.backoff = backoff
        self.connect_timeout = connect_timeout
        self.family = family
        self._host = host
        self._clock = clock
        self._nudge = gevent.event.Event()
        self._current: PeerConnection | None = None

    def nudge(self) -> None:
        """Try at once: the node's connection was lost, or the administrator asked."""
        self.backoff.restart(self._clock())
        self._nudge.set()

    def hang_up(self, reason: str) -> None:
        """Close the connection that this dialer opened, if there is one."""
        if self._current is not None:
            self._current.close(reason)

    def run(self) -> None:
        self.backoff.restart(self._clock())
        while True:
            self._nudge.clear()
            if self._host.connected(self.name):
                self._nudge.wait()
                continue
            self._round()
            if self._host.connected(self.name) or self._nudge.is_set():
                continue
            delay = self.backoff.delay(self._clock(), random.random())
            self._host.log(
                1,
                f"Trying to re-establish outgoing connection to {self.name} in {delay:.1f} seconds",
                f"redial {self.name}",
            )
            self._nudge.wait(delay)

    def _round(self) -> None:
        try:
            candidates = self._host.candidates(self.name)
        except GmeshError as error:
            self._host.log(0, f"Could not set up a meta connection to {self.name}: {error}", f"candidates {self.name}")
            return
        for host, port in candidates:
            try:
                resolved = resolve(host, port, self.family)
            except GmeshError as error:
                self._host.log(1, f"Address of {self.name}: {error}", f"resolve {self.name} {host}")
                continue
            for family, sockaddr in resolved:
                if self._host.connected(self.name):
                    return
                if self._attempt(family, sockaddr):
                    self.backoff.restart(self._clock())
                    return

    def _attempt(self, family: int, sockaddr: SockAddr) -> bool:
        """Connect to one address and serve it; True when the connection was established before it ended."""
        address = Address.from_sockaddr(sockaddr)
        self._host.log(1, f"Trying to connect to {self.name} ({address})", f"dial {self.name} {address}")
        sock = gevent.socket.socket(family, std_socket.SOCK_STREAM)
        try:
            tune_meta_socket(sock)
            self._host.prepare(sock, family)
            sock.settimeout(self.connect_timeout)
            sock.connect(sockaddr)
        except TimeoutError:
            sock.close()
            self._host.log(1, f"Timeout while connecting to {self.name} ({address})", f"timeout {self.name} {address}")
            return False
        except OSError as error:
            sock.close()
            self._host.log(
                1, f"Could not connect to {self.name} ({address}): {reason_of(error)}", f"refused {self.name} {address}"
            )
            return False
        self._host.log(2, f"Connected to {self.name} ({address})", f"connected {self.name} {address}")
        self._current = self._host.connection(sock, address, self.name)
        try:
            self._current.run()
            return self._current.active
        finally:
            self._current = None
