"""Many nodes of both generations join at once: everyone learns everything, at a measured price."""

from __future__ import annotations

import gc
import resource
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gmesh.crypto.rsa import RsaPrivateKey
from gmesh.mesh import graph
from gmesh.mesh.mesh import Mesh
from gmesh.mesh.registry import EDGE_COST, NODE_COST, SUBNET_COST
from gmesh.mesh.settings import MeshSettings
from gmesh.proto.meta_events import Active
from gmesh.proto.requests import parse_request
from gmesh.values import Address
from tests.sim.simnet import World
from tests.sim.simplane import SimPlane

MOST_MESSAGES = 40
"""Per node and fact, of all kinds together."""
SETTLED_WITHIN = 30.0
BYTES_PER_NODE = 2000


def is_sptps(name: str) -> bool:
    """Two of three nodes are of tinc 1.1's kind."""
    return sum(name.encode()) % 3 != 0


def join(world: World, count: int, extra: int) -> None:
    """Node i connects to one node before it; ``extra`` more connections close loops."""
    names = [f"node{number:04d}" for number in range(count)]
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


@contextmanager
def no_garbage() -> Iterator[None]:
    """A thousand meshes are millions of objects, over which the collector would go again and again."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def trees(world: World) -> set[tuple[tuple[str, str], ...]]:
    return {
        tuple(sorted((edge.source.name, edge.target.name) for edge in graph.spanning_tree(node.mesh.registry)))
        for node in world.nodes.values()
    }


def join_and_judge(world: World, count: int, extra: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The bars of the whole mesh: one database, one tree, in time, and with so many messages at most."""
    before, resident = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with no_garbage():
        join(world, count, extra)
        virtual = world.run(SETTLED_WITHIN, until=world.agreed)
        used = time.process_time() - before
        assert len(trees(world)) == 1
    registry = next(iter(world.nodes.values())).mesh.registry
    facts = registry.edge_count + registry.subnet_count
    links = registry.edge_count // 2
    each = world.lines.total() / count / facts
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
    with capsys.disabled():
        print(
            f"\n{count} nodes ({sum(map(is_sptps, world.nodes))} of them SPTPS), {links} links, {facts} facts agreed"
            f" after {virtual:.2f} s of theirs, {used:.1f} s of our processor; {each:.2f} messages per node and fact:"
            f" {dict(world.lines)}; {resident / count / count * 1024:.0f} bytes per node known to a node, links and"
            " queues included"
        )
    assert registry.subnet_count == 2 * count
    assert each < MOST_MESSAGES
    # Flooding carries a fact over a link once or twice, and each new neighbour describes what it knows.
    gossip = world.lines["edges"] + world.lines["subnets"]
    assert gossip / facts < 6 * links


def test_two_hundred_nodes_join_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    join_and_judge(World(seed=7, is_sptps=is_sptps), 200, 60, capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_nodes_join_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    join_and_judge(World(seed=9, is_sptps=is_sptps), 1000, 300, capsys)


def test_a_smaller_mesh_joins_with_real_handshakes(capsys: pytest.CaptureFixture[str]) -> None:
    join_and_judge(World(seed=8, key=RsaPrivateKey.generate(1024), is_sptps=is_sptps), 20, 10, capsys)


"""What one daemon pays for a large mesh"""


def tell(mesh: Mesh, line: str, now: float) -> None:
    mesh.request_received(1, parse_request(line), line, now)


def known_mesh(count: int, edges_each: int, subnets_each: int, settings: MeshSettings) -> Mesh:
    """One mesh that knows ``count`` nodes as members of tinc 1.1, told by one neighbour, edges in both directions."""
    mesh = Mesh(settings, 0.0, bytes, SimPlane())
    mesh.connection_opened(1, "", False, 1.0)
    mesh.peer_identified(1, "n0", 1.0)
    mesh.peer_verified(1, 1.0)
    mesh.peer_active(1, Active("n0", "655", 1, 1, 0xC, 0xC), Address("192.0.2.1", "655"), 1.0)
    tell(mesh, "12 0 n0 me 192.0.2.9 655 c 5", 2.0)
    links = [(number, (number - 1) // 3) for number in range(1, count)]
    links += [(number, number // 2 + 7) for number in range(30, 30 + count * edges_each // 2 - len(links) - 1)]
    for number in range(count):
        for more in range(subnets_each):
            tell(mesh, f"10 1 n{number} 10.{number >> 8}.{number & 255}.{more}/32", 2.0)
    for a, b in links:
        for one, other in ((a, b), (b, a)):
            place, here = f"{other >> 8}.{other & 255}", f"{one >> 8}.{one & 255}"
            tell(mesh, f"12 2 n{one} n{other} 192.0.{place} 655 700000c {one % 90} 172.16.{here} 655", 2.0)
    mesh.on_timeout(10.0)
    assert sum(node.reachable for node in mesh.registry.nodes.values()) == count + 1
    return mesh


@pytest.mark.parametrize(("edges", "subnets"), [(2, 1), (3, 2)])
def test_memory_and_time_per_known_node(edges: int, subnets: int, capsys: pytest.CaptureFixture[str]) -> None:
    count, settings = 1000, MeshSettings(name="me")
    known_mesh(10, 2, 1, settings)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    mesh = known_mesh(count, edges, subnets, settings)
    at_once = (tracemalloc.get_traced_memory()[0] - before) / count
    mesh._gossip.seen.expire(1e9)
    mesh._gossip.touched.expire(1e9)
    # The interpreter keeps some thousands of small objects for itself, unless it is asked not to.
    gc.collect()
    lasting = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    began = time.process_time()
    runs = 10
    for _ in range(runs):
        graph.run(mesh.registry, 20.0)
    each = (time.process_time() - began) / runs
    with capsys.disabled():
        print(
            f"\n{count} nodes with {edges} edges and {subnets} subnets each: {lasting:.0f} bytes per node, and"
            f" {at_once - lasting:.0f} more for a minute; a graph run takes {each * 1000:.1f} ms"
        )
    assert lasting <= BYTES_PER_NODE
    assert lasting <= NODE_COST + edges * EDGE_COST + subnets * SUBNET_COST
    assert each < 0.05
