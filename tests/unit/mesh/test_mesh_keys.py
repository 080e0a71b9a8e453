"""Key exchange and its relaying: REQ_KEY, ANS_KEY, KEY_CHANGED (data-legacy 3)."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest

from gmesh.crypto import base64
from gmesh.errors import PeerError
from gmesh.mesh import graph
from gmesh.mesh.actions import (
    Action,
    ForgetFlow,
    ForgetSendKey,
    InstallReceiveKey,
    InstallSendKey,
    Log,
    SendLine,
    SendProbe,
)
from gmesh.mesh.channels import DataChannels
from gmesh.mesh.events import FlowCounters, KeyNeeded, ProbeReceived, ReceiveKeyWorn
from gmesh.mesh.registry import Bounds, Connection, ConnectionState, Node, Registry
from gmesh.mesh.settings import MeshSettings
from gmesh.proto.packet import PacketKey
from gmesh.proto.requests import AnsKey, KeyChanged, ReqKey, parse_request
from gmesh.values import OPTION_PMTU, OPTION_VERSION_SHIFT, Address

RECORD = base64.encode(bytes(range(70)))
"""As long as the datagram of a KEX."""


class Fixture:
    """`DataChannels` of ``me`` with neighbours and nodes behind them, all on a fake clock."""

    def __init__(self, me: str = "bob", **settings: object) -> None:
        self.now = 100.0
        self.flow: dict[str, FlowCounters] = {}
        self.settings = replace(MeshSettings(me), **settings)  # type: ignore[arg-type]
        self.registry = Registry(me, Bounds(1000, 1000, 1000, 10_000_000), self.now)
        self.entropy = random.Random(me).randbytes
        self.channels = DataChannels(self.registry, self.settings, self.entropy, self, self.announce, now=self.now)

    def counters(self, node: str) -> FlowCounters:
        return self.flow.setdefault(node, FlowCounters())

    def announce(self) -> list[Action]:
        line, me = KeyChanged("1", self.registry.me.name).format(), self.registry.me.name
        return [SendLine(connection.id, line, ("key", me)) for connection in self.registry.active_connections()]

    def node(self, name: str) -> Node:
        return self.registry.ensure_node(name, self.now)

    def link(self, a: str, b: str, *, one_way: bool = False, minor: int = 0) -> None:
        options = OPTION_PMTU | minor << OPTION_VERSION_SHIFT
        for source, target in ((a, b),) if one_way else ((a, b), (b, a)):
            address = Address(f"192.0.2.{sum(target.encode()) % 200}", "655")
            self.registry.put_edge(self.node(source), self.node(target), address=address, options=options, weight=10)

    def neighbour(self, name: str, *, one_way: bool = False, minor: int = 0) -> int:
        """Connect to ``name``, whose edge to us has arrived unless ``one_way``; the connection's number."""
        number = len(self.registry.connections) + 1
        connection = Connection(number, name, True, self.now, ConnectionState.ACTIVE, self.now, self.node(name))
        self.registry.connections[number] = connection
        self.node(name).connection = number
        self.link(self.registry.me.name, name, one_way=one_way, minor=minor)
        return number

    def settle(self) -> list[Action]:
        """Run the graph and tell the channels."""
        change = graph.run(self.registry, self.now)
        actions: list[Action] = []
        for node in change.down:
            actions += self.channels.node_down(node, self.now)
        for node in change.up:
            actions += self.channels.node_up(node, self.now)
        return actions + self.channels.routes_changed(self.now)

    def line(self, connection: int, line: str) -> list[Action]:
        request = parse_request(line)
        if isinstance(request, ReqKey):
            return self.channels.req_key(connection, request, line, self.now)
        assert isinstance(request, AnsKey)
        return self.channels.ans_key(connection, request, line, self.now)

    def need(self, name: str) -> list[Action]:
        self.counters(name).wanted += 1
        return self.channels.data_event(KeyNeeded(name), self.now)

    def wait(self, seconds: float, *, traffic: str = "") -> list[Action]:
        """Let time pass, with a frame for the node ``traffic`` every half second."""
        end, actions = self.now + seconds, []
        next_frame = self.now if traffic else float("inf")
        while True:
            due = min(self.channels.next_timeout(), next_frame)
            if due > end:
                break
            self.now = max(self.now, due)
            if next_frame <= self.now:
                self.counters(traffic).wanted += 1
                next_frame += 0.5
            actions += self.channels.on_timeout(self.now)
        self.now = end
        return actions

    def confirm(self, name: str, address: Address) -> None:
        """Let ``name`` have a key of its own and answer our probes from ``address``."""
        peer = self.channels._peers[name]
        connection = self.registry.next_connection(peer.node)
        assert connection is not None
        actions = self.line(connection.id, answer(name, self.registry.me.name))
        actions += self.channels.data_event(ProbeReceived(name, bytes(64), address), self.now)
        self.reply(name, actions, address)
        self.reply(name, self.wait(0.5), address)
        assert self.channels.status(name).udp_confirmed

    def reply(self, name: str, actions: list[Action], address: Address) -> list[Action]:
        result: list[Action] = []
        for action in actions:
            if isinstance(action, SendProbe) and (action.node, action.address) == (name, address):
                reply = ProbeReceived(name, b"\1" + action.frame[1:], address)
                result += self.channels.data_event(reply, self.now)
        return result


