"""Sessions between two and three nodes: they come to life, are renewed, replaced, and nothing is lost to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gmesh.crypto import base64
from gmesh.crypto.ed25519 import public_to_text
from gmesh.mesh.actions import (
    CloseConnection,
    DropSession,
    ForgetFlow,
    InstallSession,
    Log,
    RoutesChanged,
    SendLine,
    StorePublicKey,
    UseSession,
)
from gmesh.mesh.events import ReceiveKeyWorn, SessionDoubted
from gmesh.mesh.relaying import CIRCLE_SECONDS
from gmesh.mesh.sptps_channel import RETRIES, SptpsChannel
from gmesh.mesh.sptps_sessions import LATE_SECONDS, MAX_OPEN
from gmesh.values import OPTION_TCPONLY, OPTION_VERSION_SHIFT, Address
from tests.unit.mesh.sptps_world import (
    DEFAULT_OPTIONS,
    META_DELAY,
    Node,
    StockNode,
    connect,
    disconnect,
    line_of_three,
    pair,
    private_key,
)
from tests.unit.mesh.udp_world import Host, World

ROUND_TRIP = 2 * META_DELAY


def lost(sender: Node, receiver: Node) -> list[int]:
    """Packets that never arrived. None may arrive twice."""
    received = receiver.received.get(sender.name, [])
    assert len(set(received)) == len(received), "delivered twice"
    return sorted(set(sender.sent.get(receiver.name, [])) - set(received))


def channel(node: Node, peer: str) -> SptpsChannel:
    found = node.mesh.channels._peers[peer].channel
    assert isinstance(found, SptpsChannel)
    return found


def renew(node: Node, peer: str) -> None:
    used = channel(node, peer).sessions.used
    if used is not None:
        used.session.renew(node.world.now)
        node.perform(channel(node, peer)._steps(used, node.world.now))


def sessions(node: Node, peer: str) -> int:
    return len(node.sessions.get(peer, {}))


def test_neighbours_have_a_session_and_udp_without_any_traffic() -> None:
    alice, bob = pair()
    connect(alice, bob)
    assert alice.world.run(0.5, lambda: alice.confirmed("bob") and bob.confirmed("alice"))
    assert alice.count("15 ") == 1
    assert bob.count("15 ") == 0, "the one with the larger name leaves it to the other"
    alice.world.run(60)
    assert alice.mesh.channels.status("bob").min_mtu == 1439
    assert (sessions(alice, "bob"), sessions(bob, "alice")) == (1, 1)


def test_requirement_16_what_is_sent_before_there_is_a_session_arrives_in_order() -> None:
    alice, _bob, carol = line_of_three()
    for _ in range(20):
        alice.send_data("carol")
        alice.world.run(0.004)
    alice.world.run(1)
    assert not lost(alice, carol)
    assert carol.received["alice"] == sorted(carol.received["alice"])


def test_requirement_2_two_that_begin_at_once_use_the_same_session() -> None:
    alice, _bob, carol = line_of_three()
    alice.send_data("carol")
    carol.send_data("alice")
    alice.world.run(1)
    assert not lost(alice, carol)
    assert not lost(carol, alice)
    alice.stream("carol")
    carol.stream("alice")
    alice.world.run(LATE_SECONDS + 2)
    assert not lost(alice, carol)
    assert not lost(carol, alice)
    assert (sessions(alice, "carol"), sessions(carol, "alice")) == (1, 1)
    used = [
        next(iter(end.mesh.channels._peers[peer].channel.sessions.open))
        for end, peer in ((alice, "carol"), (carol, "alice"))
    ]  # type: ignore[attr-defined]
    assert [each.session.initiator for each in used] == [True, False], "the smaller name's"


@pytest.mark.parametrize("gap", [0.0, 0.01, 0.03, 0.05, 0.07, 0.09, 0.2])
def test_requirement_2_whenever_the_second_one_begins(gap: float) -> None:
    for first, second in (("alice", "carol"), ("carol", "alice")):
        alice, _bob, carol = line_of_three()
        ends = {"alice": alice, "carol": carol}
        ends[first].send_data(second)
        alice.world.run(gap)
        ends[second].send_data(first)
        for end, peer in ((alice, "carol"), (carol, "alice")):
            end.stream(peer, until=alice.world.now + 20)
        alice.world.run(30)
        assert not lost(alice, carol)
        assert not lost(carol, alice)
        assert (sessions(alice, "carol"), sessions(carol, "alice")) == (1, 1)


def test_requirement_1_a_request_for_a_session_ends_none() -> None:
    """Anyone in the mesh can write one in another's name."""
    alice, _bob, carol = line_of_three()
    alice.stream("carol", 0.05)
    carol.stream("alice", 0.05)
    alice.world.run(5)
    forged = base64.encode(bytes(4) + b"\x80" + bytes(1) + bytes(range(32)) + private_key("mallory").public)
    connection = next(iter(carol.peers))
    for _ in range(100):
        carol.line(connection, f"15 alice carol 15 {forged}")
        alice.world.run(0.05)
    end = alice.world.now
    alice.world.run(1)
    assert not [number for number in lost(alice, carol) if number < alice.sent["carol"][-5]]
    assert not [number for number in lost(carol, alice) if number < carol.sent["alice"][-5]]
    answers = [line for time, line in carol.lines if 5 < time <= end and line.startswith("16 carol alice")]
    assert len(answers) <= 120


