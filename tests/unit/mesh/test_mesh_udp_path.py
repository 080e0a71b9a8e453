"""The UDP machine in a world of links: how soon it finds, leaves and comes back to a path, and at what cost."""

from __future__ import annotations

import itertools

import pytest
from udp_world import AES, GmeshEnd, Host, Pair, StockEnd, World, connect, make_pair, most_per_second

from gmesh.mesh.candidates import EVERYBODY_NEAR, Source
from gmesh.mesh.pmtu import Overhead
from gmesh.mesh.udp import State
from gmesh.values import Address


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("loss", [0.0, 0.15])
def test_udp_is_confirmed_at_once(loss: float, seed: int) -> None:
    pair = make_pair(loss=loss, seed=seed)
    connect(pair)
    assert pair.world.run(0.1 if loss == 0 else 2.0, lambda: pair.left.udp and pair.right.udp)


@pytest.mark.parametrize("mtu", [1472, 1452, 1464, 1412, 1372, 1252, 1024, 700, 545, 9000])
def test_the_mtu_is_found_exactly_within_seconds(mtu: int) -> None:
    pair = make_pair(mtu=mtu)
    connect(pair)
    assert pair.world.run(3.0, lambda: pair.left.machine.mtu.settled and pair.right.machine.mtu.settled)
    expected = min(AES.largest_frame(mtu), 1518)
    for end in (pair.left, pair.right):
        assert end.path is not None
        assert (end.path.min_mtu, end.path.mtu, end.machine.mtu.max) == (expected, expected, expected)


@pytest.mark.parametrize("seed", range(4))
def test_loss_does_not_spoil_the_search(seed: int) -> None:
    pair = make_pair(loss=0.08, mtu=1400, seed=seed)
    connect(pair)
    pair.left.stream(0.1)
    assert pair.world.run(40.0, lambda: pair.left.min_mtu == AES.largest_frame(1400))


def test_the_kernel_tells_sizes_apart_without_waiting() -> None:
    pair = make_pair()
    pair.left.host.local_mtu = 1472
    connect(pair)
    assert pair.world.run(0.2, lambda: pair.left.machine.mtu.settled)
    assert pair.left.min_mtu == 1451


def test_a_path_below_the_floor_carries_only_what_is_proved() -> None:
    pair = make_pair(mtu=300)
    connect(pair)
    pair.left.stream(0.1, 400)
    pair.world.run(20)
    assert pair.left.path is not None
    assert pair.left.udp
    assert (pair.left.min_mtu, pair.left.path.mtu) == (64, 512)


@pytest.mark.parametrize("delay", [0.0005, 0.01, 0.05])
@pytest.mark.parametrize("period", [0.05, 0.2, 1.0])
def test_requirement_13_dead_udp_is_left_within_a_second_and_taken_up_again(delay: float, period: float) -> None:
    pair = make_pair(delay=delay)
    connect(pair)
    pair.left.stream(period)
    pair.right.stream(period)
    pair.world.run(10.137)
    assert pair.left.udp
    for host in (pair.left.host, pair.right.host):
        host.down = True
    first_loss = 0 if period < 1 else period
    assert pair.world.run(first_loss + 1.0, lambda: not pair.left.udp), "data still goes into the void"
    pair.world.run(20.3)
    for host in (pair.left.host, pair.right.host):
        host.down = False
    assert pair.world.run(1.0, lambda: pair.left.udp and pair.right.udp)
    assert pair.left.min_mtu == 1451, "the known size is used again"


@pytest.mark.parametrize("delay", [0.15, 0.3])
def test_requirement_13_holds_on_slow_paths_too(delay: float) -> None:
    pair = make_pair(delay=delay)
    connect(pair)
    pair.left.stream(0.2)
    pair.right.stream(0.2)
    pair.world.run(20)
    assert all(udp for _, udp, _ in pair.left.history[2:]), "a slow path is not a dead one"
    pair.left.host.down = pair.right.host.down = True
    assert pair.world.run(3.0, lambda: not pair.left.udp and not pair.right.udp)
    pair.left.host.down = pair.right.host.down = False
    assert pair.world.run(3.0, lambda: pair.left.udp and pair.right.udp)