def lines(actions: list[Action]) -> list[str]:
    return [action.line for action in actions if isinstance(action, SendLine)]


def requests(actions: list[Action], kind: type) -> list[str]:
    return [line for line in lines(actions) if isinstance(parse_request(line), kind)]


def answer(source: str, target: str, seed: int = 1, address: str = "") -> str:
    key = random.Random(f"{source}{target}{seed}").randbytes(48).hex().upper()
    return f"16 {source} {target} {key} 427 672 4 0{' ' + address if address else ''}"


def star(minor: int = 0) -> tuple[Fixture, int, int]:
    """We are bob between alice and carol. The numbers of both connections."""
    fixture = Fixture()
    alice, carol = fixture.neighbour("alice", minor=minor), fixture.neighbour("carol", minor=minor)
    fixture.settle()
    return fixture, alice, carol


def leaf() -> tuple[Fixture, int]:
    """We are alice; carol is behind our neighbour bob."""
    fixture = Fixture("alice")
    bob = fixture.neighbour("bob")
    fixture.link("bob", "carol")
    fixture.settle()
    return fixture, bob


# Our own keys


def test_a_neighbour_gets_our_key_unasked_when_it_comes_up() -> None:
    fixture = Fixture()
    number = fixture.neighbour("alice")
    actions = fixture.settle()
    [line] = lines(actions)
    request = parse_request(line)
    assert isinstance(request, AnsKey)
    assert (request.source, request.target, request.cipher, request.digest) == ("bob", "alice", 427, 672)
    installed = [action for action in actions if isinstance(action, InstallReceiveKey)]
    assert [key.key.text for key in installed] == [request.key]
    assert [action.connection for action in actions if isinstance(action, SendLine)] == [number]
    assert fixture.channels.status("alice").valid_key_in


def test_a_node_behind_others_gets_no_key_unasked() -> None:
    fixture, _ = leaf()
    assert not fixture.channels.status("carol").valid_key_in


def test_a_request_is_answered_with_a_fresh_key_each_time() -> None:
    fixture, bob = leaf()
    keys = {lines(fixture.line(bob, "15 carol alice"))[0].split()[3] for _ in range(3)}
    assert len(keys) == 3


def test_requirement_23_requests_of_unknown_or_unreachable_names_do_nothing() -> None:
    fixture, alice, _ = star()
    fixture.node("ghost")
    for line in ("15 ghost bob", "15 nobody bob", "15 ghost carol", "15 carol ghost", answer("ghost", "bob")):
        assert not lines(fixture.line(alice, line))
        assert not [action for action in fixture.line(alice, line) if not isinstance(action, Log)]


def test_requests_cannot_keep_us_busy() -> None:
    fixture, bob = leaf()
    made = 0
    for _ in range(100):
        made += len(lines(fixture.line(bob, "15 carol alice")))
        made += len(requests(fixture.wait(0.1), AnsKey))
    assert made <= 4 + 10 + 1, "a burst of four, then one a second"
    assert len(requests(fixture.wait(2), AnsKey)) <= 1
    assert not requests(fixture.wait(60), AnsKey)


def test_extended_requests_are_not_answered_with_legacy_keys() -> None:
    fixture, bob = leaf()
    for extra in ("15 AAAA", "19", "20 AAAA", "21 AAAA"):
        assert not lines(fixture.line(bob, f"15 carol alice {extra}"))