def test_requirement_1_nonsense_in_the_place_of_records_ends_no_session() -> None:
    alice, bob = pair()
    connect(alice, bob)
    alice.stream("bob", 0.05)
    bob.stream("alice", 0.05)
    alice.world.run(5)
    before = alice.count("15 ") + bob.count("15 ")
    for number in range(200):
        alice._open("bob", (7).to_bytes(4, "big") + bytes([number]) * 90, bob.host.address, direct=True)
        alice.world.run(0.05)
    assert alice.count("15 ") + bob.count("15 ") == before
    alice.world.run(1)
    assert not [each for each in lost(alice, bob) if each < alice.sent["bob"][-5]]


def test_requirement_1_nonsense_for_an_idle_tunnel_costs_a_question_and_no_session() -> None:
    for deaf in (False, True):
        alice, bob = pair()
        alice.host.down = bob.host.down = deaf
        connect(alice, bob)
        alice.world.run(10)
        before = alice.count("15 ") + bob.count("15 ")
        for _ in range(30):
            alice.event(SessionDoubted("bob"))
            alice.world.run(1)
        assert alice.count("15 ") + bob.count("15 ") == before, deaf


def test_a_node_that_lost_its_session_has_another_within_two_seconds() -> None:
    alice, bob, carol = line_of_three()
    alice.stream("carol", 0.1)
    alice.world.run(5)
    world = alice.world
    # Its graph never showed it as gone, as when it comes back at once.
    world.ends.remove(carol)
    again = Node(world, "carol", carol.host)
    again.knows(alice, bob)
    connect(again, bob)
    begun = world.now
    assert world.run(3.0, lambda: bool(again.received.get("alice")))
    assert world.now - begun <= 2.0


@pytest.mark.parametrize("traffic", [0.02, 0.3])
def test_requirement_2_renewals_lose_nothing(traffic: float) -> None:
    """KeyExpire of 5 s under traffic for a minute, both ends with their own timers."""
    alice, _bob, carol = line_of_three(key_expire=5.0)
    alice.stream("carol", traffic, until=alice.world.now + 60)
    carol.stream("alice", traffic, until=alice.world.now + 60)
    alice.world.run(65)
    assert not lost(alice, carol)
    assert not lost(carol, alice)
    renewals = alice.count("16 alice carol") + carol.count("16 carol alice")
    assert 60 <= renewals <= 110, "six records each time"
    assert alice.count("15 alice carol 15") + carol.count("15 carol alice 15") <= 2, "no new session"


def test_requirement_2_renewals_that_begin_at_once() -> None:
    alice, bob = pair(key_expire=5.0)
    connect(alice, bob)
    alice.stream("bob", 0.01, until=alice.world.now + 30)
    bob.stream("alice", 0.01, until=alice.world.now + 30)
    for _ in range(8):
        alice.world.run(3)
        for end, peer in ((alice, "bob"), (bob, "alice")):
            renew(end, peer)
    alice.world.run(10)
    assert not lost(alice, bob)
    assert not lost(bob, alice)


