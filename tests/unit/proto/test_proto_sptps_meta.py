"""The meta connection of 1.1: which handshake is chosen, what requests become, and what is refused."""

from __future__ import annotations

import contextlib
import itertools
import math

import pytest

from gmesh.crypto import ed25519
from gmesh.errors import PeerError
from gmesh.proto.meta import LegacyMeta
from gmesh.proto.meta_base import MAX_WAITING_INPUT, PeerCredentials
from gmesh.proto.meta_events import (
    Active,
    ControlRequested,
    DatagramReceived,
    FrameReceived,
    Identified,
    InfoReceived,
    InvitationRequested,
    KeyUnknownThere,
    LineRejected,
    MetaEvent,
    PongReceived,
    PublicKeyReceived,
    RequestReceived,
    Verified,
)
from gmesh.proto.meta_sptps import SptpsMeta
from gmesh.proto.meta_start import MetaStart, effective_minor
from gmesh.proto.meta_upgrade import TERMREQ_SECONDS, UpgradeMeta
from gmesh.proto.requests import AddEdge, parse_request
from gmesh.proto.requests_11 import MtuInfo, UdpInfo
from gmesh.proto.sptps import HANDSHAKE_SECONDS, StreamSession
from gmesh.values import Address
from tests.vectors.legacy import counting_entropy, pieces, private_key
from tests.vectors.sptps import ed25519_key
from tests.vectors.sptps_meta import MY_OPTIONS, active_pair, deliver, pair, run, start

# The choice


@pytest.mark.parametrize(
    ("theirs", "ours", "known", "minor"),
    [
        (7, True, True, 7),
        (2, True, True, 2),
        (1, True, True, 1),
        (7, True, False, 1),
        (1, True, False, 1),
        (0, True, False, 0),
        (7, False, True, 0),
        (7, False, False, 0),
    ],
)
def test_effective_minor(theirs: int, ours: bool, known: bool, minor: int) -> None:
    assert effective_minor(theirs, ours=ours, peer_key_known=known) == minor


@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_sptps_where_both_know_the_keys(cut: int) -> None:
    alice, bob = pair()
    of_alice, of_bob = run(alice, bob, sizes=itertools.repeat(cut))
    assert isinstance(alice.chosen, SptpsMeta)
    assert isinstance(bob.chosen, SptpsMeta)
    for events, peer in ((of_alice, "bob"), (of_bob, "alice")):
        assert events == [Identified(peer, 7), Verified(), Active(peer, "655", 0, 0, MY_OPTIONS, MY_OPTIONS)]
    assert (alice.name, bob.name) == ("bob", "alice")


def test_a_peer_with_another_key_than_its_file_says_is_refused_with_advice() -> None:
    alice, bob = (
        start("alice", "bob", outgoing=True),
        start("bob", "alice", outgoing=False, ed25519_key=ed25519_key("x")),
    )
    with pytest.raises(
        PeerError, match=r"signature.* is wrong: compare hosts/.* here with .*'s own, as its key may have"
    ):
        run(alice, bob)


@pytest.mark.parametrize("knows_a", [False, True])
@pytest.mark.parametrize("knows_b", [False, True])
def test_requirement_5_upgrade_where_a_key_is_missing_on_either_side(knows_a: bool, knows_b: bool) -> None:
    """Also where only the connecting side knows the other's key, which hangs with the originals."""
    if knows_a and knows_b:
        return
    alice = start("alice", "bob", outgoing=True, knows=knows_b)
    bob = start("bob", "alice", outgoing=False, knows=knows_a)
    learned: dict[str, list[MetaEvent]] = {"alice": [], "bob": []}
    for _ in range(6):
        for name, sender, receiver in (("bob", alice, bob), ("alice", bob, alice)):
            with contextlib.suppress(PeerError):
                learned[name] += deliver(sender, receiver)
    assert isinstance(alice.chosen, UpgradeMeta)
    assert isinstance(bob.chosen, UpgradeMeta)
    for name, peer, knew in (("alice", "bob", knows_b), ("bob", "alice", knows_a)):
        assert learned[name][-1] == PublicKeyReceived(peer, ed25519_key(peer).public, knew)
    for end in (alice, bob):
        assert not end.active
        with pytest.raises(PeerError, match="begin again with Ed25519"):
            end.receive(b"", 0.0)


