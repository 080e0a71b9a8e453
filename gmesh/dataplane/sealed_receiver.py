"""Datagrams of SPTPS sessions: for us, or to be relayed as they are (data-sptps 2, 3, 5.1, 9).

What fails to open costs one tag per session and changes nothing: neither address nor session (requirements 1, 28).

Not here: the way a relayed datagram takes (`sealed_sender.py`), legacy datagrams (`receiver.py`), what becomes of a
session that is doubted (the mesh).
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any, NamedTuple

from gmesh.dataplane.contract import PlaneEvent
from gmesh.dataplane.endpoints import Endpoint, address_of, normal_endpoint
from gmesh.dataplane.flows import Flow, FlowTable
from gmesh.dataplane.node_ids import NodeIds
from gmesh.dataplane.sealed_sender import SealedSender
from gmesh.dataplane.sessions import PeerSession
from gmesh.dataplane.waiting import WaitingRoom
from gmesh.errors import DatagramError
from gmesh.mesh.events import (
    AddressSeen,
    HandshakeOpened,
    KeyNeeded,
    ProbeReceived,
    ReceiveKeyWorn,
    RelayedDatagram,
    SessionConfirmed,
    SessionDoubted,
)
from gmesh.proto.packet import NotAuthentic
from gmesh.proto.sptps_flow import HANDSHAKE_RECORD, NUMBER_SIZE, OVERHEAD, WORN_NUMBER
from gmesh.proto.sptps_packet import HEAD_SIZE, ID_SIZE, NULL_ID, PROBE, node_id
from gmesh.route.snapshot import RouteSnapshot
from gmesh.values import ETHERNET_HEADER, MTU

EVENT_INTERVAL = 1.0
"""Seconds between two doubts, or two tellings of relayed datagrams, for one node."""
EARLY_DATAGRAMS = 256
"""Datagrams kept for one node until the keys under which they were sealed are there, and how many in all. The meta
connection that brings the end of a handshake, first or renewed, is slower than UDP."""
ALL_EARLY_DATAGRAMS = 1024
EARLY_SECONDS = 3.0
EARLY_NUMBERS = 4096
"""How far the number of such a datagram may be from the beginning, or from what a session expects: numbers go on when
keys change. Whoever does not see the traffic cannot fill the room with garbage."""


_REPLAYED = "drop replayed or far out of order"


class _Straight(NamedTuple):
    """An early datagram, with its ids, that came straight from the node."""

    datagram: bytes
    source: Endpoint
    socket: Any

    @property
    def number(self) -> int:
        """The number of the record, as far as it is there."""
        return int.from_bytes(self.datagram[HEAD_SIZE : HEAD_SIZE + NUMBER_SIZE], "big")


class _Detoured(NamedTuple):
    """An early datagram, without ids, that came through a relay or by TCP."""

    datagram: bytes
    by_tcp: bool

    @property
    def number(self) -> int:
        return int.from_bytes(self.datagram[:NUMBER_SIZE], "big")


class SealedReceiver:
    """Opens datagrams of sessions and hands their frames to ``deliver(frame, node, now)``. It never raises."""

    def __init__(
        self,
        *,
        name: str,
        flows: FlowTable,
        ids: NodeIds,
        events: list[PlaneEvent],
        tally: MutableMapping[str, int],
        sender: SealedSender,
        deliver: Callable[[bytes, str, float], None],
    ) -> None:
        self._name = name
        self._my_id = ids.own
        self._flows = flows
        self._by_name = flows.by_name
        self.ids = ids
        self._events = events
        self._tally = tally
        self._sender = sender
        self._deliver = deliver
        self._early: WaitingRoom[_Straight | _Detoured] = WaitingRoom(
            per_node=EARLY_DATAGRAMS, total=ALL_EARLY_DATAGRAMS, seconds=EARLY_SECONDS
        )
        self._retrying = False
        """Whether early datagrams are being tried, which have been doubted already."""
        self._snapshot = RouteSnapshot(name=name, options=0)

    def set_routes(self, snapshot: RouteSnapshot) -> None:
        self._snapshot = snapshot

    # By UDP

    def receive(self, name: str, datagram: bytes, source: Endpoint, sock: Any, now: float) -> None:
        """Take a datagram that bears the id of the node ``name`` as the one that sealed it."""
        destination = datagram[:ID_SIZE]
        if destination != NULL_ID:
            if destination == self._my_id:
                self._open(name, datagram[HEAD_SIZE:], by_tcp=False, now=now)
            else:
                self._relay_from(name, destination, datagram, source)
            return
        flow = self._by_name.get(name)
        if flow is None or not flow.sessions.all:
            self._too_early(name, _Straight(datagram, source, sock), now)
            return
        # The way of the mass of packets, which is spared calls of functions.
        sessions = flow.sessions.all
        for session in sessions:
            try:
                kind, data, number = session.flow.open(datagram, now, HEAD_SIZE)
            except NotAuthentic:
                continue
            except DatagramError:
                self._tally[_REPLAYED] += 1
                return
            break
        else:
            self._not_opened(flow, _Straight(datagram, source, sock), now)
            return
        session.flow.window.accept(number)
        counters = flow.counters
        counters.last_authentic = counters.last_opened = now
        if source != flow.endpoint:
            source = self._elsewhere(flow, normal_endpoint(source), sock)
        elif sock is not flow.socket:
            flow.socket = sock
        if not session.confirmed or session is not sessions[0] or number > WORN_NUMBER:
            self._taken(flow, session, number, now)
        if kind == PROBE:
            self._probe(flow, data, source)
            return
        try:
            frame = session.codec.unpack(kind, data)
        except DatagramError as error:
            self._refuse(error)
            return
        counters.packets_in += 1
        counters.bytes_in += len(frame)
        self._deliver(frame, name, now)

    def receive_bare(self, flow: Flow, datagram: bytes, source: Endpoint, sock: Any, now: float) -> bool:
        """Whether a datagram without ids is of this node, which is at ``source``: then it is taken."""
        node = self._snapshot.nodes.get(flow.name)
        if node is None or not node.sptps or node.takes_ids:
            return False
        self.receive(flow.name, NULL_ID + node_id(flow.name) + datagram, source, sock, now)
        return True

    def _relay_from(self, name: str, destination: bytes, datagram: bytes, source: Endpoint) -> None:
        """Pass on what came by UDP: only for a node, from where it proved to be, or anyone could make us send."""
        flow = self._flows.by_source.get(source)
        if flow is None:
            source = normal_endpoint(source)
            flow = self._flows.by_source.get(source)
        if flow is None or not flow.udp or flow.endpoint != source:
            self._tally["drop relayed from stranger"] += 1
            return
        self._relay(name, destination, datagram[HEAD_SIZE:], flow.name, by_tcp=False)

    # By TCP

    def by_tcp(self, neighbour: str, destination: bytes, source: bytes, datagram: bytes, now: float) -> None:
        """What an SPTPS_PACKET carried."""
        name = self.ids.names.get(source)
        if name is None:
            self._tally["drop unknown id"] += 1
        elif destination == self._my_id:
            self._open(name, datagram, by_tcp=True, now=now)
        else:
            self._relay(name, destination, datagram, neighbour, by_tcp=True)

    def _relay(self, name: str, destination: bytes, datagram: bytes, previous: str, *, by_tcp: bool) -> None:
        target = self.ids.names.get(destination)
        if target is None:
            self._tally["drop unknown id"] += 1
        elif name == self._name:
            self._tally["drop loop"] += 1
        elif len(datagram) < OVERHEAD:
            self._tally["drop truncated"] += 1
        else:
            self._sender.relay(name, target, datagram, previous, by_tcp=by_tcp)

    def open_handshake(self, name: str, datagram: bytes, now: float) -> None:
        """A handshake record that came by ANS_KEY goes up as it is; anything else in its place is dropped."""
        flow = self._by_name.get(name)
        if flow is None:
            self._tally["drop handshake"] += 1
            return
        try:
            session, kind, data, number = self._try(flow, datagram, 0, now)
        except NotAuthentic:
            self._tally["drop handshake"] += 1
            self._doubt(flow, now)
        except DatagramError:
            self._tally[_REPLAYED] += 1
        else:
            self._taken(flow, session, number, now)
            if kind == HANDSHAKE_RECORD:
                self._events.append(HandshakeOpened(name, session.number, data))
            else:
                self._tally["drop record type"] += 1

    # Sessions

    def keys_added(self, flow: Flow, now: float) -> None:
        """There is a new session, or a new key in one: what came before it may be opened now."""
        for early in self._early.take(flow.name, now):
            self._retrying = True
            if isinstance(early, _Straight):
                self.receive(flow.name, early.datagram, early.source, early.socket, now)
            else:
                self._open(flow.name, early.datagram, by_tcp=early.by_tcp, now=now)
        self._retrying = False

    def forget(self, name: str) -> None:
        self._early.forget(name)

    def _open(self, name: str, datagram: bytes, *, by_tcp: bool, now: float) -> None:
        """Open what came through a relay or by TCP: it says nothing about where the node is, or what UDP can do."""
        flow = self._by_name.get(name)
        if flow is None or not flow.sessions.all:
            self._too_early(name, _Detoured(datagram, by_tcp), now)
            return
        try:
            session, kind, data, number = self._try(flow, datagram, 0, now)
        except NotAuthentic:
            self._not_opened(flow, _Detoured(datagram, by_tcp), now)
            return
        except DatagramError:
            self._tally[_REPLAYED] += 1
            return
        self._taken(flow, session, number, now)
        if kind == PROBE:
            self._tally["drop relayed probe"] += 1
            return
        if now - flow.relayed_at >= EVENT_INTERVAL:
            flow.relayed_at = now
            self._events.append(RelayedDatagram(name, by_tcp))
        try:
            frame = session.codec.unpack(kind, data)
        except DatagramError as error:
            self._refuse(error)
            return
        counters = flow.counters
        counters.packets_in += 1
        counters.bytes_in += len(frame)
        self._deliver(frame, name, now)

    def _try(self, flow: Flow, datagram: bytes, start: int, now: float) -> tuple[PeerSession, int, bytes, int]:
        """The session that opens a datagram, with type, data and number of the record; it counts as taken.

        Raises NotAuthentic, or DatagramError for one that is authentic and not new.
        """
        for session in flow.sessions.all:
            try:
                kind, data, number = session.flow.take(datagram, now, start)
            except NotAuthentic:
                continue
            return session, kind, data, number
        raise NotAuthentic("no session opens it")

    def _taken(self, flow: Flow, session: PeerSession, number: int, now: float) -> None:
        """A record of the node was authentic and new, whichever way it came."""
        flow.counters.last_opened = now
        if not session.confirmed:
            session.confirmed = True
            self._events.append(SessionConfirmed(flow.name, session.number))
        if session is not flow.sessions.all[0]:
            flow.sessions.prefer(session)
        if number > WORN_NUMBER and not session.worn:
            session.worn = True
            self._events.append(ReceiveKeyWorn(flow.name))

    def _elsewhere(self, flow: Flow, source: Endpoint, sock: Any) -> Endpoint:
        """An authentic datagram came straight from the node, perhaps from where it is not sent to; that is told once.

        Returns ``source``.
        """
        if self._flows.by_source.get(source) is not flow:
            self._flows.heard(flow, source, sock)
        if source == flow.endpoint:
            flow.socket = sock
        elif source != flow.reported:
            flow.reported = source
            self._events.append(AddressSeen(flow.name, address_of(source)))
        return source

    def _probe(self, flow: Flow, data: bytes, source: Endpoint) -> None:
        """A probe, which came straight along the path that it proves."""
        if not ETHERNET_HEADER <= len(data) <= MTU:
            self._tally["drop frame length"] += 1
        else:
            self._tally["probes in"] += 1
            self._events.append(ProbeReceived(flow.name, data, address_of(source)))

    def _refuse(self, error: DatagramError) -> None:
        """Count an authentic record that cannot be taken; details of the reason would make too many counters."""
        self._tally[f"drop {str(error).partition(':')[0]}"] += 1

    def _too_early(self, name: str, early: _Straight | _Detoured, now: float) -> None:
        """Nothing can be opened yet; the end of the handshake may be on its way. The mesh may have to begin one."""
        node = self._snapshot.nodes.get(name)
        if node is None or not node.reachable or not node.sptps or name == self._name:
            self._tally["drop stranger"] += 1
            return
        self._tally["early"] += 1
        if early.number < EARLY_NUMBERS:
            self._early.add(name, early, now)
        if self._flows.get_or_add(name).wants_key(now):
            self._events.append(KeyNeeded(name))

    def _not_opened(self, flow: Flow, early: _Straight | _Detoured, now: float) -> None:
        """Garbage, or the first of a session that the node has begun: only the mesh can tell."""
        if self._retrying:
            # The session or key that came is not the one it waits for.
            self._early.add(flow.name, early, now)
            return
        self._tally["drop not authentic"] += 1
        number = early.number
        expected = [0, *(session.flow.window.expected for session in flow.sessions.all)]
        if any(abs(number - each) < EARLY_NUMBERS for each in expected):
            self._early.add(flow.name, early, now)
        self._doubt(flow, now)

    def _doubt(self, flow: Flow, now: float) -> None:
        if now - flow.doubted_at >= EVENT_INTERVAL:
            flow.doubted_at = now
            self._events.append(SessionDoubted(flow.name))
