"""The database of the mesh: nodes, edges, subnets, and our own meta connections (topology 1).

Only stores and counts. Not here: what may change it (`gossip.py`), what follows from it (`graph.py`), and the life of
connections (`connections.py`). Everyone but the facade reads it only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from gmesh.values import OPTION_VERSION_SHIFT, Address, Subnet

THIRD_PARTY_SHARE = 0.9
"""Gossip about others stops at this share of each bound; the rest is kept for what neighbours say of themselves."""
EDGE_OWNER_SHARE = 0.25
SUBNET_OWNER_SHARE = 0.9
"""The most of the edges and subnets that a single node may have: one may well be the gateway to most networks."""
FEW_SUBNETS = 4
"""Up to so many subnets of a node are a tuple, which takes a third of the memory of a set."""

NODE_COST = 1200
EDGE_COST = 500
SUBNET_COST = 400
"""Bytes that one of each takes here, in the data plane's tables and in two route snapshots, as one replaces the other:
measured (820, 370 and 370 where nothing is shared) and rounded up, so that a node with two edges is right even if its
name is as long as names can be."""


class ConnectionState(Enum):
    """How far a meta connection is; the allowed moves are in `connections.py`."""

    OPENED = auto()
    IDENTIFIED = auto()
    WAITING = auto()
    """Verified, but a handshake with the same node that has priority is still running."""
    PROCEEDING = auto()
    ACTIVE = auto()


@dataclass(slots=True, eq=False)
class Connection:
    """One meta connection. ``name`` is empty until an incoming peer has said it; times are the loop's seconds."""

    id: int
    name: str
    outgoing: bool
    opened_at: float
    state: ConnectionState = ConnectionState.OPENED
    active_since: float = 0.0
    node: Node | None = None
    tree: bool = False
    """Whether it lies on the minimum spanning tree, so that broadcasts use it."""
    address: Address | None = None
    """The TCP peer address, known once active."""

    @property
    def active(self) -> bool:
        return self.state is ConnectionState.ACTIVE


@dataclass(slots=True, eq=False)
class Edge:
    """``source`` sees ``target`` at ``address``. Counts only while the reverse edge exists too."""

    source: Node
    target: Node
    address: Address
    options: int
    weight: int
    local: Address | None = None

    @property
    def reverse(self) -> Edge | None:
        return self.target.edges.get(self.source.name)


@dataclass(slots=True, eq=False)
class Node:
    """A name, what it announced, and what the last graph run found (topology 8).

    ``options`` are those of the last edge on the path, 0 while unreachable. ``next_hop`` and ``via`` are None while
    unreachable; both are ourselves for ourselves. ``distance`` counts edges, -1 while unreachable. ``path_edge`` is the
    last edge of the path; it stays what it was when the node becomes unreachable. ``connection`` is the id of the
    active meta connection to it. ``last_change`` is when it last became reachable or unreachable.
    """

    name: str
    last_change: float
    options: int = 0
    reachable: bool = False
    indirect: bool = False
    next_hop: Node | None = None
    via: Node | None = None
    distance: int = -1
    path_edge: Edge | None = None
    connection: int | None = None
    edges: dict[str, Edge] = field(default_factory=dict)
    """Outgoing edges by the target's name."""
    one_way: dict[str, Node] | None = None
    """Nodes with an edge to this one that has no edge back, by name; None for none, as it nearly always is."""
    subnets: Collection[Subnet] = ()
    """No two alike, in no order: a tuple while they are few, else a set."""

    @property
    def minor(self) -> int:
        """Its minor protocol version as its neighbour announced it, 0 for tinc 1.0 and while unreachable."""
        return self.options >> OPTION_VERSION_SHIFT

    @property
    def path_address(self) -> Address | None:
        """The address in the edge that reached it, None where that is nothing to send to."""
        address = None if self.path_edge is None else self.path_edge.address
        return address if address is not None and address.endpoint is not None else None

    def __repr__(self) -> str:
        return f"Node({self.name})"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most of each that is kept; ourselves, our own facts and our neighbours' nodes are always admitted."""

    nodes: int
    edges: int
    subnets: int
    database: int
    """Bytes of all three together."""


