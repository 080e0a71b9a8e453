"""Listening sockets that the service manager opened for us (sd_listen_fds(3), daemon-cli 7).

Not here: sockets of our own making (`listening.py`).
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Any

from gevent import socket

from gmesh.errors import GmeshError

FIRST_DESCRIPTOR = 3
MAX_SOCKETS = 8
"""As many as tinc 1.1 takes."""


def take_listeners(environment: MutableMapping[str, str], pid: int) -> list[Any]:
    """The TCP sockets that were handed to the process ``pid``; none without LISTEN_PID saying that it is meant.

    The variables are taken out of ``environment``, and no child inherits the descriptors. Raises GmeshError where there
    are too many, or one is no listening TCP socket.
    """
    for_whom, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if for_whom != str(pid) or not (count.isascii() and count.isdigit()):
        return []
    if int(count) > MAX_SOCKETS:
        raise GmeshError(f"Too many listening sockets: {count} were handed over, at most {MAX_SOCKETS} are taken")
    return [_adopt(descriptor) for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))]


def _adopt(descriptor: int) -> Any:
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise GmeshError(f"Descriptor {descriptor} of the service manager is unusable: {error.strerror}") from None
    if not listens or sock.type != socket.SOCK_STREAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
        raise GmeshError(f"Descriptor {descriptor} of the service manager is no listening TCP socket")
    return sock
