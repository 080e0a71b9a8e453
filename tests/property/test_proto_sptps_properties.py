"""SPTPS under everything a network does: what is delivered, that no renewal is lost for good, and what is raised."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gmesh.errors import DatagramError, PeerError
from gmesh.proto.sptps import HandshakeStalled, Record, StreamSession
from gmesh.proto.sptps_flow import ReplayWindow, WindowState
from gmesh.proto.sptps_handshake import HandshakeFinished
from tests.vectors.legacy import pieces
from tests.vectors.sptps import datagram_pair, established_pair, exchange_streams, stream_pair


class Network:
    """Two ends, datagrams that do anything in between, and handshake records in order unless asked otherwise."""

    def __init__(self) -> None:
        self.sessions = established_pair(entropy=random.Random(3).randbytes)
        self.now = 0.0
        self.data: list[tuple[int, bytes]] = []
        self.handshakes: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        """By receiver."""
        self.serial = itertools.count()
        self.received: list[bytes] = []
        self.renewals = 0
        self.sent_at: dict[bytes, int] = {}

    def collect(self) -> None:
        for sender in (0, 1):
            self.handshakes[1 - sender].extend(self.sessions[sender].data_to_send())

    def send(self, sender: int) -> None:
        payload = b"%d" % next(self.serial)
        self.sent_at[payload] = self.renewals
        self.data.append((1 - sender, self.sessions[sender].send_record(0, payload)))

    def take(self, receiver: int, datagram: bytes) -> None:
        with contextlib.suppress(DatagramError):
            for event in self.sessions[receiver].receive(datagram, self.now):
                if isinstance(event, Record):
                    self.received.append(event.data)
                elif isinstance(event, HandshakeFinished):
                    self.renewals += 1
        self.collect()

    def deliver_data(self, at: int, keep: bool) -> None:
        if self.data:
            at %= len(self.data)
            self.take(*(self.data[at] if keep else self.data.pop(at)))

    def deliver_handshake(self, receiver: int) -> None:
        """To this end, or to the other where nothing waits for it."""
        for end in (receiver, 1 - receiver):
            if self.handshakes[end]:
                self.take(end, self.handshakes[end].popleft())
                return

    def settle(self) -> None:
        while any(self.handshakes):
            self.deliver_handshake(0)

    def works(self) -> bool:
        before = len(self.received)
        for sender in (0, 1):
            self.send(sender)
            self.deliver_data(-1, keep=False)
        return len(self.received) == before + 2


ends = st.integers(0, 1)
harmless = st.one_of(
    st.tuples(st.just("send"), ends),
    st.tuples(st.just("data"), st.one_of(st.just(-1), st.integers(0, 100)), st.booleans()),
    st.tuples(st.just("handshake"), ends),
    st.tuples(st.just("renew"), ends),
)
lossy = st.one_of(
    harmless,
    st.tuples(st.just("lose data"), st.integers(0, 100)),
    st.tuples(st.just("lose handshake"), ends),
    st.tuples(st.just("swap handshakes"), ends),
    st.tuples(st.just("repeat handshake"), ends),
    st.tuples(st.just("damage"), st.integers(0, 100), st.integers(0, 200)),
    st.tuples(st.just("wait"), st.floats(0.1, 6.0)),
)


def play(network: Network, action: tuple[Any, ...]) -> None:
    match action:
        case ("send", sender):
            network.send(sender)
        case ("data", at, keep):
            network.deliver_data(at, keep)
        case ("handshake", receiver):
            network.deliver_handshake(receiver)
        case ("renew", end):
            network.sessions[end].renew(network.now)
            network.collect()
        case ("lose data", at) if network.data:
            network.data.pop(at % len(network.data))
        case ("lose handshake", receiver) if network.handshakes[receiver]:
            network.handshakes[receiver].popleft()
        case ("swap handshakes", receiver) if len(network.handshakes[receiver]) > 1:
            network.handshakes[receiver].rotate(1)
        case ("repeat handshake", receiver) if network.handshakes[receiver]:
            network.handshakes[receiver].append(network.handshakes[receiver][0])
        case ("damage", at, where) if network.data:
            receiver, datagram = network.data[at % len(network.data)]
            changed = bytearray(datagram)
            changed[where % len(changed)] ^= 0x10
            network.take(receiver, bytes(changed))
        case ("wait", seconds):
            network.now += seconds


@given(st.lists(harmless, min_size=30, max_size=90))
@settings(max_examples=80, deadline=None)
def test_requirement_2_renewals_lose_no_datagram_and_deliver_none_twice(actions: list[tuple[Any, ...]]) -> None:
    """Handshake records come in order, datagrams in any order and more than once; fewer than the window is wide."""
    network = Network()
    for action in actions:
        play(network, action)
    network.settle()
    while network.data:
        network.deliver_data(0, keep=False)
    assert len(set(network.received)) == len(network.received)
    # Only the key before the present one is kept: what is older than one whole renewal (two ends finish it) may go.
    recent = {payload for payload, at in network.sent_at.items() if network.renewals - at <= 2}
    assert recent <= set(network.received)
    assert not any(session.renewing for session in network.sessions)
    assert network.works()


@given(st.lists(lossy, min_size=20, max_size=90))
@settings(max_examples=80, deadline=None)
def test_requirement_1_no_loss_or_damage_lasts_and_nothing_comes_twice(actions: list[tuple[Any, ...]]) -> None:
    """Whatever was lost, either all is well again, or the session says that a new one is due."""
    network = Network()
    for action in actions:
        play(network, action)
    network.settle()
    network.now += 100.0
    stalled = [event for session in network.sessions for event in session.on_timeout(network.now)]
    assert len(set(network.received)) == len(network.received)
    if any(session.renewing for session in network.sessions):
        assert HandshakeStalled() in stalled
        network.sessions = established_pair(entropy=random.Random(4).randbytes)
        network.data.clear()
    assert network.works()
    for end in (0, 1):
        network.sessions[end].renew(network.now)
        network.collect()
        network.settle()
        assert network.works()
    assert len(set(network.received)) == len(network.received)


texts = st.lists(st.binary(max_size=300), max_size=8)


@given(texts, texts, st.lists(st.integers(1, 90), min_size=1, max_size=6), st.sets(st.integers(0, 8)))
@settings(max_examples=60, deadline=None)
def test_streams_give_the_same_for_every_cutting(
    there: list[bytes], back: list[bytes], cuts: list[int], renewals: set[int]
) -> None:
    one, other = stream_pair(entropy=random.Random(5).randbytes)
    sizes = itertools.cycle(cuts)
    received: dict[StreamSession, list[bytes]] = {one: [], other: []}

    def carry() -> None:
        while one.pending or other.pending:
            for sender, receiver in ((one, other), (other, one)):
                for piece in pieces(sender.data_to_send(), sizes):
                    for event in receiver.receive(piece, 0.0):
                        if isinstance(event, Record):
                            received[receiver].append(event.data)

    carry()
    for number, (mine, theirs) in enumerate(itertools.zip_longest(there, back)):
        for session, data in ((one, mine), (other, theirs)):
            if data is not None:
                session.send_record(number, data)
        if number in renewals:
            (one if number % 2 else other).renew(0.0)
        if number % 3 == 0:
            carry()
    carry()
    assert received == {one: back, other: there}
    assert one.waiting_input == other.waiting_input == 0


@given(st.lists(st.binary(max_size=120), max_size=6), st.booleans(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_random_bytes_raise_only_what_is_allowed(inputs: list[bytes], established: bool, first: bool) -> None:
    stream = stream_pair()[not first]
    datagrams = (established_pair() if established else datagram_pair())[not first]
    for data in inputs:
        with contextlib.suppress(PeerError):
            stream.receive(data, 0.0)
        with contextlib.suppress(DatagramError):
            datagrams.receive(data, 0.0)
        if established:
            with contextlib.suppress(DatagramError):
                datagrams.receive_handshake(data, 0.0)


@given(st.binary(max_size=200), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_authentic_nonsense_raises_only_what_is_allowed(data: bytes, cut: int) -> None:
    """A member with the right keys may put anything into a handshake record."""
    size = (0, 64, 65, len(data))[cut]
    payload = (data * (size // max(1, len(data)) + 1))[:size]
    initiator, responder = established_pair()
    assert initiator._flow is not None
    with contextlib.suppress(DatagramError):
        responder.receive(initiator._flow.seal(128, payload), 0.0)
    one, other = stream_pair()
    exchange_streams(one, other)
    one._send(128, payload)
    with contextlib.suppress(PeerError):
        other.receive(one.data_to_send(), 0.0)


class Specified:
    """The replay window in the words of the specification, with its ring of bits."""

    def __init__(self, size: int) -> None:
        self.width, self.size = 8 * size, size
        self.missing = [False] * self.width
        self.expected = self.far = 0

    def take(self, number: int) -> bool:
        if self.size:
            if number >= self.expected + self.width:
                if self.far < self.size // 4:
                    self.far += 1
                    return False
                self.missing = [True] * self.width
            elif number > self.expected:
                for between in range(self.expected, number):
                    self.missing[between % self.width] = True
            elif number < self.expected:
                too_old = self.expected >= self.width and number < self.expected - self.width
                if too_old or not self.missing[number % self.width]:
                    return False
            self.missing[number % self.width] = False
            self.far = 0
        self.expected = max(self.expected, number + 1)
        return True


@given(st.sampled_from([0, 1, 4, 16]), st.lists(st.one_of(st.integers(0, 300), st.integers(-9, 9)), max_size=200))
@settings(max_examples=300, deadline=None)
def test_the_window_is_the_specified_one(size: int, numbers: list[int]) -> None:
    """Numbers below 10 are taken as steps from where the window stands, as traffic does."""
    window, specified = ReplayWindow(WindowState(size, 0, 0, 0)), Specified(size)
    for number in numbers:
        wanted = number if number > 9 else max(0, window.expected + number)
        taken = window.acceptable(wanted)
        if taken:
            window.accept(wanted)
        assert taken == specified.take(wanted)
        assert window.expected == specified.expected