@pytest.mark.parametrize("first", ["alice", "bob"])
def test_legacy_peers_without_a_key_are_as_before(first: str) -> None:
    """The other end is what gmesh was: a tinc 1.0."""
    legacy_end = "bob" if first == "alice" else "alice"

    def credentials(name: str) -> PeerCredentials:
        return PeerCredentials(private_key(name).public, 0xC)

    ours = start(first, legacy_end, outgoing=first == "alice", knows=False)
    theirs = MetaStart(
        outgoing=first != "alice",
        my_name=legacy_end,
        rsa_key=private_key(legacy_end),
        ed25519_key=None,
        expected_name=first if first != "alice" else "",
        credentials=credentials,
        entropy=counting_entropy(9),
        now=0.0,
        ping_interval=60.0,
        ping_timeout=5.0,
        port="655",
    )
    of_ours, of_theirs = run(ours, theirs)
    assert of_ours == [Identified(legacy_end, 0), Verified(), Active(legacy_end, "655", 0, 0, 0xC, MY_OPTIONS)]
    assert isinstance(of_theirs[-1], Active)
    assert type(ours.chosen) is LegacyMeta
    ours.send(b"10 1 a 10.0.0.0/8\n")
    assert isinstance(deliver(ours, theirs)[0], RequestReceived)


@pytest.mark.parametrize("outgoing", [True, False])
@pytest.mark.parametrize("version", ["17", "17.0"])
def test_a_rollback_is_refused_with_advice(outgoing: bool, version: str) -> None:
    meta = start("alice", "bob", outgoing=outgoing)
    meta.data_to_send()
    with pytest.raises(PeerError) as caught:
        meta.receive(f"0 bob {version}\n".encode(), 0.0)
    for word in ("hosts/bob", "Ed25519PublicKey", "gmesh reload", "refused"):
        assert word in str(caught.value)
    assert meta.data_to_send() == b""


def test_experimental_protocol_off_takes_everybody_as_legacy() -> None:
    bob = start("bob", "alice", outgoing=False, ed25519_key=None)
    bob.receive(b"0 alice 17.7\n", 0.0)
    assert bob.data_to_send().startswith(b"0 bob 17.0\n1 ")
    assert type(bob.chosen) is LegacyMeta


def test_legacy_without_an_rsa_key_is_refused() -> None:
    bob = start("bob", "alice", outgoing=False, knows=False, rsa_key=None)
    with pytest.raises(PeerError, match="RSA"):
        bob.receive(b"0 alice 17\n", 0.0)


@pytest.mark.parametrize(
    ("greeting", "knows", "sent"),
    [(b"0 bob 17.7\n", True, b"0 alice 17.7\n"), (b"0 bob 17.7\n", False, b"0 alice 17.1\n")],
)
def test_our_minor_says_whether_we_know_the_key(greeting: bytes, knows: bool, sent: bytes) -> None:
    assert start("alice", "bob", outgoing=True, knows=knows).data_to_send() == sent
    accepting = start("alice", "bob", outgoing=False, knows=knows)
    assert accepting.data_to_send() == b""
    accepting.receive(greeting, 0.0)
    assert accepting.data_to_send().startswith(sent)


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (b"0 carol 17.7\n", "unknown"),
        (b"0 bob 17.7\n", "our own name"),
        (b"0 alice 18.7\n", "version 18"),
        (b"1 alice 17.7\n", "METAKEY where ID"),
        (b"hello\n", "number"),
        (b"0 alice seven\n", "version is malformed"),
        (b"x" * 3000, "longer"),
    ],
)
def test_wrong_greetings_are_answered_by_nothing(greeting: bytes, reason: str) -> None:
    bob = start("bob", "alice", outgoing=False)
    with pytest.raises(PeerError, match=reason):
        bob.receive(greeting, 0.0)
    assert bob.data_to_send() == b""
    with pytest.raises(PeerError, match=reason):
        bob.on_timeout(0.0)


def test_another_node_than_the_one_connected_to() -> None:
    alice = start("alice", "bob", outgoing=True)
    with pytest.raises(PeerError, match="carol instead of bob"):
        alice.receive(b"0 carol 17.7\n", 0.0)