# Their keys


def test_an_answer_installs_the_key_and_probes_at_once() -> None:
    fixture, bob = leaf()
    actions = fixture.line(bob, answer("bob", "alice"))
    assert isinstance(actions[0], InstallSendKey)
    probes = [action for action in actions if isinstance(action, SendProbe)]
    assert {len(probe.frame) for probe in probes} == {64, 1451}
    status = fixture.channels.status("bob")
    assert (status.valid_key, status.cipher, status.digest, status.mac_length) == (True, 427, 672, 4)


def test_an_answer_never_causes_an_answer() -> None:
    fixture, bob = leaf()
    for seed in range(50):
        assert not lines(fixture.line(bob, answer("bob", "alice", seed)))
        assert not lines(fixture.line(bob, answer("carol", "alice", seed)))


def test_the_same_key_again_does_not_restart_the_numbers() -> None:
    fixture, bob = leaf()
    fixture.line(bob, answer("carol", "alice"))
    actions = fixture.line(bob, answer("carol", "alice", address="198.51.100.3 4003"))
    assert not [action for action in actions if isinstance(action, InstallSendKey)]
    assert fixture.channels.status("carol").address == Address("198.51.100.3", "4003")


@pytest.mark.parametrize("numbers", ["906 672 4 0", "429 672 4 0", "31337 672 4 0", "427 31337 4 0", "65000 672 4 0"])
def test_a_key_that_we_cannot_use_is_ignored_and_traffic_stays_on_tcp(numbers: str) -> None:
    fixture, bob = leaf()
    fixture.line(bob, answer("bob", "alice"))
    line = answer("bob", "alice", 2).replace("427 672 4 0", numbers)
    try:
        actions = fixture.line(bob, line)
    except PeerError:
        pytest.fail("the parser has to leave this to us")
    assert isinstance(actions[0], ForgetSendKey)
    assert [action.key for action in actions if isinstance(action, Log)] == ["bad key bob"]
    assert not fixture.channels.status("bob").valid_key


def test_digest_none_with_a_mac_length_is_accepted() -> None:
    fixture, bob = leaf()
    key = "00" * 48
    [installed] = [
        action for action in fixture.line(bob, f"16 bob alice {key} 427 0 4 0") if isinstance(action, InstallSendKey)
    ]
    assert installed.key == PacketKey(427, 0, 0, 0, bytes(48))


# Asking


def test_a_needed_key_is_asked_for_once_in_ten_seconds_with_one_early_retry() -> None:
    fixture, _ = leaf()
    asked = []
    for _ in range(60):
        start = fixture.now
        asked += [start - 100] * lines(fixture.need("carol")).count("15 alice carol")
        asked += [start - 100 + 0.5] * lines(fixture.wait(0.5)).count("15 alice carol")
    assert asked[0] == 0
    assert 1 <= asked[1] <= 2
    assert len(asked) == 4
    assert all(later - earlier >= 10 for earlier, later in pairwise(asked[1:]))


def test_our_key_goes_along_with_the_first_request() -> None:
    fixture, bob = leaf()
    first, second = lines(fixture.need("carol"))
    assert isinstance(parse_request(first), AnsKey)
    assert second == "15 alice carol"
    assert fixture.channels.status("carol").waiting_for_key
    fixture.line(bob, answer("carol", "alice"))
    assert not fixture.channels.status("carol").waiting_for_key
    assert "15 alice carol" not in lines(fixture.wait(1.9)), "answered, so not repeated"


def test_a_neighbour_whose_edge_has_not_arrived_is_not_asked() -> None:
    """Stock daemons die of it (data-legacy 12). The neighbour is reachable by another path here."""
    fixture = Fixture("alice")
    fixture.neighbour("bob")
    fixture.neighbour("carol", one_way=True)
    fixture.link("bob", "carol")
    fixture.settle()
    assert fixture.node("carol").reachable
    asked = [line for line in requests(fixture.need("carol") + fixture.wait(30), ReqKey) if line.endswith("carol")]
    assert not asked
    fixture.link("carol", "alice", one_way=True)
    assert "15 alice carol" in lines(fixture.need("carol"))


