"""Framing and the meta connection: how bytes are cut never matters, and no bytes raise anything but PeerError."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gmesh.errors import PeerError
from gmesh.proto.framing import LineFraming
from gmesh.proto.meta_events import FrameReceived, RequestReceived, Verified
from gmesh.proto.meta_start import MetaStart
from tests.vectors.legacy import connect, deliver, legacy_meta, pieces

sizes = st.lists(st.integers(1, 700), min_size=1, max_size=12)


def endless(cuts: list[int]) -> Iterator[int]:
    return itertools.cycle(cuts)


def xor(start: int) -> Any:
    """A toy stream cipher with a state."""
    key = itertools.count(start)
    return lambda data: bytes(byte ^ (next(key) & 0xFF) for byte in data)


items = st.lists(st.one_of(st.binary(max_size=300), st.text("abc ", max_size=200), st.just("switch")), max_size=12)


@given(items, sizes)
def test_framing_gives_the_same_for_every_cutting(content: list[bytes | str], cuts: list[int]) -> None:
    """Texts are lines, bytes are bodies after a line that announces them; "switch" turns encryption on, once."""
    stream = bytearray()
    encrypt = None
    for item in content:
        if item == "switch" and encrypt is None:
            stream += b"switch\n"
            encrypt = xor(7)
            continue
        plain = b"body %d\n" % len(item) + item if isinstance(item, bytes) else item.encode() + b"\n"
        stream += encrypt(plain) if encrypt else plain

    framing = LineFraming()
    found: list[bytes | str] = []
    body: int | None = None
    switched = False
    for piece in pieces(bytes(stream), endless(cuts)):
        framing.feed(piece)
        while True:
            if body is not None:
                data = framing.take_body(body)
                if data is None:
                    break
                found.append(data)
                body = None
                continue
            line = framing.take_line()
            if line is None:
                break
            if line.startswith("body "):
                body = int(line[5:])
            else:
                found.append(line)
                if line == "switch" and not switched:
                    switched = True
                    framing.switch(xor(7))
    if body == 0:
        found.append(b"")
    assert found == content
    assert len(framing) == 0


def run(cuts: list[int], plain: bytes) -> tuple[list[Any], list[Any], bytes, bytes]:
    """A handshake and one transmission of alice, with everything cut into pieces."""
    alice, bob = legacy_meta("alice", "bob", outgoing=True), legacy_meta("bob", "alice", outgoing=False)
    at_alice: list[Any] = []
    at_bob: list[Any] = []
    for _ in range(6):
        at_bob += deliver(alice, bob, endless(cuts), 1.0)
        at_alice += deliver(bob, alice, endless(cuts), 1.0)
    alice.send(plain)
    sent = bytearray()
    try:
        for piece in pieces(alice.data_to_send(), endless(cuts)):
            sent += piece
            at_bob += bob.receive(piece, 2.0)
        bob.receive(b"", 2.0)
    except PeerError as error:
        at_bob.append(str(error))
    return at_alice, at_bob, bytes(sent), bob.data_to_send()


lines = st.sampled_from(
    [b"8\n", b"9\n", b"14 5 alice\n", b"10 1 alice 10.0.0.0/8\n", b"15 alice bob 0\n", b"99 x\n", b"7\n", b"1 2\n"]
)
bodies = st.binary(max_size=60).map(lambda body: b"17 %d\n" % len(body) + body)


@settings(max_examples=25, deadline=None)
@given(sizes, st.lists(st.one_of(lines, bodies), max_size=8).map(b"".join))
def test_connection_gives_the_same_for_every_cutting(cuts: list[int], plain: bytes) -> None:
    at_alice, at_bob, sent, answer = run(cuts, plain)
    expected_alice, expected_bob, _, expected_answer = run([1 << 20], plain)
    assert at_alice == expected_alice
    assert at_bob == expected_bob
    if not isinstance(at_bob[-1], str):
        assert answer == expected_answer
        assert len(sent) == len(plain)


@settings(deadline=None)
@given(st.booleans(), st.lists(st.binary(max_size=400), max_size=8))
def test_random_bytes_are_peer_errors_and_nothing_else(outgoing: bool, chunks: list[bytes]) -> None:
    meta = legacy_meta("alice", "bob", outgoing=outgoing)
    feed(meta, chunks)


handshake_like = st.builds(
    lambda number, rest: b"%d " % number + rest + b"\n",
    st.integers(0, 6),
    st.one_of(
        st.just(b"bob 17"),
        st.just(b"429 672 0 0 " + b"12" * 256),
        st.just(b"^cookie 0"),
        st.binary(max_size=200),
        st.text("0123456789ABCDEF .", max_size=200).map(str.encode),
    ),
)


@settings(deadline=None)
@given(st.booleans(), st.lists(handshake_like, max_size=6))
def test_plausible_lines_are_peer_errors_and_nothing_else(outgoing: bool, chunks: list[bytes]) -> None:
    feed(legacy_meta("alice", "bob", outgoing=outgoing), chunks)


def feed(meta: MetaStart, chunks: list[bytes]) -> None:
    failed = False
    for chunk in chunks:
        try:
            events = meta.receive(chunk, 1.0)
        except PeerError:
            failed = True
        else:
            assert not failed
            assert not any(isinstance(event, Verified) for event in events)
    assert not meta.active


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=3000), sizes)
def test_random_bytes_on_an_active_connection(plain: bytes, cuts: list[int]) -> None:
    alice, bob = legacy_meta("alice", "bob", outgoing=True), legacy_meta("bob", "alice", outgoing=False)
    connect(alice, bob)
    alice.send(plain)
    try:
        deliver(alice, bob, endless(cuts), 1.0)
    except PeerError:
        assert not bob.active


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(min_size=14, max_size=200), max_size=10), sizes)
def test_frames_arrive_as_they_were_sent(frames: list[bytes], cuts: list[int]) -> None:
    alice, bob = legacy_meta("alice", "bob", outgoing=True), legacy_meta("bob", "alice", outgoing=False)
    connect(alice, bob)
    alice.send(b"".join(b"17 %d\n" % len(frame) + frame for frame in frames) + b"14 5 alice\n")
    *received, last = deliver(alice, bob, endless(cuts), 1.0)
    assert received == [FrameReceived(frame) for frame in frames]
    assert isinstance(last, RequestReceived)
