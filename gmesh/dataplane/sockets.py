"""The plane's UDP sockets by address family.

Not here: opening them (`udp_sockets.py`).
"""

from __future__ import annotations

import contextlib
import socket as std_socket
from collections.abc import Sequence
from typing import Any

from gmesh.dataplane.endpoints import Endpoint


class UdpSockets:
    """Chooses the socket for an endpoint: the first of its family, or for IPv4 an IPv6 one that takes both."""

    def __init__(self, sockets: Sequence[Any]) -> None:
        """``sockets`` are bound UDP sockets; they are made non-blocking, which gevent's allow for."""
        self.all = tuple(sockets)
        self._ipv4: Any = None
        self._ipv6: Any = None
        self._mapping: Any = None
        """The IPv6 socket that stands in for a missing IPv4 one, with IPv4-mapped addresses."""
        for sock in self.all:
            sock.setblocking(False)
            if sock.family == std_socket.AF_INET:
                self._ipv4 = self._ipv4 or sock
                continue
            self._ipv6 = self._ipv6 or sock
            if self._mapping is None and not sock.getsockopt(std_socket.IPPROTO_IPV6, std_socket.IPV6_V6ONLY):
                self._mapping = sock
        if self._ipv4 is None:
            self._ipv4 = self._mapping
        self.maps = self._mapping is not None
        """Whether `target` ever differs from the endpoint."""
        self._traffic_class: dict[int, int] = {}

    def for_endpoint(self, endpoint: Endpoint) -> Any:
        """The socket to send from, or None where no socket is of that family."""
        return self._ipv6 if len(endpoint) == 4 else self._ipv4

    def target(self, sock: Any, endpoint: Endpoint) -> Endpoint:
        """What to hand to ``sock.sendto``."""
        if sock is self._mapping and len(endpoint) == 2:
            return (f"::ffff:{endpoint[0]}", endpoint[1], 0, 0)
        return endpoint

    def set_traffic_class(self, sock: Any, value: int) -> None:
        """Set the TOS byte, or IPv6's traffic class, of what is sent from now on. A refusal does not matter."""
        number = sock.fileno()
        if self._traffic_class.get(number, 0) == value:
            return
        self._traffic_class[number] = value
        with contextlib.suppress(OSError):
            if sock.family == std_socket.AF_INET6:
                sock.setsockopt(std_socket.IPPROTO_IPV6, std_socket.IPV6_TCLASS, value)
            else:
                sock.setsockopt(std_socket.IPPROTO_IP, std_socket.IP_TOS, value)

    @staticmethod
    def set_ttl(sock: Any, ttl: int) -> bool:
        """Set the time to live of what is sent from now on, -1 for the system's default; whether that worked."""
        with contextlib.suppress(OSError):
            if sock.family == std_socket.AF_INET6:
                sock.setsockopt(std_socket.IPPROTO_IPV6, std_socket.IPV6_UNICAST_HOPS, ttl)
            else:
                sock.setsockopt(std_socket.IPPROTO_IP, std_socket.IP_TTL, ttl)
            return True
        return False