def test_unknown_names_to_connect_to_fail_at_the_first_occasion() -> None:
    alice = start("alice", "bob", outgoing=True, expected_name="carol")
    assert alice.next_timeout() == -math.inf
    with pytest.raises(PeerError, match="carol is unknown"):
        alice.on_timeout(0.0)


def test_control_and_invitation_greetings() -> None:
    control = start("bob", "alice", outgoing=False)
    assert control.receive(b"0 ^COOKIE 0\nmore\n", 0.0) == [ControlRequested("COOKIE")]
    assert control.take_remaining() == b"more\n"
    assert control.next_timeout() == math.inf
    invited = start("bob", "alice", outgoing=False)
    assert invited.receive(b"0 ?KEY 17.1\n\x00\x01", 0.0) == [InvitationRequested("KEY")]
    assert invited.take_remaining() == b"\x00\x01"


def test_upgrade_refuses_another_key_and_what_is_none() -> None:
    def upgrade(sent: str) -> MetaStart:
        alice = start("alice", "bob", outgoing=True, knows=False)
        bob = start("bob", "alice", outgoing=False, knows=False)
        deliver(alice, bob)
        deliver(bob, alice)
        deliver(alice, bob)
        deliver(bob, alice)
        assert isinstance(alice.chosen, UpgradeMeta)
        alice.chosen._send_ack = (  # type: ignore[method-assign]
            lambda now: alice.chosen._put(f"4 {sent}\n".encode())  # type: ignore[union-attr]
        )
        deliver(alice, bob)
        deliver(bob, alice)
        deliver(alice, bob)
        return bob

    good = ed25519.public_to_text(ed25519_key("alice").public)
    with pytest.raises(PeerError, match="begin again"):
        upgrade(good).receive(b"", 0.0)
    for sent, reason in (
        ("655 10 c", "ACK of 3 fields"),
        ("x" * 42, "42 characters"),
        ("B" + "A" * 42, "small order"),
        (ed25519.public_to_text((2).to_bytes(32, "little")), "no point"),
        ("!" * 43, "base64"),
    ):
        with pytest.raises(PeerError, match=reason):
            upgrade(sent).receive(b"", 0.0)


def test_an_upgrade_does_not_wait_long_for_a_peer_that_went_silent() -> None:
    alice = start("alice", "bob", outgoing=True, knows=False)
    bob = start("bob", "alice", outgoing=False, knows=False)
    for _ in range(3):
        deliver(alice, bob)
        of_alice = deliver(bob, alice, now=2.0)
    assert isinstance(of_alice[-1], PublicKeyReceived)
    assert alice.next_timeout() == 2.0 + TERMREQ_SECONDS
    alice.on_timeout(2.0)
    with pytest.raises(PeerError, match="begin again"):
        alice.on_timeout(2.0 + TERMREQ_SECONDS)


# An active connection


def test_requests_packets_and_raw_datagrams_pass() -> None:
    alice, bob = active_pair()
    edge = "12 ab12 alice bob 127.0.0.1 655 700000c 29 127.0.0.1 1655"
    frame, raw = bytes(range(60)), bytes(range(12)) + b"a datagram"
    alice.send(
        f"{edge}\n17 60\n".encode() + frame + b"21 22\n" + raw + b"22 alice bob 10.0.0.1 655\n23 alice bob 9000\n"
    )
    events = deliver(alice, bob, sizes=itertools.cycle([7, 1, 50]))
    request = parse_request(edge)
    assert isinstance(request, AddEdge)
    assert request.local == Address("127.0.0.1", "1655")
    assert events == [
        RequestReceived(request, edge),
        FrameReceived(frame),
        DatagramReceived(bytes(range(6)), bytes(range(6, 12)), b"a datagram"),
        InfoReceived(UdpInfo("alice", "bob", Address("10.0.0.1", "655")), "22 alice bob 10.0.0.1 655"),
        InfoReceived(MtuInfo("alice", "bob", 1518), "23 alice bob 9000"),
    ]


