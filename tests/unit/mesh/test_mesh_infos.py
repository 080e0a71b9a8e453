"""UDP_INFO and MTU_INFO: who tells what, what relays make of it, and how often (meta-sptps 7.4, 7.5)."""

from __future__ import annotations

from gmesh.mesh.actions import SendLine
from gmesh.mesh.events import RelayedDatagram
from gmesh.values import OPTION_INDIRECT, OPTION_TCPONLY, OPTION_VERSION_SHIFT, Address
from tests.unit.mesh.sptps_world import DEFAULT_OPTIONS, MINOR_7, Node, connect, line_of_three
from tests.unit.mesh.udp_world import Host, World


def sent(node: Node, number: str, since: float = 0.0) -> list[str]:
    return [line for time, line in node.lines if line.startswith(number) and time >= since]


def told(node: Node, line: str) -> list[str]:
    """What a node makes of a line from its first neighbour that is active."""
    before = len(node.lines)
    node.line(next(iter(node.peers)), line)
    return [text for _, text in node.lines[before:]]


def test_requirement_15_ends_behind_nats_find_each_other_through_a_relay() -> None:
    alice, _bob, carol = line_of_three(nat=True)
    begun = alice.world.now
    alice.stream("carol")
    carol.stream("alice")
    assert alice.world.run(2.0, lambda: alice.confirmed("carol") and carol.confirmed("alice"))
    assert alice.mesh.channels.status("carol").address == carol.host.address
    alice.world.run(10)
    assert alice.mesh.channels.status("carol").min_mtu == 1439
    assert len(sent(carol, "22 ", begun)) + len(sent(alice, "22 ", begun)) <= 6


def test_one_way_traffic_is_enough_to_find_each_other() -> None:
    alice, _bob, carol = line_of_three(nat=True)
    alice.stream("carol")
    assert alice.world.run(3.0, lambda: alice.confirmed("carol"))
    assert carol.world.run(2.0, lambda: carol.confirmed("alice"))


def test_a_relay_that_cannot_send_by_udp_sees_all_the_same_where_its_neighbours_are() -> None:
    alice, _bob, carol = line_of_three(nat=True, bob_deaf=True)
    alice.stream("carol")
    assert alice.world.run(8.0, lambda: alice.confirmed("carol") and carol.confirmed("alice"))


def test_a_relay_that_saw_nobody_gets_another_chance() -> None:
    alice, bob, carol = line_of_three(nat=True, ends_deaf=True)
    alice.stream("carol")
    alice.world.run(8)
    assert not bob.confirmed("alice")
    for end in (alice, carol):
        end.host.down = False
    assert alice.world.run(15.0, lambda: alice.confirmed("carol") and carol.confirmed("alice"))


def test_hints_go_out_with_a_handshake_and_at_most_every_five_seconds() -> None:
    alice, bob, carol = line_of_three(nat=True, bob_deaf=True)
    alice.send_data("carol")
    alice.world.run(1)
    numbers = [line[:2] for _, line in carol.lines if line[:3] in ("22 ", "16 ", "23 ") and "alice" in line]
    assert numbers[:3] == ["22", "16", "23"]
    for _ in range(40):
        carol.event(RelayedDatagram("alice", by_tcp=True))
        alice.world.run(0.5)
    assert 4 <= len(sent(carol, "22 ")) <= 6
    assert 4 <= len(sent(carol, "23 carol")) <= 6
    assert not bob.host.down or sent(bob, "22 carol alice")


def test_a_relay_puts_in_the_address_at_which_it_sees_its_neighbour() -> None:
    _alice, bob, carol = line_of_three(nat=True)
    assert bob.world.run(2.0, lambda: bob.confirmed("carol") and bob.confirmed("alice"))
    carol.event(RelayedDatagram("alice", by_tcp=True))
    bob.world.run(0.1)
    assert sent(bob, "22 carol alice")[-1] == f"22 carol alice {carol.host.address.host} {carol.host.address.port}"


def test_an_address_from_further_away_is_passed_on_as_it_came() -> None:
    alice, bob, carol = line_of_three()
    dave = Node(alice.world, "dave", Host(alice.world, Address("203.0.113.4", "655")))
    connect(dave, carol)
    alice.world.run(0.3)
    from_carol = next(number for number, (other, _) in bob.peers.items() if other is carol)
    bob.line(from_carol, "22 dave alice 203.0.113.99 1234")
    assert sent(bob, "22 dave alice") == ["22 dave alice 203.0.113.99 1234"]
    bob.line(from_carol, "23 dave alice 1300")
    assert sent(bob, "23 dave alice") == ["23 dave alice 1300"]


def test_a_hint_about_a_neighbour_or_ourselves_is_not_believed() -> None:
    alice, bob, _carol = line_of_three()
    alice.world.run(3)
    before = alice.mesh.channels.status("bob").address
    assert told(alice, "22 bob alice 203.0.113.9 1") == []
    assert told(alice, "22 alice alice 203.0.113.9 1") == []
    assert told(alice, "22 nobody alice 203.0.113.9 1") == []
    assert alice.mesh.channels.status("bob").address == before
    assert Address("203.0.113.9", "1") not in alice.mesh.channels._peers["bob"].path.candidates
    assert bob.name == "bob"


