"""Where everything meets: network events go to the mesh, and what the mesh asks for is done (`perform`).

Nothing here yields: every action ends in a queue, so no two greenlets' actions interleave (contract 2). Not here:
decisions (`gmesh.mesh`), start and stop (`daemon.py`), what an administrator asks for (`backend.py`).
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable

import gevent
import gevent.event

from gmesh.daemon.known_keys import KnownKeys
from gmesh.daemon.logging_setup import log, wants
from gmesh.daemon.scripts import ScriptQueue
from gmesh.daemon.snapshot import build_snapshot
from gmesh.daemon.standby import Standby
from gmesh.dataplane.contract import DatagramForPeer, DataPlane, FrameForPeer, PlaneEvent
from gmesh.errors import PeerError
from gmesh.mesh import minors
from gmesh.mesh.actions import (
    Action,
    CloseConnection,
    DatagramByTcp,
    Dial,
    DropSession,
    ForgetFlow,
    ForgetMac,
    ForgetSendKey,
    HoldFrames,
    InstallReceiveKey,
    InstallSendKey,
    InstallSession,
    Log,
    NodeDown,
    NodeUp,
    OpenHandshake,
    ProceedHandshake,
    RoutesChanged,
    SendLine,
    SendProbe,
    SessionStep,
    SetPath,
    StopDialling,
    StorePublicKey,
    SubnetDown,
    SubnetUp,
    UseSession,
)
from gmesh.mesh.mesh import Mesh
from gmesh.mesh.settings import MeshSettings
from gmesh.net.addresses import is_own_address
from gmesh.net.peer import PeerConnection
from gmesh.proto.meta_base import PeerCredentials
from gmesh.proto.meta_events import (
    Active,
    ControlRequested,
    DatagramReceived,
    FrameReceived,
    Identified,
    InfoReceived,
    InvitationPresented,
    InvitationRequested,
    JoinerKeyReceived,
    KeyUnknownThere,
    LineRejected,
    MetaEvent,
    PongReceived,
    PublicKeyReceived,
    RequestReceived,
    Verified,
)
from gmesh.proto.requests import AnsKey, ReqKey, Request
from gmesh.proto.requests_11 import SessionData, as_req_key
from gmesh.proto.sptps_packet import node_id
from gmesh.route.snapshot import RouteSettings
from gmesh.values import OPTION_VERSION_SHIFT, Address

LONGEST_NAP = 60.0
SHORTEST_REST = 0.001
EXCHANGE_INTERVAL = 60.0
"""A node that does not keep our key is dialled again at once so often, else when its dialer thinks right."""


def _without_key(request: Request, line: str) -> str:
    """The line as it may be logged: who reads the log must not be able to read packets (requirement 9)."""
    match request:
        case AnsKey(key=key) if key:
            return line.replace(key, "<key>", 1)
        case ReqKey(extra=extra) if " " in extra:
            return line.replace(extra.split()[1], "<data>", 1)
    return line


def _no_invitations(peer: PeerConnection, event: object) -> None:
    raise PeerError("somebody wants to join with an invitation, and this daemon takes none")


class Hub:
    """Implements `gmesh.net.contract.Hub` and owns the mesh."""

    def __init__(
        self,
        settings: MeshSettings,
        *,
        route_settings: RouteSettings,
        clock: Callable[[], float],
        scripts: ScriptQueue | Standby,
        keys: KnownKeys,
        lookup: Callable[[str], PeerCredentials],
        plane: Callable[[Callable[[list[PlaneEvent]], None]], DataPlane],
        lost: Callable[[str], None],
        redial: Callable[[str], None],
        dial: Callable[[Dial | StopDialling], None],
    ) -> None:
        """``lost`` is told of nodes whose connection has ended, ``redial`` of those that are worth a try at once."""
        self.settings = settings
        self.route_settings = route_settings
        self.peers: dict[int, PeerConnection] = {}
        self._clock = clock
        self._lookup = lookup
        self.keys = keys
        self._lost = lost
        self._redial = redial
        self.to_exchange: set[str] = set()
        """Nodes that we have to tell our Ed25519 key when we connect to them next."""
        self._next_exchange: dict[str, float] = {}
        self.adopt: Callable[[PeerConnection, str], bool] = lambda peer, cookie: False
        """Takes over a connection that wants to be a control connection with this cookie; False if it may not."""
        self.invite: Callable[[PeerConnection, InvitationRequested | InvitationPresented | JoinerKeyReceived], None]
        """Told what somebody says who wants to join with an invitation. Raises PeerError where that is not possible."""
        self.invite = _no_invitations
        self.on_address: Callable[[str, Address], None] = lambda node, address: None
        """Told where a neighbour has been reached: by a connection of ours that became active, or by UDP."""
        self._routes_dirty = gevent.event.Event()
        self.on_routes: list[Callable[[], object]] = [self._routes_dirty.set]
        """Called whenever reachability, paths or subnets have changed, after the scripts of that change."""
        self._timer_moved = gevent.event.Event()
        self._sleeping_until = 0.0
        self._queue: deque[Action] = deque()
        self._performing = False
        self.plane = plane(self.data_events)
        self.mesh = Mesh(settings, clock(), os.urandom, self.plane, keys)
        keys.on_change = self.keys_changed
        self._by_action: dict[type, Callable[..., object]] = {
            SendLine: self._send_line,
            ProceedHandshake: self._proceed,
            CloseConnection: self._close,
            RoutesChanged: self._routes_changed,
            InstallSendKey: lambda action: self.plane.install_send_key(action.node, action.key),
            InstallReceiveKey: lambda action: self.plane.install_receive_key(action.node, action.key),
            ForgetSendKey: lambda action: self.plane.forget_send_key(action.node),
            InstallSession: self._session,
            UseSession: self._session,
            DropSession: self._session,
            SessionStep: self._session,
            HoldFrames: lambda action: self.plane.hold_frames(action.node),
            OpenHandshake: self._session,
            DatagramByTcp: self._session,
            StorePublicKey: lambda action: keys.told(action.node, action.public, proved=action.proved),
            ForgetFlow: lambda action: self.plane.forget_flow(action.node),
            ForgetMac: lambda action: self.plane.forget_mac(action.mac),
            SetPath: self._set_path,
            SendProbe: self.plane.send_probe,
            NodeUp: scripts.mesh_event,
            NodeDown: scripts.mesh_event,
            SubnetUp: scripts.mesh_event,
            SubnetDown: scripts.mesh_event,
            Dial: dial,
            StopDialling: dial,
            Log: lambda action: log(action.debug, action.level, action.text, action.key),
        }

    def perform(self, actions: Iterable[Action]) -> None:
        """Do what the mesh asks for: at once, in order, without yielding.

        Letting a handshake proceed may call back here; its actions then wait for those before them. An action that
        fails is logged, and the others are done nevertheless: they may be what keeps other tunnels up.
        """
        queue = self._queue
        queue.extend(actions)
        if self._performing:
            return
        self._performing = True
        try:
            while queue:
                self._perform_one(queue.popleft())
        finally:
            self._performing = False
        if self.mesh.next_timeout() < self._sleeping_until:
            self._timer_moved.set()

    def _perform_one(self, action: Action) -> None:
        kind = type(action)
        try:
            self._by_action[kind](action)
        except Exception as error:
            text = f"Could not perform {kind.__name__}: {type(error).__name__}: {error}"
            log(0, logging.ERROR, text, f"action {kind.__name__}", exception=error)

    def _send_line(self, action: SendLine) -> None:
        peer = self.peers.get(action.connection)
        if peer is not None:
            peer.send_line(action.line, action.fact)

    def _routes_changed(self, action: RoutesChanged) -> None:
        for tell in self.on_routes:
            tell()

    def _session(
        self, action: InstallSession | UseSession | DropSession | SessionStep | OpenHandshake | DatagramByTcp
    ) -> None:
        match action:
            case InstallSession():
                self.plane.install_session(action)
            case UseSession():
                self.plane.use_session(action)
            case DropSession():
                self.plane.drop_session(action)
            case SessionStep():
                self.plane.session_step(action)
            case OpenHandshake():
                self.plane.open_handshake(action)
            case DatagramByTcp():
                self.plane.datagram_by_tcp(action)

    def _set_path(self, action: SetPath) -> None:
        self.plane.set_path(action)
        if action.min_mtu and action.address is not None:
            edge = self.mesh.registry.edge(self.mesh.registry.me, action.node)
            # With another port it is a NAT's mapping, where nobody listens for connections.
            if edge is not None and edge.address.port == action.address.port:
                self.on_address(action.node, action.address)

    def _proceed(self, action: ProceedHandshake) -> None:
        peer = self.peers.get(action.connection)
        if peer is None:
            return
        try:
            peer.proceed()
        except PeerError as error:
            peer.close(str(error))

    def _close(self, action: CloseConnection) -> None:
        peer = self.peers.get(action.connection)
        if peer is not None:
            peer.close(action.reason)

    # What the network room reports

    def credentials(self, name: str) -> PeerCredentials:
        try:
            return self._lookup(name)
        except PeerError as error:
            log(0, logging.WARNING, f"A peer is refused: {error}", "refused identity")
            raise

    def opened(self, peer: PeerConnection) -> None:
        self.peers[peer.id] = peer
        self.perform(self.mesh.connection_opened(peer.id, peer.name, peer.outgoing, self._clock()))

    def event(self, peer: PeerConnection, event: MetaEvent) -> None:
        now = self._clock()
        match event:
            case RequestReceived(request, line):
                if wants(4):
                    log(4, logging.DEBUG, f"Got {type(request).__name__} from {peer}: {_without_key(request, line)}")
                self.perform(self.mesh.request_received(peer.id, request, line, now))
            case FrameReceived(frame):
                self.plane.frame_from_peer(peer.name, frame)
            case DatagramReceived(destination, source, datagram):
                self.plane.datagram_from_peer(peer.name, destination, source, datagram)
            case InfoReceived(info, line):
                if wants(4):
                    log(4, logging.DEBUG, f"Got {type(info).__name__} from {peer}: {line}")
                self.perform(self.mesh.info_received(peer.id, info, line, now))
            case Identified(name, _minor):
                peer.name = name
                self.perform(self.mesh.peer_identified(peer.id, name, now))
            case Verified():
                self.perform(self.mesh.peer_verified(peer.id, now))
            case Active():
                self.perform(self.mesh.peer_active(peer.id, event, peer.address, now, peer.local_host))
                if peer.outgoing:
                    self.on_address(peer.name, peer.address)
            case LineRejected(_line, reason):
                # Reasons never hold key text, which lines may.
                log(1, logging.WARNING, f"Ignoring a line from {peer}: {reason}", f"rejected {peer.name}")
            case ControlRequested(cookie):
                if not self.adopt(peer, cookie):
                    raise PeerError("this control connection is not allowed")
            case InvitationRequested() | InvitationPresented() | JoinerKeyReceived():
                self.invite(peer, event)
            case PublicKeyReceived(name, public, known):
                if not known:
                    self.keys.told(name, public, proved=True)
                # Both ends have the other's key now, and this connection is over: on to one that uses them.
                self._exchanged(name, news=not known)
            case KeyUnknownThere(name):
                self.to_exchange.add(name)
                self._exchanged(name, news=False)
            case PongReceived():
                pass

    def _exchanged(self, name: str, *, news: bool) -> None:
        """Connect to a node again at once, unless that was tried a moment ago and nothing is better now."""
        now = self._clock()
        if news or now >= self._next_exchange.get(name, now):
            self._next_exchange[name] = now + EXCHANGE_INTERVAL
            self._redial(name)

    def closed(self, peer: PeerConnection, reason: str) -> None:
        self.peers.pop(peer.id, None)
        kind = "member" if peer.active else "stranger"
        # That a node is not let in is for every administrator to see; who is no node at all, only for the curious.
        debug, level = (0, logging.WARNING) if peer.refused and peer.name else (1, logging.INFO)
        log(debug, level, f"Closing connection with {peer}: {reason}", f"closed {kind} {peer.name}")
        self.perform(self.mesh.connection_closed(peer.id, self._clock()))
        if peer.active:
            # Only then: a stranger that merely claims a name must not make us dial.
            self._lost(peer.name)

    def keys_changed(self) -> None:
        """Ed25519 keys are known that were not, or others: which nodes speak SPTPS may have changed."""
        self.perform(self.mesh.keys_changed(self._clock()))

    def addresses_changed(self) -> None:
        """This machine's own addresses changed: connections from one that is gone are dead, the others may be."""
        for peer in list(self.peers.values()):
            if peer.local_host and not is_own_address(peer.local_host):
                peer.close(f"our address {peer.local_host} is gone")
            else:
                peer.ping_now()
        self.perform(self.mesh.retry(self._clock()))

    def peer_of(self, node: str) -> PeerConnection | None:
        """The active connection to a neighbour."""
        found = self.mesh.registry.node(node)
        if found is None or found.connection is None:
            return None
        return self.peers.get(found.connection)

    # What the data plane reports

    def data_events(self, events: list[PlaneEvent]) -> None:
        """The data plane's upcall: once per batch."""
        now = self._clock()
        for event in events:
            if isinstance(event, FrameForPeer | DatagramForPeer):
                self._send_by_tcp(event)
                continue
            try:
                actions = self.mesh.data_event(event, now)
            except Exception as error:
                # Those behind it are about other nodes, whose tunnels may need them.
                text = f"Internal error at {type(event).__name__}: {type(error).__name__}: {error}"
                log(0, logging.ERROR, text, f"event {type(event).__name__}", exception=error)
            else:
                self.perform(actions)

    def _send_by_tcp(self, event: FrameForPeer | DatagramForPeer) -> None:
        peer = self.peer_of(event.node)
        if peer is None:
            return
        if isinstance(event, FrameForPeer):
            peer.send_frame(event.frame)
        elif peer.meta.sptps and self._minor_of(event.node) >= minors.SPTPS_PACKET:
            peer.send_datagram(node_id(event.target), node_id(event.source), event.datagram)
        else:
            peer.send_datagram_line(as_req_key(event.source, event.target, SessionData(event.datagram)).format())

    def _minor_of(self, neighbour: str) -> int:
        edge = self.mesh.registry.edge(self.mesh.registry.me.name, neighbour)
        return 0 if edge is None else edge.options >> OPTION_VERSION_SHIFT

    # Greenlets that the daemon spawns

    def keep_time(self) -> None:
        """Run the mesh's timers when they are due, for ever."""
        while True:
            now = self._clock()
            due = self.mesh.next_timeout()
            if due <= now:
                self.perform(self.mesh.on_timeout(now))
                # In a storm of changes half of the time is for others, at least.
                gevent.sleep(max(SHORTEST_REST, self._clock() - now))
                continue
            self._sleeping_until = min(due, now + LONGEST_NAP)
            self._timer_moved.clear()
            self._timer_moved.wait(self._sleeping_until - now)
            self._sleeping_until = 0.0

    def keep_routes(self) -> None:
        """Give the data plane a new snapshot after changes, for ever; a storm of changes takes a bounded share."""
        while True:
            self._routes_dirty.wait()
            self._routes_dirty.clear()
            began = self._clock()
            self.install_routes()
            gevent.sleep(4 * (self._clock() - began))

    def install_routes(self) -> None:
        speaks = self.mesh.channels.speaks_sptps
        self.plane.set_routes(build_snapshot(self.mesh.registry, self.settings.options, self.route_settings, speaks))
