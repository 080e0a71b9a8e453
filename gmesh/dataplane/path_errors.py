"""What routers say about datagrams that were sent: the error queues of the UDP sockets (IP_RECVERR).

Only "too big" changes anything, and only for a node at its present address: the largest frame sinks at once, and the
mesh is told. Whoever forges such a message gains that larger frames go by TCP until the mesh's next probe for growth.
All other messages, such as the "port unreachable" of a NAT that is being punched, are merely counted.

Not here: asking for the queues (`udp_sockets.py`), which sizes are tried (the mesh).
"""

from __future__ import annotations

import errno
import socket as std_socket
import struct
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from gmesh.dataplane.contract import PlaneEvent
from gmesh.dataplane.endpoints import normal_endpoint
from gmesh.dataplane.flows import FlowTable
from gmesh.dataplane.udp_sockets import IP_RECVERR, IPV6_RECVERR
from gmesh.mesh.events import TooBig
from gmesh.mesh.legacy_channel import overhead_of
from gmesh.mesh.pmtu import FLOOR
from gmesh.proto.sptps_packet import DATAGRAM_OVERHEAD

MAX_ERRORS = 16
"""Messages read at once; the descriptor stays readable while there are more."""
_MSG_ERRQUEUE = 0x2000
_ANCILLARY_BYTES = 256
_EXTENDED_ERROR = struct.Struct("=IBBBBII")  # errno, origin, type, code, padding, information, data
_HEADERS = {2: 28, 3: 48}
"""Bytes before a datagram's payload by the origin of the message: ICMP, ICMPv6. Others are our own system."""
_KINDS = frozenset({(std_socket.IPPROTO_IP, IP_RECVERR), (std_socket.IPPROTO_IPV6, IPV6_RECVERR)})


def largest_datagram(ancillary: Sequence[tuple[int, int, bytes]]) -> int | None:
    """How many bytes a datagram may have by a router's message, or None where it is about something else.

    ``ancillary`` is what ``recvmsg`` gave. Old routers leave the number out (0), which says nothing that helps.
    """
    for level, kind, data in ancillary:
        if (level, kind) not in _KINDS or len(data) < _EXTENDED_ERROR.size:
            continue
        number, origin, _, _, _, information, _ = _EXTENDED_ERROR.unpack_from(data)
        headers = _HEADERS.get(origin)
        if number == errno.EMSGSIZE and headers is not None and information > headers:
            return int(information) - headers
    return None


class PathErrors:
    """Reads error queues. ``events`` takes what has to be handed up, ``tally`` counts."""

    def __init__(
        self,
        flows: FlowTable,
        events: list[PlaneEvent],
        tally: MutableMapping[str, int],
        clock: Callable[[], float],
    ) -> None:
        self._flows = flows
        self._events = events
        self._tally = tally
        self._clock = clock

    def read(self, sock: Any) -> None:
        """Take up to `MAX_ERRORS` messages; never fails."""
        for _ in range(MAX_ERRORS):
            try:
                _, ancillary, _, target = sock.recvmsg(0, _ANCILLARY_BYTES, _MSG_ERRQUEUE)
            except OSError:
                return
            self._tally["UDP errors heard"] += 1
            size = largest_datagram(ancillary)
            if size is not None and target:
                self._too_big(target, size)

    def _too_big(self, target: Any, datagram: int) -> None:
        """The path to ``target`` carries datagrams of so many bytes."""
        endpoint = normal_endpoint(target)
        flow = self._flows.by_source.get(endpoint)
        if flow is None or flow.endpoint != endpoint:
            return
        if flow.sealer is not None and not flow.sessions.all:
            largest = overhead_of(flow.sealer.key).largest_frame(datagram)
        else:
            # A relay gets sealed datagrams whether or not there is a session with itself.
            largest = datagram - DATAGRAM_OVERHEAD
        size = max(largest, FLOOR) + 1
        if flow.refuse(size, self._clock()):
            self._events.append(TooBig(flow.name, size))
