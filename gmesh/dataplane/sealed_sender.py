"""Which way a packet takes that is sealed end to end in an SPTPS session, our own or a relayed one (data-sptps 5).

Not here: where a frame belongs (`gmesh.route`), legacy nodes (`sender.py`), what the sessions are.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import NamedTuple

from gmesh.dataplane.contract import DatagramForPeer, FrameForPeer, PlaneEvent
from gmesh.dataplane.flows import Flow, FlowTable, Held
from gmesh.dataplane.sessions import PeerSession
from gmesh.dataplane.sockets import UdpSockets
from gmesh.dataplane.traffic_class import traffic_class
from gmesh.dataplane.transmitter import Transmitter
from gmesh.dataplane.waiting import WaitingRoom
from gmesh.errors import DatagramError
from gmesh.mesh.events import KeyNeeded, PathWanted, ReceiveKeyWorn, TooBig
from gmesh.proto.sptps_flow import OVERHEAD, WORN_NUMBER
from gmesh.proto.sptps_packet import NULL_ID, PROBE, node_id
from gmesh.route.snapshot import OPTIONS_WITH_IDS, RouteNode, RouteSnapshot
from gmesh.values import OPTION_TCPONLY

WAITING_FRAMES = 64
"""Frames that wait for one node's session (requirement 16), and how many in all."""
ALL_WAITING_FRAMES = 2048
WAITING_SECONDS = 5.0
HELD_FRAMES = 512
HELD_SECONDS = 0.25
"""How many frames and probes of one node wait for a change of its keys, and how long: more than a change takes."""
EXAMINE_INTERVAL = 1.0
"""Seconds between two `PathWanted` for one node."""

_USUAL = WORN_NUMBER - 1
"""Up to this number a session needs no more attention."""


class _Parcel(NamedTuple):
    """A datagram (the record without ids) on its way from ``source`` to ``node``; what is in it if it is our own, or
    who brought it if it is not. ``by_tcp``: it came so, and UDP takes it over only where that surely works."""

    source: str
    node: RouteNode
    datagram: bytes
    frame: bytes = b""
    previous: str = ""
    by_tcp: bool = False


