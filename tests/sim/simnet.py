"""Many real meshes on a fake clock: real `Mesh`, `Outbox` and request parsing, links with latency and bandwidth.

The handshake is either the real one (`MetaStart` with a shared RSA key) or `PlainMeta`, which has its order of steps
and its events but no cryptography, because 2 x 4 RSA operations per connection would be most of a run's time.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from gmesh.crypto.rsa import RsaPrivateKey
from gmesh.errors import PeerError
from gmesh.mesh.actions import (
    Action,
    CloseConnection,
    Log,
    NodeDown,
    NodeUp,
    ProceedHandshake,
    SendLine,
    SubnetDown,
    SubnetUp,
)
from gmesh.mesh.events import FlowCounters
from gmesh.mesh.mesh import Mesh
from gmesh.mesh.outbox import Outbox
from gmesh.mesh.settings import MeshSettings
from gmesh.proto.meta_base import PeerCredentials
from gmesh.proto.meta_events import Active, Identified, LineRejected, MetaEvent, RequestReceived, Verified
from gmesh.proto.meta_start import MetaStart
from gmesh.proto.requests import parse_request
from gmesh.values import Address, Subnet

WRITE_SIZE = 16384
LINE_TYPES = {"10": "subnets", "11": "subnets", "12": "edges", "13": "edges", "14": "keys", "15": "keys", "16": "keys"}


# A line is parsed at every node that it reaches, always with the same result.
parse = functools.lru_cache(maxsize=65536)(parse_request)


class NoFlows:
    def counters(self, node: str) -> FlowCounters | None:
        return None


class PlainMeta:
    """The steps of a handshake without keys: ID, ID and proof, proof and ACK, ACK (meta-legacy 3)."""

    def __init__(self, *, outgoing: bool, my_name: str, weight: int) -> None:
        self.outgoing = outgoing
        self.active = False
        self._my_name = my_name
        self._weight = weight
        self._peer = ""
        self._held = False
        self._out = bytearray()
        self._in = bytearray()
        if outgoing:
            self.send(f"0 {my_name}\n".encode())

    def send(self, plain: bytes) -> None:
        self._out += plain

    def data_to_send(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def proceed(self, now: float) -> list[MetaEvent]:
        self._held = False
        self.send((b"" if self.outgoing else b"3\n") + f"4 {self._weight}\n".encode())
        return self.receive(b"", now)

    def receive(self, data: bytes, now: float) -> list[MetaEvent]:
        self._in += data
        events: list[MetaEvent] = []
        while not self._held and (end := self._in.find(b"\n")) >= 0:
            text = self._in[:end].decode()
            del self._in[: end + 1]
            if self.active:
                try:
                    events.append(RequestReceived(parse(text), text))
                except PeerError as error:
                    events.append(LineRejected(text, str(error)))
            elif text[0] == "0":
                self._peer = text[2:]
                events.append(Identified(self._peer, 0))
                self.send(b"2\n" if self.outgoing else f"0 {self._my_name}\n".encode())
            elif text[0] in "23":
                self._held = True
                events.append(Verified())
            else:
                self.active = True
                events.append(Active(self._peer, "655", int(text[2:]), self._weight, 0xC, 0xC))
        return events


Meta = PlainMeta | MetaStart


class End:
    """One end of a connection; what the real one does with greenlets is done by events of the world here."""

    def __init__(self, node: SimNode, number: int, meta: Meta, address: Address) -> None:
        self.node = node
        self.id = number
        self.meta = meta
        self.address = address
        self.outbox = Outbox(15180)
        self.other: End | None = None
        self.closed = False
        self.free_at = 0.0
        self.latency = 0.0
        self.bytes_per_second = 1e9

    def pump(self) -> None:
        """Send what there is, as far as the link has room: one write at a time."""
        world = self.node.world
        if self.closed or world.now < self.free_at:
            return
        data = self.meta.data_to_send()
        if not data and self.meta.active:
            plain = self.outbox.take(WRITE_SIZE)
            if plain:
                self.meta.send(plain)
                data = self.meta.data_to_send()
        if not data:
            return
        self.free_at = world.now + len(data) / self.bytes_per_second
        world.at(self.free_at, self.pump)
        world.at(self.free_at + self.latency, lambda: self._arrive(data))

    def _arrive(self, data: bytes) -> None:
        other = self.other
        if other is not None and not other.closed and not self.closed:
            other.node.received(other, data)

    def close(self) -> None:
        """Our side goes at once, the peer's when it hears of it. Data on its way is lost."""
        if self.closed:
            return
        self.closed = True
        self.node.ends.pop(self.id, None)
        other = self.other
        if other is not None and not self.node.silent:
            self.node.world.after(self.latency, other.lost)

    def lost(self) -> None:
        if not self.closed:
            self.closed = True
            self.node.ends.pop(self.id, None)
            self.node.perform(self.node.mesh.connection_closed(self.id, self.node.world.now))
            self.node.connection_lost()


