"""UDP under SPTPS: probes and their short answers, death and return, sizes, roaming, and what the options say."""

from __future__ import annotations

import itertools
import random

import pytest

from gmesh.mesh.actions import SendProbe, SetPath
from gmesh.mesh.candidates import Source
from gmesh.mesh.events import PathWanted, ProbeReceived, TooBig
from gmesh.mesh.settings import MeshSettings
from gmesh.proto import probe
from gmesh.proto.probe import ProbeKind
from gmesh.values import Address
from tests.unit.mesh.sptps_world import DEFAULT_OPTIONS, Node, connect, line_of_three, pair
from tests.unit.mesh.udp_world import Host, World


def probes(node: Node) -> list[SendProbe]:
    return [action for action in node.actions if isinstance(action, SendProbe)]


def kinds(node: Node) -> set[int]:
    return {action.frame[0] for action in probes(node)}


def talking(**settings: object) -> tuple[Node, Node]:
    """alice and bob with traffic both ways, UDP found and measured."""
    alice, bob = pair(**settings)
    connect(alice, bob)
    alice.stream("bob", 0.1)
    bob.stream("alice", 0.1)
    alice.world.run(6)
    assert alice.confirmed("bob")
    assert bob.confirmed("alice")
    return alice, bob


def missing(sender: Node, receiver: Node, since: int = 0) -> list[int]:
    arrived = set(receiver.received.get(sender.name, []))
    return [number for number in sender.sent[receiver.name][since:-5] if number not in arrived]


def test_requirement_13_a_path_that_a_relay_would_take_is_asked_at_once() -> None:
    """Nothing of ours uses it, so that nothing else would ask it for as long as ten seconds."""
    alice, bob = pair()
    connect(alice, bob)
    assert alice.world.run(2, lambda: alice.confirmed("bob"))
    alice.world.run(6)
    before = len(probes(alice))
    alice.event(PathWanted("bob"))
    assert len(probes(alice)) == before + 1
    alice.world.run(0.1)
    assert alice.counters("bob").last_authentic > alice.world.now - 0.1
    # Dead, it is found to be so as quickly as one with traffic.
    bob.host.down = alice.host.down = True
    alice.world.run(1)
    alice.event(PathWanted("bob"))
    assert alice.world.run(1.0, lambda: not alice.confirmed("bob"))


def test_answers_to_new_nodes_are_short_whatever_they_prove() -> None:
    alice, bob = talking()
    assert kinds(alice) == {ProbeKind.REQUEST, ProbeKind.SHORT_REPLY}
    replies = [each.frame for each in probes(bob) if each.frame[0] == ProbeKind.SHORT_REPLY]
    assert {len(frame) for frame in replies} == {18}
    assert max(int.from_bytes(frame[1:3], "big") for frame in replies) == 1439
    assert alice.mesh.channels.status("bob").min_mtu == 1439


def test_answers_to_nodes_of_minor_version_2_have_full_length() -> None:
    world = World()
    alice = Node(world, "alice", Host(world, Address("192.0.2.1", "655")))
    bob = Node(world, "bob", Host(world, Address("192.0.2.2", "655")), options=DEFAULT_OPTIONS | 2 << 24)
    alice.knows(bob)
    bob.knows(alice)
    connect(alice, bob)
    world.run(3)
    assert kinds(alice) == {ProbeKind.REQUEST, ProbeKind.REPLY}
    assert kinds(bob) == {ProbeKind.REQUEST, ProbeKind.SHORT_REPLY}
    assert alice.confirmed("bob")


def test_an_unasked_short_reply_proves_nothing() -> None:
    """Stock nodes send one every ten seconds: it may be older than what has happened to the path since."""
    alice, bob = pair()
    bob.host.down = True
    connect(alice, bob)
    alice.world.run(2)
    assert not alice.confirmed("bob")
    for length in range(18, 1519):
        frame = bytes((2,)) + length.to_bytes(2, "big") + bytes(15)
        alice.event(ProbeReceived("bob", frame, bob.host.address))
    assert not alice.confirmed("bob")


def test_a_short_reply_is_taken_for_its_own_question_only() -> None:
    request = probe.make_request(64, random.Random(1).randbytes)
    reply = probe.make_short_reply(request)
    parsed = probe.parse(reply)
    assert parsed is not None
    assert (len(reply), parsed.length, reply[14:18]) == (18, 64, request[14:18])
    from gmesh.mesh.health import Questions

    entropy = random.Random(2).randbytes
    questions = Questions(entropy, 5.0)
    asked = [questions.ask(64, Address(f"192.0.2.{number}", "655"), 0.0) for number in range(3)]
    for number in (1, 0, 2):
        short = probe.make_short_reply(asked[number])
        answer = probe.parse(short)
        assert answer is not None
        question = questions.take(short, answer, 0.1)
        assert question is not None
        assert question.address == Address(f"192.0.2.{number}", "655")
    assert not len(questions)


def test_requirement_13_udp_dies_and_returns_within_a_second_and_nothing_is_lost_for_longer() -> None:
    alice, bob = talking()
    world = alice.world
    world.run(30.05)
    for end in (alice, bob):
        end.host.down = True
    assert world.run(1.0, lambda: not alice.paths["bob"].udp and not bob.paths["alice"].udp)
    since = len(alice.sent["bob"])
    world.run(5)
    assert not missing(alice, bob, since), "they go by TCP"
    for end in (alice, bob):
        end.host.down = False
    assert world.run(1.0, lambda: alice.paths["bob"].udp and bob.paths["alice"].udp)


