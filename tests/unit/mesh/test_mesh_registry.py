"""Nodes, edges, subnets: indices, order and bounds."""

from __future__ import annotations

from gmesh.mesh.registry import NODE_COST, SUBNET_COST, Bounds, Registry
from gmesh.values import Address, Subnet

ADDRESS = Address("10.0.0.1", "655")


def registry(nodes: int = 100, edges: int = 100, subnets: int = 100, database: int = 1_000_000) -> Registry:
    return Registry("me", Bounds(nodes, edges, subnets, database), 0.0)


def test_edges_are_found_from_both_ends() -> None:
    db = registry()
    a, b = db.ensure_node("a", 0.0), db.ensure_node("b", 0.0)
    edge = db.put_edge(a, b, address=ADDRESS, options=0, weight=1)
    assert edge.reverse is None
    assert db.edge("a", "b") is edge
    assert db.edge("b", "a") is None
    assert list(db.incoming(b)) == [edge]
    back = db.put_edge(b, a, address=ADDRESS, options=0, weight=1)
    assert edge.reverse is back
    assert db.put_edge(a, b, address=ADDRESS, options=3, weight=7) is edge
    assert (edge.options, edge.weight, db.edge_count) == (3, 7, 2)
    db.remove_edge(edge)
    db.remove_edge(edge)
    assert (db.edge_count, list(db.incoming(b)), back.reverse) == (1, [], None)


def test_subnets_come_in_matching_order() -> None:
    db = registry()
    for owner, text in (("b", "10.0.0.0/8"), ("a", "10.0.0.0/8"), ("b", "10.1.0.0/16#5"), ("a", "10.1.0.0/16")):
        db.add_subnet(db.ensure_node(owner, 0.0), Subnet.parse(text))
    assert [(str(subnet), owner) for subnet, owner in db.subnet_table()] == [
        ("10.1.0.0/16#5", "b"),
        ("10.1.0.0/16", "a"),
        ("10.0.0.0/8", "a"),
        ("10.0.0.0/8", "b"),
    ]
    db.remove_subnet(db.nodes["a"], Subnet.parse("10.0.0.0/8"))
    assert len(db.subnet_table()) == db.subnet_count == 3


def test_the_last_tenth_is_for_what_neighbours_say_of_themselves() -> None:
    db = registry(nodes=10, edges=1000)
    for number in range(8):
        db.ensure_node(f"n{number}", 0.0)
    assert len(db.nodes) == 9
    assert not db.room_for_nodes(1, first_hand=False)
    assert db.room_for_nodes(1, first_hand=True)
    assert not db.room_for_nodes(2, first_hand=True)


def test_one_node_cannot_have_everything() -> None:
    db = registry(subnets=40)
    greedy = db.ensure_node("greedy", 0.0)
    for number in range(40):
        if db.room_for_subnet(greedy, first_hand=True):
            db.add_subnet(greedy, Subnet.parse(f"10.0.0.{number}"))
    assert len(greedy.subnets) == 36
    assert db.room_for_subnet(None, first_hand=True)


def test_requirement_12_nodes_edges_and_subnets_share_one_bound() -> None:
    db = registry(database=10 * SUBNET_COST + NODE_COST * 2)
    owner = db.ensure_node("owner", 0.0)
    for number in range(40):
        if db.room_for_subnet(owner, first_hand=True):
            db.add_subnet(owner, Subnet.parse(f"10.0.0.{number}"))
    assert len(owner.subnets) == 10
    assert not db.room_for_nodes(1, first_hand=True)
    assert not db.room_for_edge(owner, first_hand=True)
    for subnet in list(owner.subnets)[:4]:
        db.remove_subnet(owner, subnet)
    assert db.room_for_nodes(1, first_hand=True)
    assert not db.room_for_nodes(1, first_hand=False)


def test_our_own_subnets_leave_room_for_those_of_others() -> None:
    db = registry(subnets=10)
    for number in range(40):
        db.add_subnet(db.me, Subnet.parse(f"10.0.0.{number}"))
    assert db.room_for_subnet(None, first_hand=False)


def test_knows_us_needs_the_nodes_own_edge() -> None:
    db = registry()
    peer = db.ensure_node("peer", 0.0)
    db.put_edge(db.me, peer, address=ADDRESS, options=0, weight=1)
    assert not db.knows_us(peer)
    db.put_edge(peer, db.me, address=ADDRESS, options=0, weight=1)
    assert db.knows_us(peer)
