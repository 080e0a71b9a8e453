"""Connects through a proxy: a TCP connection to it and the conversation, or a command that relays (meta-legacy 10.2).

Not here: the conversation itself (`gmesh.proto.proxy`), and which targets are tried when (`dialer.py`).
"""

from __future__ import annotations

import contextlib
import socket as std_socket
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.socket

from gmesh.errors import GmeshError
from gmesh.net.children import inherited_environment, start_command
from gmesh.net.peer import tune_meta_socket
from gmesh.net.resolver import Resolved, SockAddr
from gmesh.proto.proxy import ProxyHandshake, ProxyKind, ProxySettings
from gmesh.values import Address, ip_version

READ_SIZE = 1024

NOWHERE = "0.0.0.1"
"""Stands in the edge for the address of a name that only the proxy can look up, as tinc has it: nobody sends there."""

Resolve = Callable[[str, str, int], Resolved]
"""Host, port and address family to socket addresses; may wait, raises GmeshError."""


class ProxyConnector:
    """Makes connections by one setting of the option Proxy.

    ``prepare(sock, family)`` binds and marks a socket to the proxy. ``variables`` are NAME and NETNAME for a command.
    """

    def __init__(
        self,
        settings: ProxySettings,
        *,
        resolve: Resolve,
        prepare: Callable[[Any, int], None],
        variables: dict[str, str],
        family: int = std_socket.AF_UNSPEC,
    ) -> None:
        self.settings = settings
        self._resolve = resolve
        self._prepare = prepare
        self._variables = variables
        self._family = family

    def targets(self, host: str, port: str) -> Resolved:
        """What to ask the proxy for: (family, sockaddr) pairs; where the proxy looks up names, the name itself.

        Raises GmeshError for what it cannot be asked for.
        """
        kind = self.settings.kind
        family = std_socket.AF_INET if kind in {ProxyKind.SOCKS4, ProxyKind.SOCKS4A} else self._family
        if kind.resolves_names and not ip_version(host):
            return [(std_socket.AF_UNSPEC, (host, _port_number(port)))]
        try:
            return self._resolve(host, port, family)
        except GmeshError:
            if kind is not ProxyKind.EXEC:
                raise
            # The command may know better.
            return [(std_socket.AF_UNSPEC, (host, _port_number(port)))]

    def open(self, node: str, sockaddr: SockAddr, timeout: float) -> tuple[Any, Address]:
        """A connection to ``sockaddr`` for the node, and the address for its edge; ``timeout`` is in seconds.

        Raises OSError (TimeoutError too) or GmeshError.
        """
        host, port = str(sockaddr[0]), int(str(sockaddr[1]))
        if self.settings.kind is ProxyKind.EXEC:
            sock = self._run(node, host, str(port))
        else:
            end = time.monotonic() + timeout
            sock = self._connect(ProxyHandshake(self.settings, host, port), end)
        return sock, self._edge_address(sockaddr)

    def _edge_address(self, sockaddr: SockAddr) -> Address:
        """The real target's. Packets do not go through the proxy, so here a name has to be looked up after all."""
        host, port = str(sockaddr[0]), str(sockaddr[1])
        if ip_version(host.partition("%")[0]):
            return Address.from_sockaddr(sockaddr)
        with contextlib.suppress(GmeshError, IndexError):
            return Address.from_sockaddr(self._resolve(host, port, self._family)[0][1])
        return Address(NOWHERE, port)

    def _connect(self, handshake: ProxyHandshake, end: float) -> Any:
        problem: Exception = GmeshError(f"the proxy {self.settings.host} has no address")
        for family, sockaddr in self._resolve(self.settings.host, self.settings.port, self._family):
            with contextlib.ExitStack() as undo:
                sock = gevent.socket.socket(family, std_socket.SOCK_STREAM)
                undo.callback(sock.close)
                tune_meta_socket(sock)
                self._prepare(sock, family)
                try:
                    sock.settimeout(_left(end))
                    sock.connect(sockaddr)
                except OSError as error:
                    problem = error
                    continue
                _talk(sock, handshake, end)
                undo.pop_all()
                return sock
        if isinstance(problem, TimeoutError):
            raise problem
        raise GmeshError(f"proxy {self.settings.host} port {self.settings.port}: {problem}") from None

    def _run(self, node: str, host: str, port: str) -> Any:
        """Start the command with one end of a socket pair as its standard input and output."""
        environment = inherited_environment() | self._variables
        environment |= {"NODE": node, "REMOTEADDRESS": host, "REMOTEPORT": port}
        ours, theirs = std_socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            number = theirs.fileno()
            _reap_in_time(start_command(self.settings.command, environment, stdin=number, stdout=number))
            undo.pop_all()
        return gevent.socket.socket(ours.family, ours.type, fileno=ours.detach())


def _talk(sock: Any, handshake: ProxyHandshake, end: float) -> None:
    """Have the conversation. What the target says right behind it stays in the socket."""
    while True:
        sock.settimeout(_left(end))
        output = handshake.data_to_send()
        if output:
            sock.sendall(output)
        if handshake.done:
            return
        data = sock.recv(READ_SIZE, std_socket.MSG_PEEK)
        if not data:
            raise GmeshError("the proxy closed the connection")
        handshake.receive(data)
        sock.recv(len(data) - len(handshake.left_over) if handshake.done else len(data))


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the proxy did not answer in time")
    return left


def _reap_in_time(pid: int) -> None:
    """Let the command's end be noticed, whenever that is; its status does not matter."""
    loop = gevent.get_hub().loop
    loop.install_sigchld()
    watcher = loop.child(pid, False)

    def ended() -> None:
        watcher.stop()
        watcher.close()

    watcher.start(ended)


def _port_number(port: str) -> int:
    try:
        number = int(port) if port.isascii() and port.isdigit() else std_socket.getservbyname(port, "tcp")
    except (OSError, ValueError):
        raise GmeshError(f"there is no port {port[:40]}") from None
    if not 0 < number < 65536:
        raise GmeshError(f"there is no port {port[:40]}")
    return number