def test_each_line_is_a_record_of_its_own_and_raw_bytes_are_outside() -> None:
    alice, bob = active_pair()
    before = alice.chosen._session._next_sent  # type: ignore[union-attr]
    alice.send(b"8\n9\n21 17\n" + b"R" * 17 + b"8\n")
    assert alice.chosen._session._next_sent == before + 4  # type: ignore[union-attr]
    assert b"R" * 17 in alice.data_to_send()
    assert bob.active


def test_ping_is_answered_and_measured() -> None:
    alice, bob = active_pair()
    alice.on_timeout(60.0)
    deliver(alice, bob, 60.0)
    assert deliver(bob, alice, 60.5) == [PongReceived(0.5)]
    alice.ping_now(70.0)
    assert alice.next_timeout() == 75.0
    with pytest.raises(PeerError, match="no answer"):
        alice.on_timeout(75.0)


def test_authentication_has_its_time() -> None:
    for end in pair():
        assert end.next_timeout() == 5.0
        with pytest.raises(PeerError, match="too long"):
            end.on_timeout(5.0)
    alice, bob = pair()
    deliver(alice, bob)
    with pytest.raises(PeerError, match="too long"):
        bob.on_timeout(5.0)


class Liar:
    """bob with an active alice who sends any record."""

    def __init__(self) -> None:
        alice, self.bob = active_pair()
        assert isinstance(alice.chosen, SptpsMeta)
        self.session: StreamSession = alice.chosen._session

    def say(self, *records: bytes, kind: int = 0) -> list[MetaEvent]:
        for record in records:
            self.session.send_record(kind, record)
        return self.bob.receive(self.session.data_to_send(), 0.0)


@pytest.mark.parametrize(
    ("records", "kind", "reason"),
    [
        ([b""], 0, "empty"),
        ([b"\n"], 0, "empty"),
        ([b"8\n"], 1, "type 1"),
        ([b"x\n"], 0, "number"),
        ([b"10 1 a " + b"x" * 3000 + b"\n"], 0, "longer"),
        ([b"4 655 10 c\n"], 0, "already active"),
        ([b"0 alice 17.7\n"], 0, "already active"),
        ([b"7\n"], 0, "end the connection"),
        ([b"5\n"], 0, "unknown request 5"),
        ([b"17 60\n", bytes(59)], 0, "59 bytes where 60"),
        ([b"21 16\n"], 0, "SPTPS_PACKET"),
        ([b"21 40000\n"], 0, "SPTPS_PACKET"),
        ([b"21 x\n"], 0, "SPTPS_PACKET"),
        ([b"8\n8\n"], 0, "bad PING|printable"),
    ],
)
def test_what_ends_the_connection(records: list[bytes], kind: int, reason: str) -> None:
    with pytest.raises(PeerError, match=reason):
        Liar().say(*records, kind=kind)


@pytest.mark.parametrize(
    "line",
    ["10 1 a nonsense", "15 a b 0", "18 1", "19", "20 x", "22 a b word 655", "22 a", "23 a b 511", "23 a b", "24"],
)
def test_what_is_its_origins_fault_ends_nothing(line: str) -> None:
    liar = Liar()
    (event,) = liar.say(line.encode() + b"\n")
    assert isinstance(event, LineRejected)
    assert event.line == line
    assert liar.bob.active


def test_events_before_an_error_are_not_lost() -> None:
    liar = Liar()
    (event,) = liar.say(b"10 1 alice 10.0.0.0/8\n", b"\n")
    assert isinstance(event, RequestReceived)
    with pytest.raises(PeerError, match="empty"):
        liar.bob.receive(b"", 0.0)


def test_only_ack_is_taken_first_and_waiting_input_is_bounded() -> None:
    alice, bob = pair()
    deliver(alice, bob)
    deliver(bob, alice)
    deliver(alice, bob, proceed=False)
    deliver(bob, alice, proceed=False)
    assert isinstance(alice.chosen, SptpsMeta)
    alice.chosen._session.send_record(0, b"8\n")
    with pytest.raises(PeerError, match="PING where ACK"):
        bob.proceed(0.0) or bob.receive(alice.data_to_send(), 0.0)
    alice, bob = pair()
    deliver(alice, bob)
    deliver(bob, alice)
    deliver(alice, bob, proceed=False)
    with pytest.raises(PeerError, match="before the handshake was finished"):
        bob.receive(bytes(MAX_WAITING_INPUT + 1), 0.0)


