"""One daemon of the simulation: performs what its mesh asks for, as `gmesh.daemon.hub` and `gmesh.net.peer` do.

Not here: the clock, and who is connected with whom (`simnet.py`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gmesh.crypto.ed25519 import Ed25519PrivateKey
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
from gmesh.mesh.events import DataEvent, KeyNeeded
from gmesh.mesh.mesh import Mesh
from gmesh.mesh.outbox import Outbox
from gmesh.mesh.settings import MeshSettings
from gmesh.proto.meta_events import (
    Active,
    Identified,
    InfoReceived,
    LineRejected,
    MetaEvent,
    RequestReceived,
    Verified,
)
from gmesh.proto.meta_start import MetaStart
from gmesh.values import Address
from tests.sim.simmeta import PlainMeta
from tests.sim.simplane import SimPlane

if TYPE_CHECKING:
    from tests.sim.simnet import World

WRITE_SIZE = 16384
READ_SIZE = 4096
LINE_TYPES = {
    "10": "subnets",
    "11": "subnets",
    "12": "edges",
    "13": "edges",
    "14": "keys changed",
    "15": "key requests",
    "16": "key answers",
    "22": "infos",
    "23": "infos",
}
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
        self._pump_due = False

    def pump(self) -> None:
        """Send what there is, as far as the link has room: one write at a time."""
        world = self.node.world
        if self.closed:
            return
        if world.now < self.free_at:
            if not self._pump_due:
                self._pump_due = True
                world.at(self.free_at, self._pump_again)
            return
        if not self.meta.pending and self.meta.active:
            plain = self.outbox.take(WRITE_SIZE)
            if plain:
                self.meta.send(plain)
        data = self.meta.data_to_send()
        if not data:
            return
        self.free_at = world.now + len(data) / self.bytes_per_second
        world.at(self.free_at + self.latency, lambda: self._arrive(data))
        if len(self.outbox):
            self.pump()

    def _pump_again(self) -> None:
        self._pump_due = False
        self.pump()

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
    """``key`` is the Ed25519 key of a node that speaks both generations, None for one of tinc 1.0's kind."""

    def __init__(
        self, world: World, name: str, settings: MeshSettings, targets: list[str], key: Ed25519PrivateKey | None
    ) -> None:
        self.world = world
        self.name = name
        self.targets = targets
        self.private_key = key
        self.silent = False
        self.ends: dict[int, End] = {}
        self.scripts: list[str] = []
        self.logs: list[str] = []
        self.plane = SimPlane()
        self.mesh = Mesh(settings, world.now, world.random.randbytes, self.plane, self)
        self._timer = float("inf")
        self._dial_due = False
        self._touched: dict[int, End] = {}
        self.perform(self.mesh.start(world.now))

    def public_key(self, name: str) -> bytes | None:
        """Everyone has everyone's host file."""
        return self.world.public_keys.get(name)

    def perform(self, actions: list[Action]) -> None:
        """Do what the mesh wants, and then let the writers and the timer have their turn."""
        self._do(actions)
        self._finish()

    def tell(self, event: DataEvent) -> None:
        """What the data plane has to say."""
        self.perform(self.mesh.data_event(event, self.world.now))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case SendLine(connection, line, fact):
                    end = self.ends.get(connection)
                    if end is not None:
                        end.outbox.put_line(line, fact)
                        self._touched[connection] = end
                case CloseConnection(connection, _):
                    if connection in self.ends:
                        self.ends[connection].close()
                case ProceedHandshake(connection):
                    end = self.ends[connection]
                    self._events(end, end.meta.proceed(self.world.now))
                    self._touched[connection] = end
                case NodeUp() | NodeDown():
                    self.scripts.append(f"{type(action).__name__} {action.node}")
                case SubnetUp() | SubnetDown():
                    pass
                case Log(level, _, text) if level >= logging.WARNING:
                    self.logs.append(text)
                case _:
                    event = self.plane.perform(action, self.world.now)
                    if event is not None:
                        self._do(self.mesh.data_event(event, self.world.now))

    def _finish(self) -> None:
        touched, self._touched = self._touched, {}
        for end in touched.values():
            end.pump()
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
        self._events(end, end.meta.receive(data, self.world.now))
        self._touched[end.id] = end
        self._finish()

    def _events(self, end: End, events: list[MetaEvent]) -> None:
        now, mesh, counts = self.world.now, self.mesh, self.world.lines
        for event in events:
            if end.closed:
                return
            match event:
                case RequestReceived(request, line):
                    counts[LINE_TYPES[line[:2]]] += 1
                    self._do(mesh.request_received(end.id, request, line, now))
                case InfoReceived(request, line):
                    counts[LINE_TYPES[line[:2]]] += 1
                    self._do(mesh.info_received(end.id, request, line, now))
                case Identified(name, _):
                    self._do(mesh.peer_identified(end.id, name, now))
                case Verified():
                    self._do(mesh.peer_verified(end.id, now))
                case Active():
                    self.world.activations += 1
                    self._do(mesh.peer_active(end.id, event, end.address, now, self.world.address(self.name).host))
                case LineRejected(line, reason):
                    raise AssertionError(f"{self.name} got {line!r}: {reason}")

    def connection_lost(self) -> None:
        if not self._dial_due:
            self._dial_due = True
            self.world.after(self.world.random.uniform(0.3, 1.0), self.dial)

    def dial(self) -> None:
        """Connect to every target that we have no connection with."""
        self._dial_due = False
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

    def want(self, target: str) -> bool:
        """A packet is to go to ``target``: whether that one can read it. Otherwise a key is asked for."""
        packet = self.plane.seal(target, self.world.now)
        peer = self.world.nodes[target]
        if packet is None:
            self.tell(KeyNeeded(target))
            return False
        read, news = peer.plane.open(self.name, packet, self.world.now)
        if news is not None:
            peer.tell(news)
        return read

    def facts(self) -> tuple[set[tuple[object, ...]], set[tuple[object, ...]]]:
        """All edges and subnets that it knows of."""
        nodes = self.mesh.registry.nodes.values()
        edges: set[tuple[object, ...]] = {
            (edge.source.name, edge.target.name, edge.address, edge.options, edge.weight)
            for node in nodes
            for edge in node.edges.values()
        }
        return edges, {(node.name, subnet) for node in nodes for subnet in node.subnets}

    def reachable(self) -> set[str]:
        return {node.name for node in self.mesh.registry.nodes.values() if node.reachable}
