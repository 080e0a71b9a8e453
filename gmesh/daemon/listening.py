"""Opens the listening sockets: for every address one TCP socket and one UDP socket on the same port (meta-legacy 10.1).

Not here: what arrives on them.
"""

from __future__ import annotations

import errno
import logging
import socket as std_socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gmesh.config.checks import port_problem
from gmesh.daemon.logging_setup import NOTICE, log
from gmesh.dataplane.udp_sockets import UdpOptions, open_udp
from gmesh.errors import ConfigError, GmeshError
from gmesh.net.listener import open_tcp
from gmesh.net.peer import reason_of, tune_meta_socket
from gmesh.net.resolver import lookup
from gmesh.values import Address

MAX_SOCKETS = 128
PORT_ATTEMPTS = 20
"""How often a port chosen by the system for TCP may turn out to be taken for UDP."""


@dataclass(frozen=True, slots=True)
class SocketPair:
    """A TCP and a UDP socket bound to the same address and port. ``wildcard``: bound to every address of its family.

    ``listen_only``: the address is no source for outgoing connections (ListenAddress).
    """

    tcp: Any
    udp: Any
    address: Address
    wildcard: bool
    listen_only: bool = False

    @property
    def family(self) -> int:
        return int(self.tcp.family)


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """What the configuration says about sockets. ``addresses`` are (host, port) with ``*`` for any host; so are those
    of ``listen_only``, which are no source for outgoing connections."""

    addresses: Sequence[tuple[str, str | None]]
    port: str
    family: int
    udp: UdpOptions
    listen_only: Sequence[tuple[str, str | None]] = ()
    asked_buffers: frozenset[str] = frozenset()
    """Which of UDPRcvBuf and UDPSndBuf were asked for: their defaults may be cut down without a word."""
    port_place: tuple[str, int] = ("", 0)
    """File and line of Port, for messages."""


def open_sockets(options: SocketOptions) -> list[SocketPair]:
    """Bind everything that can be bound. Raises ConfigError where nothing could."""
    problem = port_problem(options.port)
    if problem:
        raise ConfigError(problem, *options.port_place, key="Port")
    pairs: list[SocketPair] = []
    try:
        _open_all(options, pairs)
        if not pairs:
            raise ConfigError("Unable to create any listening socket!")
    except ConfigError:
        for pair in pairs:
            pair.tcp.close()
            pair.udp.close()
        raise
    return pairs


def pair_with(listeners: Sequence[Any], options: SocketOptions) -> list[SocketPair]:
    """Give each TCP socket that listens already a UDP socket on its address. Raises ConfigError where one cannot be."""
    pairs: list[SocketPair] = []
    for tcp in listeners:
        found = Address.from_sockaddr(tcp.getsockname())
        wildcard = found.host in {"0.0.0.0", "::"}
        try:
            tune_meta_socket(tcp)
            options.udp.prepare(tcp)
            udp = open_udp(found, options.udp)
        except OSError as error:
            for pair in pairs:
                pair.udp.close()
            raise ConfigError(f"Can't bind to {found}/udp: {reason_of(error)}") from None
        if tcp.family == std_socket.AF_INET6 and not tcp.getsockopt(std_socket.IPPROTO_IPV6, std_socket.IPV6_V6ONLY):
            log(
                0,
                logging.WARNING,
                f"The TCP socket on {found} takes IPv4 too, UDP does not: use BindIPv6Only=ipv6-only",
            )
        pairs.append(SocketPair(tcp, udp, found, wildcard))
        _compare_buffers(udp, options)
        log(1, NOTICE, f"Listening on {found}")
    return pairs


def _open_all(options: SocketOptions, pairs: list[SocketPair]) -> None:
    port = options.port
    bound = [(*address, False) for address in options.addresses]
    listening = [(*address, True) for address in options.listen_only]
    for host, own_port, listen_only in [*bound, *listening] or [("*", None, False)]:
        for found in _resolve_any(host, own_port or port, options.family):
            # All sockets share the port that the system chose for the first (behaviours, Network).
            address = found if own_port or found.port != "0" else Address(found.host, port)
            if len(pairs) == MAX_SOCKETS:
                raise ConfigError(f"Too many listening sockets: at most {MAX_SOCKETS}")
            try:
                pair = _open_pair_early(address, options.udp)
            except OSError as error:
                log(0, logging.ERROR, f"Can't bind to {address}: {reason_of(error)}")
                continue
            pairs.append(replace(pair, listen_only=listen_only))
            _compare_buffers(pair.udp, options)
            log(1, NOTICE, f"Listening on {pair.address}")
            if port == "0" and not own_port:
                port = pair.address.port


def _compare_buffers(udp: Any, options: SocketOptions) -> None:
    """Say so if the system gave less than was asked for. It reports twice the size, for its own needs (socket(7))."""
    for name, option, wanted in (
        ("UDPRcvBuf", std_socket.SO_RCVBUF, options.udp.receive_buffer),
        ("UDPSndBuf", std_socket.SO_SNDBUF, options.udp.send_buffer),
    ):
        granted = udp.getsockopt(std_socket.SOL_SOCKET, option) // 2
        if name in options.asked_buffers and granted < wanted:
            limit = "net.core.rmem_max" if name == "UDPRcvBuf" else "net.core.wmem_max"
            log(0, logging.WARNING, f"{name} = {wanted}, but the system grants {granted} bytes only: raise {limit}")


def _resolve_any(host: str, port: str, family: int) -> list[Address]:
    """What to bind to. Names are asked for without a thread: nothing else runs yet that would have to wait."""
    wildcards = {int(std_socket.AF_INET): "0.0.0.0", int(std_socket.AF_INET6): "::"}
    hosts = [host] if host != "*" else [wildcards[family]] if family in wildcards else list(wildcards.values())
    found: list[Address] = []
    for each in hosts:
        if each == "::" and not std_socket.has_ipv6:
            continue
        try:
            found += [Address.from_sockaddr(sockaddr) for _family, sockaddr in lookup(each, port, family)]
        except GmeshError as error:
            log(0, logging.ERROR, f"Can't listen on {host}: {error}")
    return list(dict.fromkeys(found))


def _open_pair_early(address: Address, udp_options: UdpOptions) -> SocketPair:
    """As `_open_pair`, also for an address that is not there yet, as happens while a machine boots."""
    try:
        return _open_pair(address, udp_options)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
    pair = _open_pair(address, replace(udp_options, free_bind=True))
    log(0, logging.WARNING, f"{address.host} is no address of this machine: nothing will be heard there until it is")
    return pair


def _open_pair(address: Address, udp_options: UdpOptions) -> SocketPair:
    port = int(address.port)
    for _attempt in range(PORT_ATTEMPTS if port == 0 else 1):
        tcp = open_tcp(address.host, port, prepare=udp_options.prepare)
        try:
            bound = Address(address.host, str(tcp.getsockname()[1]))
            udp = open_udp(bound, udp_options)
        except BaseException as error:
            tcp.close()
            if port == 0 and isinstance(error, OSError):
                continue
            raise
        return SocketPair(tcp, udp, bound, address.host in {"0.0.0.0", "::"})
    raise OSError(errno.EADDRINUSE, "no port is free for both TCP and UDP")
