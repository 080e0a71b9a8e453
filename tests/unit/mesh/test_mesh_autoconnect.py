"""AutoConnect as a policy: whom it calls, what it ends, what it never touches. Registry and clock are the test's."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest

from gmesh.mesh import graph
from gmesh.mesh.actions import Action, Dial, StopDialling
from gmesh.mesh.autoconnect import (
    FIRST_LOOK,
    INTERVAL,
    LONGEST_REST,
    LONGEST_REST_ALONE,
    PATIENCE,
    SETTLED,
    SPREAD,
    WANTED,
    AutoConnect,
)
from gmesh.mesh.registry import Bounds, Connection, ConnectionState, Registry
from gmesh.mesh.settings import MeshSettings
from gmesh.values import Address

SETTINGS = MeshSettings("me", auto_connect=True)


class World:
    """``acquaintances``: names with a key, and whether they have an address on file."""

    def __init__(
        self, acquaintances: dict[str, bool] | str = "", *, connect_to: str = "", seed: int = 1, on: bool = True
    ) -> None:
        if isinstance(acquaintances, str):
            acquaintances = dict.fromkeys(acquaintances.split(), True)
        self.settings = replace(
            SETTINGS, acquaintances=acquaintances, connect_to=frozenset(connect_to.split()), auto_connect=on
        )
        self.registry = Registry("me", Bounds(10_000, 100_000, 10_000, 10**9), 0.0)
        self.now = 0.0
        self.policy = AutoConnect(self.registry, self.settings, random.Random(seed).randbytes, 0.0)
        self.dialled: list[str] = []
        self.stopped: list[str] = []

    def look(self) -> list[Action]:
        self.now = max(self.now, self.policy.next_timeout())
        graph.run(self.registry, self.now)
        actions = self.policy.on_timeout(self.now)
        self.note(actions)
        return actions

    def note(self, actions: list[Action]) -> None:
        self.dialled += [action.node for action in actions if isinstance(action, Dial)]
        self.stopped += [action.node for action in actions if isinstance(action, StopDialling)]

    def edge(self, a: str, b: str, host: str = "10.0.0.9") -> None:
        one, two = (self.registry.ensure_node(name, self.now) for name in (a, b))
        for source, target in ((one, two), (two, one)):
            self.registry.put_edge(source, target, address=Address(host, "655"), options=0, weight=1)

    def connect(self, name: str, *, outgoing: bool = True) -> None:
        self.edge("me", name)
        node = self.registry.node(name)
        assert node is not None
        number = len(self.registry.connections) + 1
        self.registry.connections[number] = Connection(
            number, name, outgoing, self.now, ConnectionState.ACTIVE, active_since=self.now, node=node
        )
        node.connection = number

    def lose(self, name: str) -> None:
        node = self.registry.node(name)
        assert node is not None
        assert node.connection is not None
        del self.registry.connections[node.connection]
        node.connection = None
        self.cut("me", name)

    def cut(self, a: str, b: str) -> None:
        for source, target in ((a, b), (b, a)):
            edge = self.registry.edge(source, target)
            assert edge is not None
            self.registry.remove_edge(edge)


def test_nothing_happens_while_it_is_off() -> None:
    world = World("a b c", on=False)
    assert world.policy.next_timeout() == math.inf


def test_it_calls_one_after_the_other_until_three_are_enough() -> None:
    world = World("a b c d e f")
    assert world.policy.next_timeout() <= FIRST_LOOK
    for number in range(1, WANTED + 1):
        world.look()
        assert len(world.dialled) == number
        world.connect(world.dialled[-1])
    for _ in range(50):
        world.look()
    # Those three are all it takes: the others cannot be reached otherwise, so it looks after them now and then.
    assert set(world.dialled[:WANTED]).isdisjoint(world.stopped)
    assert set(world.dialled[WANTED:]) <= set(world.stopped) | {world.dialled[-1]}


def test_no_more_are_called_at_once_than_are_missing() -> None:
    world = World("a b c d e f")
    world.connect("x", outgoing=False)
    world.connect("y", outgoing=False)
    world.look()
    world.look()
    assert len(world.dialled) == 1


@pytest.mark.parametrize(
    ("acquaintances", "connect_to"),
    [({}, ""), ({"a": False}, ""), ({"a": True}, "a"), ({"me": True}, "")],
    ids=["no key", "no address", "named by the configuration", "ourselves"],
)
def test_whom_it_does_not_call(acquaintances: dict[str, bool], connect_to: str) -> None:
    world = World(acquaintances, connect_to=connect_to)
    world.registry.ensure_node("a", 0.0)
    for _ in range(20):
        world.look()
    assert world.dialled == []


def test_a_node_without_an_address_is_called_where_the_mesh_sees_or_saw_it() -> None:
    world = World({"far": False})
    world.connect("near", outgoing=False)
    world.edge("near", "far", "10.7.0.2")
    world.look()
    assert world.dialled == ["far"]
    assert world.policy.addresses("far") == (Address("10.7.0.2", "655"),)
    # Everybody forgets the node, as happens when the last connection ends; only we do not.
    world.cut("near", "far")
    world.lose("near")
    world.registry.nodes.pop("far")
    world.now += PATIENCE
    for _ in range(10):
        world.look()
    assert world.dialled.count("far") >= 2
    assert world.policy.addresses("far") == (Address("10.7.0.2", "655"),)
    assert world.policy.addresses("stranger") == ()


def test_whoever_cannot_be_reached_makes_room_and_rests_longer_each_time() -> None:
    world = World("dead")
    calls: list[float] = []
    while world.now < 3600:
        if any(isinstance(action, Dial) for action in world.look()):
            calls.append(world.now)
    assert len(world.stopped) in (len(calls), len(calls) - 1)
    pauses = [later - earlier for earlier, later in itertools.pairwise(calls)]
    assert pauses[0] < pauses[2] < pauses[4]
    # Alone, it goes on trying.
    assert max(pauses) <= LONGEST_REST_ALONE + PATIENCE + 3 * INTERVAL


def test_a_connection_of_the_configuration_or_of_others_is_never_ended() -> None:
    world = World("a b c d e f g h", connect_to="a b c d")
    for name in "abcd":
        world.connect(name)
    for name in "efgh":
        world.connect(name, outgoing=False)
    for one, two in zip("abcdefgh", "bcdefgha", strict=True):
        world.edge(one, two)
        world.edge(one, chr(ord(two) + 1) if two < "h" else "a")
    for _ in range(100):
        world.look()
    assert world.stopped == []


def grown() -> World:
    """Three connections of ours, and then three of others, in a mesh where everybody has neighbours enough."""
    world = World("a b c d e f")
    for _ in range(WANTED):
        world.look()
        world.connect(world.dialled[-1])
    for name in set("abcdef") - set(world.dialled):
        world.connect(name, outgoing=False)
    names = "abcdef"
    for number, name in enumerate(names):
        for step in (1, 2):
            world.edge(name, names[(number + step) % len(names)])
    return world


def test_superfluous_connections_of_its_own_are_ended_one_by_one() -> None:
    world = grown()
    own = list(world.dialled)
    world.look()
    assert world.stopped == []  # too young
    world.now += SETTLED
    world.look()
    assert len(world.stopped) == 1
    world.lose(world.stopped[-1])
    for _ in range(30):
        world.look()
        for name in world.stopped:
            node = world.registry.node(name)
            if node is not None and node.connection is not None:
                world.lose(name)
    assert set(world.stopped) <= set(own)
    # Nobody was left with fewer than it wants, and so neither are we.
    assert sum(1 for _ in world.registry.active_connections()) >= WANTED


def test_the_only_bridge_between_two_halves_stays() -> None:
    world = grown()
    bridge = world.dialled[0]
    for edge in list(world.registry.edges()):
        names = {edge.source.name, edge.target.name}
        if bridge in names and "me" not in names:
            world.registry.remove_edge(edge)
    for number in range(4):
        world.edge(bridge, f"other{number}")
    world.now += SETTLED
    for _ in range(60):
        world.look()
        for name in world.stopped:
            node = world.registry.node(name)
            if node is not None and node.connection is not None:
                world.lose(name)
    assert bridge not in world.stopped


def test_halves_that_lost_each_other_are_joined() -> None:
    world = World("a b c d e f", connect_to="a b c")
    for name in "abc":
        world.connect(name)
    for _ in range(60):
        world.look()
        if world.dialled:
            break
    assert world.dialled[0] in "def"
    # It has until the next look.
    world.look()
    assert world.stopped[0] == world.dialled[0]


def test_a_large_mesh_does_not_rush_at_the_one_that_is_lost() -> None:
    """Of 300 nodes that have connections enough, few call the lost one in the same interval."""
    names = [f"n{number}" for number in range(300)]
    callers = 0
    moments = set()
    for seed in range(300):
        world = World({**dict.fromkeys(names, True), "lost": True}, seed=seed)
        for name in names[:WANTED]:
            world.connect(name, outgoing=False)
        for name in names[WANTED:]:
            world.edge(names[0], name)
        world.look()
        callers += len(world.dialled)
        assert set(world.dialled) <= {"lost"}
        moments.add(world.now)
        step = world.policy.next_timeout() - world.now
        assert INTERVAL * (1 - SPREAD) < step < INTERVAL * (1 + SPREAD)
    assert callers <= 6
    assert len(moments) > 290


def test_rests_are_bounded_where_there_are_others() -> None:
    world = World("a dead")
    world.connect("a", outgoing=False)
    calls = []
    while world.now < 7200:
        if any(isinstance(action, Dial) for action in world.look()):
            calls.append(world.now)
    assert set(world.dialled) == {"dead"}
    assert max(later - earlier for earlier, later in itertools.pairwise(calls)) <= (
        LONGEST_REST + PATIENCE + 3 * INTERVAL
    )


def test_a_reload_takes_and_gives() -> None:
    world = World("a b c")
    world.look()
    first = world.dialled[0]
    # The configuration names it now: it is not ours to end.
    world.note(world.policy.set_settings(replace(world.settings, connect_to=frozenset({first})), world.now))
    assert world.stopped == []
    world.look()
    second = world.dialled[1]
    # A host file is gone.
    rest = {name: True for name in "abc" if name != second}
    world.note(world.policy.set_settings(replace(world.settings, acquaintances=rest), world.now))
    assert world.stopped == [second]
    world.look()
    third = world.dialled[2]
    world.note(world.policy.set_settings(replace(world.settings, auto_connect=False), world.now))
    assert world.stopped == [second, third]
    assert world.policy.next_timeout() == math.inf
    world.policy.set_settings(world.settings, world.now)
    assert world.policy.next_timeout() <= world.now + FIRST_LOOK