def test_an_address_that_is_nobodys_is_not_tried() -> None:
    alice, _bob, _carol = line_of_three(nat=True, bob_deaf=True)
    alice.send_data("carol")
    alice.world.run(1)
    for host in ("224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1"):
        told(alice, f"22 carol alice {host} 655")
    known = [str(address) for address in alice.mesh.channels._peers["carol"].path.candidates]
    assert not any("224.0.0.1" in text or "255.255" in text or "0.0.0.0" in text or "ff02" in text for text in known)


def test_a_confirmed_address_stays() -> None:
    alice, _bob, carol = line_of_three()
    alice.stream("carol")
    assert alice.world.run(3.0, lambda: alice.confirmed("carol"))
    told(alice, "22 carol alice 203.0.113.9 1")
    alice.world.run(1)
    assert alice.mesh.channels.status("carol").address == carol.host.address
    assert alice.confirmed("carol")


def test_a_size_is_believed_until_it_is_measured() -> None:
    alice, _bob, _carol = line_of_three(nat=True, bob_deaf=True)
    alice.send_data("carol")
    alice.world.run(0.5)
    told(alice, "23 carol alice 1200")
    assert alice.mesh.channels.status("carol").mtu == 1200
    assert alice.mesh.channels.status("carol").min_mtu == 0
    told(alice, "23 carol alice 9000")
    assert alice.mesh.channels.status("carol").mtu == 1518

    alice, _bob, _carol = line_of_three()
    alice.stream("carol")
    alice.world.run(10)
    told(alice, "23 carol alice 700")
    assert alice.mesh.channels.status("carol").mtu == 1439


def test_requirement_14_a_relay_says_what_its_own_paths_carry() -> None:
    alice, bob, carol = line_of_three()
    carol.host.mtu = bob.host.mtu = 1300
    for end, peer in ((bob, "carol"), (bob, "alice")):
        end.stream(peer)
    alice.world.run(20)
    size = bob.mesh.channels.status("carol").min_mtu
    assert 1240 <= size < 1300
    since = alice.world.now
    carol.event(RelayedDatagram("alice", by_tcp=True))
    alice.world.run(0.1)
    assert sent(bob, "23 carol alice", since) == [f"23 carol alice {size}"]


def test_old_relays_get_no_hints_and_tcp_only_nodes_no_addresses() -> None:
    for options, expected in ((4 << OPTION_VERSION_SHIFT | DEFAULT_OPTIONS, 0), (MINOR_7 | OPTION_TCPONLY | 1, 0)):
        world = World()
        alice = Node(world, "alice", Host(world, Address("198.51.100.1", "655")))
        bob = Node(world, "bob", Host(world, Address("192.0.2.2", "655")), options=options)
        carol = Node(world, "carol", Host(world, Address("198.51.100.3", "655")))
        connect(alice, bob)
        connect(carol, bob)
        world.run(0.3)
        carol.event(RelayedDatagram("alice", by_tcp=True))
        world.run(0.1)
        assert len(sent(carol, "22 ")) == expected


def test_an_indirect_node_is_told_by_way_of_its_relay_only() -> None:
    alice, bob, carol = line_of_three()
    connection = next(number for number, (other, _) in alice.peers.items() if other is bob)
    alice.line(connection, f"12 5 bob carol 198.51.100.3 655 {MINOR_7 | DEFAULT_OPTIONS | OPTION_INDIRECT:x} 5")
    alice.world.run(0.2)
    alice.event(RelayedDatagram("carol", by_tcp=True))
    assert not sent(alice, "22 alice carol"), "the relay is a neighbour, who sees us anyway"
    assert sent(alice, "23 alice carol")
    assert carol.name == "carol"


def test_requirement_12_hints_of_others_are_passed_on_at_a_bounded_rate() -> None:
    _alice, bob, carol = line_of_three()
    from_carol = next(number for number, (other, _) in bob.peers.items() if other is carol)
    before = len(bob.lines)
    for _ in range(5000):
        bob.perform([])
        bob.line(from_carol, "23 carol alice 1300")
    assert len(bob.lines) - before <= 1200


def test_hints_never_go_back_where_they_came_from() -> None:
    _alice, bob, carol = line_of_three()
    from_carol = next(number for number, (other, _) in bob.peers.items() if other is carol)
    before = len(bob.actions)
    for line in ("22 alice carol 203.0.113.9 5", "23 alice carol 1300"):
        bob.line(from_carol, line)
    assert not [action for action in bob.actions[before:] if isinstance(action, SendLine)]


def test_a_tunnel_server_passes_no_hints_on() -> None:
    world = World()
    bob = Node(world, "bob", Host(world, Address("192.0.2.2", "655")), tunnel_server=True)
    alice = Node(world, "alice", Host(world, Address("198.51.100.1", "655")))
    carol = Node(world, "carol", Host(world, Address("198.51.100.3", "655")))
    connect(alice, bob)
    connect(carol, bob)
    world.run(0.3)
    from_carol = next(number for number, (other, _) in bob.peers.items() if other is carol)
    before = len(bob.lines)
    bob.line(from_carol, "22 carol alice 203.0.113.9 5")
    bob.line(from_carol, "23 carol alice 1300")
    assert len(bob.lines) == before
