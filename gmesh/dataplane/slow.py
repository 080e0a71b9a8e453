"""The data plane in Python: complete, and the reference for every faster one (contract 5).

One greenlet reads the device, one each UDP socket, one hands events up. A reader works through a bounded batch and then
waits for its descriptor again, which lets everyone else run. Within a batch nothing yields, so that state is never seen
half changed.

Not here: sending decisions (`sender.py`), who a datagram is from (`receiver.py`), routing (`gmesh.route`), policy (the
mesh).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import gevent
import gevent.event

from gmesh.dataplane.contract import PlaneEvent, Upcall
from gmesh.dataplane.endpoints import endpoint_of
from gmesh.dataplane.flows import FlowTable, ReceiveKey
from gmesh.dataplane.lanes import Lanes
from gmesh.dataplane.local_address import local_address
from gmesh.dataplane.macs import MacAges
from gmesh.dataplane.node_ids import NodeIds
from gmesh.dataplane.path_errors import PathErrors
from gmesh.dataplane.receiver import Receiver
from gmesh.dataplane.sealed_receiver import SealedReceiver
from gmesh.dataplane.sender import Sender
from gmesh.dataplane.sessions import PeerSession
from gmesh.dataplane.sockets import UdpSockets
from gmesh.device.base import Device
from gmesh.errors import DatagramError, GmeshError
from gmesh.mesh.actions import (
    DatagramByTcp,
    DropSession,
    InstallSession,
    OpenHandshake,
    SendProbe,
    SessionStep,
    SetPath,
    UseSession,
)
from gmesh.mesh.events import FlowCounters, HandshakeSealed
from gmesh.proto.packet import PacketKey, PacketSealer
from gmesh.proto.probe import is_probe
from gmesh.proto.sptps_datagram import perform_step
from gmesh.proto.sptps_flow import FlowState
from gmesh.proto.sptps_handshake import StageReceiveKey, UseSendKey
from gmesh.proto.sptps_packet import node_id
from gmesh.route.router import Router, ToDevice, ToNode
from gmesh.route.snapshot import RouteSnapshot
from gmesh.values import ETHERNET_HEADER, MTU, OPTION_TCPONLY

BATCH_PACKETS = 64
BATCH_SECONDS = 0.002
MAX_EVENTS = 4096
"""Events that may wait to be handed up. They are taken after every batch, so that only a fault lets them pile up."""
_CLOCK_EVERY = 8
"""Packets between two looks at the clock."""
MAX_DATAGRAM = 2048
"""More than any datagram of a peer (1673 bytes, data-legacy 1); longer ones are cut and then fail."""


class Spawn(Protocol):
    """The supervisor's spawn: every greenlet goes through it (contract 7)."""

    def __call__(
        self, name: str, function: Callable[..., object], *args: object, policy: Literal["restart", "fatal"]
    ) -> gevent.Greenlet: ...


