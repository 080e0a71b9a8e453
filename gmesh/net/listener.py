"""Accepts TCP connections and bounds what strangers can hold: sockets, per source and in all.

Not here: what is said on a connection (`peer.py`), which addresses are listened on (the daemon).
"""

from __future__ import annotations

import ipaddress
import socket as std_socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import gevent.socket
from gevent.server import StreamServer

from gmesh.net.peer import PeerConnection, Spawn, tune_meta_socket
from gmesh.values import Address

BACKLOG = 128
MAX_STRANGERS = 256
"""Connections that have not proved who they are; beyond it the oldest of the greediest source is closed."""


def source_of(host: str) -> str:
    """What counts as one source: an IPv4 address, or an IPv6 /64."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False).network_address)


class Strangers:
    """The connections that have not authenticated yet, oldest first, by source."""

    def __init__(self, limit: int = MAX_STRANGERS) -> None:
        self.limit = limit
        self._by_source: dict[str, OrderedDict[int, Callable[[], None]]] = {}
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def add(self, source: str, key: int, evict: Callable[[], None]) -> None:
        """Count a new stranger; where that is one too many, evict the oldest of the source that holds most."""
        if self._total >= self.limit:
            greediest = max(self._by_source.values(), key=len)
            oldest = next(iter(greediest))
            evict_oldest = greediest[oldest]
            self.remove(next(name for name, held in self._by_source.items() if held is greediest), oldest)
            evict_oldest()
        self._by_source.setdefault(source, OrderedDict())[key] = evict
        self._total += 1

    def remove(self, source: str, key: int) -> None:
        """It authenticated or left. Unknown keys are fine: it may have been evicted."""
        held = self._by_source.get(source)
        if held is None or held.pop(key, None) is None:
            return
        self._total -= 1
        if not held:
            del self._by_source[source]


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
        self._strangers = strangers
        self._connection = connection
        self._log = log
        self._server = StreamServer(sock, self._serve, spawn=lambda *work: spawn("incoming", *work))
        self.address = Address.from_sockaddr(sock.getsockname())

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(timeout=0)

    def _serve(self, sock: Any, sockaddr: tuple[object, ...]) -> None:
        tune_meta_socket(sock)
        address = Address.from_sockaddr(sockaddr)
        source = source_of(address.host)
        self._log(2, f"Connection from {address}", "accepted")
        peer = self._connection(sock, address)
        peer.on_active = lambda: self._strangers.remove(source, peer.id)
        self._strangers.add(source, peer.id, lambda: peer.close("too many unauthenticated connections"))
        try:
            peer.run()
        finally:
            self._strangers.remove(source, peer.id)


def open_tcp(host: str, port: int, *, backlog: int = BACKLOG, prepare: Callable[[Any], None] | None = None) -> Any:
    """A bound, listening TCP socket; IPv6 ones are V6ONLY. Raises OSError."""
    family = std_socket.AF_INET6 if ":" in host else std_socket.AF_INET
    sock = gevent.socket.socket(family, std_socket.SOCK_STREAM)
    try:
        sock.setsockopt(std_socket.SOL_SOCKET, std_socket.SO_REUSEADDR, 1)
        if family == std_socket.AF_INET6:
            sock.setsockopt(std_socket.IPPROTO_IPV6, std_socket.IPV6_V6ONLY, 1)
        if prepare is not None:
            prepare(sock)
        tune_meta_socket(sock)
        sock.bind((host, port))
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
