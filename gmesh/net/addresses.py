"""Notices when this machine's own addresses or links change, so that roaming is acted on at once.

A raw rtnetlink socket, of whose notifications only the interface is read. Not here: what follows from a change.
"""

from __future__ import annotations

import errno
import socket as std_socket
import struct
import time
from collections.abc import Callable, Iterator

import gevent.socket

from gmesh.errors import GmeshError
from gmesh.net.resolver import lookup

RTMGRP_LINK = 0x1
RTMGRP_IPV4_IFADDR = 0x10
RTMGRP_IPV6_IFADDR = 0x100
SETTLE_SECONDS = 0.2
"""A change comes as a burst of notifications; one call is made when the burst is over."""

LONGEST_BURST = 2.0
"""Seconds after which a call is made even if notifications go on."""

_HEADER = struct.Struct("=IHHII")
_INTERFACE = struct.Struct("=4xi")
"""Of ifinfomsg and of ifaddrmsg: both have the interface's index after four bytes."""

_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR, _RTM_DELADDR = 16, 17, 20, 21
_OF_INTERFACES = {_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR, _RTM_DELADDR}


def open_notifications() -> gevent.socket.socket:
    """A socket on which the kernel tells of changes, for `watch_addresses`. Raises OSError without netlink."""
    sock = gevent.socket.socket(std_socket.AF_NETLINK, std_socket.SOCK_RAW, std_socket.NETLINK_ROUTE)
    try:
        sock.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
    except BaseException:
        sock.close()
        raise
    return sock


def watch_addresses(
    sock: gevent.socket.socket, changed: Callable[[], None], ignored: Callable[[int], bool] = lambda index: False
) -> None:
    """Call ``changed`` after each burst of address or link changes, for ever; closes ``sock`` at an error.

    Changes of interfaces whose index is ``ignored`` do not count. Raises OSError, and what ``changed`` raises.
    """
    with sock:
        while True:
            sock.settimeout(None)
            if not _concerns(_receive(sock), ignored):
                continue
            end = time.monotonic() + LONGEST_BURST
            sock.settimeout(SETTLE_SECONDS)
            try:
                while time.monotonic() < end:
                    _receive(sock)
            except TimeoutError:
                pass
            changed()


def is_own_address(host: str) -> bool:
    """Whether a socket can be bound to this numeric address now."""
    try:
        family, where = lookup(host, "0")[0]
        with std_socket.socket(family, std_socket.SOCK_STREAM) as probe:
            probe.bind(where)
    except GmeshError:
        # The interface in its scope is no more.
        return False
    except OSError as error:
        # Anything else says nothing about the address.
        return error.errno not in {errno.EADDRNOTAVAIL, errno.ENODEV}
    return True


def interfaces_of(data: bytes) -> Iterator[int]:
    """The interface index of each notification about a link or an address in one netlink datagram."""
    start = 0
    while start + _HEADER.size + _INTERFACE.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, start)
        if kind in _OF_INTERFACES:
            yield _INTERFACE.unpack_from(data, start + _HEADER.size)[0]
        start += max(_HEADER.size, length + 3 & ~3)


def _concerns(data: bytes | None, ignored: Callable[[int], bool]) -> bool:
    return data is None or any(not ignored(index) for index in interfaces_of(data))


def _receive(sock: gevent.socket.socket) -> bytes | None:
    """One datagram; None where the kernel had to drop some."""
    try:
        return bytes(sock.recv(65536))
    except OSError as error:
        if error.errno == errno.ENOBUFS:
            return None
        raise