class SlowDataPlane:
    """Implements `gmesh.dataplane.contract.DataPlane`."""

    def __init__(
        self,
        *,
        name: str,
        device: Device,
        sockets: Sequence[Any],
        upcall: Upcall,
        clock: Callable[[], float],
        replay_window: int,
        spawn: Spawn,
    ) -> None:
        """``sockets`` are bound UDP sockets of either family. ``replay_window`` is in bytes (8 packets each), 0: off.

        ``upcall`` gets the events of a batch in order, from a greenlet of its own.
        """
        self._name = name
        self._device = device
        self._sockets = UdpSockets(sockets)
        self._upcall = upcall
        self._clock = clock
        self._replay_window = replay_window
        self._spawn = spawn
        self._greenlets: list[gevent.Greenlet] = []
        self._tally: Counter[str] = Counter()
        self._events: list[PlaneEvent] = []
        self._something_to_tell = gevent.event.Event()
        self._capture: Callable[[bytes], None] | None = None
        self._macs = MacAges(self._events)
        self._flows = FlowTable()
        self._snapshot = RouteSnapshot(name=name, options=0)
        self._with_header = False
        """Whether frames keep their Ethernet header within sessions."""
        self._router = Router(self._snapshot, None, local_address)
        self._errors = PathErrors(self._flows, self._events, self._tally, clock)
        self._sender = Sender(
            name=name,
            flows=self._flows,
            sockets=self._sockets,
            events=self._events,
            tally=self._tally,
            clock=clock,
            errors=self._errors,
        )
        self._ids = NodeIds(name)
        self._sealed = SealedReceiver(
            name=name,
            flows=self._flows,
            ids=self._ids,
            events=self._events,
            tally=self._tally,
            sender=self._sender.sealed,
            deliver=self._deliver,
        )
        self._receiver = Receiver(self._flows, self._events, self._tally, self._deliver, self._sealed)
        self._lanes = Lanes(self._snapshot, self._router, self._flows)

    def start(self) -> None:
        """Begin to read. The device's end is fatal, as nothing can be done without it."""
        if self._greenlets:
            return
        self._greenlets.append(self._spawn("dataplane events", self._hand_up_forever, policy="restart"))
        descriptor = self._device.fileno()
        if descriptor is not None:
            self._greenlets.append(self._spawn("device reader", self._read_device, descriptor, policy="fatal"))
        for index, sock in enumerate(self._sockets.all):
            self._greenlets.append(self._spawn(f"udp {index}", self._read_socket, sock, policy="restart"))

    def stop(self) -> None:
        greenlets, self._greenlets = self._greenlets, []
        for greenlet in greenlets:
            # Blocking, so that the descriptors may be closed right after; but nobody can wait for himself.
            greenlet.kill(block=greenlet is not gevent.getcurrent())

    def set_routes(self, snapshot: RouteSnapshot) -> None:
        """Decide by this snapshot from now on. Flows of nodes that it no longer knows are dropped when idle."""
        self._router = Router(snapshot, self._router, local_address)
        self._snapshot = snapshot
        self._lanes = Lanes(snapshot, self._router, self._flows)
        self._ids.set_names(snapshot.nodes)
        self._sealed.set_routes(snapshot)
        self._sender.set_routes(snapshot)
        with_header = snapshot.settings.mode != "router"
        if with_header != self._with_header:
            self._with_header = with_header
            for flow in self._flows:
                for session in flow.sessions.all:
                    session.set_mode(with_header=with_header)
        self._macs.learning = snapshot.settings.mode == "switch"
        gone = [flow for flow in self._flows if flow.name not in snapshot.nodes and flow.is_idle]
        for flow in gone:
            self._flows.remove(flow)
        self._tell()

    def install_send_key(self, node: str, key: PacketKey) -> None:
        """Sequence numbers start at 1 again. Raises GmeshError for algorithms that do not exist here."""
        self._flows.get_or_add(node).sealer = PacketSealer(key)

    def install_receive_key(self, node: str, key: PacketKey) -> None:
        """The replay window starts empty; the key before is accepted for some seconds more."""
        flow = self._flows.get_or_add(node)
        self._flows.add_receive_key(flow, ReceiveKey(key, self._replay_window), self._clock())
        self._receiver.strangers.key_added()

    def forget_send_key(self, node: str) -> None:
        flow = self._flows.by_name.get(node)
        if flow is not None:
            flow.sealer = None

    def install_session(self, action: InstallSession) -> None:
        """The flow is the plane's until `session_state` gives it back; what came too early for it is opened now."""
        flow = self._flows.get_or_add(action.node)
        flow.sessions.add(PeerSession(action, with_header=self._with_header))
        self._sealed.keys_added(flow, self._clock())
        self._tell()

    def use_session(self, action: UseSession) -> None:
        """Seal in this session; what waited for one goes first."""
        flow = self._flows.by_name.get(action.node)
        session = None if flow is None else flow.sessions.get(action.session)
        if flow is None or session is None:
            self._tally["unknown session"] += 1
            return
        flow.sessions.sending = session
        self._sender.sealed.release(flow)
        self._sender.sealed.send_waiting(flow)
        self._tell()

    def drop_session(self, action: DropSession) -> None:
        flow = self._flows.by_name.get(action.node)
        if flow is not None:
            flow.sessions.drop(action.session)
            self._sender.sealed.release(flow)
            self._tell()

    def session_step(self, action: SessionStep) -> None:
        """Do one step of a renewal; a handshake record that it seals comes back as an event."""
        flow = self._flows.by_name.get(action.node)
        session = None if flow is None else flow.sessions.get(action.session)
        if flow is None or session is None:
            self._tally["unknown session"] += 1
            return
        now = self._clock()
        try:
            datagram = perform_step(session.flow, action.step, now)
        except DatagramError:
            # Its numbers are used up; another session is on its way.
            self._tally["drop worn session"] += 1
            return
        if isinstance(action.step, StageReceiveKey):
            # Datagrams under this key overtake the handshake record that lets us make it.
            self._sealed.keys_added(flow, now)
        elif isinstance(action.step, UseSendKey) and session is flow.sessions.sending:
            self._sender.sealed.release(flow)
        if datagram is not None:
            self._events.append(HandshakeSealed(action.node, action.session, datagram))
        self._tell()

    def hold_frames(self, node: str) -> None:
        flow = self._flows.by_name.get(node)
        if flow is not None:
            self._sender.sealed.hold(flow)

    def session_state(self, node: str, session: int) -> FlowState | None:
        """The state of an installed session's flow as it is now, for whoever goes on with it."""
        flow = self._flows.by_name.get(node)
        found = None if flow is None else flow.sessions.get(session)
        return None if found is None else found.flow.state()

    def open_handshake(self, action: OpenHandshake) -> None:
        self._sealed.open_handshake(action.node, action.datagram, self._clock())
        self._tell()

    def forget_flow(self, node: str) -> None:
        self._sender.sealed.forget(node)
        self._sealed.forget(node)
        flow = self._flows.by_name.get(node)
        if flow is None:
            return
        if node in self._snapshot.nodes:
            self._flows.forget(flow)
        else:
            self._flows.remove(flow)

    def set_path(self, path: SetPath) -> None:
        endpoint = endpoint_of(path.address) if path.address is not None else None
        sock = self._sockets.for_endpoint(endpoint) if endpoint is not None else None
        self._flows.set_path(self._flows.get_or_add(path.node), path, sock, endpoint)

    def send_probe(self, probe: SendProbe) -> None:
        self._sender.send_probe(probe)
        self._tell()

    def frame_from_peer(self, node: str, frame: bytes) -> None:
        """A frame that arrived as PACKET from the neighbour ``node``. It goes on by TCP only, unless the
        connection carries all frames because it is TCP-only (data-legacy 6)."""
        known = self._snapshot.nodes.get(node)
        flow = self._flows.by_name.get(node)
        if flow is not None and flow.sessions.all:
            frame = flow.sessions.all[0].codec.mended(frame)
        if is_probe(frame) or not ETHERNET_HEADER <= len(frame) <= MTU:
            # Probe replies of a peer that had no key yet; neither for us nor to be relayed (data-legacy 8).
            self._tally["drop TCP frame"] += 1
            return
        if known is None:
            self._tally["drop TCP stranger"] += 1
            return
        counters = self._flows.get_or_add(node).counters
        counters.packets_in += 1
        counters.bytes_in += len(frame)
        self._tally["TCP packets in"] += 1
        if self._capture is not None:
            self._capture(frame)
        tcp_only_connection = (known.options | self._snapshot.options) & OPTION_TCPONLY != 0
        self._route(frame, node, self._clock(), tcp_only=not tcp_only_connection)
        self._tell()

    def datagram_from_peer(self, neighbour: str, destination: bytes, source: bytes, datagram: bytes) -> None:
        """The body of an SPTPS_PACKET: open what is for us, pass on the rest."""
        self._tally["TCP packets in"] += 1
        self._sealed.by_tcp(neighbour, destination, source, datagram, self._clock())
        self._tell()

    def datagram_by_tcp(self, action: DatagramByTcp) -> None:
        """The same from a REQ_KEY, which names the nodes."""
        self.datagram_from_peer(action.neighbour, node_id(action.target), node_id(action.source), action.datagram)

    def counters(self, node: str) -> FlowCounters | None:
        """The live object, which goes on counting."""
        flow = self._flows.by_name.get(node)
        return None if flow is None else flow.counters

    def mac_ages(self) -> Mapping[bytes, float]:
        """The live object, which goes on changing."""
        return self._macs.last_seen

    def forget_mac(self, mac: bytes) -> None:
        self._macs.forget(mac)

    def set_capture(self, capture: Callable[[bytes], None] | None) -> None:
        self._capture = capture

    def _read_and_show(self) -> bytes | None:
        frame = self._device.read()
        if frame is not None and self._capture is not None:
            self._capture(frame)
        return frame

    def totals(self) -> dict[str, int]:
        statistics = self._device.statistics
        return {
            "device packets in": statistics.packets_in,
            "device bytes in": statistics.bytes_in,
            "device packets out": statistics.packets_out,
            "device bytes out": statistics.bytes_out,
            "drop device read": statistics.discarded,
            "drop device write": statistics.failed,
            "UDP packets in": self._receiver.packets,
            "UDP bytes in": self._receiver.bytes,
            "UDP packets out": self._sender.transmitter.packets,
            "UDP bytes out": self._sender.transmitter.bytes,
            **self._tally,
        }

    def _mtu_of(self, node: str) -> int:
        flow = self._flows.by_name.get(node)
        return MTU if flow is None else flow.mtu

    def _route(self, frame: bytes, source: str, now: float, *, tcp_only: bool = False) -> None:
        """Decide on a frame and do it."""
        for verdict in self._router.decide(frame, source, self._mtu_of, now):
            if isinstance(verdict, ToNode):
                self._sender.send(verdict.node, verdict.frame, exact=verdict.exact, tcp_only=tcp_only)
            elif isinstance(verdict, ToDevice):
                self._device.write(verdict.frame)
            else:
                self._tally[f"drop {verdict.reason}"] += 1

    def _deliver(self, frame: bytes, source: str, now: float) -> None:
        """What is done with a frame that arrived by UDP."""
        if self._capture is not None:
            self._capture(frame)
        if self._lanes.own(frame):
            self._device.write(frame)
        else:
            self._route(frame, source, now)

    def _tell(self) -> None:
        events = self._events
        if events:
            self._something_to_tell.set()
            if len(events) > MAX_EVENTS:
                # Whoever takes them has failed and is being restarted; the newest are worth the most.
                self._tally["drop events"] += len(events) - MAX_EVENTS
                del events[:-MAX_EVENTS]

    def _hand_up_forever(self) -> None:
        """Events go up from here and not from where they arise, so that no call of the mesh runs within another, and
        a fault in what they lead to stops no reader."""
        while True:
            self._something_to_tell.wait()
            self._something_to_tell.clear()
            events = self._events.copy()
            self._events.clear()
            if events:
                self._upcall(events)

    def _read_device(self, descriptor: int) -> None:
        hub = gevent.get_hub()
        with contextlib.closing(hub.loop.io(descriptor, 1)) as readable:
            while True:
                hub.wait(readable)
                try:
                    self._device_batch()
                except OSError as error:
                    raise GmeshError(f"Could not read from {self._device.name}: {error.strerror}") from None
                finally:
                    self._tell()

    def _device_batch(self) -> None:
        read, route, clock, me = self._device.read, self._route, self._clock, self._name
        way, by_udp, by_session = self._lanes.way, self._sender.by_udp, self._sender.sealed.by_udp
        learn = self._macs.seen if self._macs.learning else None
        if self._capture is not None:
            read = self._read_and_show
        now = clock()
        end = now + BATCH_SECONDS
        for count in range(1, BATCH_PACKETS + 1):
            frame = read()
            if frame is None:
                return
            if learn is not None:
                learn(frame, now)
            found = way(frame)
            if found is None:
                route(frame, me, now)
            else:
                flow, via = found
                if via.sptps:
                    by_session(flow, via, frame)
                else:
                    by_udp(flow, via, frame)
            if count % _CLOCK_EVERY == 0:
                now = clock()
                if now >= end:
                    return

    def _read_socket(self, sock: Any) -> None:
        hub = gevent.get_hub()
        with contextlib.closing(hub.loop.io(sock.fileno(), 1)) as readable:
            while True:
                hub.wait(readable)
                try:
                    self._socket_batch(sock)
                finally:
                    self._tell()

    def _socket_batch(self, sock: Any) -> None:
        recvfrom, receive, clock = sock.recvfrom, self._receiver.receive, self._clock
        now = clock()
        end = now + BATCH_SECONDS
        errors = False
        for count in range(1, BATCH_PACKETS + 1):
            try:
                datagram, source = recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                # Woken for nothing: there are errors that no call reports, such as those of our own system.
                errors = errors or count == 1
                break
            except OSError:
                # An ICMP error for something sent earlier, or the interface went down; reading goes on.
                self._tally["UDP receive errors"] += 1
                errors = True
                continue
            receive(datagram, source, sock, now)
            if count % _CLOCK_EVERY == 0:
                now = clock()
                if now >= end:
                    break
        if errors:
            # Last, because each one read makes the socket report the next one in place of a datagram.
            self._errors.read(sock)