def test_requirement_3_long_lived_connections_are_renewed() -> None:
    alice, bob = active_pair(renewal_seconds=100.0, ping_interval=1000.0)
    assert alice.next_timeout() == 100.0
    assert bob.next_timeout() == pytest.approx(110.0)
    old = alice.chosen._session._sending  # type: ignore[union-attr]
    alice.on_timeout(100.0)
    assert run(alice, bob, now=100.5) == ([], [])
    assert alice.chosen._session._sending is not old  # type: ignore[union-attr]
    assert alice.next_timeout() == 200.5
    assert bob.next_timeout() == pytest.approx(210.5)
    alice.send(b"8\n")
    deliver(alice, bob)
    assert alice.active


def test_a_renewal_without_an_answer_ends_the_connection() -> None:
    alice, _ = active_pair(renewal_seconds=100.0, ping_interval=1000.0)
    alice.on_timeout(100.0)
    assert alice.next_timeout() == 100.0 + HANDSHAKE_SECONDS
    with pytest.raises(PeerError, match="too long"):
        alice.on_timeout(110.0)


def test_requirement_3_a_worn_connection_is_made_anew() -> None:
    alice, _ = active_pair()
    alice.chosen._session._next_sent = 2**31 + 1  # type: ignore[union-attr]
    with pytest.raises(PeerError, match="made anew"):
        alice.on_timeout(60.0)


def test_frames_of_impossible_size_are_dropped() -> None:
    liar = Liar()
    assert liar.say(b"17 5\n", bytes(5), b"17 1600\n", bytes(1600)) == []
    assert liar.bob.dropped_frames == 2


def test_sending_takes_whole_bodies_on_active_connections_only() -> None:
    fresh, _ = pair()
    with pytest.raises(RuntimeError):
        fresh.send(b"8\n")
    alice, _ = active_pair()
    with pytest.raises(ValueError, match="cut off"):
        alice.send(b"17 60\nshort")


def test_repr_names_state_and_no_secret() -> None:
    alice, bob = active_pair()
    assert "SptpsMeta(name='bob', outgoing=True, state=ACTIVE)" in repr(alice)
    assert ed25519_key("alice").expanded.hex() not in repr(alice) + repr(bob)


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_requirement_5_a_connector_whose_key_the_acceptor_lacks_does_not_hang(size: int) -> None:
    """The acceptor here is a stock one, which answers 17.7 and goes on with METAKEY in plain text."""
    alice = start("alice", "bob", outgoing=True)
    assert alice.data_to_send() == b"0 alice 17.7\n"
    events: list[MetaEvent] = []

    def feed_and_wait() -> None:
        for piece in pieces(b"0 bob 17.7\n1 429 672 0 0 ABCDEF\n", itertools.repeat(size)):
            events.extend(alice.receive(piece, 0.0))
        alice.on_timeout(0.0)

    with pytest.raises(PeerError, match="does not know our Ed25519 key"):
        feed_and_wait()
    assert events == [Identified("bob", 7), KeyUnknownThere("bob")]


def test_requirement_5_the_next_connection_offers_the_exchange_and_lets_no_other_key_pass() -> None:
    alice = start("alice", "bob", outgoing=True, exchange=True)
    assert alice.data_to_send() == b"0 alice 17.1\n"
    # What a stock acceptor says, whether it knows the key or not.
    assert alice.receive(b"0 bob 17.7\n", 0.0) == [Identified("bob", 7)]
    assert isinstance(alice.chosen, UpgradeMeta)

    alice = start("alice", "bob", outgoing=True, exchange=True)
    bob = start("bob", "alice", outgoing=False, knows=False)
    events: list[MetaEvent] = []
    for _ in range(6):
        with contextlib.suppress(PeerError):
            deliver(alice, bob)
        with contextlib.suppress(PeerError):
            events += deliver(bob, alice)
    assert events[-1] == PublicKeyReceived("bob", ed25519_key("bob").public, known=True)
    assert not alice.active
    # An acceptor is never asked to.
    assert start("alice", "bob", outgoing=False, exchange=True)._exchange is False
