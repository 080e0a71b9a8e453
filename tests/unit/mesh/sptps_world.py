"""Whole meshes that speak SPTPS, on a fake clock: real handshakes and real flows, a model of everything around them."""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.errors import DatagramError
from gmesh.mesh.actions import (
    Action,
    CloseConnection,
    DatagramByTcp,
    DropSession,
    ForgetFlow,
    ForgetSendKey,
    HoldFrames,
    InstallReceiveKey,
    InstallSendKey,
    InstallSession,
    Log,
    OpenHandshake,
    ProceedHandshake,
    SendLine,
    SendProbe,
    SessionStep,
    SetPath,
    StorePublicKey,
    UseSession,
)
from gmesh.mesh.events import (
    AddressSeen,
    DataEvent,
    FlowCounters,
    HandshakeOpened,
    HandshakeSealed,
    KeyNeeded,
    ProbeReceived,
    RelayedDatagram,
    SessionConfirmed,
    SessionDoubted,
)
from gmesh.mesh.mesh import Mesh
from gmesh.mesh.settings import MeshSettings
from gmesh.proto.meta_events import Active
from gmesh.proto.packet import NotAuthentic
from gmesh.proto.requests import parse_request
from gmesh.proto.requests_11 import MtuInfo, UdpInfo, parse_newer
from gmesh.proto.sptps_datagram import perform_step
from gmesh.proto.sptps_flow import HANDSHAKE_RECORD, DatagramFlow
from gmesh.proto.sptps_handshake import ConfirmReceiveKey, StageReceiveKey, Step, UseSendKey
from gmesh.values import OPTION_CLAMP_MSS, OPTION_PMTU, OPTION_VERSION_SHIFT, Address
from tests.unit.mesh.udp_world import Host, World

META_DELAY = 0.02
DEFAULT_OPTIONS = OPTION_PMTU | OPTION_CLAMP_MSS
MINOR_7 = 7 << OPTION_VERSION_SHIFT
WAITING = 64
EARLY = 32
UDP_HEAD = 12
PROBE = 4

LineRule = Callable[["Node", str], list[float] | None]
"""What becomes of a line: a delay for each copy that arrives, None for what is usual."""


@functools.cache
def private_key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_seed(hashlib.sha256(name.encode()).digest())


@dataclass
class Keys:
    """An `Identity` in memory."""

    private_key: Ed25519PrivateKey | None
    known: dict[str, bytes] = field(default_factory=dict)

    def public_key(self, name: str) -> bytes | None:
        return self.known.get(name)


