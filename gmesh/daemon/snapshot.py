"""The registry as routing sees it: an immutable picture, built anew whenever reachability or subnets changed."""

from __future__ import annotations

from collections.abc import Callable

from gmesh.mesh.registry import Node, Registry
from gmesh.route.snapshot import RouteNode, RouteSettings, RouteSnapshot


def build_snapshot(
    registry: Registry, options: int, settings: RouteSettings, speaks_sptps: Callable[[Node], bool]
) -> RouteSnapshot:
    """``options`` are our own option bits; ``speaks_sptps`` says of which nodes the packets are sealed in a session."""
    return RouteSnapshot(
        name=registry.me.name,
        options=options,
        nodes={name: _route_node(registry, node, speaks_sptps(node)) for name, node in registry.nodes.items()},
        subnets=registry.subnet_table(),
        settings=settings,
    )


def _route_node(registry: Registry, node: Node, sptps: bool) -> RouteNode:
    connection = registry.connection_to(node)
    return RouteNode(
        name=node.name,
        reachable=node.reachable,
        via=node.via.name if node.via is not None else "",
        next_hop=node.next_hop.name if node.next_hop is not None else "",
        options=node.options,
        neighbour=connection is not None,
        tree=connection is not None and connection.tree,
        sptps=sptps,
    )
