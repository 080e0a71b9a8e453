"""Host names to socket addresses, off the loop and with a time limit (contract 9)."""

from __future__ import annotations

import ipaddress
import socket as std_socket

import gevent
import gevent.socket

from gmesh.errors import GmeshError

RESOLVE_TIMEOUT = 10.0

SockAddr = tuple[object, ...]


def resolve(host: str, port: str, family: int = std_socket.AF_UNSPEC) -> list[tuple[int, SockAddr]]:
    """(family, sockaddr) pairs in the resolver's order for a stream connection to ``host``.

    Names are looked up anew at each call. Raises GmeshError that says which name failed and why.
    """
    flags = std_socket.AI_NUMERICSERV if port.isdigit() else 0
    try:
        ipaddress.ip_address(host)
        flags |= std_socket.AI_NUMERICHOST
    except ValueError:
        pass
    try:
        with gevent.Timeout(RESOLVE_TIMEOUT, GmeshError(f"no answer for {host} within {RESOLVE_TIMEOUT:.0f} s")):
            found = gevent.socket.getaddrinfo(host, port, family, std_socket.SOCK_STREAM, 0, flags)
    except OSError as error:
        raise GmeshError(f"cannot resolve {host} port {port}: {error.strerror or error}") from None
    return [(int(entry[0]), tuple(entry[4])) for entry in found]
