"""Whatever happens in whatever order: once it is quiet, all nodes that reach each other have the same database."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gmesh.mesh import graph
from gmesh.mesh.settings import MeshSettings
from gmesh.values import Subnet
from tests.sim.simnet import World

NAMES = "abcdef"
POOL = [f"10.0.{number}.0/24" for number in range(4)]

steps = st.one_of(
    st.tuples(st.just("dial"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("drop"), st.sampled_from(NAMES), st.integers(0, 3)),
    st.tuples(st.just("subnets"), st.sampled_from(NAMES), st.sets(st.sampled_from(POOL))),
    st.tuples(st.just("subnets"), st.sampled_from(NAMES), st.sets(st.sampled_from(POOL))),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.01, 0.05, 0.3, 2.0]), st.none()),
)


def perform(world: World, step: tuple[str, object, object]) -> None:
    kind, first, second = step
    if kind == "wait":
        assert isinstance(first, float)
        world.run(first)
        return
    node = world.nodes[str(first)]
    if kind == "dial":
        if first != second and all(known.name != second for known in node.mesh.registry.connections.values()):
            world.connect(node, str(second))
    elif kind == "drop":
        assert isinstance(second, int)
        ends = sorted(node.ends.values(), key=lambda end: end.id)
        if ends:
            end = ends[second % len(ends)]
            other = end.other
            end.lost()
            if other is not None:
                world.after(world.random.uniform(0.0, 0.2), other.lost)
    else:
        assert isinstance(second, set)
        subnets = frozenset(Subnet.parse(f"{text}#{ord(node.name)}") for text in second)
        node.perform(node.mesh.set_settings(MeshSettings(name=node.name, subnets=subnets), world.now))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(steps, min_size=20, max_size=80), st.integers(0, 1000), st.sampled_from([300, 3000, 1_000_000]))
def test_random_events_converge(events: list[tuple[str, object, object]], seed: int, speed: int) -> None:
    # At 300 bytes per second lines wait in outboxes, so that later ones replace them.
    world = World(seed=seed, latency=(0.001, 0.2), bytes_per_second=speed)
    for name in NAMES:
        world.add(name, [], [])
    for index, name in enumerate(NAMES):
        world.connect(world.nodes[name], NAMES[index - 1])
    world.run(2.0)
    for event in events:
        perform(world, event)
    for index, name in enumerate(NAMES[1:]):
        node = world.nodes[name]
        node.targets = [NAMES[index]]
        node.dial()
    world.run(400.0, until=world.agreed, every=1.0)
    world.run(30.0)
    assert world.agreed()
    trees = {
        tuple(sorted((edge.source.name, edge.target.name) for edge in graph.spanning_tree(node.mesh.registry)))
        for node in world.nodes.values()
    }
    assert len(trees) == 1
    for node in world.nodes.values():
        assert set(node.mesh.registry.me.subnets) == node.mesh.settings.subnets
