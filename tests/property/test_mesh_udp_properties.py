"""Whatever happens to a UDP machine, in whatever order: its bounds hold, its timers move on, and it never raises."""

from __future__ import annotations

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from gmesh.mesh.actions import Action, SendProbe, SetPath
from gmesh.mesh.candidates import MAX_CANDIDATES, Source
from gmesh.mesh.events import FlowCounters
from gmesh.mesh.pmtu import Overhead, PathMtu, Purpose
from gmesh.mesh.udp import UdpPath
from gmesh.values import MTU, Address

OVERHEADS = [Overhead(4, 16, 4), Overhead(4, 8, 4), Overhead(4, 1, 0), Overhead(15, 16, 64)]
ADDRESSES = [Address(f"192.0.2.{number}", "655") for number in range(6)] + [
    Address("2001:db8::1", "655"),
    Address("nonsense", "x"),
    Address("10.0.0.1", "0"),
]

events = st.one_of(
    st.tuples(st.just("policy"), st.booleans(), st.booleans(), st.booleans()),
    st.tuples(st.just("down")),
    st.tuples(st.just("key"), st.sampled_from(OVERHEADS)),
    st.tuples(st.just("key lost")),
    st.tuples(st.just("offer"), st.sampled_from(ADDRESSES), st.sampled_from(list(Source))),
    st.tuples(st.just("seen"), st.sampled_from(ADDRESSES)),
    st.tuples(st.just("answer"), st.integers(0, 40), st.sampled_from(ADDRESSES), st.sampled_from([1, 2])),
    st.tuples(st.just("frame"), st.binary(max_size=80), st.sampled_from(ADDRESSES)),
    st.tuples(st.just("too big"), st.integers(0, MTU)),
    st.tuples(st.just("limit"), st.integers(1, MTU)),
    st.tuples(st.just("retry")),
    st.tuples(st.just("data"), st.booleans()),
    st.tuples(st.just("wait"), st.floats(0.0, 90.0, allow_nan=False)),
)


class Driver:
    """Feeds events to a machine and checks it after each."""

    def __init__(self) -> None:
        self.now = 5.0
        self.flow = FlowCounters()
        self.sent: list[SendProbe] = []
        self.path: SetPath | None = None
        self.machine = UdpPath("bob", "alice", random.Random(1).randbytes, self, limit=MTU)

    def counters(self, node: str) -> FlowCounters:
        return self.flow

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, SendProbe):
                assert self.machine.has_key
                assert action.address is not None
                assert action.address.endpoint is not None
                assert 14 <= len(action.frame) <= MTU
                self.sent = [*self.sent[-39:], action]
            elif isinstance(action, SetPath):
                self.path = action
        mtu = self.machine.mtu
        assert 0 <= mtu.min <= mtu.max <= mtu.limit <= MTU
        assert mtu.min <= mtu.mtu <= mtu.limit
        assert len(self.machine.candidates) <= MAX_CANDIDATES
        assert self.path is None or self.path.udp or self.path.min_mtu == 0

    def step(self, event: tuple) -> None:  # type: ignore[type-arg]
        machine, now = self.machine, self.now
        match event:
            case ("policy", usable, pmtu, neighbour):
                self.take(machine.set_policy(usable=usable, pmtu=pmtu, neighbour=neighbour, now=now))
            case ("down",):
                self.take(machine.down())
            case ("key", overhead):
                self.take(machine.key_installed(overhead, now))
            case ("key lost",):
                self.take(machine.key_lost(now))
            case ("offer", address, source):
                self.take(machine.offer(address, source, now))
            case ("seen", address):
                self.flow.last_authentic = now
                self.take(machine.address_seen(address, now))
            case ("answer", back, address, kind):
                if back < len(self.sent):
                    request = self.sent[-1 - back].frame
                    answer = b"\1" + request[1:]
                    if kind == 2:
                        answer = b"\2" + len(request).to_bytes(2, "big") + bytes(15)
                    self.flow.last_authentic = now
                    self.take(machine.probe_received(answer, address, now))
            case ("frame", frame, address):
                self.take(machine.probe_received(frame, address, now))
            case ("too big", size):
                self.take(machine.too_big(size, now))
            case ("limit", limit):
                self.take(machine.set_limit(limit, 60.0, now))
            case ("retry",):
                self.take(machine.retry(now))
            case ("data", by_udp):
                self.flow.wanted += 1
                self.flow.udp_out += int(by_udp)
            case ("wait", seconds):
                self.wait(seconds)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        timers = probes = 0
        while (due := self.machine.next_timeout()) <= end:
            self.now = max(self.now, due)
            actions = self.machine.on_timeout(self.now)
            probes += sum(isinstance(action, SendProbe) for action in actions)
            self.take(actions)
            assert self.machine.next_timeout() > self.now, "a timer that does not move on"
            timers += 1
        self.now = end
        assert timers <= 20 + 60 * seconds
        # At worst all candidates every 0.25 s while searching.
        assert probes <= 60 + 4 * MAX_CANDIDATES * seconds


@settings(max_examples=150, deadline=None)
@given(st.lists(events, max_size=40))
def test_any_sequence_of_events_keeps_the_invariants(sequence: list[tuple]) -> None:  # type: ignore[type-arg]
    driver = Driver()
    driver.take(driver.machine.set_policy(usable=True, pmtu=True, neighbour=True, now=driver.now))
    for event in sequence:
        driver.step(event)


@given(st.sampled_from(OVERHEADS), st.integers(580, 1600))
def test_sizes_of_one_class_make_datagrams_of_one_length(overhead: Overhead, datagram: int) -> None:
    frame = overhead.largest_frame(datagram)
    assert overhead.datagram(frame) <= datagram < overhead.datagram(frame + 1)
    assert overhead.fit(frame) == frame
    assert overhead.datagram(overhead.below(frame)) < overhead.datagram(frame)
    assert overhead.fit(overhead.below(frame)) == overhead.below(frame)


@given(st.sampled_from(OVERHEADS), st.integers(660, 1700), st.sampled_from([4, 6]))
def test_the_search_ends_at_the_largest_frame_within_eight_rounds(
    overhead: Overhead, carried: int, family: int
) -> None:
    path = PathMtu(MTU)
    path.overhead = overhead
    path.proved(64)
    rounds = 0
    while (current := path.begin(float(rounds), Purpose.SEARCH, family)) is not None:
        rounds += 1
        assert rounds <= 8
        for target in list(current.targets):
            if overhead.datagram(target) <= carried:
                path.proved(target)
        if path.round is not None:
            path.failed(path_lives=True)
    assert path.settled
    assert path.min == path.max == path.mtu == min(MTU, overhead.largest_frame(carried))


@given(st.lists(st.integers(0, MTU), max_size=30), st.integers(64, MTU))
def test_refused_sizes_only_ever_lower(sizes: list[int], proved: int) -> None:
    path = PathMtu(MTU)
    path.proved(proved)
    for size in sizes:
        before = (path.max, path.mtu)
        path.too_big(size)
        assert path.max <= before[0]
        assert path.mtu <= max(before[1], path.min)
        assert path.max >= 512
        assert math.isfinite(path.min)
