"""Key lines of others: what is passed on to whom, and how much of it."""

from __future__ import annotations

import random

import pytest

from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.mesh.actions import SendLine
from gmesh.mesh.mesh import Mesh
from gmesh.mesh.relaying import RELAY_BURST
from gmesh.mesh.settings import MeshSettings
from tests.unit.test_hostile_bounds import Bench, Flows

KEY = "AB" * 48


class Ours:
    private_key = Ed25519PrivateKey.from_seed(bytes(32))

    def public_key(self, name: str) -> None:
        return None


@pytest.fixture
def bench() -> Bench:
    """We between old, through whom ghost is, both of tinc 1.0, and new of tinc 1.1."""
    bench = Bench()
    bench.mesh = Mesh(MeshSettings("me", options=0x700000C), 0.0, random.Random(1).randbytes, Flows(), Ours())
    bench.join(1, "old")
    bench.join(2, "new")
    edge = bench.mesh.registry.edge("me", "new")
    assert edge is not None
    edge.options = 0x700000C
    bench.say(1, "12 %n old ghost 192.0.2.9 655 c 1")
    bench.say(1, "12 %n ghost old 192.0.2.9 655 c 1")
    bench.wait(1)
    node = bench.mesh.registry.node("new")
    assert node is not None
    assert node.minor == 7
    return bench


def passed(bench: Bench, line: str) -> list[str]:
    return [str(each.line) for each in bench.say(1, line) if isinstance(each, SendLine) and each.connection == 2]


@pytest.mark.parametrize("answer", ["AAAAAAAA -1 -1 -1 0", "AABB 9999 64 4 0", f"{KEY} 427 9999 4 0"])
def test_requirement_27_no_key_is_passed_on_that_ends_who_reads_it(bench: Bench, answer: str) -> None:
    assert passed(bench, f"16 ghost new {answer}") == []


def test_keys_of_an_honest_old_node_are_passed_on(bench: Bench) -> None:
    good = f"16 ghost new {KEY} 427 64 4 0"
    assert passed(bench, good) == [good]
    assert passed(bench, f"16 ghost new {KEY} 427 0 4 0") == [f"16 ghost new {KEY} 427 0 0 0"], "no digest, no length"


def test_requirement_12_a_flood_of_one_neighbour_is_not_passed_on_whole(bench: Bench) -> None:
    assert sum(len(passed(bench, f"15 ghost new 19 {number}")) for number in range(3000)) <= RELAY_BURST
    bench.wait(2)
    assert passed(bench, f"16 ghost new {KEY} 427 64 4 0")