def test_requirement_13_one_direction_may_die_alone() -> None:
    pair = make_pair()
    connect(pair)
    pair.left.stream(0.1)
    pair.right.stream(0.1)
    pair.world.run(10)
    pair.left.host.down = True
    assert pair.world.run(3.0, lambda: not pair.left.udp)
    assert pair.world.run(1.0, lambda: not pair.right.udp), "the other end hears nothing at all"


def test_requirement_13_one_direction_may_die_where_no_sizes_are_tried() -> None:
    pair = make_pair()
    connect(pair, pmtu=False)
    pair.right.flow.wanted += 1
    pair.world.run(10)

    def both() -> None:
        # Without PMTU discovery data goes by UDP whatever its size.
        pair.left.flow.wanted += 1
        pair.left.flow.udp_out += 1
        pair.left.flow.last_authentic = pair.world.now
        pair.world.later(0.1, both)

    both()
    pair.world.run(5)
    assert pair.left.udp
    pair.left.host.down = True
    assert pair.world.run(3.0, lambda: not pair.left.udp)


def test_requirement_13_an_idle_path_that_died_is_noticed_when_data_comes() -> None:
    pair = make_pair()
    connect(pair, neighbour=False)
    pair.world.run(200)
    assert pair.left.udp
    pair.left.host.down = True
    pair.world.run(0.01)
    pair.left.stream(0.1)
    assert pair.world.run(1.5, lambda: not pair.left.udp)


def test_a_lossy_path_does_not_flap() -> None:
    pair = make_pair(delay=0.02, loss=0.05, seed=7)
    connect(pair)
    pair.left.stream(0.02)
    pair.world.run(5)
    changes = len([None for _, udp, _ in pair.left.history if not udp])
    pair.world.run(300)
    assert len([None for _, udp, _ in pair.left.history if not udp]) == changes


def test_being_stopped_ourselves_is_no_sign_of_death() -> None:
    pair = make_pair()
    connect(pair)
    pair.left.stream(0.1)
    pair.world.run(10)
    pair.left.host.down = pair.right.host.down = True
    pair.world.run(0.6)
    machine = pair.left.machine
    pair.left.perform(machine.on_timeout(machine.next_timeout() + 30))
    assert pair.left.udp, "questions were unanswered for 30 s in which we could not have read the answers"
    pair.world.now += 30
    assert pair.world.run(1.0, lambda: not pair.left.udp), "but not for ever"


@pytest.mark.parametrize("mtu", [1452, 1400, 1300, 800])
def test_requirement_14_a_shrinking_path_is_noticed_without_icmp(mtu: int) -> None:
    pair = make_pair()
    connect(pair)
    pair.left.stream(0.1, 1400)
    pair.right.stream(0.1)
    pair.world.run(10)
    pair.left.host.mtu = mtu
    expected = AES.largest_frame(mtu)
    assert pair.world.run(10.0, lambda: pair.left.min_mtu == expected and pair.left.machine.mtu.settled)
    assert pair.left.udp
    pair.left.host.mtu = 1472
    assert pair.world.run(30.0, lambda: pair.left.min_mtu == 1451), "a path that grew again"


def test_requirement_14_too_large_by_icmp_is_recovered_from_at_once() -> None:
    pair = make_pair()
    connect(pair)
    pair.left.stream(0.05, 1400)
    pair.right.stream(0.05)
    pair.world.run(10)
    pair.left.host.local_mtu = pair.left.host.mtu = 1300
    expected = AES.largest_frame(1300)
    assert pair.world.run(2.0, lambda: pair.left.min_mtu == expected and pair.left.machine.mtu.settled)
    assert pair.left.path is not None
    assert pair.left.path.mtu == AES.largest_frame(1300)


