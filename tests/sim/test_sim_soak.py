"""A day of random failures on the fake clock: nodes end without a word, links flap, the mesh falls apart and heals.

Nodes want to talk to each other all the time. When it is over all agree, everyone can talk to everyone, and nothing has
been piled up. ``GMESH_SOAK_MINUTES`` says how long the day is.
"""

from __future__ import annotations

import gc
import os
import time
import tracemalloc

import pytest

from tests.sim.simnet import World

COUNT = 10
SHORT_MINUTES, DAY_MINUTES = 4, 24 * 60
SETTLING = 120.0
MOST_GROWTH = 64 * 1024
KEEP = 30.0
"""Two nodes that can reach each other all this time have keys at its end."""


def is_sptps(name: str) -> bool:
    return sum(name.encode()) % 2 != 0


class Day:
    """Failures at random times, one kind at a time."""

    def __init__(self, seed: int) -> None:
        # Keys expire often, so that renewals meet failures too.
        self.world = World(seed=seed, is_sptps=is_sptps, settings={"key_expire": 300.0})
        self.names = [f"n{number:02d}" for number in range(COUNT)]
        for number, name in enumerate(self.names):
            others = self.world.random.sample([other for other in self.names if other != name], 2)
            self.world.add(name, [self.names[number - 1], *others])
        for node in self.world.nodes.values():
            self.world.at(self.world.now, node.dial)
        self.world.run(30.0, until=self.world.agreed)
        self.failures = 0
        self.read = 0
        self.tried = 0

    def crash(self) -> None:
        name = self.world.random.choice(self.names)
        old = self.world.nodes[name]
        old.kill()
        subnets = [str(subnet) for subnet in old.mesh.settings.subnets]
        fresh = self.world.add(name, old.targets, subnets)
        self.world.after(self.world.random.choice([0.2, 3.0, 20.0]), fresh.dial)

    def flap(self) -> None:
        node = self.world.nodes[self.world.random.choice(self.names)]
        for end in list(node.ends.values()):
            if self.world.random.random() < 0.7:
                other = end.other
                end.lost()
                if other is not None:
                    self.world.after(self.world.random.uniform(0.0, 3.0), other.lost)

    def part(self) -> None:
        half = set(self.world.random.sample(self.names, self.world.random.randrange(1, COUNT // 2)))
        self.world.cut = lambda a, b: (a in half) != (b in half)
        self.world.sever()
        self.world.after(self.world.random.uniform(1.0, 60.0), self.join)

    def join(self) -> None:
        self.world.cut = lambda a, b: False

    def talk(self, pairs: int) -> None:
        for _ in range(pairs):
            a, b = self.world.random.sample(self.names, 2)
            node = self.world.nodes[a]
            if not node.silent and not self.world.nodes[b].silent and b in node.reachable():
                self.tried += 1
                self.read += node.want(b)

    def pass_by(self, minutes: float) -> None:
        end = self.world.now + 60 * minutes
        while self.world.now < end:
            self.world.random.choice([self.crash, self.flap, self.flap, self.part])()
            self.failures += 1
            quiet_until = self.world.now + self.world.random.expovariate(1 / 20)
            while self.world.now < quiet_until:
                self.talk(4)
                self.world.run(1.0)

    def settle(self) -> None:
        self.join()
        for name in self.names:
            self.world.nodes[name].dial()
        self.world.run(SETTLING, until=self.world.agreed, every=1.0)
        pairs = [(a, b) for a in self.names for b in self.names if a != b]
        for _ in range(int(KEEP)):
            for a, b in pairs:
                self.world.nodes[a].want(b)
            self.world.run(1.0)
        deaf = [(a, b) for a, b in pairs if not self.world.nodes[a].want(b)]
        assert not deaf, f"after {self.failures} failures no packets pass between {deaf}"
        assert self.world.agreed()


def live_bytes(day: Day) -> int:
    """What all meshes hold once what is remembered for a minute is gone."""
    for node in day.world.nodes.values():
        node.scripts.clear()
        node.logs.clear()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def soak(seed: int, minutes: float, capsys: pytest.CaptureFixture[str]) -> float:
    """Two halves, each with a quiet end; returns by how many bytes a daemon grew in the second, if that is traced."""
    began = time.process_time()
    day = Day(seed)
    held = []
    for _ in range(2):
        day.pass_by(minutes / 2)
        day.settle()
        held.append(live_bytes(day) / COUNT)
    with capsys.disabled():
        print(
            f"\n{minutes:g} minutes of theirs, {day.failures} failures, {COUNT} nodes: {day.read} of {day.tried}"
            f" packets could be read at once; {dict(day.world.lines)}; bytes per daemon after each half: {held};"
            f" {time.process_time() - began:.0f} s of our processor"
        )
    for node in day.world.nodes.values():
        assert len(node.mesh.registry.nodes) == COUNT
        assert all(len(sessions) <= 4 for sessions in node.plane.sessions.values())
    return held[1] - held[0]


def test_minutes_of_random_failures(capsys: pytest.CaptureFixture[str]) -> None:
    soak(31, SHORT_MINUTES, capsys)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_day_of_random_failures(capsys: pytest.CaptureFixture[str]) -> None:
    tracemalloc.start()
    try:
        growth = soak(32, float(os.environ.get("GMESH_SOAK_MINUTES", DAY_MINUTES)), capsys)
    finally:
        tracemalloc.stop()
    assert growth < MOST_GROWTH
