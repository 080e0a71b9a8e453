"""What follows from the edges: reachability, next hops, via (topology 8) and the spanning tree (topology 7).

Writes its results into the registry's nodes and connections. Not here: when to run, and what a change leads to.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection
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
    if _mark_tree(registry):
        change.changed = True
    return change


def _mark_tree(registry: Registry) -> bool:
    """Note which of our connections lie on the spanning tree; whether that is news for any of them."""
    me = registry.me
    usable = {
        connection.node
        for connection in registry.connections.values()
        if connection.active
        and connection.node is not None
        and me.name in connection.node.edges
        and connection.node.name in me.edges
    }
    # The only way out of here is part of every tree.
    on_tree = usable if len(usable) < 2 else _tree_neighbours(registry, usable)
    changed = False
    for connection in registry.connections.values():
        tree = connection.active and connection.node in on_tree
        if connection.tree != tree:
            connection.tree = tree
            changed = True
    return changed


def _tree_neighbours(registry: Registry, usable: set[Node]) -> set[Node]:
    me = registry.me
    tree = spanning_tree(registry, usable)
    return {edge.source if edge.target is me else edge.target for edge in tree if me in (edge.source, edge.target)}


def _shortest_paths(me: Node) -> dict[Node, _Path]:
    """Breadth first over usable edges, targets in name order, tinc 1.0's rule for indirect edges (topology 8)."""
    paths = {me: _Path(False, me, me, 0, None)}
    queue = deque([me])
    while queue:
        node = queue.popleft()
        here_indirect, here_hop, here_via, distance, _ = paths[node]
        distance += 1
        here = node.name
        edges = node.edges
        for name in sorted(edges) if len(edges) > 1 else edges:
            edge = edges[name]
            target = edge.target
            known = paths.get(target)
            if known is not None and not known[0]:
                continue
            if here not in target.edges:
                continue
            indirect = here_indirect or edge.options & OPTION_INDIRECT != 0
            if known is not None:
                if indirect:
                    continue
                # Found again by a direct edge: via changes, the next hop stays.
                next_hop = known[1]
            else:
                next_hop = target if here_hop is me else here_hop
            paths[target] = _Path(indirect, next_hop, here_via if indirect else target, distance, edge)
            queue.append(target)
    return paths


def _apply_paths(registry: Registry, paths: dict[Node, _Path], now: float) -> GraphChange:
    change = GraphChange()
    for node in registry.nodes.values():
        path = paths.get(node)
        if path is None:
            if node.reachable:
                node.reachable = node.indirect = False
                node.next_hop = node.via = None
                node.distance, node.options, node.last_change = -1, 0, now
                change.down.append(node)
            continue
        indirect, next_hop, via, distance, edge = path
        if edge is None:
            continue
        node.path_edge = edge
        node.distance = distance
        if not node.reachable:
            node.last_change = now
            change.up.append(node)
        elif (
            node.next_hop is next_hop and node.via is via and node.options == edge.options and node.indirect == indirect
        ):
            continue
        else:
            change.moved = True
        node.reachable = True
        node.indirect, node.next_hop, node.via, node.options = indirect, next_hop, via, edge.options
    change.changed = bool(change.up or change.down or change.moved)
    change.up.sort(key=_name)
    change.down.sort(key=_name)
    return change


def spanning_tree(registry: Registry, until: Collection[Node] = ()) -> list[Edge]:
    """The tree that broadcasts follow: the same at every node with the same edges (topology 7).

    Prim's algorithm from ourselves. The rule begins elsewhere and takes edges in the order of (weight, from, to); as no
    two edges are equal in that order there is only one such tree, wherever one begins. Ends early once all nodes of
    ``until``, where there are any, are in it.
    """
    tree: list[Edge] = []
    node = registry.me
    visited = {node}
    missing = set(until)
    heap: list[tuple[int, str, str, Edge]] = []
    push, pop = heapq.heappush, heapq.heappop
    while True:
        name = node.name
        for other, edge in node.edges.items():
            target = edge.target
            if target in visited:
                continue
            reverse = target.edges.get(name)
            if reverse is None:
                continue
            # Of the two directions only the one that comes first in the order can be chosen.
            there, back = edge.weight, reverse.weight
            if there < back or (there == back and name < other):
                push(heap, (there, name, other, edge))
            else:
                push(heap, (back, other, name, reverse))
        while heap:
            edge = pop(heap)[3]
            node = edge.target if edge.source in visited else edge.source
            if node not in visited:
                break
        else:
            return tree
        visited.add(node)
        tree.append(edge)
        if node in missing:
            missing.remove(node)
            if not missing:
                return tree


def _name(node: Node) -> str:
    return node.name
