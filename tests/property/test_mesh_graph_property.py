"""The graph code against the rules of topology 7 and 8 written down literally, quadratic as they are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gmesh.mesh import graph
from gmesh.mesh.registry import Bounds, Connection, ConnectionState, Edge, Registry
from gmesh.values import Address

NAMES = "abcdefgh"
edge_sets = st.dictionaries(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).filter(lambda pair: pair[0] != pair[1]),
    st.tuples(st.integers(-(2**31), 2**31 - 1) | st.integers(0, 3), st.sampled_from([0, 1])),
    max_size=30,
)


def build(edges: dict[tuple[str, str], tuple[int, int]], me: str) -> Registry:
    db = Registry(me, Bounds(1000, 1000, 1000, 10_000_000), 0.0)
    for (source, target), (weight, options) in edges.items():
        nodes = db.ensure_node(source, 0.0), db.ensure_node(target, 0.0)
        db.put_edge(*nodes, address=Address("10.0.0.1", "1"), options=options, weight=weight)
    return db


def literal_tree(db: Registry) -> list[Edge]:
    """Restart at the head of the sorted list after each addition (topology 7)."""
    ordered = sorted(db.edges(), key=lambda edge: (edge.weight, edge.source.name, edge.target.name))
    start = next((edge.source for edge in ordered if edge.source.reachable), None)
    if start is None:
        return []
    visited, tree = {start.name}, []
    progress = True
    while progress:
        progress = False
        for edge in ordered:
            if edge.reverse is not None and (edge.source.name in visited) != (edge.target.name in visited):
                visited |= {edge.source.name, edge.target.name}
                tree.append(edge)
                progress = True
                break
    return tree


@settings(max_examples=300, deadline=None)
@given(edge_sets)
def test_the_tree_is_the_one_of_the_rule_and_the_same_at_every_node(
    edges: dict[tuple[str, str], tuple[int, int]],
) -> None:
    trees: dict[frozenset[str], list[tuple[str, str]]] = {}
    for me in NAMES:
        db = build(edges, me)
        graph.run(db, 1.0)
        tree = graph.spanning_tree(db)
        assert set(tree) == set(literal_tree(db))
        component = frozenset(node.name for node in db.nodes.values() if node.reachable)
        shape = sorted((edge.source.name, edge.target.name) for edge in tree)
        assert trees.setdefault(component, shape) == shape
        assert len(tree) == len(component) - 1


@settings(max_examples=300, deadline=None)
@given(edge_sets, st.sets(st.sampled_from(NAMES[1:])))
def test_our_connections_on_the_tree_are_found_without_all_of_it(
    edges: dict[tuple[str, str], tuple[int, int]], names: set[str]
) -> None:
    db = build(edges, "a")
    for number, name in enumerate(sorted(names)):
        node = db.ensure_node(name, 0.0)
        db.connections[number] = Connection(number, name, True, 0.0, ConnectionState.ACTIVE, node=node)
        node.connection = number
    graph.run(db, 1.0)
    ours = {
        name
        for edge in graph.spanning_tree(db)
        for name in (edge.source.name, edge.target.name)
        if db.me in (edge.source, edge.target)
    }
    for connection in db.connections.values():
        assert connection.tree == (connection.name in ours)


@settings(max_examples=300, deadline=None)
@given(edge_sets)
def test_paths_obey_the_rule(edges: dict[tuple[str, str], tuple[int, int]]) -> None:
    db = build(edges, "a")
    graph.run(db, 1.0)
    usable = {pair for pair in edges if (pair[1], pair[0]) in edges}
    reach, direct = {"a"}, {"a"}
    for _ in NAMES:
        reach |= {target for source, target in usable if source in reach}
        direct |= {target for source, target in usable if source in direct and not edges[source, target][1] & 1}
    for node in db.nodes.values():
        assert node.reachable == (node.name in reach)
        if not node.reachable or node is db.me:
            continue
        assert node.indirect == (node.name not in direct)
        assert node.next_hop is not None
        assert ("a", node.next_hop.name) in usable
        assert node.via is not None
        assert node.via.name in direct
        assert (node.via is node) == (not node.indirect)


@settings(max_examples=100, deadline=None)
@given(edge_sets, st.randoms(use_true_random=False))
def test_results_do_not_depend_on_the_order_in_which_edges_arrived(edges, random) -> None:  # type: ignore[no-untyped-def]
    items = list(edges.items())
    random.shuffle(items)
    results = []
    for db in (build(edges, "a"), build(dict(items), "a")):
        graph.run(db, 1.0)
        results.append(
            {
                node.name: (node.reachable, str(node.next_hop), str(node.via), node.options, node.distance)
                for node in db.nodes.values()
            }
        )
    assert results[0] == results[1]
