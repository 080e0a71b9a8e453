"""One mesh, driven by hand: what each event changes and which actions come out (topology 2, 3; meta-legacy 4.5, 8)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gmesh.errors import PeerError
from gmesh.mesh.actions import (
    Action,
    CloseConnection,
    ForgetFlow,
    Log,
    NodeDown,
    NodeUp,
    ProceedHandshake,
    RoutesChanged,
    SendLine,
    SubnetDown,
    SubnetUp,
)
from gmesh.mesh.events import FlowCounters
from gmesh.mesh.mesh import Mesh
from gmesh.mesh.own_edge import combined_options, edge_address
from gmesh.mesh.settings import MeshSettings
from gmesh.proto.meta_events import Active
from gmesh.proto.requests import MetaKey, parse_request
from gmesh.values import Address, Subnet


class NoFlows:
    def counters(self, node: str) -> FlowCounters | None:
        return None


class Bench:
    """A mesh named ``m`` and stock-like neighbours that say exactly what a test tells them to."""

    def __init__(self, **settings: Any) -> None:
        source = random.Random(1)
        subnets = settings.pop("subnets", ("10.0.0.1", "10.1.0.0/16"))
        self.settings = MeshSettings(
            name=settings.pop("name", "m"), subnets=frozenset(map(Subnet.parse, subnets)), **settings
        )
        self.now = 100.0
        self.mesh = Mesh(self.settings, self.now, source.randbytes, NoFlows())
        self.ids: dict[str, int] = {}
        self.count = 0

    def open(self, name: str, *, outgoing: bool = False) -> int:
        self.count += 1
        self.mesh.connection_opened(self.count, name if outgoing else "", outgoing, self.now)
        return self.count

    def identify(self, connection: int, name: str) -> None:
        self.mesh.peer_identified(connection, name, self.now)

    def verify(self, connection: int) -> list[Action]:
        return self.mesh.peer_verified(connection, self.now)

    def activate(self, connection: int, name: str, **ack: Any) -> list[Action]:
        event = Active(name, ack.pop("port", "655"), ack.pop("weight", 50), 70, ack.pop("options", 0xC), 0xC, **ack)
        actions = self.mesh.peer_active(connection, event, Address("192.0.2.7", "40000"), self.now)
        self.ids[name] = connection
        return actions

    def connect(self, name: str, **ack: Any) -> list[Action]:
        connection = self.open(name)
        self.identify(connection, name)
        assert self.verify(connection) == [ProceedHandshake(connection)]
        return self.activate(connection, name, **ack)

    def neighbour(self, name: str) -> list[Action]:
        """A neighbour whose own edge to us has arrived as well."""
        return self.connect(name) + self.say(name, f"12 e{self.count} {name} m 192.0.2.1 655 c 60") + self.settle()

    def say(self, name: str, line: str) -> list[Action]:
        return self.mesh.request_received(self.ids[name], parse_request(line), line, self.now)

    def settle(self) -> list[Action]:
        return self.mesh.settle(self.now)

    def wait(self, seconds: float) -> list[Action]:
        end, actions = self.now + seconds, []
        while (due := self.mesh.next_timeout()) <= end:
            self.now = max(self.now, due)
            actions += self.mesh.on_timeout(self.now)
        self.now = end
        return actions

    def lose(self, name: str) -> list[Action]:
        return self.mesh.connection_closed(self.ids.pop(name), self.now) + self.settle()


def sent(actions: list[Action], to: int | None = None) -> list[str]:
    """Lines with their nonces taken out."""
    lines = []
    for action in actions:
        if isinstance(action, SendLine) and to in (None, action.connection):
            words = str(action.line).split()
            lines.append(" ".join([words[0], *words[2:]]) if 10 <= int(words[0]) <= 14 else words[0])
    return lines


def gossip(actions: list[Action], to: int | None = None) -> list[str]:
    return [line for line in sent(actions, to) if line[:2] in ("10", "11", "12", "13")]


def scripts(actions: list[Action]) -> list[str]:
    return [
        f"{type(action).__name__} {action.node}" + (f" {action.subnet}" if hasattr(action, "subnet") else "")
        for action in actions
        if isinstance(action, NodeUp | NodeDown | SubnetUp | SubnetDown)
    ]


def texts(actions: list[Action]) -> list[str]:
    return [action.text for action in actions if isinstance(action, Log)]


# Connections


def test_a_new_neighbour_hears_everything_in_name_order_and_then_our_edge() -> None:
    bench = Bench()
    bench.neighbour("b")
    bench.say("b", "10 1 b 10.9.0.0/16#5")
    bench.say("b", "12 2 b x 10.1.2.3 4444 c 33 192.168.7.7 655")
    actions = bench.connect("c")
    assert sent(actions, bench.ids["c"]) == [
        "10 b 10.9.0.0/16#5",
        "12 b m 192.0.2.1 655 c 60",
        "12 b x 10.1.2.3 4444 c 33 192.168.7.7 655",
        "10 m 10.0.0.1",
        "10 m 10.1.0.0/16",
        "12 m b 192.0.2.7 655 c 60",
        "12 m c 192.0.2.7 655 c 60",
    ]
    assert sent(actions, bench.ids["b"]) == ["12 m c 192.0.2.7 655 c 60"]
    assert "Connection with c (192.0.2.7 port 40000) activated" in texts(actions)


@pytest.mark.parametrize(
    ("sent_bits", "received", "clamp", "result"),
    [
        (0xC, 0xC, None, 0xC),
        (0xC, 0x3, None, 0xB),
        (0xC, 0x700000C, None, 0x700000C),
        (0x700000C, 0xC, None, 0xC),
        (0x4, 0x8, None, 0x8),
        (0xC, 0xC, False, 0x4),
        (0x4, 0x4, True, 0xC),
        (0xC, 0x10000C, None, 0x10000C),
    ],
)
def test_options_of_both_acks_combine(sent_bits: int, received: int, clamp: bool | None, result: int) -> None:
    assert combined_options(Active("x", "655", 0, 0, received, sent_bits, clamp)) == result


@pytest.mark.parametrize("port", ["0", "ssh", "70000"])
def test_a_port_that_is_none_leaves_the_tcp_port(port: str) -> None:
    assert "12 m b 192.0.2.7 40000 c 60" in sent(Bench().connect("b", port=port))


def test_absurd_weights_of_a_peer_are_bounded() -> None:
    assert "12 m b 192.0.2.7 655 c 35" in sent(Bench().connect("b", weight=-(2**31)))
    assert f"12 m b 192.0.2.7 655 c {(2**30 - 1 + 70) // 2}" in sent(Bench().connect("b", weight=2**31 - 1))


def test_the_edge_counts_when_the_neighbours_own_has_arrived() -> None:
    bench = Bench()
    assert scripts(bench.connect("b") + bench.settle()) == []
    bench.say("b", "10 1 b 10.9.0.0/16")
    bench.say("b", "10 2 b 10.9.0.1")
    actions = bench.say("b", "12 3 b m 192.0.2.1 655 c 60") + bench.settle()
    assert scripts(actions) == ["NodeUp b", "SubnetUp b 10.9.0.1", "SubnetUp b 10.9.0.0/16"]
    assert "Node b (192.0.2.7 port 655) became reachable" in texts(actions)
    assert RoutesChanged() in actions


def test_loss_of_a_connection() -> None:
    bench = Bench()
    for name in "bc":
        bench.neighbour(name)
    bench.say("b", "10 1 b 10.9.0.1")
    bench.say("b", "10 2 b 10.8.0.1")
    bench.settle()
    actions = bench.lose("b")
    assert sent(actions, bench.ids["c"]) == ["13 m b", "13 b m"]
    assert scripts(actions) == ["NodeDown b", "SubnetDown b 10.8.0.1", "SubnetDown b 10.9.0.1"]
    assert "Node b (192.0.2.7 port 655) became unreachable" in texts(actions)
    # Its subnets stay known and are described to new neighbours.
    assert "10 b 10.9.0.1" in sent(bench.connect("d"), bench.ids.get("d"))


def test_the_last_loss_forgets_what_is_unreachable() -> None:
    bench = Bench()
    bench.neighbour("b")
    bench.say("b", "10 1 b 10.9.0.1")
    bench.lose("b")
    assert list(bench.mesh.registry.nodes) == ["m"]
    assert (bench.mesh.registry.edge_count, bench.mesh.registry.subnet_count) == (0, 2)


def test_purge_tells_everyone() -> None:
    bench = Bench()
    for name in "bc":
        bench.neighbour(name)
    bench.say("b", "10 1 x 10.9.0.1")
    bench.say("b", "12 2 x y 10.0.0.1 655 c 1")
    actions = bench.mesh.purge(bench.now)
    assert sent(actions, bench.ids["c"]) == ["11 x 10.9.0.1", "13 x y"]
    assert sorted(bench.mesh.registry.nodes) == ["b", "c", "m"]


def test_a_replaced_connection_resets_keys_but_runs_no_scripts() -> None:
    bench = Bench()
    bench.neighbour("b")
    bench.neighbour("c")
    old = bench.ids["b"]
    bench.now += 10
    actions = bench.connect("b")
    assert CloseConnection(old, "replaced by a newer connection") in actions
    assert ForgetFlow("b") in actions
    assert scripts(actions) == []
    assert not any(line.startswith("13") for line in sent(actions))
    assert sent(actions, bench.ids["c"]) == ["12 m b 192.0.2.7 655 c 60"]
    assert bench.mesh.connection_closed(old, bench.now) == []
    assert bench.mesh.registry.nodes["b"].reachable


# Two handshakes at once


def race(name: str) -> tuple[Bench, int, int]:
    bench = Bench(name=name)
    outgoing, incoming = bench.open("k", outgoing=True), bench.open("k")
    bench.identify(outgoing, "k")
    bench.identify(incoming, "k")
    return bench, outgoing, incoming


def test_the_handshake_begun_by_the_smaller_name_goes_first() -> None:
    bench, outgoing, incoming = race("m")
    assert bench.verify(outgoing) == []
    assert bench.verify(incoming) == [ProceedHandshake(incoming)]
    actions = bench.activate(incoming, "k")
    assert CloseConnection(outgoing, "k is already connected") in actions
    assert bench.mesh.connection_closed(outgoing, bench.now) == []
    assert bench.mesh.registry.nodes["k"].connection == incoming

    bench, outgoing, incoming = race("a")
    assert bench.verify(incoming) == []
    assert bench.verify(outgoing) == [ProceedHandshake(outgoing)]


def test_the_waiting_handshake_goes_on_when_the_other_fails() -> None:
    bench, outgoing, incoming = race("m")
    assert bench.verify(outgoing) == []
    assert bench.mesh.connection_closed(incoming, bench.now) == [ProceedHandshake(outgoing)]


def test_a_handshake_that_is_overtaken_is_closed_when_verified() -> None:
    bench = Bench()
    slow = bench.open("b", outgoing=True)
    bench.now += 1
    bench.connect("b")
    bench.identify(slow, "b")
    assert bench.verify(slow) == [CloseConnection(slow, "b is already connected")]


def test_an_outgoing_attempt_without_any_answer_holds_up_nobody() -> None:
    bench = Bench(name="a")
    bench.open("k", outgoing=True)
    incoming = bench.open("k")
    bench.identify(incoming, "k")
    assert bench.verify(incoming) == [ProceedHandshake(incoming)]


# Gossip


def pair() -> Bench:
    bench = Bench()
    for name in "bc":
        bench.neighbour(name)
    return bench


@pytest.mark.parametrize(
    "line",
    [
        "12 1234abcd b dave 10.1.2.3 4444 c 33 192.168.7.7 655",
        "10 aa b 10.50.0.0/16#5 extra stuff",
        "10 ab b 2:ab:0:0:0:1",
        "10 ac b fd00:1:2:3:0:0:0:0/64",
        "14 ad b",
    ],
)
def test_what_was_acted_on_goes_on_byte_for_byte_and_only_once(line: str) -> None:
    bench = pair()
    assert [a.line for a in bench.say("b", line) if isinstance(a, SendLine) and a.connection == bench.ids["c"]] == [
        line
    ]
    assert sent(bench.say("b", line)) == []
    assert sent(bench.say("c", line)) == []


@pytest.mark.parametrize(
    "line",
    [
        "12 1 b m 192.0.2.1 655 c 60",
        "13 1 b nobody",
        "11 1 b 10.50.0.0/16",
        "11 1 nobody 10.50.0.0/16",
        "14 1 nobody",
        "14 1 m",
    ],
)
def test_what_changes_nothing_stops_here(line: str) -> None:
    assert sent(pair().say("b", line)) == []


def test_lies_about_ourselves_are_corrected_at_their_sender() -> None:
    bench = pair()
    b = bench.ids["b"]
    for lie, answer in [
        ("12 1 m ghost 10.0.0.9 655 c 1", "13 m ghost"),
        ("12 2 m b 10.0.0.9 655 c 1", "12 m b 192.0.2.7 655 c 60"),
        ("13 3 m b", "12 m b 192.0.2.7 655 c 60"),
        ("10 4 m 10.9.9.0/24", "11 m 10.9.9.0/24"),
        ("11 5 m 10.0.0.1", "10 m 10.0.0.1"),
    ]:
        actions = bench.say("b", lie)
        assert (sent(actions, b), len(sent(actions))) == ([answer], 1)


def test_an_edge_learnt_from_both_ends_is_deleted_when_its_end_is_lost() -> None:
    bench = pair()
    bench.say("c", "12 1 c x 10.0.0.5 655 c 10")
    bench.say("c", "12 2 x c 10.0.0.6 655 c 10")
    # x claims an edge to us that we do not have.
    bench.say("c", "12 3 x m 10.0.0.7 655 c 10")
    assert scripts(bench.settle()) == ["NodeUp x"]
    bench.now += 1
    actions = bench.say("c", "13 4 c x") + bench.settle()
    assert scripts(actions) == ["NodeDown x"]
    assert sent(actions, bench.ids["b"]) == ["13 c x", "13 x m"]


def test_a_database_costs_one_graph_run() -> None:
    bench = pair()
    actions: list[Action] = []
    for number in range(200):
        actions += bench.say("c", f"10 a{number:x} n{number} 10.3.0.{number}")
        actions += bench.say("c", f"12 b{number:x} n{number} c 10.0.0.5 655 c 10")
        actions += bench.say("c", f"12 c{number:x} c n{number} 10.0.0.5 655 c 10")
    assert RoutesChanged() not in actions
    assert bench.mesh.next_timeout() <= bench.now + 0.1
    bench.now += 0.1
    actions = bench.mesh.on_timeout(bench.now)
    assert actions.count(RoutesChanged()) == 1
    assert len(scripts(actions)) == 400
    assert bench.mesh.on_timeout(bench.now) == []


def test_subnets_that_come_and_go_between_runs_leave_no_trace() -> None:
    bench = pair()
    bench.say("b", "10 1 b 10.9.0.1")
    bench.say("b", "11 2 b 10.9.0.1")
    assert scripts(bench.settle()) == []
    bench.say("b", "10 3 b 10.9.0.1")
    assert scripts(bench.settle()) == ["SubnetUp b 10.9.0.1"]
    bench.say("b", "11 4 b 10.9.0.1")
    bench.say("b", "10 5 b 10.8.0.1")
    assert scripts(bench.settle()) == ["SubnetDown b 10.9.0.1", "SubnetUp b 10.8.0.1"]


def test_a_neighbour_that_acts_late_is_told_our_version_a_little_later() -> None:
    bench = pair()
    bench.say("b", "10 1 b 10.9.0.1")
    bench.say("b", "11 2 b 10.9.0.1")
    assert sent(bench.say("c", "10 1 b 10.9.0.1")) == []
    assert sent(bench.wait(1.0), bench.ids["c"]) == []
    assert gossip(bench.wait(1.5), bench.ids["c"]) == ["11 b 10.9.0.1"]


def test_stop_runs_the_down_scripts_of_nodes_and_then_our_own() -> None:
    bench = pair()
    bench.say("c", "10 1 c 10.9.0.1")
    assert scripts(bench.mesh.start(bench.now)) == ["SubnetUp m 10.0.0.1", "SubnetUp m 10.1.0.0/16"]
    bench.settle()
    assert scripts(bench.mesh.stop(bench.now)) == [
        "NodeDown b",
        "NodeDown c",
        "SubnetDown c 10.9.0.1",
        "SubnetDown m 10.0.0.1",
        "SubnetDown m 10.1.0.0/16",
    ]


# Requirements


def test_requirement_7_a_name_conflict_delays_only_corrections() -> None:
    bench = pair()
    nonce = 0
    corrected: list[int] = []
    held: list[int] = []
    for second in range(40):
        actions: list[Action] = []
        for number in range(40):
            nonce += 2
            actions += bench.say("b", f"12 {nonce:x} m ghost{number} 10.0.0.9 655 c 1")
            actions += bench.say("b", f"13 {nonce + 1:x} m b")
        # The mesh itself goes on: this is acted on and forwarded at once.
        news = bench.say("b", f"10 f{second:x} b 10.4.0.{second}")
        assert sent(news, bench.ids["c"]) == [f"10 b 10.4.0.{second}"]
        actions += news + bench.wait(1.0)
        corrected.append(len([line for line in gossip(actions) if line.split()[1] == "m"]))
        if any("use our name" in text for text in texts(actions)):
            held.append(second)
    # Noticed at a check; then silence for ten seconds, a try, and silence for twenty.
    assert held[0] < 6
    assert sum(corrected[held[0] + 1 : held[0] + 10]) == 0
    assert sum(corrected[held[0] + 11 : held[1]]) > 0
    assert sum(corrected[held[1] + 1 : held[1] + 20]) == 0
    # Without a limit there would be one for each of the 80 lies in a second.
    assert sum(corrected) < 800


def test_requirement_7_corrections_that_wait_are_bounded_and_each_is_sent_once() -> None:
    bench = pair()
    for number in range(5000):
        bench.say("b", f"12 {number:x} m ghost{number % 3000} 10.0.0.9 655 c 1")
    assert len(bench.mesh._corrections) <= 2000
    lines = gossip(bench.wait(300.0), bench.ids["b"])
    assert len(lines) == len(set(lines)) <= 2000


def test_requirement_21_a_reload_announces_subnets_and_runs_scripts() -> None:
    bench = pair()
    settings = MeshSettings(name="m", subnets=frozenset(map(Subnet.parse, ("10.0.0.1", "10.2.0.0/16", "10.3.0.0/16"))))
    actions = bench.mesh.set_settings(settings, bench.now)
    assert sent(actions, bench.ids["c"]) == ["11 m 10.1.0.0/16", "10 m 10.2.0.0/16", "10 m 10.3.0.0/16"]
    assert scripts(actions) == ["SubnetDown m 10.1.0.0/16", "SubnetUp m 10.2.0.0/16", "SubnetUp m 10.3.0.0/16"]
    assert RoutesChanged() in actions
    # And now they are ours: a lie about them is corrected.
    assert sent(bench.say("b", "11 1 m 10.2.0.0/16")) == ["10 m 10.2.0.0/16"]


def test_requirement_23_lines_that_crash_stock_daemons_do_nothing() -> None:
    bench = pair()
    bench.say("b", "10 1 invented 10.66.0.1")
    for line in (
        "15 invented m",
        "15 invented c",
        "15 nobody m",
        "15 b invented",
        "15 m m",
        "15 m b",
        "16 invented m AB 0 0 0 0",
    ):
        actions = bench.say("b", line)
        assert sent(actions) == [], line
        assert not [action for action in actions if isinstance(action, CloseConnection)]


def test_requirement_24_a_restarted_neighbour_that_repeats_its_lines_becomes_reachable() -> None:
    bench = pair()
    line, subnet = "12 5eed b m 192.0.2.1 655 c 61", "10 5eee b 10.9.0.1"
    bench.say("b", line)
    bench.say("b", subnet)
    bench.settle()
    bench.lose("b")
    bench.say("c", "11 1 b 10.9.0.1")
    bench.now += 0.5
    bench.connect("b")
    forwarded = [a for each in (subnet, line) for a in bench.say("b", each) if isinstance(a, SendLine)]
    assert scripts(bench.settle()) == ["NodeUp b", "SubnetUp b 10.9.0.1"]
    # The others have seen the old lines too, so these go on with fresh nonces.
    to_c = [action.line for action in forwarded if action.connection == bench.ids["c"]]
    assert sent(forwarded, bench.ids["c"]) == ["10 b 10.9.0.1", "12 b m 192.0.2.1 655 c 61"]
    assert not {line, subnet} & set(to_c)


def test_requirement_24_key_changed_after_the_first_connection_only() -> None:
    bench = Bench()
    assert sent(bench.connect("b")).count("14 m") == 1
    assert "14 m" not in sent(bench.connect("c"))
    bench.lose("b")
    bench.lose("c")
    assert "14 m" not in sent(bench.connect("b"))


@pytest.mark.parametrize(
    ("host", "said"),
    [("fe80::1%eth0", "fe80::1"), ("a.name.behind.a.proxy", "0.0.0.1"), ("2001:db8::1", "2001:db8::1")],
)
def test_requirement_27_our_own_edge_never_holds_a_word_or_a_scope(host: str, said: str) -> None:
    assert edge_address(Address(host, "40000"), "655") == Address(said, "655")


def test_requirement_27_a_handshake_request_closes_only_its_own_connection() -> None:
    bench = pair()
    for request in (MetaKey(427, 672, 0, 0, b"k"), parse_request("4 655 1 c"), parse_request("0 b 17")):
        with pytest.raises(PeerError):
            bench.mesh.request_received(bench.ids["b"], request, "", bench.now)
    assert bench.mesh.registry.nodes["c"].reachable


# A member that overdoes it


def test_made_up_facts_are_bounded_ignored_and_not_forwarded() -> None:
    bench = Bench(max_nodes=50, max_edges=60, max_subnets=40)
    for name in "bc":
        bench.neighbour(name)
    forwarded = 0
    for number in range(500):
        forwarded += len(sent(bench.say("b", f"12 a{number:x} g{number} h{number} 10.0.0.1 655 c {number - 250}")))
        forwarded += len(sent(bench.say("b", f"10 b{number:x} b 10.7.{number // 250}.{number % 250}")))
    registry = bench.mesh.registry
    assert (len(registry.nodes), len(registry.nodes["b"].subnets)) == (45, 36)
    assert forwarded == 21 + 36
    # An honest neighbour is still served.
    bench.connect("d")
    assert sent(bench.say("d", "12 1 d m 192.0.2.1 655 c 60"), bench.ids["c"]) == ["12 d m 192.0.2.1 655 c 60"]
    assert "NodeUp d" in scripts(bench.settle())


def test_names_whose_edges_are_gone_make_room_again() -> None:
    bench = Bench(max_nodes=20)
    bench.neighbour("b")
    for number in range(200):
        bench.now += 1.0
        assert sent(bench.say("b", f"12 a{number:x} b g{number} 10.0.0.1 655 c 1")) == []
        assert bench.mesh.registry.node(f"g{number}") is not None
        bench.say("b", f"13 b{number:x} b g{number}")
    assert len(bench.mesh.registry.nodes) <= 20


def test_a_flapping_edge_costs_few_graph_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = pair()
    for number in range(300):
        bench.say("c", f"12 c{number:x} c n{number} 10.0.0.5 655 c 10")
    bench.wait(5.0)
    from gmesh.mesh import graph

    runs = []
    real = graph.run
    monkeypatch.setattr(graph, "run", lambda *args: runs.append(args) or real(*args))
    for number in range(3000):
        bench.say("c", f"12 a{number:x} x y 10.0.0.5 655 c 10")
        bench.say("c", "15 c b")
        bench.say("c", f"13 b{number:x} x y")
        bench.say("c", "15 c b")
        bench.now += 0.0001
    # 12000 lines in 0.3 s: one run per 6 ms, and 20 early ones.
    assert len(runs) < 100
    assert len(bench.mesh._gossip.seen) <= 10_000


def test_seen_lines_are_forgotten_with_time() -> None:
    bench = pair()
    for number in range(100):
        bench.say("c", f"14 a{number:x} c")
    assert len(bench.mesh._gossip.seen) > 100
    bench.wait(70.0)
    assert len(bench.mesh._gossip.seen) < 10
