"""Meshes that split, lose nodes without a word, and have two nodes of one name."""

from __future__ import annotations

from tests.sim.simnet import World


def ring(world: World, count: int) -> list[str]:
    names = [f"n{number:02d}" for number in range(count)]
    for number, name in enumerate(names):
        world.add(name, [names[(number + 1) % count]])
    for node in world.nodes.values():
        world.at(world.now, node.dial)
    world.run(30.0, until=world.agreed)
    return names


def test_halves_that_are_cut_off_find_together_again() -> None:
    world = World(seed=3)
    names = ring(world, 20)
    west, east = names[:10], names[10:]
    world.cut = lambda a, b: (a in west) != (b in west)
    world.sever()
    world.run(
        60.0, until=lambda: world.nodes["n05"].reachable() == set(west) and world.nodes["n15"].reachable() == set(east)
    )
    assert "NodeDown n15" in world.nodes["n05"].scripts
    # What changes meanwhile on one side is corrected on the other by its owner.
    old = world.nodes["n15"].mesh.settings
    node = world.nodes["n15"]
    node.perform(node.mesh.set_settings(type(old)(name=old.name, subnets=frozenset(list(old.subnets)[:1])), world.now))
    world.cut = lambda a, b: False
    world.run(60.0, until=world.agreed)
    assert world.nodes["n05"].mesh.registry.subnet_count == 39
    assert [line for line in world.nodes["n05"].scripts if line.endswith("n15")] == [
        "NodeUp n15",
        "NodeDown n15",
        "NodeUp n15",
    ]


def test_requirement_24_killed_nodes_come_back_and_everyone_learns_it() -> None:
    world = World(seed=4)
    names = ring(world, 12)
    for name in ("n03", "n04", "n09"):
        world.nodes[name].kill()
        # A new process with other subnets, before anyone has noticed.
        fresh = world.add(name, world.nodes[name].targets, ["10.200.0.0/16"] if name == "n03" else [])
        world.after(0.5, fresh.dial)
    world.run(60.0, until=world.agreed)
    table = world.nodes["n00"].mesh.registry.subnet_table()
    assert [str(subnet) for subnet, owner in table if owner in ("n03", "n04", "n09")] == ["10.200.0.0/16"]
    assert len(names) == 12


def test_two_connections_at_once_leave_one() -> None:
    for seed in range(20):
        world = World(seed=seed)
        world.add("a", ["b"])
        world.add("b", ["a"])
        for name in "ab":
            world.after(world.random.uniform(0, 0.1), world.nodes[name].dial)
        world.run(10.0, until=world.agreed)
        settled = world.activations
        world.run(30.0)
        assert world.agreed()
        for name in "ab":
            assert len(world.nodes[name].mesh.registry.connections) == len(world.nodes[name].ends) == 1
        # No flapping: each end activated one connection.
        assert world.activations == settled == 2


def test_requirement_7_a_second_node_of_a_name_stops_nobody_else() -> None:
    world = World(seed=5)
    ring(world, 8)
    twin = world.add("n02", ["n06"], ["10.99.0.0/16"], key="twin")
    twin.dial()
    before = world.lines.total()
    world.run(60.0)
    noise = (world.lines.total() - before) / 60
    # The others still reach each other and learn news at once.
    node = world.nodes["n00"]
    old = node.mesh.settings
    node.perform(node.mesh.set_settings(type(old)(name="n00", subnets=frozenset()), world.now))
    world.run(2.0)
    for name in ("n01", "n03", "n04", "n05", "n06", "n07"):
        registry = world.nodes[name].mesh.registry
        assert world.nodes[name].reachable() >= {f"n{number:02d}" for number in range(8) if number != 2}
        assert not registry.nodes["n00"].subnets
    # At most the rate of corrections times the size of this mesh.
    assert noise < 2 * 20 * 2 * 9
