"""What hostile peers may cost and leave behind: memory, log lines, room for others (requirements 12 and 18)."""

from __future__ import annotations

import random

from gmesh.config.notices import MOST_ERRORS, ConfigErrors
from gmesh.daemon.log_limit import LogLimiter
from gmesh.errors import ConfigError
from gmesh.mesh.actions import ProceedHandshake, SendLine, SendProbe, SetPath
from gmesh.mesh.events import FlowCounters
from gmesh.mesh.mesh import Mesh
from gmesh.mesh.settings import MeshSettings
from gmesh.proto.meta_events import Active
from gmesh.proto.requests import parse_request
from gmesh.values import Address


class Flows:
    def counters(self, node: str) -> FlowCounters | None:
        return None

    def mac_ages(self) -> dict[bytes, float]:
        return {}


class Bench:
    def __init__(self, **settings: int) -> None:
        self.now = 0.0
        self.mesh = Mesh(MeshSettings("me", **settings), self.now, random.Random(1).randbytes, Flows())  # type: ignore[arg-type]
        self.nonce = 0

    def join(self, connection: int, name: str) -> None:
        self.mesh.connection_opened(connection, "", False, self.now)
        self.mesh.peer_identified(connection, name, self.now)
        assert self.mesh.peer_verified(connection, self.now) == [ProceedHandshake(connection)]
        ack = Active(name, "655", 1, 1, 0xC, 0xC, None)
        self.mesh.peer_active(connection, ack, Address(f"192.0.2.{connection}", "1"), self.now)
        self.say(connection, f"12 %n {name} me 192.0.2.250 655 c 1")

    def say(self, connection: int, line: str) -> list[object]:
        self.nonce += 1
        line = line.replace("%n", f"{self.nonce:x}")
        return list(self.mesh.request_received(connection, parse_request(line), line, self.now))

    def invent(self, connection: int, by: str, count: int) -> None:
        for number in range(count):
            self.say(connection, f"12 %n {by} inv{number} 192.0.2.9 655 c 1")
            self.say(connection, f"12 %n inv{number} {by} 192.0.2.9 655 c 1")

    def wait(self, seconds: float) -> list[object]:
        end = self.now + seconds
        actions: list[object] = []
        while self.now < end:
            self.now = min(end, max(self.now + 0.01, self.mesh.next_timeout()))
            actions += self.mesh.on_timeout(self.now)
        return actions


def test_requirement_12_what_a_member_made_up_and_left_makes_room_again() -> None:
    bench = Bench(max_nodes=50)
    bench.join(1, "M")
    bench.join(2, "A")
    bench.invent(1, "M", 100)
    assert 40 <= len(bench.mesh.registry.nodes) <= 50
    bench.say(2, "12 %n A honest 192.0.2.9 655 c 1")
    assert bench.mesh.registry.node("honest") is None, "the mesh is not full, so this test shows nothing"
    bench.mesh.connection_closed(1, bench.now)
    bench.say(2, "12 %n A honest 192.0.2.9 655 c 1")
    bench.wait(20)
    assert len(bench.mesh.registry.nodes) <= 4
    bench.say(2, "12 %n A honest 192.0.2.9 655 c 1")
    assert bench.mesh.registry.node("honest") is not None


def test_requirement_12_what_is_reachable_is_never_deleted_for_want_of_room() -> None:
    bench = Bench(max_nodes=50)
    bench.join(1, "M")
    bench.invent(1, "M", 100)
    before = set(bench.mesh.registry.nodes)
    bench.wait(30)
    assert set(bench.mesh.registry.nodes) == before


def test_requirement_12_a_node_that_nobody_talks_to_has_no_channel() -> None:
    bench = Bench()
    bench.join(1, "M")
    actions = bench.wait(5)
    bench.invent(1, "M", 20)
    actions = bench.wait(5)
    node = bench.mesh.registry.node("inv3")
    assert node is not None
    assert node.reachable
    assert not [action for action in actions if isinstance(action, SetPath) and action.node.startswith("inv")]
    # The first request begins it.
    answer = bench.say(1, "15 inv3 me")
    assert any(isinstance(action, SetPath) and action.node == "inv3" for action in answer)
    assert any(isinstance(action, SendLine) and action.line.startswith("16 me inv3 ") for action in answer)


def test_a_storm_of_many_kinds_is_one_line_in_the_log() -> None:
    limiter = LogLimiter(burst=5, interval=10, total_burst=20, total_rate=2)
    passed = sum(limiter.admit(f"node {number}", 20, 2, f"node {number}", 0.0) for number in range(1000))
    assert passed == 20
    summaries = [summary for second in range(11, 600) for summary in limiter.due(float(second))]
    assert len(summaries) <= 3
    assert sum(summary.count for summary in summaries) == 980


def test_one_kind_that_is_repeated_keeps_its_own_count() -> None:
    limiter = LogLimiter(burst=5, interval=10, total_burst=200, total_rate=2)
    assert sum(limiter.admit("same", 20, 2, "the text", 0.0) for _ in range(100)) == 5
    (summary,) = limiter.due(11.0)
    assert summary.count == 95
    assert summary.text == "the text"


def test_a_file_of_garbage_is_not_reported_line_by_line() -> None:
    errors = [ConfigError("control character", "tinc.conf", number) for number in range(1, 1001)]
    lines = str(ConfigErrors(errors)).splitlines()
    assert len(lines) == MOST_ERRORS + 1
    assert lines[0] == "tinc.conf line 1: control character"
    assert lines[-1] == f"{1000 - MOST_ERRORS} more errors were left out"


def test_keys_that_name_strangers_do_not_make_us_an_amplifier() -> None:
    bench = Bench()
    bench.join(1, "M")
    probes = 0
    for number in range(2000):
        key = f"{number:096x}"
        actions = bench.say(1, f"16 M me {key} 427 672 4 0 198.51.{number >> 8}.{number & 255} 655")
        probes += sum(isinstance(action, SendProbe) for action in [*actions, *bench.wait(0.005)])
    assert 5 < probes < 60 + 15 * 10 + 20
