"""Shortest paths and the spanning tree on small graphs worked out by hand (topology 7, 8)."""

from __future__ import annotations

from gmesh.mesh import graph
from gmesh.mesh.registry import Bounds, Connection, ConnectionState, Registry
from gmesh.values import Address


def build(edges: str, me: str = "a") -> Registry:
    """``edges``: words like ``a-b`` (both ways) or ``a>b`` (one way), then maybe ``:weight`` and ``!`` (indirect)."""
    db = Registry(me, Bounds(1000, 1000, 1000, 10_000_000), 0.0)
    for word in edges.split():
        pair, _, weight = word.partition(":")
        options = 1 if weight.endswith("!") else 0
        weight = weight.rstrip("!") or "1"
        for source, target in [(pair[0], pair[2])] + ([(pair[2], pair[0])] if pair[1] == "-" else []):
            address = Address("10.0.0.1", str(ord(target)))
            nodes = db.ensure_node(source, 0.0), db.ensure_node(target, 0.0)
            db.put_edge(*nodes, address=address, options=options, weight=int(weight))
    return db


def paths(db: Registry) -> dict[str, tuple[str, str, bool, int]]:
    return {
        node.name: (node.next_hop.name, node.via.name, node.indirect, node.distance)
        for node in db.nodes.values()
        if node.reachable and node is not db.me and node.next_hop is not None and node.via is not None
    }


def tree(db: Registry) -> list[str]:
    return sorted(f"{edge.source.name}{edge.target.name}" for edge in graph.spanning_tree(db))


def test_only_edges_with_a_reverse_count() -> None:
    db = build("a-b b>c a>d")
    change = graph.run(db, 1.0)
    assert [node.name for node in change.up] == ["b"]
    assert paths(db) == {"b": ("b", "b", False, 1)}
    assert tree(db) == ["ab"]


def test_next_hop_is_the_first_neighbour_in_name_order() -> None:
    db = build("a-c a-b b-d c-d d-e")
    graph.run(db, 1.0)
    assert paths(db)["d"] == ("b", "d", False, 2)
    assert paths(db)["e"] == ("b", "e", False, 3)
    assert str(db.nodes["e"].path_address) == f"10.0.0.1 port {ord('e')}"


def test_via_is_the_last_node_before_an_indirect_edge() -> None:
    db = build("a-b b-c:1! c-d")
    graph.run(db, 1.0)
    assert paths(db)["c"] == ("b", "b", True, 2)
    assert paths(db)["d"] == ("b", "b", True, 3)
    assert db.nodes["c"].options == 1


def test_found_again_by_a_direct_edge_changes_via_but_not_the_next_hop() -> None:
    db = build("a-d:1! a-b b-c c-d")
    graph.run(db, 1.0)
    assert paths(db)["d"] == ("d", "d", False, 3)
    assert db.nodes["d"].options == 0


def test_via_may_be_ourselves_when_the_first_edge_is_indirect() -> None:
    db = build("a-b:1!")
    graph.run(db, 1.0)
    assert paths(db)["b"] == ("b", "a", True, 1)


def test_the_tree_takes_light_edges_and_breaks_ties_by_names() -> None:
    db = build("a-b:5 b-c:1 a-c:5 c-d:-7")
    graph.run(db, 1.0)
    assert tree(db) == ["ab", "bc", "cd"]


def test_weights_near_the_limits_are_compared_without_overflow() -> None:
    db = build("a-b:2147483647 b-c:-2147483648 a-c:-1")
    graph.run(db, 1.0)
    assert tree(db) == ["ac", "bc"]


def test_changes_and_tree_flags() -> None:
    db = build("a-b:1 a-c:9 b-c:1")
    for number, name in enumerate("bc"):
        node = db.nodes[name]
        connection = Connection(number, name, False, 0.0, ConnectionState.ACTIVE, 0.0, node)
        db.connections[number], node.connection = connection, number
    assert graph.run(db, 1.0).changed
    assert (db.connections[0].tree, db.connections[1].tree) == (True, False)
    assert not graph.run(db, 2.0).changed
    edge = db.edge("b", "c")
    assert edge is not None
    db.remove_edge(edge)
    change = graph.run(db, 3.0)
    assert change.changed
    assert (change.up, change.down) == ([], [])
    assert (db.connections[0].tree, db.connections[1].tree) == (True, True)
    edge = db.edge("c", "a")
    assert edge is not None
    db.remove_edge(edge)
    change = graph.run(db, 4.0)
    assert [node.name for node in change.down] == ["c"]
    node = db.nodes["c"]
    assert (node.reachable, node.next_hop, node.via, node.options, node.distance) == (False, None, None, 0, -1)
    assert node.last_change == 4.0