def test_there_are_no_probe_storms() -> None:
    def rate(end: GmeshEnd, since: float) -> int:
        return most_per_second([time for time, _ in end.probes if time >= since])

    pair = make_pair()
    connect(pair)
    pair.world.run(10)
    idle = len(pair.left.probes)
    pair.world.run(600)
    assert len(pair.left.probes) - idle < 200, "answers included, a neighbour costs less than one probe in 3 s"
    start = pair.world.now
    pair.left.stream(0.01, 1400)
    pair.world.run(60)
    assert rate(pair.left, start) <= 15
    assert len([time for time, _ in pair.left.probes if time >= start]) < 60 * 6
    pair.left.host.down = pair.right.host.down = True
    start = pair.world.now
    pair.world.run(60)
    assert rate(pair.left, start) <= 15
    assert rate(pair.left, start + 3) <= 3


def test_a_relayed_idle_node_costs_a_probe_per_ping_interval() -> None:
    pair = make_pair()
    connect(pair, neighbour=False)
    pair.world.run(200)
    before = len(pair.left.probes)
    pair.world.run(600)
    assert 5 <= len(pair.left.probes) - before <= 90


def test_a_node_that_never_answers_is_not_flooded() -> None:
    world = World()
    end = GmeshEnd(world, "alice", "bob", Host(world, Address("192.0.2.1", "655"), down=True))
    end.up(Address("192.0.2.2", "655"), neighbour=False)
    end.key()
    end.stream(0.1)
    world.run(600)
    assert not end.udp
    assert most_per_second([time for time, _ in end.probes]) <= 10
    assert all(size == 64 for _, size in end.probes), "a stranger gets small datagrams only"
    assert len(end.probes) < 400
    late = [time for time, _ in end.probes if time > world.now - 150]
    assert late, "but never stops while there is traffic"


def test_the_stock_daemon_gets_along_with_us() -> None:
    world = World()
    ours, theirs = Address("192.0.2.1", "655"), Address("192.0.2.2", "655")
    end = GmeshEnd(world, "alice", "bob", Host(world, ours, mtu=1400))
    stock = StockEnd(world, Host(world, theirs, mtu=1400))
    end.up(theirs)
    end.key()
    stock.start(ours)
    assert world.run(0.1, lambda: end.udp)
    assert world.run(5.0, lambda: end.machine.mtu.settled)
    assert end.min_mtu == AES.largest_frame(1400)
    world.run(40)
    assert stock.min > 1300, "its random search needs up to 30 s; our answers let it end"
    assert stock.min <= AES.largest_frame(1400)
    end.stream(0.1)
    world.run(5)
    stock.host.down = True
    assert world.run(1.0, lambda: not end.udp)
    stock.host.down = False
    assert world.run(1.0, lambda: end.udp)


def test_requests_are_answered_at_full_length_where_they_came_from() -> None:
    pair = make_pair()
    connect(pair)
    pair.world.run(5)
    elsewhere = Address("198.51.100.9", "4000")
    request = bytes(14) + bytes(range(256)) * 5
    actions = pair.left.machine.probe_received(request, elsewhere, pair.world.now)
    replies = [action for action in actions if getattr(action, "frame", b"")[:1] == b"\1"]
    assert [(reply.frame, reply.address) for reply in replies] == [(b"\1" + request[1:], elsewhere)]


def test_without_pmtu_option_udp_is_used_without_proof() -> None:
    world = World()
    end = GmeshEnd(world, "alice", "bob", Host(world, Address("192.0.2.1", "655")))
    end.up(Address("192.0.2.2", "655"), pmtu=False)
    assert end.udp
    end.key()
    world.run(300)
    assert end.udp, "a node that answers no probes is not judged by them"
    assert len(end.probes) < 20


