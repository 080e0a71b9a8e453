"""Handing datagrams to the system, and what it says to that.

Not here: what is in a datagram, and what becomes of one that was refused.
"""

from __future__ import annotations

import errno
from collections.abc import MutableMapping
from typing import Any

from gmesh.dataplane.endpoints import Endpoint
from gmesh.dataplane.path_errors import PathErrors
from gmesh.dataplane.sockets import UdpSockets

_DROPPED_ERRORS = frozenset({errno.ENOBUFS, errno.EAGAIN, errno.ENOMEM})


class Transmitter:
    """Sends datagrams and counts them; ``packets`` and ``bytes`` are those that the system took, probes included."""

    def __init__(self, sockets: UdpSockets, tally: MutableMapping[str, int], errors: PathErrors) -> None:
        self._sockets = sockets
        self._maps = sockets.maps
        self._tally = tally
        self._errors = errors
        self.packets = 0
        self.bytes = 0

    def send(self, sock: Any, endpoint: Endpoint, datagram: bytes) -> int:
        """0, or the system's error number, which is counted here."""
        target = self._sockets.target(sock, endpoint) if self._maps else endpoint
        try:
            sock.sendto(datagram, target)
        except OSError as error:
            number = self._send_again(sock, datagram, target, error.errno or errno.EIO)
            if number:
                self._count(number)
                return number
        self.packets += 1
        self.bytes += len(datagram)
        return 0

    def _count(self, number: int) -> None:
        if number in _DROPPED_ERRORS:
            self._tally["drop UDP queue full"] += 1
        elif number == errno.EMSGSIZE:
            self._tally["UDP too big"] += 1
        else:
            # No route, a firewall, an address that cannot be: lost as on the way; the mesh's probes will notice.
            self._tally[f"drop UDP {errno.errorcode.get(number, 'error')}"] += 1

    def _send_again(self, sock: Any, datagram: bytes, target: Endpoint, number: int) -> int:
        """After the error ``number``, which may be what ICMP said of an earlier datagram, to whomever that was."""
        if number in _DROPPED_ERRORS:
            return number
        try:
            sock.sendto(datagram, target)
        except OSError as error:
            return error.errno or errno.EIO
        finally:
            if number == errno.EMSGSIZE:
                self._errors.read(sock)
        return 0