class Registry:
    """Nodes by name, with indices so that no operation on one fact looks at all the others."""

    def __init__(self, name: str, bounds: Bounds, now: float) -> None:
        self.me = Node(name, now)
        self.bounds = bounds
        self.nodes: dict[str, Node] = {name: self.me}
        self.connections: dict[int, Connection] = {}
        self.edge_count = 0
        self.subnet_count = 0
        self._subnet_table: tuple[tuple[Subnet, str], ...] | None = None
        self.me.reachable = True
        self.me.next_hop = self.me.via = self.me
        self.me.distance = 0

    # Reading

    def node(self, name: str) -> Node | None:
        return self.nodes.get(name)

    def edge(self, source: str | Node, target: str | Node) -> Edge | None:
        node = self.nodes.get(source) if isinstance(source, str) else source
        return None if node is None else node.edges.get(target if isinstance(target, str) else target.name)

    def incoming(self, node: Node) -> Iterator[Edge]:
        """Edges that point to ``node``."""
        name = node.name
        for out in node.edges.values():
            back = out.target.edges.get(name)
            if back is not None:
                yield back
        for source in (node.one_way or {}).values():
            yield source.edges[name]

    def edges(self) -> Iterator[Edge]:
        """Every edge, in no order."""
        return (edge for node in self.nodes.values() for edge in node.edges.values())

    def subnet_table(self) -> tuple[tuple[Subnet, str], ...]:
        """Every (subnet, owner) in matching order (topology 5.1). Kept until a subnet changes."""
        if self._subnet_table is None:
            table = [(subnet, node.name) for node in self.nodes.values() for subnet in node.subnets]
            table.sort(key=lambda entry: (entry[0].sort_key(), entry[1]))
            self._subnet_table = tuple(table)
        return self._subnet_table

    def knows_us(self, node: Node) -> bool:
        """Whether ``node``'s own edge to us has arrived. Without it a REQ_KEY to it crashes stock peers."""
        return self.me.name in node.edges

    def active_connections(self) -> Iterator[Connection]:
        return (connection for connection in self.connections.values() if connection.active)

    def connection_to(self, node: Node) -> Connection | None:
        """The active meta connection to ``node``."""
        return None if node.connection is None else self.connections.get(node.connection)

    def next_connection(self, node: Node) -> Connection | None:
        """The active connection over which requests for ``node`` go; None where it is ourselves or unreachable."""
        return None if node.next_hop is None else self.connection_to(node.next_hop)

    # Changing (the facade only)

    def ensure_node(self, name: str, now: float) -> Node:
        """The node of that name, made if it is not there. Whoever calls has asked `room_for_nodes`."""
        node = self.nodes.get(name)
        if node is None:
            node = self.nodes[name] = Node(name, now)
        return node

    def put_edge(
        self, source: Node, target: Node, *, address: Address, options: int, weight: int, local: Address | None = None
    ) -> Edge:
        """Add the edge, or set the values of the one that is there."""
        edge = source.edges.get(target.name)
        if edge is None:
            address, local = _shared_address(target, address), _shared_local(source, local)
            edge = source.edges[target.name] = Edge(source, target, address, options, weight, local)
            if source.name in target.edges:
                _forget_one_way(target, source)
            else:
                _note_one_way(source, target)
            self.edge_count += 1
        else:
            edge.address, edge.options, edge.weight, edge.local = address, options, weight, local
        return edge

    def remove_edge(self, edge: Edge) -> None:
        source, target = edge.source, edge.target
        if source.edges.pop(target.name, None) is not None:
            if source.name in target.edges:
                _note_one_way(target, source)
            else:
                _forget_one_way(source, target)
            self.edge_count -= 1

    def add_subnet(self, owner: Node, subnet: Subnet) -> None:
        held = owner.subnets
        if subnet in held:
            return
        if isinstance(held, set):
            held.add(subnet)
        else:
            owner.subnets = (*held, subnet) if len(held) < FEW_SUBNETS else {*held, subnet}
        self.subnet_count += 1
        self._subnet_table = None

    def remove_subnet(self, owner: Node, subnet: Subnet) -> None:
        held = owner.subnets
        if subnet not in held:
            return
        if isinstance(held, set):
            held.remove(subnet)
        else:
            owner.subnets = tuple(other for other in held if other != subnet)
        self.subnet_count -= 1
        self._subnet_table = None

    def remove_node(self, node: Node) -> None:
        """Forget a node for which `is_bare` holds, and which is not ourselves."""
        del self.nodes[node.name]

    @staticmethod
    def is_bare(node: Node) -> bool:
        """Whether nothing but its name is left of ``node``."""
        return not (node.edges or node.one_way or node.subnets or node.connection is not None)

    # Bounds

    @property
    def cost(self) -> int:
        """Bytes that nodes, edges and others' subnets take, about."""
        return len(self.nodes) * NODE_COST + self.edge_count * EDGE_COST + self._others_subnets * SUBNET_COST

    @property
    def _others_subnets(self) -> int:
        # Our own are the administrator's, however many they are.
        return self.subnet_count - len(self.me.subnets)

    def room_for_nodes(self, wanted: int, *, first_hand: bool) -> bool:
        """Whether ``wanted`` more nodes may be made. ``first_hand``: the neighbour speaks of itself."""
        fits = len(self.nodes) + wanted <= _limit(self.bounds.nodes, first_hand)
        return fits and self._affords(wanted * NODE_COST, first_hand)

    def room_for_edge(self, source: Node | None, *, first_hand: bool) -> bool:
        held = 0 if source is None else len(source.edges)
        fits = self.edge_count < _limit(self.bounds.edges, first_hand) and held < self.bounds.edges * EDGE_OWNER_SHARE
        return fits and self._affords(EDGE_COST, first_hand)

    def room_for_subnet(self, owner: Node | None, *, first_hand: bool) -> bool:
        held = 0 if owner is None else len(owner.subnets)
        fits = (
            self._others_subnets < _limit(self.bounds.subnets, first_hand)
            and held < self.bounds.subnets * SUBNET_OWNER_SHARE
        )
        return fits and self._affords(SUBNET_COST, first_hand)

    def _affords(self, more: int, first_hand: bool) -> bool:
        return self.cost + more <= _limit(self.bounds.database, first_hand)


def _note_one_way(source: Node, target: Node) -> None:
    """``source`` has an edge to ``target``, and none comes back."""
    if target.one_way is None:
        target.one_way = {}
    target.one_way[source.name] = source


def _forget_one_way(source: Node, target: Node) -> None:
    """``source`` has no edge to ``target`` any more, or one comes back."""
    if target.one_way is not None:
        target.one_way.pop(source.name, None)
        if not target.one_way:
            target.one_way = None


def _shared_address(target: Node, address: Address) -> Address:
    """Most neighbours of a node see it at the same address: one object of it is enough."""
    for out in target.edges.values():
        back = out.reverse
        return back.address if back is not None and back.address == address else address
    return address


def _shared_local(source: Node, local: Address | None) -> Address | None:
    """All edges of a node usually say the same local address."""
    for edge in source.edges.values():
        return edge.local if edge.local == local else local
    return local


def _limit(bound: int, first_hand: bool) -> float:
    return bound if first_hand else bound * THIRD_PARTY_SHARE