class SealedSender:
    """Sends frames to nodes with sessions, and relays what others sealed. It never fails aloud."""

    def __init__(
        self,
        *,
        name: str,
        flows: FlowTable,
        sockets: UdpSockets,
        events: list[PlaneEvent],
        tally: MutableMapping[str, int],
        clock: Callable[[], float],
        transmitter: Transmitter,
    ) -> None:
        self._name = name
        self._my_id = node_id(name)
        self._straight_head = NULL_ID + self._my_id
        self._flows = flows
        self._sockets = sockets
        self._events = events
        self._tally = tally
        self._clock = clock
        self._transmitter = transmitter
        self._nodes: Mapping[str, RouteNode] = {}
        self._options = 0
        self._inherit = False
        self._relays = True
        self._waiting: WaitingRoom[bytes] = WaitingRoom(
            per_node=WAITING_FRAMES, total=ALL_WAITING_FRAMES, seconds=WAITING_SECONDS
        )

    def set_routes(self, snapshot: RouteSnapshot) -> None:
        self._nodes = snapshot.nodes
        self._options = snapshot.options
        settings = snapshot.settings
        self._inherit = settings.priority_inheritance
        # A relay cannot look inside, so it can but pass on everything or nothing (requirement 19).
        self._relays = settings.forwarding != "off" and not settings.tunnel_server

    # Frames

    def send(self, node: RouteNode, frame: bytes, *, by_tcp: bool = False) -> None:
        """Send a frame to a reachable node, end to end; ``by_tcp``: it came so from another."""
        flow = self._flows.get_or_add(node.name)
        flow.counters.wanted += 1
        self._send(flow, node, frame, by_tcp=by_tcp)

    def by_udp(self, flow: Flow, node: RouteNode, frame: bytes) -> None:
        """Send a frame straight to a node, as is known to be possible."""
        session = flow.sessions.sending
        endpoint, sock = flow.endpoint, flow.socket
        if (
            session is None
            or endpoint is None
            or sock is None
            or self._inherit
            or session.flow.next_number > _USUAL
            or flow.held is not None
        ):
            self._send(flow, node, frame)
            return
        # The way of the mass of packets, which is spared calls of functions.
        kind, data = session.codec.pack(frame)
        head = self._straight_head if node.options >= OPTIONS_WITH_IDS else b""
        datagram = session.flow.seal(kind, data, head)
        error = self._transmitter.send(sock, endpoint, datagram)
        if error == 0:
            flow.counters.udp_out += 1
        elif error == errno.EMSGSIZE:
            self._refused(flow, len(data))
            self._by_tcp(_Parcel(self._name, node, datagram[len(head) :], frame))

    def send_waiting(self, flow: Flow) -> None:
        """There is a session, or another way: send what waited, in the order in which it came."""
        for frame in self._waiting.take(flow.name, self._clock()):
            self._send_late(flow, frame)

    def waiting_for(self) -> list[str]:
        """The nodes for whose sessions frames wait."""
        return self._waiting.nodes()

    def forget(self, name: str) -> None:
        self._waiting.forget(name)

    # Changes of keys

    def hold(self, flow: Flow) -> None:
        """Seal nothing for the node until `release`."""
        if flow.held is None:
            flow.held = Held(self._clock() + HELD_SECONDS)

    def waits(self, flow: Flow, call: Callable[[], None]) -> bool:
        """Whether ``call``, which sends something to the node, is to be made later; if so, it will be."""
        held = flow.held
        if held is None:
            return False
        if len(held.calls) >= HELD_FRAMES or self._clock() >= held.until:
            # What is lost to the change is less than what would be lost to the wait.
            self.release(flow)
            return False
        held.calls.append(call)
        return True

    def release(self, flow: Flow) -> None:
        """Send what was held, in the order in which it came."""
        held, flow.held = flow.held, None
        if held is not None:
            for call in held.calls:
                call()

    def seal_probe(self, flow: Flow, frame: bytes) -> bytes | None:
        """The datagram of a probe for the node itself; None without a session."""
        session = flow.sessions.sending
        node = self._nodes.get(flow.name)
        if session is None or node is None:
            return None
        try:
            datagram = session.flow.seal(PROBE, frame)
        except DatagramError:
            return None
        return self._straight_head + datagram if node.takes_ids else datagram

    def _send(self, flow: Flow, node: RouteNode, frame: bytes, *, by_tcp: bool = False) -> None:
        if node.neighbour:
            if (self._options | node.options) & OPTION_TCPONLY:
                self._frame_by_tcp(node, frame)
                return
            session = flow.sessions.sending
            if session is None or not self._fits(flow, len(frame), node, by_tcp=by_tcp):
                # The meta connection protects it as well.
                if session is None:
                    self._ask_for_session(flow)
                self._frame_by_tcp(node, frame)
                return
        else:
            session = flow.sessions.sending
            if session is None:
                self._wait(flow, frame)
                return
        if flow.held is not None and self.waits(flow, partial(self._send_late, flow, frame, by_tcp=by_tcp)):
            return
        datagram = self._seal(flow, session, frame, b"")
        if datagram is None:
            self._send(flow, node, frame, by_tcp=by_tcp)
            return
        self._forward(flow, _Parcel(self._name, node, datagram, frame, by_tcp=by_tcp))

    def _send_late(self, flow: Flow, frame: bytes, *, by_tcp: bool = False) -> None:
        """Send a frame that had to wait; the node may have gone meanwhile."""
        node = self._nodes.get(flow.name)
        if node is None or not node.reachable:
            self._tally["drop unreachable"] += 1
        else:
            self._send(flow, node, frame, by_tcp=by_tcp)

    def _seal(self, flow: Flow, session: PeerSession, frame: bytes, head: bytes) -> bytes | None:
        """``head`` and the record for a frame. None where the session's numbers are used up: as good as no session."""
        kind, data = session.codec.pack(frame)
        records = session.flow
        try:
            datagram = records.seal(kind, data, head)
        except DatagramError:
            flow.sessions.sending = None
            return None
        if records.next_number > WORN_NUMBER and not session.worn:
            session.worn = True
            self._events.append(ReceiveKeyWorn(flow.name))
        return datagram

    def _wait(self, flow: Flow, frame: bytes) -> None:
        if not self._waiting.add(flow.name, frame, self._clock()):
            self._tally["drop waiting for session"] += 1
        self._ask_for_session(flow)

    # Datagrams

    def relay(self, source: str, target: str, datagram: bytes, previous: str, *, by_tcp: bool) -> None:
        """Pass on what ``source`` sealed for ``target`` and what ``previous`` brought, perhaps by TCP: the record
        without ids."""
        node = self._nodes.get(target)
        if node is None or not node.reachable:
            self._tally["drop unreachable"] += 1
        elif not self._relays:
            self._tally["drop prohibited"] += 1
        elif target == previous:
            self._tally["drop loop"] += 1
        else:
            flow = self._flows.get_or_add(target)
            flow.counters.wanted += 1
            self._tally["relayed"] += 1
            self._forward(flow, _Parcel(source, node, datagram, previous=previous, by_tcp=by_tcp))

    def _forward(self, flow: Flow, parcel: _Parcel) -> None:
        """By UDP to the node, its static relay or its next hop, whichever can take it first; else by TCP."""
        node = parcel.node
        mine = parcel.source == self._name
        size = len(parcel.datagram) - OVERHEAD
        for name in (node.via, node.next_hop):
            relay = self._nodes.get(name)
            if relay is None or name in (self._name, parcel.previous):
                continue
            if (self._options | relay.options) & OPTION_TCPONLY:
                continue
            straight = mine and relay is node
            if not straight and not relay.takes_ids:
                continue
            relay_flow = flow if relay is node else self._flows.get_or_add(name)
            if not self._fits(relay_flow, size, relay, by_tcp=parcel.by_tcp):
                continue
            if straight:
                head = self._straight_head if node.takes_ids else b""
            else:
                head = node_id(node.name) + node_id(parcel.source)
            if relay is not node:
                relay_flow.counters.wanted += 1
            if self._transmit(relay_flow, head + parcel.datagram, size, parcel.frame):
                return
            break
        self._by_tcp(parcel)

    def _fits(self, flow: Flow, size: int, node: RouteNode, *, by_tcp: bool) -> bool:
        """Whether UDP to the node itself can take ``size`` bytes, and may take over what came by TCP if it is that."""
        if not flow.fits(size, node, self._clock):
            return False
        if not by_tcp:
            return True
        now = self._clock()
        if flow.is_lively(now):
            return True
        if now - flow.examined_at >= EXAMINE_INTERVAL:
            flow.examined_at = now
            self._events.append(PathWanted(flow.name))
        return False

    def _transmit(self, flow: Flow, datagram: bytes, size: int, frame: bytes) -> bool:
        """False where UDP has not taken it, so that TCP can."""
        endpoint, sock = flow.endpoint, flow.socket
        if endpoint is None or sock is None:
            self._tally["no UDP address"] += 1
            return False
        if self._inherit:
            # What is inside a relayed one, nobody here can know.
            self._sockets.set_traffic_class(sock, traffic_class(frame))
        error = self._transmitter.send(sock, endpoint, datagram)
        if error == 0:
            flow.counters.udp_out += 1
        elif error == errno.EMSGSIZE:
            self._refused(flow, size)
            return False
        return True

    def _refused(self, flow: Flow, size: int) -> None:
        if flow.refuse(size, self._clock()):
            self._events.append(TooBig(flow.name, size))

    def _by_tcp(self, parcel: _Parcel) -> None:
        """Over the meta connections, by way of the next hop."""
        if parcel.frame and parcel.node.neighbour:
            # The connection protects it as well as a session would.
            self._frame_by_tcp(parcel.node, parcel.frame)
            return
        hop = parcel.node.next_hop
        if hop == parcel.previous:  # never empty for a node that is reachable
            self._tally["drop loop"] += 1
            return
        self._tally["TCP packets out"] += 1
        self._events.append(DatagramForPeer(hop, parcel.source, parcel.node.name, parcel.datagram))

    def _frame_by_tcp(self, node: RouteNode, frame: bytes) -> None:
        self._tally["TCP packets out"] += 1
        self._events.append(FrameForPeer(node.name, frame))

    def _ask_for_session(self, flow: Flow) -> None:
        if flow.wants_key(self._clock()):
            self._events.append(KeyNeeded(flow.name))
