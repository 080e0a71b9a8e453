"""Hole punching between two NATs: both drop what they do not know, and some are spoiled by what they do not know."""

from __future__ import annotations

import pytest
from udp_world import Pair, make_pair

from gmesh.mesh.candidates import Source
from gmesh.mesh.punching import NAT_CYCLE, OPENING, Turn, step
from gmesh.values import Address


def punch(*, spoiled: bool, skew: float) -> tuple[Pair, bool]:
    """Two ends that got each other's keys ``skew`` seconds apart. Whether UDP works in both directions in 4 minutes."""
    pair = make_pair(delay=0.02, nat=True, nat_is_spoiled_by_strangers=spoiled)
    for end, other in ((pair.left, pair.right), (pair.right, pair.left)):
        end.up(other.host.address, neighbour=False)
        end.stream(0.5)
    pair.left.key()
    pair.world.later(skew, pair.right.key)
    return pair, pair.world.run(240, lambda: pair.left.udp and pair.right.udp)


@pytest.mark.parametrize("skew", [0.0, 0.05, 0.3, 2.0, 20.0])
def test_dropping_nats_are_passed_at_once(skew: float) -> None:
    pair, through = punch(spoiled=False, skew=skew)
    assert through
    assert pair.world.now - 1000 < skew + 2.0


@pytest.mark.parametrize("skew", [0.0, 0.05, 0.1, 0.3, 0.5, 0.7])
def test_requirement_15_openers_pass_nats_that_strangers_spoil(skew: float) -> None:
    pair, through = punch(spoiled=True, skew=skew)
    assert through
    assert pair.world.now - 1000 < skew + 1.0


@pytest.mark.parametrize("skew", [0.8, 1.0, 2.0])
def test_requirement_15_a_spoiled_start_is_made_good_later(skew: float) -> None:
    _, through = punch(spoiled=True, skew=skew)
    assert through


def test_phases_follow_each_other_and_take_turns() -> None:
    opening = sum(phase.duration for phase in OPENING)
    cycle = sum(phase.duration for phase in NAT_CYCLE)
    turns = set()
    elapsed = 0.0
    while elapsed < opening + 2 * cycle:
        ours = step(elapsed, smaller=True, nats=True)
        theirs = step(elapsed, smaller=False, nats=True)
        assert ours.remaining > 0
        assert ours.interval > 0
        turns.add((ours.send, theirs.send))
        elapsed += min(ours.remaining, 0.25)
    assert turns == {(True, True), (True, False), (False, True), (False, False)}
    silence = [phase.duration for phase in NAT_CYCLE if phase.turn is Turn.NEITHER]
    assert min(silence) > 30, "longer than an unanswered entry lives in a NAT"


def cut_off(*, nat: bool, nats: bool, seconds: float = 33.0) -> Pair:
    """Nothing passes between two ends that search and have traffic, for so long; then everything does again."""
    pair = make_pair(delay=0.02, nat=nat)
    pair.left.host.down = pair.right.host.down = True
    for end, other in ((pair.left, pair.right), (pair.right, pair.left)):
        address = other.host.address
        end.perform(end.machine.set_policy(usable=True, pmtu=True, neighbour=False, nats=nats, now=pair.world.now))
        end.perform(end.machine.offer(address, Source.EDGE, pair.world.now))
        end.stream(0.5)
        end.key()
    pair.world.run(seconds)
    assert not pair.left.udp
    pair.left.host.down = pair.right.host.down = False
    return pair


@pytest.mark.parametrize("seconds", [33.0, 60.0, 200.0])
def test_without_nats_a_search_never_rests(seconds: float) -> None:
    pair = cut_off(nat=False, nats=False, seconds=seconds)
    assert pair.world.run(2.0, lambda: pair.left.udp and pair.right.udp)


def test_a_new_address_ends_the_silence_between_nats() -> None:
    pair = cut_off(nat=True, nats=True)
    assert not pair.world.run(5.0, lambda: pair.left.udp or pair.right.udp), "both are silent"
    for end in (pair.left, pair.right):
        end.perform(end.machine.offer(Address("203.0.113.9", "655"), Source.REFLEXIVE, pair.world.now))
    assert pair.world.run(1.0, lambda: pair.left.udp and pair.right.udp)


def test_a_change_of_the_network_ends_the_silence_between_nats() -> None:
    pair = cut_off(nat=True, nats=True)
    for end in (pair.left, pair.right):
        end.perform(end.machine.retry(pair.world.now))
    assert pair.world.run(1.0, lambda: pair.left.udp and pair.right.udp)


def test_addresses_that_are_told_again_and_again_do_not_disturb_a_search() -> None:
    pair = cut_off(nat=True, nats=True)
    for _ in range(100):
        for end, other in ((pair.left, pair.right), (pair.right, pair.left)):
            end.perform(end.machine.offer(other.host.address, Source.REFLEXIVE, pair.world.now))
        pair.world.run(0.2)
    assert not pair.left.udp, "still silent"
    assert pair.world.run(20.0, lambda: pair.left.udp and pair.right.udp)


def test_neighbours_are_never_left_alone() -> None:
    assert all(step(elapsed, smaller=True, nats=False).send for elapsed in range(0, 1000, 3))