def test_without_pmtu_option_a_node_that_answers_is_watched() -> None:
    pair = make_pair()
    connect(pair, pmtu=False)
    pair.left.stream(0.1)
    pair.world.run(5)
    assert pair.left.machine.state is State.CONFIRMED
    assert all(size == 64 for _, size in pair.left.probes)
    pair.left.flow.udp_out += 1000
    pair.left.host.down = True
    for _ in range(20):
        pair.left.flow.udp_out += 1
        pair.world.run(0.1)
    assert not pair.left.udp


def test_nothing_is_probed_where_udp_is_not_used() -> None:
    world = World()
    end = GmeshEnd(world, "alice", "bob", Host(world, Address("192.0.2.1", "655")))
    end.perform(end.machine.offer(Address("192.0.2.2", "655"), Source.EDGE, world.now))
    end.perform(end.machine.set_policy(usable=False, pmtu=True, neighbour=True, now=world.now))
    end.key()
    end.stream(0.1)
    world.run(100)
    assert not end.probes
    assert end.machine.next_timeout() == float("inf")


def test_a_roaming_peer_is_followed_at_once() -> None:
    pair = make_pair()
    connect(pair)
    pair.left.stream(0.1)
    pair.right.stream(0.1)
    pair.world.run(5)
    old, new = pair.right.host.address, Address("198.51.100.7", "1234")
    moved = Host(pair.world, new, receive=pair.right.receive)
    pair.world.hosts.pop(old)
    pair.right.host = moved
    moved_at = pair.world.now
    assert pair.world.run(0.3, lambda: pair.left.machine.address == new)
    assert pair.world.now - moved_at < 0.3
    pair.world.run(5)
    assert pair.left.udp
    assert pair.right.udp
    assert all(udp for time, udp, _ in pair.left.history if time > moved_at)


def test_a_working_address_is_not_given_up_for_an_unproved_one() -> None:
    pair = make_pair()
    connect(pair)
    pair.left.stream(0.1)
    pair.right.stream(0.1)
    pair.world.run(5)
    old, nowhere = pair.right.host.address, Address("198.51.100.66", "1")
    for _ in range(30):
        pair.left.perform(pair.left.machine.address_seen(nowhere, pair.world.now))
        assert pair.left.machine.address == old
        pair.world.run(0.1)
        assert pair.left.machine.address == old
    assert pair.left.udp


def test_the_first_address_that_answers_is_kept() -> None:
    pair = make_pair()
    second = Host(pair.world, Address("10.0.0.2", "655"), delay=0.03)
    second.receive = pair.right.receive
    pair.left.perform(pair.left.machine.offer(second.address, Source.LOCAL, pair.world.now))
    connect(pair)
    pair.world.run(5)
    used = [address for _, _, address in pair.left.host.sent[6:]]
    assert pair.left.machine.address == pair.right.host.address
    assert second.address not in used


def test_a_peer_that_asks_a_lot_does_not_make_us_ask_a_lot() -> None:
    world = World()
    end = GmeshEnd(world, "alice", "bob", Host(world, Address("192.0.2.1", "655"), down=True))
    end.up(Address("192.0.2.2", "655"))
    end.key()
    before = len(end.probes)
    for number in range(50):
        request = bytes(14) + number.to_bytes(50, "big")
        end.perform(end.machine.probe_received(request, Address("192.0.2.2", "4000"), world.now))
    assert len(end.probes) - before == 50 + 1, "fifty answers, one question"


