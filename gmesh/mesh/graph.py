"""What follows from the edges: reachability, next hops, via (topology 8) and the spanning tree (topology 7).

Writes its results into the registry's nodes and connections. Not here: when to run, and what a change leads to.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from itertools import chain

from gmesh.mesh.registry import Edge, Node, Registry
from gmesh.values import OPTION_INDIRECT


@dataclass(slots=True)
class GraphChange:
    """Nodes that became reachable or unreachable, each in name order; ``changed`` is true if any result differs."""

    up: list[Node] = field(default_factory=list)
    down: list[Node] = field(default_factory=list)
    changed: bool = False


@dataclass(slots=True)
class _Path:
    indirect: bool
    next_hop: Node
    via: Node
    distance: int
    edge: Edge | None


def run(registry: Registry, now: float) -> GraphChange:
    """Recompute everything. Costs O(E log E) for E edges of reachable nodes, plus one look at every node."""
    change = _apply_paths(registry, _shortest_paths(registry.me), now)
    tree = {id(edge) for edge in spanning_tree(registry)}
    for connection in registry.connections.values():
        on_tree = False
        if connection.active and connection.node is not None:
            ours, theirs = registry.edge(registry.me, connection.node), registry.edge(connection.node, registry.me)
            on_tree = id(ours) in tree or id(theirs) in tree
        if connection.tree != on_tree:
            connection.tree = on_tree
            change.changed = True
    return change


def _shortest_paths(me: Node) -> dict[str, _Path]:
    """Breadth first over usable edges, targets in name order, tinc 1.0's rule for indirect edges (topology 8)."""
    paths = {me.name: _Path(False, me, me, 0, None)}
    queue = deque([me])
    while queue:
        node = queue.popleft()
        here = paths[node.name]
        for name in sorted(node.edges):
            edge = node.edges[name]
            target = edge.target
            if node.name not in target.edges:
                continue
            indirect = here.indirect or bool(edge.options & OPTION_INDIRECT)
            known = paths.get(name)
            if known is not None and (not known.indirect or indirect):
                continue
            # Found again by a direct edge: via changes, the next hop stays.
            first_hop = target if here.next_hop is me else here.next_hop
            next_hop = first_hop if known is None else known.next_hop
            paths[name] = _Path(indirect, next_hop, here.via if indirect else target, here.distance + 1, edge)
            queue.append(target)
    return paths


def _apply_paths(registry: Registry, paths: dict[str, _Path], now: float) -> GraphChange:
    change = GraphChange()
    for node in registry.nodes.values():
        if node is registry.me:
            continue
        path = paths.get(node.name)
        if path is None:
            if node.reachable:
                node.reachable = node.indirect = False
                node.next_hop = node.via = None
                node.distance, node.options, node.last_change = -1, 0, now
                change.down.append(node)
            continue
        options = 0 if path.edge is None else path.edge.options
        node.path_edge = path.edge
        node.distance = path.distance
        if not node.reachable:
            node.last_change = now
            change.up.append(node)
        elif (node.indirect, node.next_hop, node.via, node.options) == (
            path.indirect,
            path.next_hop,
            path.via,
            options,
        ):
            continue
        else:
            change.changed = True
        node.reachable = True
        node.indirect, node.next_hop, node.via, node.options = path.indirect, path.next_hop, path.via, options
    if change.up or change.down:
        change.changed = True
        change.up.sort(key=_name)
        change.down.sort(key=_name)
    return change


def spanning_tree(registry: Registry) -> list[Edge]:
    """The tree that broadcasts follow: the same at every node with the same edges (topology 7).

    Prim's algorithm with edges in the order of (weight, from, to): the heap yields exactly the first edge in that
    order which joins a visited and an unvisited node, without looking through the list again for each.
    """
    reachable_edges = (edge for node in registry.nodes.values() if node.reachable for edge in node.edges.values())
    first = min(reachable_edges, key=_order, default=None)
    if first is None:
        return []
    tree: list[Edge] = []
    visited: set[str] = set()
    heap: list[tuple[int, str, str, Edge]] = []

    def visit(node: Node) -> None:
        visited.add(node.name)
        for edge in chain(node.edges.values(), registry.incoming(node)):
            other = edge.target if edge.source is node else edge.source
            if other.name not in visited and edge.reverse is not None:
                heapq.heappush(heap, (*_order(edge), edge))

    visit(first.source)
    while heap:
        edge = heapq.heappop(heap)[3]
        fresh = edge.target if edge.source.name in visited else edge.source
        if fresh.name not in visited:
            tree.append(edge)
            visit(fresh)
    return tree


def _order(edge: Edge) -> tuple[int, str, str]:
    return (edge.weight, edge.source.name, edge.target.name)


def _name(node: Node) -> str:
    return node.name
