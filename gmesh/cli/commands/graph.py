"""``gmesh dump graph`` and ``digraph``: the mesh as a picture for graphviz (control-cli 6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gmesh.proto.control import EdgeLine, NodeLine, NodeStatus


def draw(nodes: Iterable[NodeLine], edges: Iterable[EdgeLine], *, directed: bool) -> Iterator[str]:
    """The lines of a dot file. Undirected, each pair of nodes is joined once."""
    yield "digraph {" if directed else "graph {"
    for node in nodes:
        yield f' "{node.name}" [label = "{node.name}", {colour(node)}];'
    arrow = "->" if directed else "--"
    for edge in edges:
        if directed or edge.source > edge.target:
            # A weight of 0 would be drawn with infinite force, which graphviz does not accept.
            force = 1 + 65536 / max(edge.weight, 1)
            yield f' "{edge.source}" {arrow} "{edge.target}" [w = {force:f}, weight = {force:f}];'
    yield "}"


def colour(node: NodeLine) -> str:
    """The attributes that show how a node is reached."""
    if node.address.host == "MYSELF":
        return 'color = "green", style = "filled"'
    if not node.status & NodeStatus.REACHABLE:
        shade = "red"
    elif node.via != node.name:
        shade = "orange"
    elif not node.status & NodeStatus.VALID_KEY:
        shade = "black"
    elif node.min_mtu > 0:
        shade = "green"
    else:
        shade = "black"
    return f'color = "{shade}"'