def test_hearsay_cannot_make_us_flood_a_third_party() -> None:
    world = World()
    host = Host(world, Address("192.0.2.1", "655"), down=True)
    end = GmeshEnd(world, "alice", "bob", host)
    end.up(Address("192.0.2.2", "655"), neighbour=False)
    end.key()
    end.stream(0.05)
    for number in range(100):
        victim = Address("203.0.113.1", str(1000 + number))
        end.perform(end.machine.offer(victim, Source.REFLEXIVE, world.now))
    assert len(end.machine.candidates) <= 10
    world.run(60)
    sent = [length for _, length, address in host.sent if address.host == "203.0.113.1"]
    assert sum(sent) < 100 * 1500, "60 s of probing stay below 2.5 kB/s"
    for bad in ("224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1", "name.example"):
        end.perform(end.machine.offer(Address(bad, "655"), Source.EDGE, world.now))
        assert Address(bad, "655") not in end.machine.candidates


def test_a_new_key_keeps_the_path_and_asks_it_at_once() -> None:
    pair = make_pair()
    connect(pair)
    pair.left.stream(0.1)
    pair.world.run(10)
    pair.left.perform(pair.left.machine.key_lost(pair.world.now))
    before = len(pair.left.probes)
    pair.world.run(3)
    assert len([None for time, _ in pair.left.probes[before:]]) <= 5, "without a key nothing can be asked"
    pair.left.key()
    pair.world.run(0.1)
    assert pair.left.min_mtu == 1451
    pair.left.overhead = Overhead(prefix=4, block=16, suffix=32)
    pair.left.key()
    assert pair.world.run(3, lambda: pair.left.min_mtu == pair.left.overhead.largest_frame(1472))


def near(*, left: bool, right: bool) -> Pair:
    """Two ends in one network; others see both at an address that leads nowhere from inside."""
    pair = make_pair()
    outside = Address("198.51.100.9", "655")
    pair.world.hosts[Address("255.255.255.255", "655")] = pair.right.host
    pair.left.machine.local_discovery, pair.right.machine.local_discovery = left, right
    pair.left.up(outside, neighbour=False)
    pair.right.up(outside, neighbour=False)
    pair.left.key()
    pair.right.key()
    return pair


def test_local_discovery_finds_who_hears_a_broadcast() -> None:
    pair = near(left=True, right=False)
    assert pair.world.run(1.0, lambda: pair.left.udp and pair.right.udp)
    assert pair.left.machine.address == pair.right.host.address
    assert pair.right.machine.address == pair.left.host.address


def test_without_local_discovery_nobody_is_bothered() -> None:
    pair = near(left=False, right=False)
    pair.world.run(20)
    assert not pair.left.udp
    assert not [1 for _, _, target in pair.left.host.sent if target.host in EVERYBODY_NEAR]


def test_local_discovery_asks_once_a_second_for_ten_seconds() -> None:
    pair = near(left=True, right=False)
    pair.left.host.down = True
    pair.world.run(60)
    times = [time for time, _, target in pair.left.host.sent if target.host == "255.255.255.255"]
    assert 8 <= len(times) <= 11
    assert times[-1] - times[0] < 10
    assert all(later - one >= 1 for one, later in itertools.pairwise(times))
    assert len([1 for _, _, target in pair.left.host.sent if target.host == "ff02::1"]) == len(times)


def test_requirement_12_hearsay_does_not_lead_data_away_from_where_the_node_was_seen() -> None:
    """Where UDP is taken for granted: nothing would find out that it has led it astray."""
    pair = make_pair()
    path = pair.left.machine
    claimed, seen, victim = (Address(f"192.0.2.{number}", "655") for number in (31, 32, 33))
    path.set_policy(usable=True, pmtu=False, neighbour=False, now=1.0)
    path.key_installed(AES, 1.0)
    path.offer(claimed, Source.EDGE, 1.0)
    assert path.state is State.TRUSTED
    path.offer(seen, Source.REFLEXIVE, 2.0)
    assert path.address == seen, "of two hearsays the better one"
    path.address_seen(claimed, 2.5)
    path.address_seen(seen, 3.0)
    path.offer(victim, Source.REFLEXIVE, 4.0)
    assert path.address == seen
    assert victim in path.candidates
