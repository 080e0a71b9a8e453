"""Two hundred nodes join at once: everyone learns everything, at a measured price."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from simnet import NoFlows, World

from gmesh.crypto.rsa import RsaPrivateKey
from gmesh.mesh import graph
from gmesh.mesh.mesh import Mesh
from gmesh.mesh.settings import MeshSettings
from gmesh.proto.meta_events import Active
from gmesh.proto.requests import AddEdge, AddSubnet
from gmesh.values import Address, Subnet


def join(world: World, count: int, extra: int) -> None:
    """Node i connects to one node before it; ``extra`` more connections close loops."""
    names = [f"node{number:03d}" for number in range(count)]
    targets: list[list[str]] = [[] for _ in names]
    for number in range(1, count):
        targets[number].append(names[world.random.randrange(number)])
    for _ in range(extra):
        a, b = world.random.sample(range(count), 2)
        if names[b] not in targets[a] and names[a] not in targets[b]:
            targets[a].append(names[b])
    for name, wanted in zip(names, targets, strict=True):
        world.add(name, wanted)
    for node in world.nodes.values():
        world.at(world.now, node.dial)


def trees(world: World) -> set[tuple[tuple[str, str], ...]]:
    return {
        tuple(sorted((edge.source.name, edge.target.name) for edge in graph.spanning_tree(node.mesh.registry)))
        for node in world.nodes.values()
    }


def report(world: World, title: str, virtual: float, real: float) -> None:
    registry = next(iter(world.nodes.values())).mesh.registry
    nodes, facts = len(world.nodes), registry.edge_count + registry.subnet_count
    gossip = world.lines["edges"] + world.lines["subnets"]
    links = registry.edge_count // 2
    print(
        f"\n{title}: {nodes} nodes, {links} links, {facts} facts agreed after {virtual:.2f} s of theirs,"
        f" {real:.1f} s of ours; lines received: {dict(world.lines)}; gossip per node {gossip / nodes:.0f},"
        f" per node and fact {gossip / nodes / facts:.2f}"
    )


def test_two_hundred_nodes_join_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(seed=7)
    began = time.perf_counter()
    join(world, 200, 60)
    virtual = world.run(60.0, until=world.agreed)
    real = time.perf_counter() - began
    assert len(trees(world)) == 1
    registry = world.nodes["node000"].mesh.registry
    assert registry.subnet_count == 400
    gossip = world.lines["edges"] + world.lines["subnets"]
    facts = registry.edge_count + registry.subnet_count
    # Flooding carries a fact over a link once or twice, and each new neighbour describes what it knows.
    assert gossip / facts < 6 * registry.edge_count / 2
    with capsys.disabled():
        report(world, "plain handshake", virtual, real)


def test_a_smaller_mesh_joins_with_real_handshakes(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(seed=8, key=RsaPrivateKey.generate(1024))
    began = time.perf_counter()
    join(world, 20, 10)
    virtual = world.run(60.0, until=world.agreed)
    assert len(trees(world)) == 1
    with capsys.disabled():
        report(world, "real LegacyMeta, RSA 1024", virtual, time.perf_counter() - began)


def known_mesh(count: int) -> Mesh:
    """One mesh that knows a tree of ``count`` nodes with a subnet each, learnt from one neighbour."""
    mesh = Mesh(MeshSettings(name="me"), 0.0, bytes, NoFlows())
    mesh.connection_opened(1, "", False, 1.0)
    mesh.peer_identified(1, "n0", 1.0)
    mesh.peer_verified(1, 1.0)
    address = Address("192.0.2.1", "655")
    mesh.peer_active(1, Active("n0", "655", 1, 1, 0xC, 0xC), address, 1.0)

    def say(request: AddEdge | AddSubnet) -> None:
        mesh.request_received(1, request, request.format(), 2.0)

    say(AddEdge("0", "n0", "me", Address("192.0.2.9", "655"), 0xC, 5))
    for number in range(1, count):
        name, parent = f"n{number}", f"n{(number - 1) // 3}"
        say(AddSubnet("1", name, Subnet.parse(f"10.{number >> 8}.{number & 255}.0/24")))
        say(AddEdge("2", name, parent, Address(f"192.0.{number >> 8}.{number & 255}", "655"), 0xC, number % 90))
        say(AddEdge("3", parent, name, Address(f"198.51.{number >> 8}.{number & 255}", "655"), 0xC, number % 90))
    mesh.on_timeout(10.0)
    assert sum(node.reachable for node in mesh.registry.nodes.values()) == count + 1
    return mesh


def test_memory_and_time_per_known_node(capsys: pytest.CaptureFixture[str]) -> None:
    known_mesh(10)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    mesh = known_mesh(1000)
    per_node = (tracemalloc.get_traced_memory()[0] - before) / 1000
    mesh._gossip.seen.expire(1e9)
    lasting = (tracemalloc.get_traced_memory()[0] - before) / 1000
    tracemalloc.stop()
    began = time.perf_counter()
    runs = 10
    for _ in range(runs):
        graph.run(mesh.registry, 20.0)
    each = (time.perf_counter() - began) / runs
    with capsys.disabled():
        print(f"\n{per_node:.0f} bytes per known node ({lasting:.0f} once seen lines are forgotten);", end=" ")
        print(f"a graph run over 1000 nodes and 2000 edges takes {each * 1000:.1f} ms")
    assert per_node < 10_000
    assert each < 0.5