@pytest.mark.parametrize(("meta", "udp"), [(0.02, 0.01), (0.001, 0.004), (0.012, 0.0005), (0.0005, 0.0005)])
@pytest.mark.parametrize("stock_begins", [True, False])
def test_requirement_2_renewals_lose_nothing_where_one_key_is_held_at_a_time(
    meta: float, udp: float, stock_begins: bool
) -> None:
    """What is under the old key arrives before our ACK, and what is under the new one after it, whichever of the meta
    connection and UDP is the faster."""
    world = World()
    names = ("alice", "bob") if stock_begins else ("bob", "alice")
    stock = StockNode(world, names[0], Host(world, Address("192.0.2.1", "655"), delay=udp), key_expire=5.0)
    ours = Node(world, names[1], Host(world, Address("192.0.2.2", "655"), delay=udp), key_expire=5.0)
    ours.line_rule = stock.line_rule = lambda node, line: [meta]
    stock.knows(ours)
    ours.knows(stock)
    connect(stock, ours)
    world.run(2)
    ours.stream(stock.name, 0.001, until=world.now + 25)
    stock.stream(ours.name, 0.001, until=world.now + 25)
    lines = ours.count("16 ")
    world.run(26)
    assert ours.count("16 ") - lines >= 12, "records of renewals"
    assert not lost(ours, stock)
    assert not lost(stock, ours)
    assert ours.received[stock.name] == sorted(ours.received[stock.name])
    assert stock.received[ours.name] == sorted(stock.received[ours.name])
    assert len(stock.sessions[ours.name]) == 1, "no session was begun anew"


def test_a_renewal_that_got_stuck_is_followed_by_another_session() -> None:
    alice, bob = pair(key_expire=20.0)
    connect(alice, bob)
    alice.stream("bob", 0.1)
    alice.world.run(15)
    alice.line_rule = lambda node, line: [] if line.startswith("16 ") else None
    alice.world.run(10)
    alice.line_rule = lambda node, line: None
    alice.world.run(20)
    stalled = alice.world.now
    missing = [each for each in lost(alice, bob) if each < alice.sent["bob"][-5]]
    assert not missing
    alice.world.run(20)
    assert alice.count("15 alice bob 15", stalled - 25) >= 1


def test_requirement_3_worn_numbers_bring_a_new_session() -> None:
    alice, bob = pair()
    connect(alice, bob)
    alice.stream("bob", 0.1)
    alice.world.run(15)
    before = dict(alice.sending)
    alice.event(ReceiveKeyWorn("bob"))
    alice.world.run(1)
    assert alice.sending != before
    assert not [each for each in lost(alice, bob) if each < alice.sent["bob"][-3]]
    alice.world.run(LATE_SECONDS + 1)
    assert sessions(alice, "bob") == 1


def test_a_lost_request_is_repeated_soon() -> None:
    alice, _bob, carol = line_of_three()
    kept: list[str] = []
    alice.line_rule = lambda node, line: (
        (kept.append(line) or []) if line.startswith("15 alice carol") and not kept else None
    )  # type: ignore[func-returns-value]
    alice.send_data("carol")
    assert alice.world.run(2.0, lambda: not lost(alice, carol))
    assert len(kept) == 1


def test_a_peer_that_never_answers_is_not_pestered() -> None:
    alice, _bob, _carol = line_of_three()
    alice.world.run(2)
    alice.line_rule = lambda node, line: [] if line.startswith("15 alice carol") else None
    alice.stream("carol", 0.1)
    alice.world.run(60)
    assert 4 <= alice.count("15 alice carol") <= 9
    assert alice.world.now


def test_a_session_that_nobody_wants_any_more_is_not_asked_for_for_ever() -> None:
    alice, _bob, _carol = line_of_three()
    alice.line_rule = lambda node, line: [] if line.startswith("15 alice carol") else None
    alice.send_data("carol")
    alice.world.run(600)
    assert alice.count("15 alice carol") <= 6


def test_requirement_4_a_key_that_others_tell_is_used_with_a_warning_and_stored() -> None:
    alice, _bob, carol = line_of_three(know=False)
    for _ in range(5):
        alice.send_data("carol")
    assert alice.world.run(1.0, lambda: not lost(alice, carol))
    assert StorePublicKey("carol", private_key("carol").public, proved=False) in alice.actions
    assert StorePublicKey("alice", private_key("alice").public, proved=False) in carol.actions
    assert sum("trusted from now on" in text for text in alice.logs) == 1


def test_requirement_4_whoever_wants_refuses_keys_that_nothing_proves() -> None:
    alice, _bob, carol = line_of_three(know=False, trust_on_first_use=False)
    alice.send_data("carol")
    alice.world.run(5.0)
    assert lost(alice, carol)
    assert not [action for action in alice.actions if isinstance(action, StorePublicKey)]
    assert any("TrustOnFirstUse = no" in text for text in alice.logs)