class Node:
    """A mesh, with a model of its data plane and of the meta connections around it.

    Data are numbered packets: ``sent`` and ``received`` list them by peer, in order.
    """

    def __init__(self, world: World, name: str, host: Host, *, sptps: bool = True, **settings: object) -> None:
        self.world, self.name, self.host = world, name, host
        self.keys = Keys(private_key(name) if sptps else None)
        options = DEFAULT_OPTIONS | (MINOR_7 if sptps else 0)
        self.mesh = self.machine = Mesh(
            MeshSettings(name, **{"options": options, **settings}),  # type: ignore[arg-type]
            world.now,
            random.Random(f"{name}{world.now}").randbytes,
            self,
            self.keys,
        )
        self.line_rule: LineRule = lambda node, line: None
        self.numbers = itertools.count(1)
        self.packets = itertools.count(1)
        self.peers: dict[int, tuple[Node, int]] = {}
        self.flows: dict[str, FlowCounters] = {}
        self.sessions: dict[str, dict[int, DatagramFlow]] = {}
        self.sending: dict[str, int] = {}
        self.confirmed_sessions: set[int] = set()
        self.waiting: dict[str, deque[int]] = {}
        self.held: dict[str, list[Callable[[], None]]] = {}
        self.early: dict[str, deque[tuple[bytes, Address | None, bool]]] = {}
        self.paths: dict[str, SetPath] = {}
        self.asked_at: dict[str, float] = {}
        self.told_at: dict[tuple[str, type], float] = {}
        self.lines: list[tuple[float, str]] = []
        self.logs: list[str] = []
        self.actions: list[Action] = []
        self.sent: dict[str, list[int]] = {}
        self.received: dict[str, list[int]] = {}
        self.direct = self.by_tcp = self.dropped = 0
        host.receive = self.receive
        world.ends.append(self)

    def counters(self, node: str) -> FlowCounters:
        return self.flows.setdefault(node, FlowCounters())

    def mac_ages(self) -> dict[bytes, float]:
        return {}

    def knows(self, *others: Node) -> None:
        """Have the Ed25519 keys of the others in the host files."""
        self.keys.known.update({other.name: private_key(other.name).public for other in others})

    # Actions

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            self.actions.append(action)
            self._perform(action)

    def _perform(self, action: Action) -> None:
        now = self.world.now
        match action:
            case SendLine(connection, line, _):
                text = str(line)
                self.lines.append((now, text))
                if connection in self.peers:
                    self._carry(connection, text)
            case InstallSession(node, session, flow):
                self.sessions.setdefault(node, {})[session] = DatagramFlow(flow)
                self._open_early(node)
            case UseSession(node, session):
                assert session in self.sessions[node]
                self.sending[node] = session
                self._release(node)
                for number in self.waiting.pop(node, deque()):
                    self._transmit(node, number, 98)
            case DropSession(node, session):
                del self.sessions[node][session]
                assert self.sending.get(node) != session
            case SessionStep(node, session, step):
                datagram = self._perform_step(self.sessions[node][session], step)
                if isinstance(step, StageReceiveKey):
                    self._open_early(node)
                if isinstance(step, UseSendKey) and session == self.sending.get(node):
                    self._release(node)
                if datagram is not None:
                    self.event(HandshakeSealed(node, session, datagram))
            case HoldFrames(node):
                self.held.setdefault(node, [])
            case OpenHandshake(node, datagram):
                self._open_handshake(node, datagram)
            case DatagramByTcp(_, source, target, datagram):
                assert target == self.name
                self._open(source, datagram, None, direct=False)
            case ForgetFlow(node):
                for table in (self.sessions, self.sending, self.waiting, self.early, self.paths, self.held):
                    table.pop(node, None)  # type: ignore[attr-defined]
            case SetPath(node):
                assert 0 <= action.min_mtu <= action.mtu <= 1518
                self.paths[node] = action
            case SendProbe(node, frame, address, ttl):
                assert address is not None
                if node in self.held:
                    self.held[node].append(functools.partial(self._perform, action))
                elif node in self.sending:
                    self._udp(node, self._flow(node).seal(PROBE, frame), len(frame), address, ttl)
            case StorePublicKey(node, public):
                self.keys.known.setdefault(node, public)
            case CloseConnection(connection):
                self.peers.pop(connection, None)
            case Log(_, _, text):
                self.logs.append(text)
            case InstallSendKey() | InstallReceiveKey() | ForgetSendKey():
                raise AssertionError(f"{self.name} has a legacy key")
            case _:
                pass

    def _perform_step(self, flow: DatagramFlow, step: Step) -> bytes | None:
        return perform_step(flow, step, self.world.now)

    def _release(self, node: str) -> None:
        for call in self.held.pop(node, []):
            call()

    def _carry(self, connection: int, line: str) -> None:
        other, number = self.peers[connection]
        delays = self.line_rule(self, line)
        for delay in [META_DELAY] if delays is None else delays:
            self.world.later(delay, lambda: other.line(number, line))

    def line(self, connection: int, line: str) -> None:
        if connection not in self.peers:
            return
        now = self.world.now
        newer = parse_newer(line, int(line[:2])) if line[:2] in ("22", "23") else None
        if isinstance(newer, UdpInfo | MtuInfo):
            self.perform(self.mesh.info_received(connection, newer, line, now))
        else:
            self.perform(self.mesh.request_received(connection, parse_request(line), line, now))

    def event(self, event: DataEvent) -> None:
        self.perform(self.mesh.data_event(event, self.world.now))

    # Datagrams

    def _flow(self, node: str) -> DatagramFlow:
        return self.sessions[node][self.sending[node]]

    def send_data(self, node: str, size: int = 98) -> None:
        number = next(self.packets)
        self.sent.setdefault(node, []).append(number)
        self.counters(node).wanted += 1
        if node in self.sending:
            self._transmit(node, number, size)
            return
        waiting = self.waiting.setdefault(node, deque(maxlen=WAITING))
        self.dropped += len(waiting) == WAITING
        waiting.append(number)
        if self.world.now - self.asked_at.get(node, -9.0) >= 1:
            self.asked_at[node] = self.world.now
            self.event(KeyNeeded(node))

    def _transmit(self, node: str, number: int, size: int) -> None:
        if node in self.held:
            self.held[node].append(functools.partial(self._transmit, node, number, size))
            return
        datagram = self._flow(node).seal(0, number.to_bytes(4, "big") + bytes(size - 4))
        path = self.paths.get(node)
        if path is not None and path.udp and path.address is not None and size <= path.min_mtu:
            self.direct += 1
            self.counters(node).udp_out += 1
            self._udp(node, datagram, size, path.address)
        else:
            self.by_tcp += 1
            self._tcp(node, datagram)

    def _udp(self, node: str, datagram: bytes, size: int, address: Address, ttl: int = 0) -> None:
        self.host.send((self.name, node, datagram), UDP_HEAD + 21 + size, address, ttl)

    def _tcp(self, node: str, datagram: bytes) -> None:
        """Along next hops, as the meta connections lead."""
        delay, here = 0.0, self
        while here.name != node:
            known = here.mesh.registry.node(node)
            hop = None if known is None else here.mesh.registry.next_connection(known)
            if hop is None or hop.id not in here.peers:
                return
            here, delay = here.peers[hop.id][0], delay + META_DELAY
        self.world.later(delay, lambda: here._open(self.name, datagram, None, direct=False))

    def receive(self, datagram: tuple[str, str, bytes], length: int, source: Address) -> None:
        sender, target, sealed = datagram
        if target == self.name:
            self._open(sender, sealed, source, direct=True)

    def _open(self, sender: str, datagram: bytes, source: Address | None, *, direct: bool, early: bool = True) -> None:
        opened = self._try(sender, datagram)
        if opened is None:
            self.early.setdefault(sender, deque(maxlen=EARLY)).append((datagram, source, direct))
            if early:
                self._doubt(sender)
            return
        if opened == ():
            return
        kind, data = opened
        if direct and source is not None:
            self.counters(sender).last_authentic = self.world.now
            if sender in self.paths and self.paths[sender].address != source:
                self.event(AddressSeen(sender, source))
        elif self._may_tell(sender, RelayedDatagram):
            self.event(RelayedDatagram(sender, source is None))
        if kind == PROBE:
            assert source is not None
            self.event(ProbeReceived(sender, data, source))
        else:
            self.received.setdefault(sender, []).append(int.from_bytes(data[:4], "big"))

    def _open_early(self, sender: str) -> None:
        for datagram, source, direct in self.early.pop(sender, deque()):
            self._open(sender, datagram, source, direct=direct, early=False)

    def _try(self, sender: str, datagram: bytes) -> tuple[int, bytes] | tuple[()] | None:
        """Nothing where it opens in no session, () where it was there before."""
        for number, flow in self.sessions.get(sender, {}).items():
            try:
                kind, data, record = flow.open(datagram, self.world.now)
            except NotAuthentic:
                continue
            except DatagramError:
                return ()
            flow.accept(record)
            self.counters(sender).last_opened = self.world.now
            self._opened_in = number
            if number not in self.confirmed_sessions:
                self.confirmed_sessions.add(number)
                self.event(SessionConfirmed(sender, number))
            return kind, data
        return None

    def _open_handshake(self, node: str, datagram: bytes) -> None:
        opened = self._try(node, datagram)
        if opened is None:
            self._doubt(node)
        elif opened and opened[0] == HANDSHAKE_RECORD:
            self.event(HandshakeOpened(node, self._opened_in, opened[1]))

    def _doubt(self, node: str) -> None:
        kind = SessionDoubted if self.sessions.get(node) else KeyNeeded
        if self._may_tell(node, kind):
            self.event(kind(node))

    def _may_tell(self, node: str, kind: type) -> bool:
        if self.world.now - self.told_at.get((node, kind), -9.0) < 1:
            return False
        self.told_at[node, kind] = self.world.now
        return True

    # What tests look at

    def stream(self, node: str, every: float = 0.2, until: float = float("inf")) -> None:
        def tick() -> None:
            if self.world.now < until:
                self.send_data(node)
                self.world.later(every, tick)

        tick()

    def confirmed(self, node: str) -> bool:
        return self.mesh.channels.status(node).udp_confirmed

    def count(self, number: str, since: float = 0.0) -> int:
        """Lines sent since then that begin so."""
        return sum(line.startswith(number) and time >= since for time, line in self.lines)


