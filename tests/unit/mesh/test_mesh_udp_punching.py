"""Hole punching between two NATs: both drop what they do not know, and some are spoiled by what they do not know."""

from __future__ import annotations

import pytest
from udp_world import Pair, make_pair

from gmesh.mesh.punching import OPENING, REFLEXIVE_CYCLE, Turn, step


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


@pytest.mark.parametrize("skew", [0.0, 0.05, 0.1])
def test_requirement_15_openers_pass_nats_that_strangers_spoil(skew: float) -> None:
    pair, through = punch(spoiled=True, skew=skew)
    assert through
    assert pair.world.now - 1000 < 1.0


@pytest.mark.parametrize("skew", [0.3, 1.0, 2.0])
def test_requirement_15_a_spoiled_start_is_made_good_later(skew: float) -> None:
    _, through = punch(spoiled=True, skew=skew)
    assert through


def test_phases_follow_each_other_and_take_turns() -> None:
    opening = sum(phase.duration for phase in OPENING)
    cycle = sum(phase.duration for phase in REFLEXIVE_CYCLE)
    turns = set()
    elapsed = 0.0
    while elapsed < opening + 2 * cycle:
        ours = step(elapsed, smaller=True, reflexive=True)
        theirs = step(elapsed, smaller=False, reflexive=True)
        assert ours.remaining > 0
        assert ours.interval > 0
        turns.add((ours.send, theirs.send))
        elapsed += min(ours.remaining, 0.25)
    assert turns == {(True, True), (True, False), (False, True), (False, False)}
    silence = [phase.duration for phase in REFLEXIVE_CYCLE if phase.turn is Turn.NEITHER]
    assert min(silence) > 30, "longer than an unanswered entry lives in a NAT"


def test_neighbours_are_never_left_alone() -> None:
    assert all(step(elapsed, smaller=True, reflexive=False).send for elapsed in range(0, 1000, 3))