def test_requirement_4_nothing_is_written_over_a_known_key() -> None:
    alice, _bob, _carol = line_of_three()
    connection = next(iter(alice.peers))
    alice.line(connection, f"15 carol alice 20 {public_to_text(private_key('mallory').public)}")
    assert not [action for action in alice.actions if isinstance(action, StorePublicKey)]
    assert alice.keys.known["carol"] == private_key("carol").public


def test_requirement_4_a_key_that_nobody_asked_for_is_not_taken() -> None:
    alice, _bob, _carol = line_of_three(know=False)
    connection = next(iter(alice.peers))
    alice.line(connection, f"15 carol alice 20 {public_to_text(private_key('mallory').public)}")
    assert "carol" not in alice.keys.known


def test_requirement_30_a_legacy_member_that_tells_a_key_is_not_locked_out() -> None:
    world = World()
    alice = Node(world, "alice", Host(world, Address("198.51.100.1", "655")))
    bob = Node(world, "bob", Host(world, Address("192.0.2.2", "655")))
    carol = Node(world, "carol", Host(world, Address("198.51.100.3", "655")), sptps=False)
    alice.knows(bob)
    bob.knows(alice)
    connect(alice, bob)
    connection = next(iter(alice.peers))
    del carol
    alice.line(connection, "12 1 bob carol 198.51.100.3 655 c 5")
    alice.line(connection, "12 2 carol bob 192.0.2.2 655 700000c 5")
    world.run(1)
    alice.line(connection, f"15 carol alice 20 {public_to_text(private_key('carol').public)}")
    assert "carol" not in alice.keys.known
    assert not alice.mesh.channels.speaks_sptps(alice.mesh.registry.nodes["carol"])


def test_requirement_26_gossip_that_lowers_a_minor_version_gets_no_legacy_keys() -> None:
    """The model of the data plane refuses any legacy key."""
    alice, _bob, carol = line_of_three()
    alice.stream("carol", 0.1)
    alice.world.run(3)
    connection = next(iter(alice.peers))
    alice.line(connection, "12 77 bob carol 198.51.100.3 655 c 5")
    alice.world.run(5)
    assert alice.mesh.registry.nodes["carol"].options == DEFAULT_OPTIONS
    assert alice.mesh.channels.speaks_sptps(alice.mesh.registry.nodes["carol"])
    assert not [each for each in lost(alice, carol) if each < alice.sent["carol"][-5]]
    alice.line(connection, "15 carol alice")
    alice.line(connection, "16 carol alice " + 96 * "A" + " 427 672 4 0")
    alice.world.run(1)
    assert alice.mesh.channels.status("carol").sptps


def test_requirement_26_a_rollback_is_said_once_with_what_to_do() -> None:
    alice, bob, _carol = line_of_three()
    connection = next(iter(alice.peers))
    alice.line(connection, "12 77 bob carol 198.51.100.3 655 c 5")
    for _ in range(3):
        alice.send_data("carol")
        alice.world.run(20)
        disconnect(alice, bob)
        connect(alice, bob)
        alice.line(max(alice.peers), "12 78 bob carol 198.51.100.3 655 c 6")
    warnings = [text for text in alice.logs if "old protocol" in text]
    assert len(warnings) == 1
    assert "hosts/carol" in warnings[0]
    assert "gmesh reload" in warnings[0]


def test_a_node_that_was_upgraded_is_spoken_to_in_the_new_protocol() -> None:
    alice, _bob, carol = line_of_three(know=False)
    connection = next(iter(alice.peers))
    alice.world.run(1)
    alice.line(connection, "12 77 bob carol 198.51.100.3 655 c 5")
    alice.world.run(1)
    assert not alice.mesh.channels.speaks_sptps(alice.mesh.registry.nodes["carol"])
    alice.line(connection, f"12 79 bob carol 198.51.100.3 655 {7 << OPTION_VERSION_SHIFT | DEFAULT_OPTIONS:x} 5")
    alice.send_data("carol")
    assert alice.world.run(1.0, lambda: not lost(alice, carol))
    assert alice.mesh.channels.status("carol").sptps


def test_a_connection_that_takes_the_place_of_another_costs_no_packet() -> None:
    alice, bob = pair()
    connect(alice, bob)
    alice.stream("bob", 0.02)
    bob.stream("alice", 0.02)
    alice.world.run(3)
    connect(bob, alice)
    alice.world.run(3)
    assert not [each for each in lost(alice, bob) if each < alice.sent["bob"][-5]]
    assert not [each for each in lost(bob, alice) if each < bob.sent["alice"][-5]]