def test_a_neighbour_that_owes_its_key_is_asked_without_traffic() -> None:
    fixture, _ = leaf()
    asked = [line for line in requests(fixture.wait(40), ReqKey) if line == "15 alice bob"]
    assert 2 <= len(asked) <= 4


def test_a_probe_from_a_node_without_key_makes_us_ask() -> None:
    fixture, _ = leaf()
    probe = ProbeReceived("carol", bytes(64), Address("192.0.2.9", "655"))
    assert "15 alice carol" in lines(fixture.channels.data_event(probe, fixture.now))


# KEY_CHANGED


def test_requirement_24_a_new_daemon_says_so_once() -> None:
    fixture, _, _ = star()
    first = lines(fixture.channels.connection_active(fixture.node("alice"), True, fixture.now))
    assert len(first) == 2
    request = parse_request(first[0])
    assert isinstance(request, KeyChanged)
    assert request.node == "bob"
    assert not fixture.channels.connection_active(fixture.node("carol"), False, fixture.now)


def test_a_changed_key_is_forgotten_and_asked_for_at_once_under_traffic() -> None:
    fixture, bob = leaf()
    fixture.need("carol")
    fixture.line(bob, answer("carol", "alice"))
    fixture.wait(5, traffic="carol")
    actions = fixture.channels.key_changed(fixture.node("carol"), fixture.now)
    assert isinstance(actions[0], ForgetSendKey)
    assert lines(actions) == ["15 alice carol"]
    assert not fixture.channels.key_changed(fixture.node("carol"), fixture.now), "nothing left to forget"


def test_expired_keys_are_replaced_at_neighbours_and_asked_for_by_others() -> None:
    fixture = Fixture("alice", key_expire=600.0)
    bob = fixture.neighbour("bob")
    fixture.link("bob", "carol")
    fixture.settle()
    fixture.line(bob, answer("bob", "alice"))
    fixture.line(bob, "15 carol alice")
    said = [parse_request(line) for line in lines(fixture.wait(601))]
    [changed] = [request for request in said if isinstance(request, KeyChanged)]
    assert changed.node == "alice"
    assert [request.target for request in said if isinstance(request, AnsKey)] == ["bob"]
    assert said.index(changed) < next(i for i, request in enumerate(said) if isinstance(request, AnsKey))
    assert not fixture.channels.status("carol").valid_key_in


def test_a_worn_key_is_replaced_for_that_node_only() -> None:
    fixture, alice, _ = star()
    fixture.line(alice, answer("alice", "bob"))
    said = lines(fixture.channels.data_event(ReceiveKeyWorn("alice"), fixture.now))
    assert [line.split()[:3] for line in said] == [["16", "bob", "alice"]]
    assert not fixture.channels.data_event(ReceiveKeyWorn("alice"), fixture.now)


def test_a_node_that_goes_away_takes_everything_along() -> None:
    fixture, bob = leaf()
    fixture.line(bob, answer("carol", "alice"))
    fixture.registry.remove_edge(fixture.registry.edge("bob", "carol"))  # type: ignore[arg-type]
    actions = fixture.settle()
    assert ForgetFlow("carol") in actions
    status = fixture.channels.status("carol")
    assert (status.valid_key, status.address, status.min_mtu) == (False, None, 0)


# Relaying


def test_requirement_27_key_lines_are_relayed_byte_for_byte() -> None:
    fixture, alice, carol = star()
    for line in (
        "15 alice carol",
        "15  alice   carol",
        answer("alice", "carol"),
        answer("alice", "carol") + " 198.51.100.1 5000",
    ):
        assert fixture.line(alice, line) == [SendLine(carol, line)]
    assert fixture.line(alice, "15 carol alice") == [], "never back where it came from"


def test_requirement_27_key_lines_of_sptps_are_relayed_byte_for_byte() -> None:
    fixture, alice, carol = star(minor=7)
    for line in (
        "15 alice carol 19",
        f"15  alice carol   15 {RECORD}",
        f"15 alice carol 21 {RECORD}",
        f"16 alice carol {RECORD} -1 -1 -1 0",
    ):
        assert fixture.line(alice, line) == [SendLine(carol, line)]


