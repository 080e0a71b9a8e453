"""The rules of gossip (topology 2 and 3): what a line changes, who hears of it, and what is answered.

Not here: graph runs and their consequences (`mesh.py`), keys (`channels.py`), queues (`outbox.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from gmesh.mesh.actions import Action, Log, SendLine
from gmesh.mesh.changes import Changes
from gmesh.mesh.corrections import REPAIR_DELAY, Corrections, Fact
from gmesh.mesh.registry import Connection, ConnectionState, Edge, Node, Registry
from gmesh.mesh.seen import SeenLines
from gmesh.mesh.settings import MeshSettings
from gmesh.proto.requests import AddEdge, AddSubnet, DelEdge, DelSubnet, KeyChanged
from gmesh.values import Address, Subnet

CROSSING_TIME = 30.0
"""Seconds within which two lines about one fact may have crossed on a slow connection."""

GossipRequest: TypeAlias = AddSubnet | DelSubnet | AddEdge | DelEdge | KeyChanged


def edge_fact(source: str, target: str) -> Fact:
    return ("edge", source, target)


def subnet_fact(owner: str, subnet: Subnet) -> Fact:
    return ("subnet", owner, subnet)


def key_fact(owner: str) -> Hashable:
    return ("key", owner)


class Gossip:
    """Applies gossip to the registry and forwards it. ``now`` is set by whoever calls, before each call."""

    def __init__(
        self,
        registry: Registry,
        settings: MeshSettings,
        entropy: Callable[[int], bytes],
        changes: Changes,
        corrections: Corrections,
    ) -> None:
        self.now = 0.0
        self.seen = SeenLines(settings.max_seen, settings.ping_interval)
        self.touched = SeenLines(settings.max_seen, CROSSING_TIME)
        """Facts that changed a moment ago."""
        self._registry = registry
        self._entropy = entropy
        self._tunnel_server = settings.tunnel_server
        self._strict = settings.host_subnets is not None
        self._changes = changes
        self._corrections = corrections
        self._swept_at = 0.0
        self.full = False
        """Something was refused for want of room since whoever reads this reset it."""

    # What we say

    def nonce(self) -> str:
        return f"{int.from_bytes(self._entropy(4), 'big') & 0x7FFFFFFF:x}"

    def new_keys(self) -> list[Action]:
        """Tell everyone that all keys that we made are void (data-legacy 3.4)."""
        me = self._registry.me.name
        return self._send_all(KeyChanged(self.nonce(), me).format(), key_fact(me), None)

    def describe(self, fact: Fact) -> str:
        """A fresh line that says what we know of the fact: an ADD where it holds, a DEL where it does not."""
        owner = self._registry.node(fact[1])
        subject = fact[2]
        if isinstance(subject, Subnet):
            held = owner is not None and subject in owner.subnets
            kind = AddSubnet if held else DelSubnet
            return kind(self.nonce(), fact[1], subject).format()
        edge = None if owner is None else owner.edges.get(subject)
        return DelEdge(self.nonce(), fact[1], subject).format() if edge is None else self._edge_line(edge)

    def announce(self, fact: Fact) -> list[Action]:
        """Tell every active connection that it concerns what we know of the fact."""
        self.touched.remember(fact, self.now)
        return self._send_all(self.describe(fact), fact, None)

    def everything(self, connection: Connection) -> list[Action]:
        """The whole database for a new neighbour, in name order (topology 3.1); lines are made when they are sent."""
        told: list[tuple[Fact, Edge | AddSubnet]] = []
        for name in sorted(self._registry.nodes):
            node = self._registry.nodes[name]
            for subnet in sorted(node.subnets, key=Subnet.sort_key):
                told.append((subnet_fact(name, subnet), AddSubnet("", name, subnet)))
            told += [(edge_fact(name, target), node.edges[target]) for target in sorted(node.edges)]
        return [
            SendLine(connection.id, _Description(self, subject), fact)
            for fact, subject in told
            if not self._tunnel_server or self._concerns(connection, fact)
        ]

    def line_of(self, subject: Edge | AddSubnet) -> str:
        """A line with a fresh nonce for one of these, which is on its way now."""
        if isinstance(subject, Edge):
            line = self._edge_line(subject)
        else:
            line = AddSubnet(self.nonce(), subject.owner, subject.subnet).format()
        self.seen.remember(line, self.now)
        return line

    def corrections_due(self) -> list[Action]:
        actions: list[Action] = []
        if not self._corrections:
            return actions
        for fact, connection in self._corrections.take(self.now):
            if connection is None:
                actions += self.announce(fact)
            elif connection in self._registry.connections:
                line = self.describe(fact)
                self.seen.remember(line, self.now)
                actions.append(SendLine(connection, line, fact))
        return actions

    # What we hear

    def handle(self, connection: Connection, request: GossipRequest, line: str) -> tuple[bool, list[Action]]:
        """Apply one line that arrived on an active connection. The flag says whether it was acted on."""
        if self._tunnel_server and not self._admits(connection, request):
            return False, []
        first_seen = self.seen.since(line)
        if first_seen is not None:
            if not (connection.active_since > first_seen and _speaks_for_itself(connection, request)):
                self._repair_if_behind(connection, request)
                return False, []
            # The neighbour restarted and repeats its lines byte for byte; everyone else has seen them too (2.1).
            line = self._with_fresh_nonce(line)
        match request:
            case AddEdge():
                return self._add_edge(connection, request, line)
            case DelEdge():
                return self._del_edge(connection, request, line)
            case AddSubnet():
                return self._add_subnet(connection, request, line)
            case DelSubnet():
                return self._del_subnet(connection, request, line)
            case KeyChanged():
                return self._key_changed(connection, request, line)

    def _add_edge(self, connection: Connection, request: AddEdge, line: str) -> tuple[bool, list[Action]]:
        registry = self._registry
        known = registry.edge(request.source, request.target)
        if known is not None and _same_edge(known, request):
            self.seen.remember(line, self.now)
            return False, []
        fact = edge_fact(request.source, request.target)
        if request.source == registry.me.name:
            self.seen.remember(line, self.now)
            if known is None:
                self._corrections.adds += 1
            self._corrections.want(fact, connection.id, self.now)
            return False, []
        source = registry.node(request.source)
        if known is None:
            first_hand = connection.name == request.source
            missing = (source is None) + (registry.node(request.target) is None)
            if not (
                self._room_for_nodes(missing, first_hand) and registry.room_for_edge(source, first_hand=first_hand)
            ):
                return False, self._refuse(connection)
        self._touch(connection, fact, known=known is not None)
        source = registry.ensure_node(request.source, self.now)
        local = request.local if request.local is not None or known is None else known.local
        registry.put_edge(
            source,
            registry.ensure_node(request.target, self.now),
            address=request.address,
            options=request.options,
            weight=request.weight,
            local=local,
        )
        self._changes.graph = True
        return True, self._forward(connection, line, fact)

    def _del_edge(self, connection: Connection, request: DelEdge, line: str) -> tuple[bool, list[Action]]:
        edge = self._registry.edge(request.source, request.target)
        if edge is None:
            # Not remembered: if the addition is still on its way, this line has to work when it comes round again.
            return False, []
        fact = edge_fact(request.source, request.target)
        if edge.source is self._registry.me:
            self.seen.remember(line, self.now)
            self._corrections.deletes += 1
            self._corrections.want(fact, connection.id, self.now)
            return False, []
        self._touch(connection, fact, known=True)
        self._registry.remove_edge(edge)
        self._changes.graph = True
        return True, self._forward(connection, line, fact)

    def _add_subnet(self, connection: Connection, request: AddSubnet, line: str) -> tuple[bool, list[Action]]:
        registry = self._registry
        owner = registry.node(request.owner)
        known = owner is not None and request.subnet in owner.subnets
        if known and not (self._strict and owner is not registry.me):
            self.seen.remember(line, self.now)
            return False, []
        fact = subnet_fact(request.owner, request.subnet)
        if owner is registry.me:
            self.seen.remember(line, self.now)
            self._corrections.want(fact, connection.id, self.now)
            return False, []
        if self._strict:
            return self._pass_on(connection, line, fact)
        first_hand = connection.name == request.owner
        if not (
            self._room_for_nodes(int(owner is None), first_hand)
            and registry.room_for_subnet(owner, first_hand=first_hand)
        ):
            return False, self._refuse(connection)
        self._touch(connection, fact, known=False)
        owner = registry.ensure_node(request.owner, self.now)
        registry.add_subnet(owner, request.subnet)
        self._changes.subnet(owner, request.subnet, present=True)
        return True, self._forward(connection, line, fact)

    def _del_subnet(self, connection: Connection, request: DelSubnet, line: str) -> tuple[bool, list[Action]]:
        owner = self._registry.node(request.owner)
        fact = subnet_fact(request.owner, request.subnet)
        if self._strict and owner is not self._registry.me:
            return self._pass_on(connection, line, fact)
        if owner is None or request.subnet not in owner.subnets:
            return False, []
        if owner is self._registry.me:
            self.seen.remember(line, self.now)
            self._corrections.want(fact, connection.id, self.now)
            return False, []
        self._touch(connection, fact, known=True)
        self._registry.remove_subnet(owner, request.subnet)
        self._changes.subnet(owner, request.subnet, present=False)
        return True, self._forward(connection, line, fact)

    def _pass_on(self, connection: Connection, line: str, fact: Fact) -> tuple[bool, list[Action]]:
        """StrictSubnets: what others say of their subnets changes nothing here, but it is passed on.

        Also where it agrees with our files, unlike in tinc: a node between us and the owner may have purged it.
        """
        return False, self._forward(connection, line, fact)

    def _refuse(self, connection: Connection) -> list[Action]:
        self.full = True
        text = f"Ignoring gossip from {connection.name}: there is no room for more nodes, edges or subnets"
        return [Log(logging.WARNING, 1, text, f"gossip {connection.name}")]

    def _key_changed(self, connection: Connection, request: KeyChanged, line: str) -> tuple[bool, list[Action]]:
        node = self._registry.node(request.node)
        if node is None or node is self._registry.me:
            return False, []
        return True, self._forward(connection, line, key_fact(request.node))

    def _touch(self, connection: Connection, fact: Fact, *, known: bool) -> None:
        """A fact is about to change as ``connection`` said; ``known``: something is known of it already.

        What we told that neighbour of it a moment ago, when it was new or the connection was, may have crossed this
        line, which we do not send back: then each of us holds what the other said. So it is told our version a little
        later, by one end earlier than by the other, lest the repairs cross as well. What a neighbour says of itself
        needs no repair: it corrects such things on its own.
        """
        recent = self.touched.since(fact) is not None or (known and self.now - connection.active_since < CROSSING_TIME)
        if recent and connection.name != fact[1]:
            later = REPAIR_DELAY if connection.name < self._registry.me.name else 0.0
            self._corrections.want_repair(fact, connection.id, self.now, REPAIR_DELAY + later)
        self.touched.remember(fact, self.now)

    def _repair_if_behind(self, connection: Connection, request: GossipRequest) -> None:
        """A line we know, but have moved on from, was news to this neighbour: tell it our version, a little later.

        It happens where an outbox left out what a later line replaced, or where a connection was made between a line
        and its successor: the neighbour gets them in the wrong order from two sides, and its own memory of lines stops
        the successor.
        """
        match request:
            case AddEdge():
                edge = self._registry.edge(request.source, request.target)
                if edge is None or not _same_edge(edge, request):
                    fact = edge_fact(request.source, request.target)
                    self._corrections.want_repair(fact, connection.id, self.now)
            case DelEdge():
                if self._registry.edge(request.source, request.target) is not None:
                    fact = edge_fact(request.source, request.target)
                    self._corrections.want_repair(fact, connection.id, self.now)
            case AddSubnet() | DelSubnet():
                owner = self._registry.node(request.owner)
                if self._strict and owner is not self._registry.me:
                    return
                held = owner is not None and request.subnet in owner.subnets
                if held != isinstance(request, AddSubnet):
                    fact = subnet_fact(request.owner, request.subnet)
                    self._corrections.want_repair(fact, connection.id, self.now)
            case KeyChanged():
                pass

    # Our own facts

    def put_own_edge(
        self, target: Node, address: Address, options: int, weight: int, local: Address | None = None
    ) -> list[Action]:
        me = self._registry.me
        self._registry.put_edge(me, target, address=address, options=options, weight=weight, local=local)
        self._changes.graph = True
        return self.announce(edge_fact(me.name, target.name))

    def drop_edge(self, edge: Edge) -> list[Action]:
        """Delete an edge that we know to be void, and say so."""
        self._registry.remove_edge(edge)
        self._changes.graph = True
        return self.announce(edge_fact(edge.source.name, edge.target.name))

    def add_subnet(self, owner: Node, subnet: Subnet) -> list[Action]:
        self._registry.add_subnet(owner, subnet)
        self._changes.subnet(owner, subnet, present=True)
        return self.announce(subnet_fact(owner.name, subnet))

    def drop_subnet(self, owner: Node, subnet: Subnet) -> list[Action]:
        self._registry.remove_subnet(owner, subnet)
        self._changes.subnet(owner, subnet, present=False)
        return self.announce(subnet_fact(owner.name, subnet))

    # Helpers

    def _edge_line(self, edge: Edge) -> str:
        return AddEdge(
            self.nonce(), edge.source.name, edge.target.name, edge.address, edge.options, edge.weight, edge.local
        ).format()

    def _forward(self, connection: Connection, line: str, fact: Hashable) -> list[Action]:
        return self._send_all(line, fact, connection)

    def _send_all(self, line: str, fact: Hashable, origin: Connection | None) -> list[Action]:
        self.seen.remember(line, self.now)
        others: Iterable[Connection] = self._registry.connections.values()
        if self._tunnel_server:
            others = [other for other in others if self._concerns(other, fact)]
        active = ConnectionState.ACTIVE
        return [SendLine(other.id, line, fact) for other in others if other.state is active and other is not origin]

    def _concerns(self, connection: Connection, fact: Hashable) -> bool:
        """Whether a tunnel server tells a neighbour of a fact: it speaks of itself only, and of no edge but the one to
        that neighbour (topology 10)."""
        match fact:
            case (str(kind), str(owner), *rest):
                return owner == self._registry.me.name and (kind != "edge" or rest == [connection.name])
            case _:
                return True

    def _admits(self, connection: Connection, request: GossipRequest) -> bool:
        """Whether a tunnel server listens (topology 2.3): only if the sender speaks of itself, or of our subnets.

        tinc also takes what a neighbour says of the edges between us and another; but those two know better.
        """
        match request:
            case AddEdge() | DelEdge():
                return connection.name in (request.source, request.target)
            case AddSubnet() | DelSubnet():
                return request.owner in (connection.name, self._registry.me.name)
            case KeyChanged():
                return request.node == connection.name

    def _with_fresh_nonce(self, line: str) -> str:
        number, _, rest = line.split(maxsplit=2)
        return f"{number} {self.nonce()} {rest}"

    def _room_for_nodes(self, wanted: int, first_hand: bool) -> bool:
        registry = self._registry
        if not wanted or registry.room_for_nodes(wanted, first_hand=first_hand):
            return True
        if self.now - self._swept_at >= 1:
            self._swept_at = self.now
            self.forget_bare_nodes()
        return registry.room_for_nodes(wanted, first_hand=first_hand)

    def forget_bare_nodes(self) -> None:
        """Drop names of which nothing is left."""
        registry = self._registry
        for node in [node for node in registry.nodes.values() if registry.is_bare(node) and not node.reachable]:
            registry.remove_node(node)


@dataclass(slots=True)
class _Description:
    """Says of an edge, or of a subnet, what holds when it is sent; if it is gone by then, that it was there: what waits
    behind may need it, and the removal follows (`outbox.py`)."""

    gossip: Gossip
    subject: Edge | AddSubnet

    def __str__(self) -> str:
        return self.gossip.line_of(self.subject)


def _same_edge(edge: Edge, request: AddEdge) -> bool:
    return (
        edge.weight == request.weight
        and edge.options == request.options
        and edge.address == request.address
        and (request.local is None or edge.local == request.local)
    )


def _speaks_for_itself(connection: Connection, request: GossipRequest) -> bool:
    match request:
        case AddEdge():
            return connection.name == request.source
        case AddSubnet():
            return connection.name == request.owner
        case KeyChanged():
            return connection.name == request.node
        case _:
            return False