def test_neighbours_of_whom_one_is_tcp_only_need_no_session_but_one_answers() -> None:
    alice, bob = pair()
    connect(alice, bob, OPTION_TCPONLY | 1)
    alice.world.run(10)
    assert alice.count("15 ") + bob.count("15 ") == 0
    alice.send_data("bob")
    alice.world.run(1)
    assert not lost(alice, bob)


def test_open_sessions_are_few_however_many_are_begun() -> None:
    alice, bob = pair()
    connect(alice, bob)
    alice.world.run(3)
    for _ in range(20):
        alice.perform(channel(alice, "bob").reconnected(alice.world.now))
        alice.world.run(1.1)
        assert sessions(alice, "bob") <= MAX_OPEN
        assert sessions(bob, "alice") <= MAX_OPEN
    alice.send_data("bob")
    bob.send_data("alice")
    alice.world.run(1)
    assert not lost(alice, bob)
    assert not lost(bob, alice)


def test_requirement_25_sub_requests_that_nobody_defined_do_nothing() -> None:
    alice, _bob, _carol = line_of_three()
    alice.world.run(1)
    connection = next(iter(alice.peers))
    before = len(alice.actions)
    for line in ("15 carol alice 16 AbCd", "15 carol alice 22 AbCd", "15 carol alice 99", "15 carol alice"):
        alice.line(connection, line)
    done = alice.actions[before:]
    assert not any(isinstance(action, SendLine | CloseConnection) for action in done)
    assert any(isinstance(action, Log) for action in done)


def test_requirement_27_impossible_keys_close_nothing() -> None:
    alice, _bob, carol = line_of_three()
    alice.send_data("carol")
    alice.world.run(1)
    connection = next(iter(alice.peers))
    for line in (
        "16 carol alice AbCd -1 -1 -1 0",
        f"16 carol alice {base64.encode(bytes(200))} -1 -1 -1 0",
        f"16 carol alice {base64.encode(bytes(70))} -1 -1 -1 0",
        f"16 carol alice {base64.encode(bytes(69))} -1 -1 -1 12",
        "15 carol alice 15 AbCd",
        f"15 carol alice 15 {base64.encode(bytes(70))}",
        "15 carol alice 20 AbCd",
        "16 carol alice " + 96 * "A" + " 427 672 4 0",
    ):
        alice.line(connection, line)
    alice.send_data("carol")
    alice.world.run(1)
    assert not lost(alice, carol)


def test_sessions_are_installed_before_they_are_used() -> None:
    alice, bob = pair()
    connect(alice, bob)
    alice.world.run(1)
    kinds = [type(action) for action in alice.actions if isinstance(action, InstallSession | UseSession | DropSession)]
    assert kinds == [InstallSession, UseSession]


def test_compression_is_what_the_reader_wants() -> None:
    alice, bob = pair()
    settings = bob.mesh.settings
    bob.perform(
        bob.mesh.set_settings(replace(settings, algorithms=replace(settings.algorithms, compression=6)), bob.world.now)
    )
    connect(alice, bob)
    alice.world.run(1)
    installed = {
        end.name: next(action for action in end.actions if isinstance(action, InstallSession)) for end in (alice, bob)
    }
    assert (installed["alice"].compression, installed["alice"].own_compression) == (6, 0)
    assert (installed["bob"].compression, installed["bob"].own_compression) == (0, 6)
    assert alice.mesh.channels.status("bob").compression == 6


def test_lines_go_nowhere_while_a_node_is_out_of_reach() -> None:
    alice, bob = pair()
    connect(alice, bob)
    alice.world.run(1)
    disconnect(alice, bob)
    before = len(alice.lines)
    alice.world.run(100)
    assert len(alice.lines) == before


def test_another_key_on_file_ends_the_sessions_with_the_old_one() -> None:
    alice, bob = pair()
    connect(alice, bob)
    alice.world.run(1)
    alice.keys.known["bob"] = private_key("bob the second").public
    done = alice.mesh.keys_changed(alice.world.now)
    alice.perform(done)
    assert {ForgetFlow("bob"), RoutesChanged()} <= {
        each for each in done if isinstance(each, ForgetFlow | RoutesChanged)
    }
    alice.world.run(5)
    assert not alice.mesh.channels.status("bob").valid_key
    alice.keys.known["bob"] = private_key("bob").public
    alice.perform(alice.mesh.set_settings(alice.mesh.settings, alice.world.now))
    alice.send_data("bob")
    assert alice.world.run(12.0, lambda: alice.mesh.channels.status("bob").valid_key)