class StockNode(Node):
    """Opens as tinc 1.1 does: with one key at a time, which changes when the other end's ACK arrives."""

    def __init__(self, world: World, name: str, host: Host, **settings: object) -> None:
        super().__init__(world, name, host, **settings)  # type: ignore[arg-type]
        self._next_key: StageReceiveKey | None = None

    def _perform_step(self, flow: DatagramFlow, step: Step) -> bytes | None:
        if isinstance(step, StageReceiveKey):
            self._next_key = step
            return None
        if isinstance(step, ConfirmReceiveKey):
            assert self._next_key is not None
            super()._perform_step(flow, self._next_key)
            super()._perform_step(flow, step)
            flow._previous = None
            return None
        return super()._perform_step(flow, step)

    def _open_early(self, sender: str) -> None:
        self.early.clear()


def connect(a: Node, b: Node, options: int = 0) -> None:
    """Both handshakes are done, unless an end would have one of them wait. Each sees the other at the host it sends
    from, with the port that it announces."""
    numbers = {end: next(end.numbers) for end in (a, b)}
    for here, there in ((a, b), (b, a)):
        here.peers[numbers[here]] = (there, numbers[there])
    proceed: list[Action] = []
    for here, there, outgoing in ((a, b, True), (b, a, False)):
        number, now, mesh = numbers[here], here.world.now, here.mesh
        here.perform(mesh.connection_opened(number, there.name, outgoing, now))
        here.perform(mesh.peer_identified(number, there.name, now))
        verified = mesh.peer_verified(number, now)
        here.perform(verified)
        proceed += [action for action in verified if isinstance(action, ProceedHandshake)]
    for here, there in ((a, b), (b, a)):
        number, now, mesh = numbers[here], here.world.now, here.mesh
        if len(proceed) < 2:
            here.peers.pop(number, None)
            here.perform(mesh.connection_closed(number, now))
            continue
        ours, theirs = mesh.settings.options | options, there.mesh.settings.options | options
        ack = Active(there.name, "655", 10, 10, theirs, ours)
        here.perform(mesh.peer_active(number, ack, Address(there.host.address.host, "50123"), now, "10.0.0.1"))


