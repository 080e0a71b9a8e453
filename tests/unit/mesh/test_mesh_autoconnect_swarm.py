"""Many nodes with AutoConnect on a fake clock: they come together, calm down, and heal a split without a rush.

A connection is made or refused at once, and everybody knows all edges: only the policy is looked at.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter

from gmesh.mesh import graph
from gmesh.mesh.actions import Dial, StopDialling
from gmesh.mesh.autoconnect import WANTED, AutoConnect
from gmesh.mesh.registry import Bounds, Connection, ConnectionState, Registry
from gmesh.mesh.settings import MeshSettings
from gmesh.values import Address

SIZE = 24
HERE = Address("10.0.0.1", "655")


class Swarm:
    def __init__(self, size: int) -> None:
        self.names = [f"n{number:03}" for number in range(size)]
        self.links: dict[frozenset[str], tuple[str, float]] = {}
        """The node that made it, and since when."""
        self.parts: dict[str, int] = dict.fromkeys(self.names, 0)
        """Nodes in different parts cannot reach each other."""
        self.wanted: dict[str, set[str]] = {name: set() for name in self.names}
        self.dials: list[tuple[float, str, str]] = []
        self.ended: list[float] = []
        self.now = 0.0
        self.policies = {}
        for number, name in enumerate(self.names):
            others = {other: True for other in self.names if other != name}
            settings = MeshSettings(name, auto_connect=True, acquaintances=others)
            source = random.Random(number)
            self.policies[name] = AutoConnect(self.registry(name), settings, source.randbytes, 0.0)
        self.due = [(policy.next_timeout(), name) for name, policy in self.policies.items()]
        heapq.heapify(self.due)

    def registry(self, me: str) -> Registry:
        return Registry(me, Bounds(10_000, 100_000, 10_000, 10**9), self.now)

    def see(self, me: str) -> Registry:
        """What the node knows: every link, and its own connections."""
        registry = self.registry(me)
        for number, (pair, (maker, since)) in enumerate(self.links.items(), 1):
            one, two = (registry.ensure_node(name, self.now) for name in sorted(pair))
            for source, target in ((one, two), (two, one)):
                registry.put_edge(source, target, address=HERE, options=0, weight=1)
            if me in pair:
                node = one if two is registry.me else two
                node.connection = number
                registry.connections[number] = Connection(
                    number, node.name, maker == me, since, ConnectionState.ACTIVE, active_since=since, node=node
                )
        graph.run(registry, self.now)
        return registry

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.due[0][0] <= end:
            self.now, name = heapq.heappop(self.due)
            self.try_waiting()
            policy = self.policies[name]
            policy._registry = self.see(name)
            for action in policy.on_timeout(self.now):
                if isinstance(action, Dial):
                    self.dials.append((self.now, name, action.node))
                    self.wanted[name].add(action.node)
                elif isinstance(action, StopDialling):
                    self.wanted[name].discard(action.node)
                    pair = frozenset({name, action.node})
                    if self.links.get(pair, ("", 0.0))[0] == name:
                        del self.links[pair]
                        self.ended.append(self.now)
            self.try_waiting()
            heapq.heappush(self.due, (policy.next_timeout(), name))
        self.now = end

    def try_waiting(self) -> None:
        for name, wanted in self.wanted.items():
            for other in wanted:
                if self.parts[name] == self.parts[other]:
                    self.links.setdefault(frozenset({name, other}), (name, self.now))

    def split(self) -> None:
        for name in self.names[len(self.names) // 2 :]:
            self.parts[name] = 1
        self.links = {pair: link for pair, link in self.links.items() if len({self.parts[name] for name in pair}) == 1}

    @property
    def reached(self) -> int:
        """How many nodes the first one reaches."""
        registry = self.see(self.names[0])
        return sum(node.reachable for node in registry.nodes.values())


def test_a_swarm_comes_together_calms_down_and_heals() -> None:
    swarm = Swarm(SIZE)
    swarm.run(60)
    assert swarm.reached == SIZE
    swarm.run(180)
    degrees = Counter(name for pair in swarm.links for name in pair)
    assert min(degrees.values()) >= WANTED
    assert max(degrees.values()) <= 4 * WANTED
    # Calm: nobody is called any more, and hardly anything ends.
    dialled, ended = len(swarm.dials), len(swarm.ended)
    swarm.run(120)
    assert len(swarm.dials) - dialled <= 3
    assert len(swarm.ended) - ended <= 3

    swarm.split()
    swarm.run(60)
    assert swarm.reached == SIZE // 2
    before = len(swarm.dials)
    swarm.parts = dict.fromkeys(swarm.names, 0)
    swarm.run(30)
    assert swarm.reached == SIZE
    # No rush at anybody.
    calls = Counter(target for _, _, target in swarm.dials[before:])
    assert max(calls.values(), default=0) <= 8
    swarm.run(180)
    assert swarm.reached == SIZE
    dialled = len(swarm.dials)
    swarm.run(60)
    assert len(swarm.dials) - dialled <= 3


def test_one_that_is_lost_is_not_rushed_at_when_it_returns() -> None:
    swarm = Swarm(SIZE)
    swarm.run(120)
    lost = swarm.names[-1]
    swarm.parts[lost] = 1
    swarm.links = {pair: link for pair, link in swarm.links.items() if lost not in pair}
    swarm.run(60)
    before = len(swarm.dials)
    swarm.run(60)
    at_it = [when for when, _, target in swarm.dials[before:] if target == lost]
    # About one of all those looks in an interval falls on it, and it rests in between.
    assert len(at_it) <= 24
    swarm.parts[lost] = 0
    swarm.run(30)
    assert swarm.reached == SIZE
    assert sum(lost in pair for pair in swarm.links) <= 4 * WANTED
