"""A multicast group as a network: each datagram is an Ethernet frame (config 7).

Not here: anything that keeps strangers out. Whoever is in the group is in the network.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

from gmesh.device.ethernet import EthernetDevice
from gmesh.errors import ConfigError, GmeshError

DEFAULT_TTL = 1

_SOURCE = slice(6, 12)


class MulticastDevice(EthernetDevice):
    """Frames sent to and received from the group at ``target`` through ``sock``."""

    def __init__(self, sock: Any, name: str, target: Any) -> None:
        super().__init__(sock, name=name, interface="multicast", description=f"{name} is a multicast socket")
        self._target = target
        self._sent_by = b""
        """The source address of the last frame that was sent: it comes back to us as well."""

    def _receive(self) -> bytes:
        while (frame := super()._receive())[_SOURCE] == self._sent_by and frame:
            pass
        return frame

    def _send(self, frame: bytes) -> None:
        self._sent_by = frame[_SOURCE]
        self._handle.sendto(frame, self._target)


def open_multicast(device: str) -> MulticastDevice:
    """``device`` is ``GROUP PORT [TTL]``. Raises ConfigError for what is not, GmeshError where the system refuses."""
    words = device.split()
    if not words:
        raise ConfigError("Device variable required for multicast socket", key="Device")
    if len(words) < 2:
        raise ConfigError("Port number required for multicast socket", key="Device")
    group, port = words[0], words[1]
    ttl = int(words[2]) if words[2:] and words[2].isascii() and words[2].isdigit() else None
    if words[2:] and (ttl is None or ttl > 255):
        raise ConfigError(f"The TTL of a multicast socket must be 0 to 255, not {words[2]}", key="Device")
    try:
        found = socket.getaddrinfo(group, port, type=socket.SOCK_DGRAM)
        family, _, _, _, target = found[0]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise GmeshError(f"Can't bind to {group} {port}: {reason}") from None
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        _join(sock, family, target, DEFAULT_TTL if ttl is None else ttl)
    except OSError as error:
        sock.close()
        raise GmeshError(f"Can't bind to {group} {port}: {os.strerror(error.errno or 0)}") from None
    return MulticastDevice(sock, device, target)


def _join(sock: Any, family: int, target: Any, ttl: int) -> None:
    sock.setblocking(False)
    # Several daemons of one machine share the group and hear each other.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(target)
    group = socket.inet_pton(family, target[0].partition("%")[0])
    if family == socket.AF_INET6:
        member = group + struct.pack("@I", target[3])
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
        return
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + bytes(4))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