def test_a_key_that_is_taken_off_file_leaves_the_protocol_to_what_is_announced() -> None:
    alice, _bob, carol = line_of_three()
    connection = next(iter(alice.peers))
    alice.line(connection, "12 77 bob carol 198.51.100.3 655 c 5")
    alice.send_data("carol")
    alice.world.run(1)
    assert alice.mesh.channels.status("carol").sptps
    del alice.keys.known["carol"]
    done = alice.mesh.keys_changed(alice.world.now)
    alice.perform(done)
    assert RoutesChanged() in done
    assert not alice.mesh.channels.status("carol").sptps
    assert carol.name == "carol"


def test_a_node_that_becomes_a_neighbour_gets_a_session() -> None:
    alice, _bob, carol = line_of_three()
    assert carol.name not in alice.mesh.channels._peers
    alice.mesh.channels._find("carol", alice.world.now)
    assert not alice.mesh.channels.status("carol").valid_key
    connect(alice, carol)
    assert alice.world.run(2.0, lambda: alice.confirmed("carol") and carol.confirmed("alice"))


def forged_start(index: int) -> str:
    kex = bytes(4) + bytes([128, 0]) + bytes(32) + private_key(f"e{index}").public
    return f"15 carol alice 15 {base64.encode(kex)}"


def test_requirement_12_forged_requests_for_sessions_do_not_keep_us_from_beginning_one() -> None:
    alice, _bob, _carol = line_of_three()
    connection = next(iter(alice.peers))
    for index in range(4):
        alice.line(connection, forged_start(index))
        alice.send_data("carol")
        if alice.world.run(1.4, lambda: alice.mesh.channels.status("carol").valid_key):
            break
    assert alice.mesh.channels.status("carol").valid_key


@pytest.mark.parametrize("record", [bytes(4) + bytes(66), bytes(4) + bytes([128]) * 50, b"\0\0\0\1" + bytes(100)])
def test_requirement_12_records_that_nobody_waits_for_do_not_keep_out_those_of_a_handshake(record: bytes) -> None:
    alice, _bob, carol = line_of_three()
    connection = next(iter(alice.peers))
    junk = f"16 carol alice {base64.encode(record)} -1 -1 -1 0"
    for round_ in range(20):
        for _ in range(20):
            alice.line(connection, junk)
        if round_ == 10:
            alice.send_data("carol")
            carol.send_data("alice")
        alice.world.run(0.1)
    assert alice.mesh.channels.status("carol").valid_key


def test_requirement_12_garbage_in_the_place_of_a_renewal_keeps_no_renewal_out() -> None:
    alice, _bob, carol = line_of_three()
    connection = next(iter(alice.peers))
    alice.send_data("carol")
    carol.send_data("alice")
    alice.world.run(3)
    before = sessions(alice, "carol")
    used = channel(alice, "carol").sessions.used
    assert used is not None
    for round_ in range(30):
        for _ in range(3):
            alice.line(connection, f"16 carol alice {base64.encode(bytes([0, 0, 0, 5]) + bytes(82))} -1 -1 -1 0")
        if round_ == 5:
            renew(alice, "carol")
        alice.send_data("carol")
        carol.send_data("alice")
        alice.world.run(0.1)
    alice.world.run(3)
    assert (lost(alice, carol), lost(carol, alice)) == ([], [])
    assert sessions(alice, "carol") == before
    assert channel(alice, "carol").sessions.used is used


def test_a_line_that_is_repeated_unchanged_is_not_taken_for_one_in_a_circle() -> None:
    assert min(RETRIES) > CIRCLE_SECONDS


def test_requirement_26_gossip_that_denies_the_new_protocol_ends_no_session() -> None:
    """Not even where the key was learnt and is in no file yet."""
    alice, _bob, carol = line_of_three(know=False)
    alice.send_data("carol")
    assert alice.world.run(5, lambda: alice.mesh.channels.status("carol").valid_key)
    alice.keys.known = {name: key for name, key in alice.keys.known.items() if name != "carol"}
    used = channel(alice, "carol").sessions.used
    before = len(alice.actions)
    alice.line(next(iter(alice.peers)), "12 77 bob carol 198.51.100.3 655 c 5")
    alice.send_data("carol")
    alice.world.run(1)
    assert channel(alice, "carol").sessions.used is used
    logs = [each for each in alice.actions[before:] if isinstance(each, Log) and "only the old protocol" in each.text]
    assert len(logs) == 1
    assert lost(alice, carol) == []