class SimNode:
    """One daemon: performs the actions of its mesh as `gmesh.daemon.hub` does."""

    def __init__(self, world: World, name: str, settings: MeshSettings, targets: list[str]) -> None:
        self.world = world
        self.name = name
        self.targets = targets
        self.silent = False
        self.ends: dict[int, End] = {}
        self.scripts: list[str] = []
        self.logs: list[str] = []
        self.mesh = Mesh(settings, world.now, world.random.randbytes, NoFlows())
        self._timer = float("inf")
        self.perform(self.mesh.start(world.now))

    def perform(self, actions: list[Action]) -> None:
        touched: dict[int, End] = {}
        for action in actions:
            match action:
                case SendLine(connection, line, fact):
                    if connection in self.ends:
                        self.ends[connection].outbox.put_line(line, fact)
                        touched[connection] = self.ends[connection]
                case CloseConnection(connection, _):
                    if connection in self.ends:
                        self.ends[connection].close()
                case ProceedHandshake(connection):
                    end = self.ends[connection]
                    self.events(end, end.meta.proceed(self.world.now))
                    touched[connection] = end
                case NodeUp() | NodeDown():
                    self.scripts.append(f"{type(action).__name__} {action.node}")
                case SubnetUp() | SubnetDown():
                    self.scripts.append(f"{type(action).__name__} {action.node} {action.subnet}")
                case Log():
                    self.logs.append(action.text)
        for end in touched.values():
            end.pump()
        self.set_timer()

    def set_timer(self) -> None:
        due = max(self.mesh.next_timeout(), self.world.now + 1e-6)
        if due < self._timer and not self.silent:
            self._timer = due
            self.world.at(due, self._on_timer)

    def _on_timer(self) -> None:
        if self.world.now < self._timer or self.silent:
            return
        self._timer = float("inf")
        self.perform(self.mesh.on_timeout(self.world.now))

    def received(self, end: End, data: bytes) -> None:
        self.events(end, end.meta.receive(data, self.world.now))
        end.pump()

    def events(self, end: End, events: list[MetaEvent]) -> None:
        now, mesh, counts = self.world.now, self.mesh, self.world.lines
        for event in events:
            if end.closed:
                return
            match event:
                case RequestReceived(request, line):
                    counts[LINE_TYPES.get(line[:2], "other")] += 1
                    self.perform(mesh.request_received(end.id, request, line, now))
                case Identified(name, _):
                    self.perform(mesh.peer_identified(end.id, name, now))
                case Verified():
                    self.perform(mesh.peer_verified(end.id, now))
                case Active():
                    self.world.activations += 1
                    self.perform(mesh.peer_active(end.id, event, end.address, now))
                case LineRejected(line, reason):
                    raise AssertionError(f"{self.name} got {line!r}: {reason}")

    def connection_lost(self) -> None:
        self.world.after(self.world.random.uniform(0.3, 1.0), self.dial)

    def dial(self) -> None:
        """Connect to every target that we have no connection with."""
        if self.silent:
            return
        for target in self.targets:
            busy = any(connection.name == target for connection in self.mesh.registry.connections.values())
            if not busy and not self.world.connect(self, target):
                self.connection_lost()

    def kill(self) -> None:
        """End without a word; neighbours notice by a time-out."""
        self.silent = True
        for end in list(self.ends.values()):
            end.close()
            if end.other is not None:
                self.world.after(self.world.random.uniform(5.0, 10.0), end.other.lost)

    def database(self) -> tuple[object, object]:
        registry = self.mesh.registry
        edges = sorted(
            (edge.source.name, edge.target.name, str(edge.address), edge.options, edge.weight)
            for edge in registry.edges()
        )
        return edges, registry.subnet_table()

    def reachable(self) -> set[str]:
        return {node.name for node in self.mesh.registry.nodes.values() if node.reachable}


