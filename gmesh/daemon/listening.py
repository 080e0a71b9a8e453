"""Opens the listening sockets: for every address one TCP socket and one UDP socket on the same port (meta-legacy 10.1).

Not here: what arrives on them.
"""

from __future__ import annotations

import errno
import logging
import os
import socket as std_socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gmesh.daemon.logging_setup import NOTICE, log
from gmesh.dataplane.udp_sockets import UdpOptions, open_udp
from gmesh.errors import ConfigError, GmeshError
from gmesh.net.listener import open_tcp
from gmesh.net.resolver import resolve
from gmesh.values import Address

MAX_SOCKETS = 128
PORT_ATTEMPTS = 20
"""How often a port chosen by the system for TCP may turn out to be taken for UDP."""


@dataclass(frozen=True, slots=True)
class SocketPair:
    """A TCP and a UDP socket bound to the same address and port. ``wildcard``: bound to every address of its family."""

    tcp: Any
    udp: Any
    address: Address
    wildcard: bool

    @property
    def family(self) -> int:
        return int(self.tcp.family)


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """What the configuration says about sockets. ``addresses`` are (host, port) with ``*`` for any host."""

    addresses: Sequence[tuple[str, str | None]]
    port: str
    family: int
    udp: UdpOptions


def open_sockets(options: SocketOptions) -> list[SocketPair]:
    """Bind everything that can be bound. Raises ConfigError where nothing could."""
    pairs: list[SocketPair] = []
    port = options.port
    for host, own_port in options.addresses or [("*", None)]:
        for address in _resolve_any(host, own_port or port, options.family):
            if len(pairs) == MAX_SOCKETS:
                raise ConfigError(f"Too many listening sockets: at most {MAX_SOCKETS}")
            try:
                pair = _open_pair(address, options.udp)
            except OSError as error:
                text = f"Can't bind to {address}: {error.strerror or os.strerror(error.errno or 0)}"
                log(0, logging.ERROR, text)
                continue
            pairs.append(pair)
            log(1, NOTICE, f"Listening on {pair.address}")
            if port == "0":
                # All sockets share the port that the system chose for the first (behaviours, Network).
                port = pair.address.port
    if not pairs:
        raise ConfigError("Unable to create any listening socket!")
    return pairs


def _resolve_any(host: str, port: str, family: int) -> list[Address]:
    if host == "*":
        wildcards = {int(std_socket.AF_INET): "0.0.0.0", int(std_socket.AF_INET6): "::"}
        hosts = [wildcards[family]] if family in wildcards else list(wildcards.values())
        port_number = port if port.isdigit() else str(std_socket.getservbyname(port))
        return [Address(each, port_number) for each in hosts if each != "::" or std_socket.has_ipv6]
    try:
        found = [Address.from_sockaddr(sockaddr) for _family, sockaddr in resolve(host, port, family)]
    except GmeshError as error:
        log(0, logging.ERROR, f"Can't listen on {host}: {error}")
        return []
    return list(dict.fromkeys(found))


def _open_pair(address: Address, udp_options: UdpOptions) -> SocketPair:
    port = int(address.port)
    prepare: Callable[[Any], None] = udp_options.prepare
    for _attempt in range(PORT_ATTEMPTS if port == 0 else 1):
        tcp = open_tcp(address.host, port, prepare=prepare)
        bound = Address.from_sockaddr(tcp.getsockname())
        try:
            udp = open_udp(Address(address.host, bound.port), udp_options)
        except OSError:
            tcp.close()
            if port == 0:
                continue
            raise
        return SocketPair(tcp, udp, bound, address.host in {"0.0.0.0", "::"})
    raise OSError(errno.EADDRINUSE, "no port is free for both TCP and UDP")