def test_requirement_14_a_path_that_shrinks_or_grows_is_found_out_within_thirty_seconds() -> None:
    alice, bob = talking()
    world = alice.world
    for mtu in (1300, 1472, 900, 1400):
        alice.host.mtu = bob.host.mtu = mtu
        world.run(30)
        for end, peer in ((alice, "bob"), (bob, "alice")):
            status = end.mesh.channels.status(peer)
            assert (status.min_mtu, status.max_mtu) == (mtu - 33, mtu - 33), (mtu, end.name)


def test_bounds_neither_sink_below_512_nor_cross() -> None:
    alice, bob = talking()
    for size in (1439, 1000, 600, 513, 512, 100, 18, 1, 0):
        alice.event(TooBig("bob", size))
        status = alice.mesh.channels.status("bob")
        assert status.max_mtu >= 512
        assert status.min_mtu <= status.mtu <= 1518
        assert status.min_mtu <= status.max_mtu
    alice.world.run(30)
    assert alice.mesh.channels.status("bob").min_mtu == 1439
    assert bob.confirmed("alice")


def test_a_node_that_moves_is_followed_at_once() -> None:
    alice, bob = talking()
    world = alice.world
    old = bob.host
    new = Host(world, Address("203.0.113.77", "4321"))
    old.down = True
    del world.hosts[old.address]
    bob.host = new
    new.receive = bob.receive
    moved = world.now
    assert world.run(1.0, lambda: alice.paths["bob"].address == new.address and alice.confirmed("bob"))
    assert world.now - moved <= 0.5
    since = len(alice.sent["bob"]) + 2
    world.run(5)
    assert not missing(alice, bob, since)
    assert not missing(bob, alice, 0)


def test_without_discovery_udp_is_taken_for_granted() -> None:
    alice, bob = pair(udp_discovery=False)
    connect(alice, bob)
    alice.world.run(1)
    before = alice.direct
    for size in (98, 1439, 1440):
        alice.send_data("bob", size)
    assert alice.direct - before == 2
    alice.world.run(120)
    assert not probes(alice)
    assert not missing(alice, bob)
    path = alice.paths["bob"]
    assert (path.udp, path.min_mtu, path.address) == (True, 1439, bob.host.address)
    alice.event(TooBig("bob", 1400))
    assert alice.paths["bob"].min_mtu == 1399
    alice.perform(
        alice.mesh.set_settings(
            MeshSettings("alice", options=alice.mesh.settings.options, udp_discovery=True), alice.world.now
        )
    )
    bob.perform(
        bob.mesh.set_settings(
            MeshSettings("bob", options=bob.mesh.settings.options, udp_discovery=True), alice.world.now
        )
    )
    assert alice.world.run(3.0, lambda: alice.confirmed("bob"))


@pytest.mark.parametrize(("interval", "most"), [(2.0, 2.0), (0.5, 0.5)])
def test_the_discovery_interval_is_an_upper_bound_under_traffic(interval: float, most: float) -> None:
    alice, bob = pair(udp_discovery_interval=interval)
    alice.host.down = bob.host.down = True
    connect(alice, bob)
    alice.stream("bob")
    alice.world.run(100)
    times = [time for time, _, _ in alice.host.sent]
    assert times
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= most + 0.01


def test_the_keepalive_interval_is_an_upper_bound() -> None:
    alice, bob = pair(udp_discovery_keepalive=3.0)
    connect(alice, bob)
    alice.world.run(60)
    requests = [time for time, length, _ in alice.host.sent if length == 33 + 64]
    assert max(later - earlier for earlier, later in itertools.pairwise(requests)) <= 3.6
    assert len(requests) <= 80


def test_the_timeout_is_an_upper_bound() -> None:
    alice, bob = talking(udp_discovery_timeout=0.4)
    alice.world.run(3.03)
    alice.host.down = bob.host.down = True
    assert alice.world.run(0.95, lambda: not alice.paths["bob"].udp)


def test_a_size_told_for_a_node_that_udp_does_not_reach_is_published() -> None:
    """Fragmentation and MSS go by it, though no datagram of ours goes to the node directly."""
    alice, _bob, _carol = line_of_three()
    alice.send_data("carol")
    alice.world.run(1)
    channels = alice.mesh.channels
    path = channels._peers["carol"].path
    path.down()
    assert path.told_mtu(1300) == [SetPath("carol", None, False, 0, 1300, ())]
    assert path.offer(None, Source.EDGE, alice.world.now) == []


def test_datagrams_through_relays_keep_both_ends_looking_for_each_other() -> None:
    alice, bob, carol = line_of_three(nat=True)
    for end in (alice, bob, carol):
        end.host.down = True
    alice.stream("carol", 1.0)
    alice.world.run(200)
    assert not carol.confirmed("alice")
    late = [time for time, _, target in carol.host.sent if target.host == alice.host.address.host]
    assert max(late) > 1100, "carol sends nothing, and still looks"
