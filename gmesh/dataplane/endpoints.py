"""Socket addresses in the one form that the data plane compares: what a socket of their own family reports.

An endpoint is ``(host, port)`` for IPv4 and ``(host, port, 0, scope)`` for IPv6, host in the text form of the system.

Not here: names. Only numeric addresses have endpoints.
"""

from __future__ import annotations

import socket as std_socket
from typing import Any

from gmesh.values import Address

Endpoint = tuple[Any, ...]


def endpoint_of(address: Address) -> Endpoint | None:
    """The endpoint of a numeric address with a port, or None. An IPv4-mapped address is its IPv4 one."""
    target = address.endpoint
    if target is None:
        return None
    host, port = target
    host, _, zone = host.partition("%")
    if ":" not in host:
        return (host, port)
    try:
        packed = std_socket.inet_pton(std_socket.AF_INET6, host)
        scope = _scope_number(zone)
    except OSError:
        return None
    if packed[:12] == bytes(10) + b"\xff\xff":
        return (std_socket.inet_ntop(std_socket.AF_INET, packed[12:]), port)
    return (std_socket.inet_ntop(std_socket.AF_INET6, packed), port, 0, scope)


def address_of(endpoint: Endpoint) -> Address:
    """The address as gossip and logs carry it; the scope of a link-local one is kept as ``%interface``."""
    host = endpoint[0]
    if len(endpoint) == 4 and endpoint[3]:
        try:
            host = f"{host}%{std_socket.if_indextoname(endpoint[3])}"
        except OSError:
            host = f"{host}%{endpoint[3]}"
    return Address(host, str(endpoint[1]))


def normal_endpoint(source: Endpoint) -> Endpoint:
    """The endpoint for what a socket reported: IPv4-mapped IPv6 is unmapped, flow information is dropped."""
    if len(source) == 4:
        host = source[0]
        if host.startswith("::ffff:") and "." in host:
            return (host[7:], source[1])
        if source[2]:
            return (host, source[1], 0, source[3])
    return source


def _scope_number(zone: str) -> int:
    if not zone:
        return 0
    if zone.isascii() and zone.isdigit() and len(zone) < 10:
        return int(zone)
    return std_socket.if_nametoindex(zone)