@dataclass
class World:
    """The clock, the links, and who is cut off from whom."""

    seed: int = 1
    latency: tuple[float, float] = (0.005, 0.08)
    bytes_per_second: float = 1.25e6
    key: RsaPrivateKey | None = None
    now: float = 1000.0
    nodes: dict[str, SimNode] = field(default_factory=dict)
    lines: Counter[str] = field(default_factory=Counter)
    activations: int = 0
    cut: Callable[[str, str], bool] = lambda a, b: False

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ids = itertools.count(1)

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._order), what))

    def after(self, delay: float, what: Callable[[], None]) -> None:
        self.at(self.now + delay, what)

    def run(self, seconds: float, until: Callable[[], bool] | None = None, every: float = 0.1) -> float:
        """Run for so many seconds, or until something holds, which is looked at now and then. Returns the time used."""
        began, end = self.now, self.now + seconds
        look = self.now + every
        while self._queue and self._queue[0][0] <= end:
            when, _, what = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            if until is not None and self.now >= look:
                if until():
                    heapq.heappush(self._queue, (when, next(self._order), what))
                    return self.now - began
                look = self.now + every
            what()
        self.now = end
        assert until is None or until(), "not within the time"
        return self.now - began

    def add(self, name: str, targets: list[str], subnets: list[str] | None = None, key: str = "") -> SimNode:
        """A new daemon; ``key`` names its place in the world where two use one name."""
        if subnets is None:
            number = len(self.nodes)
            subnets = [f"10.{number // 250}.{number % 250}.0/24", f"fd00:{number:x}::/64"]
        settings = MeshSettings(name=name, subnets=frozenset(map(Subnet.parse, subnets)))
        node = self.nodes[key or name] = SimNode(self, name, settings, targets)
        return node

    def connect(self, node: SimNode, target: str) -> bool:
        """Open a connection, unless there is no way."""
        peer = self.nodes.get(target)
        if peer is None or peer.silent or self.cut(node.name, peer.name):
            return False
        ends = []
        latency = self.random.uniform(*self.latency)
        for owner, other, outgoing in ((node, peer, True), (peer, node, False)):
            end = End(owner, next(self._ids), self._meta(owner, other, outgoing), _address(other.name))
            end.latency, end.bytes_per_second = latency, self.bytes_per_second
            owner.ends[end.id] = end
            ends.append(end)
        ends[0].other, ends[1].other = ends[1], ends[0]
        for end in ends:
            outgoing = end is ends[0]
            end.node.perform(end.node.mesh.connection_opened(end.id, peer.name if outgoing else "", outgoing, self.now))
        self.after(latency, ends[0].pump)
        return True

    def _meta(self, owner: SimNode, other: SimNode, outgoing: bool) -> Meta:
        if self.key is None:
            return PlainMeta(outgoing=outgoing, my_name=owner.name, weight=self.random.randrange(5, 400))
        credentials = PeerCredentials(self.key.public, 0xC)
        return MetaStart(
            outgoing=outgoing,
            my_name=owner.name,
            rsa_key=self.key,
            ed25519_key=None,
            expected_name=other.name if outgoing else "",
            credentials=lambda name: credentials,
            entropy=self.random.randbytes,
            now=self.now,
            ping_interval=60.0,
            ping_timeout=5.0,
            port="655",
        )

    def sever(self) -> None:
        """End the connections across the cut, noticed at both ends after a time-out."""
        for node in self.nodes.values():
            for end in list(node.ends.values()):
                other = end.other
                if other is not None and self.cut(node.name, other.node.name):
                    # Nothing arrives any more, in either direction.
                    end.other = None
                    self.after(self.random.uniform(1.0, 10.0), end.lost)

    def agreed(self, names: list[str] | None = None) -> bool:
        """Whether these nodes have the same database and all reach each other."""
        nodes = [self.nodes[name] for name in (names or list(self.nodes)) if not self.nodes[name].silent]
        wanted = {node.name for node in nodes}
        if any(node.reachable() != wanted for node in nodes):
            return False
        first = nodes[0].database()
        return all(node.database() == first for node in nodes)


def _address(name: str) -> Address:
    number = sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 2**24
    return Address(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "655")
