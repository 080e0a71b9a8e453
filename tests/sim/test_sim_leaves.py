"""Five thousand nodes, most of them leaves: what a mesh costs that is larger than the default bounds allow.

A process has no room for five thousand databases of five thousand nodes, so only the nodes in the middle are real. A
leaf has one connection, says what it is and has, and does not read what it is told.
"""

from __future__ import annotations

import time

import pytest
from test_sim_join import is_sptps, no_garbage, trees

from gmesh.mesh.outbox import Outbox
from gmesh.proto.meta_events import Active, MetaEvent, Verified
from gmesh.proto.requests import AddEdge, AddSubnet
from gmesh.values import Subnet
from tests.sim.simmeta import MINOR, PlainMeta, options_of
from tests.sim.simnet import World
from tests.sim.simnode import End

ROOM = {
    "max_nodes": 6000,
    "max_edges": 20_000,
    "max_subnets": 12_000,
    "max_database": 24_000_000,
    "max_seen": 40_000,
}


class Nowhere(Outbox):
    """Where lines for a leaf go. They are counted, and never put together."""

    def __init__(self, world: World) -> None:
        super().__init__(15180)
        self._world = world

    def put_line(self, line: object, fact: object = None) -> None:
        self._world.lines["to leaves"] += 1


class Leaf:
    silent = False

    def __init__(self, world: World, number: int, hub: str) -> None:
        self.world = world
        self.name = f"leaf{number:04d}"
        self.ends: dict[int, End] = {}
        self._hub = world.nodes[hub]
        self._subnet = Subnet.parse(f"10.{100 + number // 250}.{number % 250}.0/24")
        self._minor = MINOR if is_sptps(self.name) else 0

    def dial(self) -> None:
        world, hub = self.world, self._hub
        weight = world.random.randrange(5, 400)
        hub_minor = MINOR if hub.private_key else 0
        ours = End(
            self,
            1,
            PlainMeta(outgoing=True, my_name=self.name, weight=weight, minor=self._minor),
            world.address(hub.name),
        )  # type: ignore[arg-type]
        theirs = End(
            hub,
            next(world._ids),
            PlainMeta(outgoing=False, my_name=hub.name, weight=weight, minor=hub_minor),
            world.address(self.name),
        )
        theirs.outbox = Nowhere(world)
        ours.other, theirs.other = theirs, ours
        ours.latency = theirs.latency = world.random.uniform(*world.latency)
        hub.ends[theirs.id] = theirs
        hub.perform(hub.mesh.connection_opened(theirs.id, "", False, world.now))
        world.after(ours.latency, ours.pump)

    def received(self, end: End, data: bytes) -> None:
        if not end.meta.active:
            self._events(end, end.meta.receive(data, self.world.now))
            end.pump()

    def _events(self, end: End, events: list[MetaEvent]) -> None:
        for event in events:
            if isinstance(event, Verified):
                self._events(end, end.meta.proceed(self.world.now))
            elif isinstance(event, Active):
                nonce = f"{self.world.random.getrandbits(31):x}"
                weight = (event.weight_received + event.weight_sent) // 2
                options = options_of(MINOR if self._hub.private_key else 0)
                end.outbox.put_line(AddSubnet(nonce, self.name, self._subnet).format())
                end.outbox.put_line(AddEdge(nonce, self.name, self._hub.name, end.address, options, weight).format())


def join(middle: int, leaves: int, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(seed=41, is_sptps=is_sptps, settings=dict(ROOM))
    names = [f"node{number:03d}" for number in range(middle)]
    for number, name in enumerate(names):
        world.add(name, [names[world.random.randrange(number)]] if number else [])
    for _ in range(middle // 3):
        a, b = world.random.sample(names, 2)
        world.nodes[a].targets.append(b)
    for node in world.nodes.values():
        world.at(world.now, node.dial)
    for number in range(leaves):
        world.at(world.now, Leaf(world, number, names[number % middle]).dial)
    wanted = middle + leaves

    def settled() -> bool:
        nodes = list(world.nodes.values())
        if any(len(node.mesh.registry.nodes) < wanted or len(node.reachable()) < wanted for node in nodes):
            return False
        facts = nodes[0].facts()
        return all(node.facts() == facts for node in nodes)

    began = time.process_time()
    with no_garbage():
        virtual = world.run(60.0, until=settled)
        used = time.process_time() - began
        assert len(trees(world)) == 1
    registry = world.nodes[names[0]].mesh.registry
    facts = registry.edge_count + registry.subnet_count
    gossip = world.lines["edges"] + world.lines["subnets"]
    with capsys.disabled():
        print(
            f"\n{middle} real nodes with {leaves} leaves, {facts} facts: agreed after {virtual:.2f} s of theirs,"
            f" {used:.0f} s of our processor; {gossip / middle / facts:.2f} lines of gossip per real node and fact;"
            f" {dict(world.lines)}; by our count the database takes {registry.cost / 1e6:.1f} MB"
        )
    assert gossip / middle / facts < 6


def test_real_nodes_learn_of_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    join(10, 100, capsys)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_five_thousand_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    join(50, 4950, capsys)