@pytest.mark.parametrize(
    "line",
    [
        "15 alice carol 21 AbCd",
        f"15 alice carol 15 {RECORD}{RECORD}",
        "15 alice carol 20 AbCd",
        "15 alice carol 20 " + 43 * "A",
        f"16 alice carol {RECORD}{RECORD} -1 -1 -1 0",
        "15 alice carol",
        "16 alice carol " + 96 * "A" + " 427 672 4 0",
    ],
)
def test_requirement_27_what_no_sptps_node_would_say_is_not_passed_on(line: str) -> None:
    fixture, alice, _carol = star(minor=7)
    assert not lines(fixture.line(alice, line))


def test_requirement_27_a_legacy_node_gets_no_sptps_record() -> None:
    fixture, alice, _carol = star()
    assert not lines(fixture.line(alice, f"16 alice carol {RECORD} -1 -1 -1 0"))


def test_a_relayed_answer_gets_the_address_once_both_ends_are_confirmed() -> None:
    fixture, alice, carol = star()
    line = answer("carol", "alice")
    assert fixture.line(carol, line) == [SendLine(alice, line)]
    fixture.confirm("carol", Address("198.51.100.3", "4003"))
    assert fixture.line(carol, line) == [SendLine(alice, line)], "the reader is not confirmed yet"
    fixture.confirm("alice", Address("198.51.100.1", "4001"))
    assert fixture.line(carol, line) == [SendLine(alice, f"{line} 198.51.100.3 4003")]
    has_one = line + " 203.0.113.5 777"
    assert fixture.line(carol, has_one) == [SendLine(alice, has_one)]


def test_an_unconfirmed_relayed_peer_gets_another_exchange_while_traffic_flows() -> None:
    fixture, bob = leaf()
    fixture.need("carol")
    fixture.line(bob, answer("carol", "alice"))
    start = fixture.now
    times = []
    for _ in range(1200):
        said = fixture.wait(0.1, traffic="carol")
        if "15 alice carol" in lines(said):
            assert any(line.startswith("16 alice carol ") for line in lines(said)), "our address has a chance too"
            times.append(fixture.now - start)
    assert len(times) == 6
    assert [round(time) for time in times[:4]] == [2, 5, 15, 45]
    fixture.wait(20)
    assert "15 alice carol" not in lines(fixture.wait(300)), "only while there is traffic"


def test_a_confirmed_peer_gets_no_further_exchanges() -> None:
    fixture, bob = leaf()
    fixture.need("carol")
    reflexive = Address("198.51.100.3", "4003")
    actions = fixture.line(bob, answer("carol", "alice", address="198.51.100.3 4003"))
    assert {action.address for action in actions if isinstance(action, SendProbe)} >= {reflexive}
    fixture.reply("carol", actions, reflexive)
    assert fixture.channels.status("carol").udp_confirmed
    assert fixture.channels.status("carol").address == reflexive
    assert not [line for line in lines(fixture.wait(1.9, traffic="carol")) if "carol" in line]


def test_two_nodes_cannot_keep_each_other_busy() -> None:
    """Two of us, every line delivered at once: after the exchange that traffic asked for, silence."""
    alice, bob = Fixture("alice"), Fixture("bob")
    first, second = alice.neighbour("bob"), bob.neighbour("alice")
    waiting = [(bob, second, line) for line in lines(alice.settle())]
    waiting += [(alice, first, line) for line in lines(bob.settle())]
    waiting += [(bob, second, line) for line in lines(alice.need("bob"))]
    waiting += [(alice, first, line) for line in lines(bob.need("alice"))]
    delivered = 0
    while waiting:
        end, connection, line = waiting.pop(0)
        delivered += 1
        assert delivered < 20
        other, back = (alice, first) if end is bob else (bob, second)
        waiting += [(other, back, reply) for reply in lines(end.line(connection, line))]
    for end in (alice, bob):
        assert end.channels.status("bob" if end is alice else "alice").valid_key
        assert len(lines(end.wait(30))) <= 6, "no probe was answered here, so the exchange is repeated for a while"
        assert not lines(end.wait(600))


def test_timers_of_many_nodes_stay_cheap() -> None:
    fixture = Fixture("alice")
    bob = fixture.neighbour("bob")
    for number in range(200):
        fixture.link("bob", f"n{number}")
    fixture.settle()
    for number in range(200):
        fixture.line(bob, answer(f"n{number}", "alice"))
    fixture.wait(5)
    assert len(fixture.channels._queue) <= 64 + 4 * 201
