"""Accepts TCP connections.

Not here: what strangers may hold (`strangers.py`), what is said on a connection (`peer.py`), which addresses are
listened on (the daemon).
"""

from __future__ import annotations

import errno
import socket as std_socket
from collections.abc import Callable
from typing import Any

import gevent
import gevent.socket
from gevent.server import StreamServer

from gmesh.net.peer import PeerConnection, Spawn, reason_of, tune_meta_socket
from gmesh.net.resolver import lookup
from gmesh.net.strangers import Strangers, source_of
from gmesh.values import Address

BACKLOG = 128
ACCEPT_PAUSE = 0.1
"""Seconds until the next try after the system had nothing left to accept with."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class _Server(StreamServer):  # type: ignore[misc]
    """A StreamServer whose errors go to the log, and which pauses where gevent's would print and try again."""

    max_accept = 16
    """Connections taken per turn of the loop, so that a storm of them leaves turns to others."""

    def __init__(self, sock: Any, failed: Callable[[OSError], None], handle: Callable[..., None], spawn: Spawn) -> None:
        super().__init__(sock, handle, spawn=lambda *work: spawn("incoming", *work))
        self._failed = failed
        self._spawn_pause = spawn

    def do_read(self) -> Any:
        try:
            return super().do_read()
        except OSError as error:
            self._failed(error)
            if error.errno != errno.ECONNABORTED:
                self.stop_accepting()
                self._spawn_pause("listener pause", self._pause)
            return None

    def _pause(self) -> None:
        gevent.sleep(ACCEPT_PAUSE)
        if self.started:
            self.start_accepting()


class Listener:
    """One listening TCP socket. ``connection`` makes the peer object; ``strangers`` is shared by all listeners.

    Connections that authenticated are bounded by the host files there are: each node has one at most.
    """

    def __init__(
        self,
        sock: Any,
        *,
        strangers: Strangers,
        connection: Callable[[Any, Address], PeerConnection],
        spawn: Spawn,
        log: Callable[[int, str, str], None],
    ) -> None:
        self.address = Address.from_sockaddr(sock.getsockname())
        self._sock = sock
        self._strangers = strangers
        self._connection = connection
        self._spawn = spawn
        self._log = log
        self._server: _Server | None = None

    def start(self) -> None:
        if self._server is None:
            self._sock.setblocking(False)
            self._server = _Server(self._sock, self._failed, self._serve, self._spawn)
            self._server.start()

    def stop(self) -> None:
        """Accept no more and close the listening socket; connections live on."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _failed(self, error: OSError) -> None:
        self._log(0, f"Cannot accept connections on {self.address}: {reason_of(error)}", "accept")
        if error.errno in _EXHAUSTED:
            # Without room for one more nobody could come in, the legitimate peers included.
            self._strangers.evict_one()

    def _serve(self, sock: Any, sockaddr: tuple[object, ...]) -> None:
        address = Address.from_sockaddr(sockaddr)
        try:
            tune_meta_socket(sock)
            self._log(2, f"Connection from {address}", "accepted")
            peer = self._connection(sock, address)
        except BaseException:
            sock.close()
            raise
        current = gevent.getcurrent()

        def evict() -> None:
            peer.close("too many unauthenticated connections")
            # It may wait for its turn, in a queue that would else hold the evicted without any limit.
            current.kill(block=False)

        place = self._strangers.admit(source_of(address.host), evict)
        peer.gate = place
        try:
            peer.run()
        except gevent.GreenletExit:
            # Evicted. Kept by the greenlet as its result, it would make garbage of everything here.
            return
        finally:
            place.leave()


def open_tcp(
    host: str,
    port: int,
    *,
    backlog: int = BACKLOG,
    prepare: Callable[[Any], None] | None = None,
) -> Any:
    """A bound, listening TCP socket for a numeric ``host``; IPv6 ones are V6ONLY.

    Raises OSError, GmeshError for an impossible address, and what ``prepare`` raises.
    """
    family = std_socket.AF_INET6 if ":" in host else std_socket.AF_INET
    sock = gevent.socket.socket(family, std_socket.SOCK_STREAM)
    try:
        sock.setsockopt(std_socket.SOL_SOCKET, std_socket.SO_REUSEADDR, 1)
        if family == std_socket.AF_INET6:
            sock.setsockopt(std_socket.IPPROTO_IPV6, std_socket.IPV6_V6ONLY, 1)
        if prepare is not None:
            prepare(sock)
        tune_meta_socket(sock)
        sock.bind(lookup(host, str(port), family)[0][1])
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock
