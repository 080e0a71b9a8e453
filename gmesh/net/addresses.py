"""Notices when this machine's own addresses or routes change, so that roaming is acted on at once.

A raw rtnetlink socket: two groups of notifications, none of which is parsed. Not here: what follows from a change.
"""

from __future__ import annotations

import socket as std_socket
from collections.abc import Callable

import gevent
import gevent.socket

RTMGRP_LINK = 0x1
RTMGRP_IPV4_IFADDR = 0x10
RTMGRP_IPV6_IFADDR = 0x100
SETTLE_SECONDS = 0.2
"""A change comes as a burst of notifications; one call is made when the burst is over."""


def watch_addresses(changed: Callable[[], None]) -> None:
    """Call ``changed`` after each burst of address or link changes, for ever. Raises OSError without netlink."""
    sock = gevent.socket.socket(std_socket.AF_NETLINK, std_socket.SOCK_RAW, std_socket.NETLINK_ROUTE)
    sock.bind((0, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
    while True:
        sock.settimeout(None)
        sock.recv(65536)
        sock.settimeout(SETTLE_SECONDS)
        try:
            while True:
                sock.recv(65536)
        except TimeoutError:
            changed()
