"""What must not become a storm: a hub that comes and goes, and nodes that send key requests around in a circle."""

from __future__ import annotations

import pytest

from gmesh.values import Address
from tests.sim.simmeta import MINOR, options_of
from tests.sim.simnet import World
from tests.sim.simnode import SimNode


def is_sptps(name: str) -> bool:
    return sum(name.encode()) % 2 != 0


def test_a_flapping_hub_costs_what_its_edges_cost(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(seed=11, is_sptps=is_sptps)
    spokes, others, flaps = 15, 25, 5
    hub = world.add("hub", [])
    names = [f"n{number:02d}" for number in range(spokes + others)]
    for number, name in enumerate(names):
        # A ring holds everybody together; the first ones are the hub's neighbours as well.
        world.add(name, [names[number - 1], *(["hub"] if number < spokes else [])])
    for node in world.nodes.values():
        world.at(world.now, node.dial)
    world.run(30.0, until=world.agreed)
    registry = hub.mesh.registry
    links, facts = registry.edge_count // 2, registry.edge_count + registry.subnet_count
    world.lines.clear()
    for _ in range(flaps):
        for end in list(hub.ends.values()):
            other = end.other
            end.lost()
            if other is not None:
                world.after(world.random.uniform(0.0, 0.2), other.lost)
        world.run(3.0)
    world.run(30.0, until=world.agreed)
    world.run(30.0)
    assert world.agreed()
    # Both ends say of each connection that it is gone and that it is there again, and that the edge of an end which is
    # out of reach is void; a line crosses a link twice at most. Half as much again for the repair of what may have
    # crossed. Who connects anew is told everything.
    changes, floods = 6 * spokes, 2 * links
    bound = flaps * (changes * floods * 3 // 2 + 2 * spokes * facts)
    with capsys.disabled():
        print(f"\nA hub of {spokes} links in {links} that flaps {flaps} times: {dict(world.lines)}, at most {bound}")
    assert world.lines.total() < bound


def lead(node: SimNode, hop: str, target: str) -> None:
    """Let ``node`` believe that ``target`` is behind ``hop``, whatever others know, and keep it to itself."""
    registry, now = node.mesh.registry, node.world.now
    for edge in list(registry.edges()):
        if target in (edge.source.name, edge.target.name):
            registry.remove_edge(edge)
    options = options_of(MINOR if node.private_key else 0)
    ends = registry.ensure_node(hop, now), registry.ensure_node(target, now)
    for source, sink in (ends, ends[::-1]):
        registry.put_edge(source, sink, address=Address("10.9.9.9", "655"), options=options, weight=1)
    node.mesh._changes.graph = True
    node.perform(node.mesh.settle(now))


@pytest.mark.parametrize("circle", [["x", "y"], ["x", "y", "z"]], ids=["two", "three"])
@pytest.mark.parametrize("sptps", [False, True], ids=["legacy", "sptps"])
def test_nodes_that_disagree_on_the_next_hop_send_nothing_around(
    circle: list[str], sptps: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(seed=12, is_sptps=lambda name: sptps)
    for name in ("x", "y", "z"):
        world.add(name, [other for other in "xyz" if other < name])
    asking = [world.add(f"s{number}", ["x"]) for number in range(10)]
    world.add("t", ["z"])
    for node in world.nodes.values():
        world.at(world.now, node.dial)
    world.run(10.0, until=world.agreed)
    for number, name in enumerate(circle):
        lead(world.nodes[name], circle[(number + 1) % len(circle)], "t")
    for node in asking:
        lead(node, "x", "t")
    world.lines.clear()
    seconds = 60
    for _ in range(seconds * 2):
        for node in (*asking, world.nodes[circle[0]]):
            assert not node.want("t")
        world.run(0.5)
    requests = world.lines["key requests"]
    with capsys.disabled():
        print(f"\n{len(circle)} nodes in a circle, {len(asking) + 1} that ask: {dict(world.lines)} in {seconds} s")
    # Each asks a few times at first, then every ten seconds, and what it says goes round once at most.
    assert 0 < requests <= (len(asking) + 1) * (seconds / 10 + 4) * (len(circle) + 1)
    # As soon as they agree again everybody gets an answer.
    hop_to_t = {"x": "z", "y": "z", "z": "z"} | {node.name: "x" for node in asking}
    for name in (*circle, *(node.name for node in asking)):
        lead(world.nodes[name], hop_to_t[name], "t")
    for _ in range(30):
        for node in asking:
            node.want("t")
        world.run(0.5)
    assert all(node.want("t") for node in asking)
