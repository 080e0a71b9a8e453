"""What follows from the edges: reachability, next hops, via (topology 8) and the spanning tree (topology 7).

Writes its results into the registry's nodes and connections. Not here: when to run, and what a change leads to.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from gmesh.mesh.registry import Edge, Node, Registry
from gmesh.values import OPTION_INDIRECT


@dataclass(slots=True)
class GraphChange:
    """Nodes that became reachable or unreachable, each in name order; ``moved`` if others are reached another way.

    ``changed`` is true if any result differs.
    """

    up: list[Node] = field(default_factory=list)
    down: list[Node] = field(default_factory=list)
    moved: bool = False
    changed: bool = False


class _Path(NamedTuple):
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
        here_indirect, here_hop, here_via, distance, _ = paths[node.name]
        for name in sorted(node.edges):
            known = paths.get(name)
            if known is not None and not known[0]:
                continue
            edge = node.edges[name]
            target = edge.target
            if node.name not in target.edges:
                continue
            indirect = here_indirect or bool(edge.options & OPTION_INDIRECT)
            if known is not None and indirect:
                continue
            # Found again by a direct edge: via changes, the next hop stays.
            first_hop = target if here_hop is me else here_hop
            next_hop = first_hop if known is None else known.next_hop
            paths[name] = _Path(indirect, next_hop, here_via if indirect else target, distance + 1, edge)
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
            change.moved = True
        node.reachable = True
        node.indirect, node.next_hop, node.via, node.options = path.indirect, path.next_hop, path.via, options
    change.changed = bool(change.up or change.down or change.moved)
    if change.up or change.down:
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
        name = node.name
        visited.add(name)
        for other, edge in node.edges.items():
            if other in visited:
                continue
            reverse = edge.target.edges.get(name)
            if reverse is None:
                continue
            # Of the two directions only the one that comes first in the order can be chosen.
            if (edge.weight, name, other) < (reverse.weight, other, name):
                heapq.heappush(heap, (edge.weight, name, other, edge))
            else:
                heapq.heappush(heap, (reverse.weight, other, name, reverse))

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