def disconnect(a: Node, b: Node) -> None:
    for here, there in ((a, b), (b, a)):
        for number in [number for number, (other, _) in here.peers.items() if other is there]:
            del here.peers[number]
            here.perform(here.mesh.connection_closed(number, here.world.now))


def pair(**settings: object) -> tuple[Node, Node]:
    """alice - bob, who know each other's keys; not connected yet."""
    world = World()
    alice = Node(world, "alice", Host(world, Address("192.0.2.1", "655")), **settings)
    bob = Node(world, "bob", Host(world, Address("192.0.2.2", "655")), **settings)
    alice.knows(bob)
    bob.knows(alice)
    return alice, bob


def line_of_three(
    *,
    nat: bool = False,
    bob_deaf: bool = False,
    ends_deaf: bool = False,
    know: bool = True,
    relay_sptps: bool = True,
    **settings: object,
) -> tuple[Node, Node, Node]:
    """alice - bob - carol, connected. With ``know`` the ends have each other's keys on file."""
    world = World()
    port = "40001" if nat else "655"
    alice = Node(world, "alice", Host(world, Address("198.51.100.1", port), nat=nat), **settings)
    carol = Node(world, "carol", Host(world, Address("198.51.100.3", port), nat=nat), **settings)
    bob = Node(world, "bob", Host(world, Address("192.0.2.2", "655"), down=bob_deaf), sptps=relay_sptps, **settings)
    if relay_sptps:
        for end in (alice, carol):
            end.knows(bob)
            bob.knows(end)
    if know:
        alice.knows(carol)
        carol.knows(alice)
    alice.host.down = carol.host.down = ends_deaf
    connect(alice, bob)
    connect(carol, bob)
    world.run(0.3)
    return alice, bob, carol
