"""Two nodes of one name at one neighbour (requirement 17: no storms): damped by us, and named in the log."""

from __future__ import annotations

from test_mesh_facade import Bench, texts

from gmesh.mesh.actions import Action, CloseConnection, ProceedHandshake
from gmesh.mesh.twins import CALM, LONGEST_HOLD, MAX_NAMES, SHORTEST_HOLD, UNSUSPICIOUS, Twins


def test_the_pace_is_what_makes_them_suspicious() -> None:
    twins = Twins()
    assert [twins.hold("x", 0.1 * number) for number in range(UNSUSPICIOUS)] == [0.0] * UNSUSPICIOUS
    holds = [twins.hold("x", 1.0) for _ in range(20)]
    assert holds[0] == SHORTEST_HOLD
    assert holds == sorted(holds)
    assert holds[-1] == LONGEST_HOLD
    assert twins.hold("y", 1.0) == 0.0
    assert twins.hold("x", 1.1 + CALM) == 0.0
    for number in range(3 * MAX_NAMES):
        twins.hold(f"n{number}", 2.0)
    assert len(twins._records) == MAX_NAMES


class Pair:
    """Twins that connect to us by turns, a moment after the other has replaced them."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.bench.connect("x")
        self.holds: list[float] = []
        self.actions: list[Action] = []

    def newcomer(self) -> int:
        self.bench.now += 0.05
        connection = self.bench.open("x")
        self.bench.identify(connection, "x")
        return connection

    def replace(self) -> None:
        connection = self.newcomer()
        asked = self.bench.now
        actions = self.bench.verify(connection)
        while ProceedHandshake(connection) not in actions:
            actions += self.bench.wait(max(0.0, self.bench.mesh.next_timeout() - self.bench.now) + 0.001)
        self.holds.append(self.bench.now - asked)
        self.actions += actions
        self.bench.activate(connection, "x")

    def hold(self) -> int:
        """The next newcomer, who has to wait."""
        while not self.holds or not self.holds[-1]:
            self.replace()
        connection = self.newcomer()
        assert ProceedHandshake(connection) not in self.bench.verify(connection)
        return connection


def test_twins_replace_each_other_more_slowly_and_the_log_says_so() -> None:
    pair = Pair()
    for _ in range(10):
        pair.replace()
    assert pair.holds[:UNSUSPICIOUS] == [0.0] * UNSUSPICIOUS
    assert min(pair.holds[-3:]) >= LONGEST_HOLD
    said = [text for text in texts(pair.actions) if "two nodes seem to use that name" in text]
    assert said
    assert "x" in said[0]
    assert "192.0.2.7" in said[0]


def test_a_newcomer_does_not_wait_for_one_that_is_gone() -> None:
    pair = Pair()
    held = pair.hold()
    assert ProceedHandshake(held) in pair.bench.mesh.connection_closed(pair.bench.ids["x"], pair.bench.now)


def test_one_that_leaves_while_it_waits_leaves_nothing() -> None:
    pair = Pair()
    held = pair.hold()
    pair.bench.mesh.connection_closed(held, pair.bench.now)
    pair.bench.wait(2 * LONGEST_HOLD)
    handshakes = pair.bench.mesh._handshakes
    assert not handshakes._held
    assert not handshakes._waiting_until
    assert pair.bench.mesh.registry.nodes["x"].connection == pair.bench.ids["x"]


def test_of_two_that_wait_the_one_that_is_overtaken_is_closed() -> None:
    pair = Pair()
    slow = pair.hold()
    fast = pair.newcomer()
    actions = pair.bench.verify(fast)
    while ProceedHandshake(slow) not in actions:
        actions += pair.bench.wait(0.05)
    actions = pair.bench.activate(slow, "x")
    while CloseConnection(fast, "x is already connected") not in actions:
        actions += pair.bench.wait(0.05)
    assert not pair.bench.mesh._handshakes._held
