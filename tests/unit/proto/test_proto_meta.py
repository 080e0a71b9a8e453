"""The legacy meta connection: order of the handshake, what is refused when, time-outs, requests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from gmesh.crypto.stream import MetaStream
from gmesh.errors import PeerError
from gmesh.proto.meta import LegacyMeta
from gmesh.proto.meta_base import MAX_UNSENT_PONGS, MetaState, PeerCredentials
from gmesh.proto.meta_events import (
    Active,
    ControlRequested,
    FrameReceived,
    Identified,
    LineRejected,
    PongReceived,
    RequestReceived,
    Verified,
)
from gmesh.proto.meta_start import MetaStart
from gmesh.proto.requests import KeyChanged, MetaKey, parse_request
from tests.vectors.legacy import connect, counting_entropy, deliver, legacy_meta, private_key

WHOLE = itertools.repeat(1 << 20)


def pair(**changes: Any) -> tuple[MetaStart, MetaStart]:
    """alice the initiator and bob the responder."""
    return legacy_meta("alice", "bob", outgoing=True, **changes), legacy_meta("bob", "alice", outgoing=False, **changes)


def active_pair(**changes: Any) -> tuple[MetaStart, MetaStart]:
    alice, bob = pair(**changes)
    connect(alice, bob)
    return alice, bob


class Stranger:
    """Speaks to bob as the initiator alice without being an object of the tested kind, so it can lie."""

    def __init__(self, **changes: Any) -> None:
        self.bob = legacy_meta("bob", "alice", outgoing=False, **changes)
        self._stream: MetaStream | None = None
        self._material = bytes([1]) + bytes(range(255))

    def say(self, line: str) -> list[Any]:
        data = line.encode() + b"\n"
        return self.bob.receive(self._stream.process(data) if self._stream else data, 0.0)

    def send_meta_key(self, cipher: int = 429, digest: int = 672, material: bytes | None = None) -> None:
        material = self._material if material is None else material
        key = private_key("bob").public.encrypt(material)
        self.say(MetaKey(cipher, digest, 0, 0, key).format())
        self._stream = MetaStream(cipher, material, encrypt=True)


def test_events_of_a_handshake() -> None:
    alice, bob = pair()
    events: dict[str, list[Any]] = {"alice": [], "bob": []}
    for _ in range(4):
        events["bob"] += deliver(alice, bob, WHOLE, 2.5)
        events["alice"] += deliver(bob, alice, WHOLE, 2.5)
    for me, peer in (("alice", "bob"), ("bob", "alice")):
        assert events[me] == [
            Identified(peer, 0),
            Verified(),
            Active(peer, "655", 2500, 2500, 0xC, 0xC, None),
        ]
    assert alice.name == "bob"
    assert bob.name == "alice"


def test_weight_and_clamp_mss_of_the_host_file() -> None:
    credentials = PeerCredentials(private_key("bob").public, 0x7, weight=77, clamp_mss=False)
    alice = legacy_meta("alice", "bob", outgoing=True, credentials=lambda name: credentials, port="1655")
    bob = legacy_meta("bob", "alice", outgoing=False)
    at_bob: list[Any] = []
    at_alice: list[Any] = []
    for _ in range(4):
        at_bob += deliver(alice, bob, WHOLE, 1.0)
        at_alice += deliver(bob, alice, WHOLE, 1.0)
    assert at_bob[-1] == Active("alice", "1655", 77, 1000, 0x7, 0xC, None)
    assert at_alice[-1] == Active("bob", "655", 1000, 77, 0xC, 0x7, False)


def test_responder_is_silent_until_a_known_name_is_given() -> None:
    stranger = Stranger()
    assert stranger.bob.pending == 0
    with pytest.raises(PeerError, match="unknown"):
        stranger.say("0 mallory 17")
    assert stranger.bob.data_to_send() == b""


def test_responder_answers_no_challenge_before_the_initiator_proved_itself() -> None:
    """CVE-2018-16737 and CVE-2018-16738."""
    stranger = Stranger()
    stranger.say("0 alice 17")
    stranger.send_meta_key()
    stranger.bob.data_to_send()
    assert stranger.say("2 " + "AB" * 256) == []
    assert stranger.bob.data_to_send() == b""
    with pytest.raises(PeerError, match="CHAL_REPLY"):
        stranger.say("3 " + "00" * 32)
    assert stranger.bob.data_to_send() == b""
    with pytest.raises(PeerError, match="CHAL_REPLY"):
        stranger.bob.proceed(0.0)
    assert stranger.bob.data_to_send() == b""


def test_verified_responder_says_nothing_before_proceed() -> None:
    alice, bob = pair()
    verified = False
    for _ in range(4):
        for event in bob.receive(alice.data_to_send(), 0.0) if alice.pending else []:
            verified |= isinstance(event, Verified)
        if verified:
            break
        alice.receive(bob.data_to_send(), 0.0)
    assert verified
    assert bob.pending == 0
    assert bob.proceed(0.0) == []
    assert bob.pending > 0
    before = bob.pending
    assert bob.proceed(0.0) == []
    assert bob.pending == before


def test_input_before_proceed_waits_and_is_bounded() -> None:
    alice, bob = pair()
    bob.receive(alice.data_to_send(), 0.0)
    alice.receive(bob.data_to_send(), 0.0)
    bob.receive(alice.data_to_send(), 0.0)
    alice.receive(bob.data_to_send(), 0.0)
    assert bob.receive(alice.data_to_send(), 0.0) == [Verified()]
    bob.proceed(0.0)
    # bob's CHAL_REPLY and ACK arrive together: the ACK waits for alice's decision.
    assert alice.receive(bob.data_to_send(), 0.0) == [Verified()]
    assert [type(event) for event in alice.proceed(0.0)] == [Active]

    stranger = Stranger()
    stranger.say("0 alice 17")
    assert stranger.bob.chosen is not None
    stranger.bob.chosen._state = MetaState.VERIFIED
    for _ in range(4):
        stranger.bob.receive(bytes(1000), 0.0)
    with pytest.raises(PeerError, match="before the handshake"):
        stranger.bob.receive(bytes(1000), 0.0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 bob 17", "our own name"),
        ("0 alice 16", "version 16"),
        ("0 alice 18.7", "version 18"),
        ("0 alice x", "bad ID"),
        ("0 alice", "bad ID"),
        ("0 ali-ce 17", "bad ID"),
        ("1 429 672 0 0 AB", "METAKEY where ID is expected"),
        ("8", "PING where ID"),
        ("GET / HTTP/1.1", "begin with a number"),
        ("", "begin with a number"),
    ],
)
def test_bad_first_lines(line: str, reason: str) -> None:
    stranger = Stranger()
    with pytest.raises(PeerError, match=reason):
        stranger.say(line)
    assert stranger.bob.data_to_send() == b""


@pytest.mark.parametrize(("version", "minor"), [("17", 0), ("17.0", 0), ("17.1", 1), ("17.7", 7)])
def test_any_minor_version_is_accepted(version: str, minor: int) -> None:
    assert Stranger().say(f"0 alice {version}") == [Identified("alice", minor)]


def test_initiator_insists_on_the_expected_name() -> None:
    alice = legacy_meta("alice", "bob", outgoing=True)
    assert alice.data_to_send() == b"0 alice 17.0\n"
    with pytest.raises(PeerError, match="carol instead of bob"):
        alice.receive(b"0 carol 17\n", 0.0)


@pytest.mark.parametrize("line", ["0 ^cookie 0", "0 ?token 17"])
def test_initiator_takes_no_special_greetings(line: str) -> None:
    alice = legacy_meta("alice", "bob", outgoing=True)
    with pytest.raises(PeerError, match="no node name"):
        alice.receive(line.encode() + b"\n", 0.0)


@pytest.mark.parametrize("digest", [672, 673, 674, 64])
@pytest.mark.parametrize("cipher", [421, 425, 429])
def test_accepted_algorithms(cipher: int, digest: int) -> None:
    stranger = Stranger()
    stranger.say("0 alice 17")
    stranger.send_meta_key(cipher, digest)
    assert stranger.say("2 " + "AB" * 256) == []


@pytest.mark.parametrize("cipher", [421, 425, 429])
def test_own_cipher_can_be_chosen_for_each_direction(cipher: int) -> None:
    alice = legacy_meta("alice", "bob", outgoing=True, meta_cipher=cipher)
    connect(alice, legacy_meta("bob", "alice", outgoing=False))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1 0 672 0 0 {key}", "cipher 0"),
        ("1 427 672 0 0 {key}", "cipher 427"),
        ("1 93 672 0 0 {key}", "cipher 93"),
        ("1 429 0 0 0 {key}", "digest 0"),
        ("1 429 9999 0 0 {key}", "digest 9999"),
        ("1 429 672 -1 0 {key}", "MAC length"),
        ("1 429 672 0 0 {key}00", "257 bytes"),
        ("1 429 672 0 0 {key}0", "malformed"),
        ("1 429 672 0 0 XY", "malformed"),
        ("1 429 672 0 0 " + "FF" * 256, "below the modulus"),
        ("1 429 672 0 0", "missing"),
        ("0 alice 17", "ID where METAKEY"),
    ],
)
def test_bad_meta_keys(line: str, reason: str) -> None:
    stranger = Stranger()
    stranger.say("0 alice 17")
    with pytest.raises(PeerError, match=reason):
        stranger.say(line.format(key="12" * 256))


@pytest.mark.parametrize(
    "material",
    [
        bytes(256),
        bytes(255) + b"\1",
        b"\x11" * 256,
        (private_key("bob").public.modulus - 1).to_bytes(256, "big"),
    ],
    ids=["0", "1", "equal bytes", "-1"],
)
def test_meta_keys_that_everybody_knows_are_refused(material: bytes) -> None:
    stranger = Stranger()
    stranger.say("0 alice 17")
    with pytest.raises(PeerError, match="everybody knows"):
        stranger.send_meta_key(material=material)


@pytest.mark.parametrize("length", [0, 255, 257, 512])
def test_challenges_of_another_length_are_refused(length: int) -> None:
    stranger = Stranger()
    stranger.say("0 alice 17")
    stranger.send_meta_key()
    with pytest.raises(PeerError, match="CHALLENGE"):
        stranger.say("2 " + "AB" * length)


@pytest.mark.parametrize("reply", ["", "00" * 32, "00" * 31, "00" * 64, "zz"])
def test_wrong_replies_are_refused(reply: str) -> None:
    stranger = Stranger()
    stranger.say("0 alice 17")
    stranger.send_meta_key()
    stranger.say("2 " + "AB" * 256)
    with pytest.raises(PeerError, match="CHAL_REPLY"):
        stranger.say(f"3 {reply}")


def test_upgrade_form_of_ack_says_what_to_do() -> None:
    alice, bob = pair()
    for _ in range(2):
        deliver(alice, bob, WHOLE, 0.0)
        deliver(bob, alice, WHOLE, 0.0)
    deliver(alice, bob, WHOLE, 0.0)
    assert isinstance(alice.chosen, LegacyMeta)
    encryption = alice.chosen._encryption
    assert encryption is not None
    with pytest.raises(PeerError, match="ExperimentalProtocol = no"):
        bob.receive(encryption.process(b"4 " + b"A" * 43 + b"\n"), 0.0)


def test_control_greeting_ends_the_parsing() -> None:
    bob = legacy_meta("bob", "alice", outgoing=False)
    assert bob.receive(b"0 ^3EA8 0\n18 3\nanything \xff", 0.0) == [ControlRequested("3EA8")]
    assert bob.receive(b" more\n", 0.0) == []
    assert bob.take_remaining() == b"18 3\nanything \xff more\n"
    assert bob.next_timeout() == math.inf
    assert bob.data_to_send() == b""


def test_cookies_are_ascii() -> None:
    """Comparing others in constant time raises an error that is nobody's fault."""
    with pytest.raises(PeerError, match="ASCII"):
        legacy_meta("bob", "alice", outgoing=False).receive(b"0 ^\xe9 0\n", 0.0)


def test_control_greeting_is_taken_only_as_the_first_line() -> None:
    stranger = Stranger()
    stranger.say("0 alice 17")
    with pytest.raises(PeerError, match="where METAKEY"):
        stranger.say("0 ^3EA8 0")


def test_requests_keep_their_line() -> None:
    alice, bob = active_pair()
    line = "12 1234abcd bob dave 10.1.2.3 4444 c 33 192.168.7.7 655 and more"
    alice.send(line.encode() + b"\n14 5 alice\n")
    assert deliver(alice, bob, WHOLE, 0.0) == [
        RequestReceived(parse_request(line), line),
        RequestReceived(KeyChanged("5", "alice"), "14 5 alice"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "10 1 alice nothing",
        "11 1 alice",
        "12 1 alice bob 10.0.0.1 655 c",
        "13 1 alice alice",
        "14 1 a-b",
        "15 alice bob 0",
        "15 alice bob word",
        "16 alice bob XY 427 672 4 0",
        "10 \xff\xfe",
    ],
)
def test_requirement_27_bad_gossip_is_dropped_and_the_neighbour_kept(line: str) -> None:
    alice, bob = active_pair()
    alice.send(line.encode("latin-1") + b"\n14 5 alice\n")
    rejected, received = deliver(alice, bob, WHOLE, 0.0)
    assert isinstance(rejected, LineRejected)
    assert rejected.line == line
    assert isinstance(received, RequestReceived)


@pytest.mark.parametrize("line", ["18 0", "19", "21 100", "22 a b", "99 x"])
def test_unknown_requests_are_ignored(line: str) -> None:
    alice, bob = active_pair()
    alice.send(line.encode() + b"\n8\n")
    (rejected,) = deliver(alice, bob, WHOLE, 0.0)
    assert isinstance(rejected, LineRejected)
    assert bob.pending == 2


HANDSHAKE_AGAIN = ["0 alice 17", "1 429 672 0 0 " + "12" * 256, "2 " + "AB" * 256, "3 " + "AB" * 32, "4 655 1 c", "4"]


@pytest.mark.parametrize("line", [*HANDSHAKE_AGAIN, "5", "6", "7", "x", "", "17 -1", "17 2177", "17 word", "17"])
def test_requirement_27_requests_that_close_an_active_connection(line: str) -> None:
    alice, bob = active_pair()
    alice.send(line.encode() + b"\n")
    with pytest.raises(PeerError):
        deliver(alice, bob, WHOLE, 0.0)


def test_packets_carry_frames_and_impossible_ones_are_counted() -> None:
    alice, bob = active_pair()
    for length in (14, 1518, 1519, 2176, 13, 0):
        alice.send(b"17 %d\n" % length + b"\n" * length)
    alice.send(b"14 5 alice\n")
    events = deliver(alice, bob, WHOLE, 0.0)
    assert events[:2] == [FrameReceived(b"\n" * 14), FrameReceived(b"\n" * 1518)]
    assert isinstance(events[2], RequestReceived)
    assert bob.dropped_frames == 4


def test_events_before_an_error_are_delivered_first() -> None:
    alice, bob = active_pair()
    alice.send(b"14 5 alice\n7\n14 6 alice\n")
    events = deliver(alice, bob, WHOLE, 1.0)
    assert [event.line for event in events if isinstance(event, RequestReceived)] == ["14 5 alice"]
    assert bob.next_timeout() < 1.0
    for call in (lambda: bob.on_timeout(1.0), lambda: bob.receive(b"", 1.0), lambda: bob.proceed(1.0)):
        with pytest.raises(PeerError, match="asks to end"):
            call()


def test_long_line_is_a_peer_error() -> None:
    bob = legacy_meta("bob", "alice", outgoing=False)
    with pytest.raises(PeerError, match="2176"):
        bob.receive(b"0" * 3000, 0.0)


def test_sending_needs_an_active_connection() -> None:
    alice = legacy_meta("alice", "bob", outgoing=True)
    with pytest.raises(RuntimeError):
        alice.send(b"8\n")


def test_authentication_has_a_time_limit() -> None:
    alice = legacy_meta("alice", "bob", outgoing=True, now=100.0)
    assert alice.next_timeout() == 105.0
    alice.on_timeout(104.9)
    with pytest.raises(PeerError, match="too long"):
        alice.on_timeout(105.0)


def test_ping_is_sent_after_the_interval_and_answered_at_once() -> None:
    alice, bob = active_pair()
    assert alice.next_timeout() == 60.0
    alice.on_timeout(59.0)
    assert alice.pending == 0
    alice.on_timeout(60.0)
    assert alice.next_timeout() == 65.0
    assert deliver(alice, bob, WHOLE, 60.5) == []
    assert deliver(bob, alice, WHOLE, 61.0) == [PongReceived(1.0)]
    assert alice.next_timeout() == 120.0


def test_traffic_does_not_replace_a_pong() -> None:
    alice, bob = active_pair()
    alice.on_timeout(60.0)
    bob.send(b"14 5 bob\n")
    deliver(bob, alice, WHOLE, 64.0)
    with pytest.raises(PeerError, match="no answer to PING"):
        alice.on_timeout(65.0)


def test_unexpected_pong_is_harmless() -> None:
    alice, bob = active_pair()
    bob.send(b"9\n")
    assert deliver(bob, alice, WHOLE, 1.0) == []


def test_ping_now_starts_one_ping_only() -> None:
    alice, _ = active_pair()
    alice.ping_now(10.0)
    assert alice.pending == 2
    alice.ping_now(11.0)
    assert alice.pending == 2
    assert alice.next_timeout() == 15.0
    waiting = legacy_meta("alice", "bob", outgoing=True)
    before = waiting.pending
    waiting.ping_now(1.0)
    assert waiting.pending == before


def test_requirement_12_a_peer_that_pings_and_does_not_read_is_bounded() -> None:
    alice, bob = active_pair()
    alice.send(b"8\n" * MAX_UNSENT_PONGS)
    with pytest.raises(PeerError, match="does not read"):
        bob.receive(alice.data_to_send(), 0.0)
    assert bob.pending <= MAX_UNSENT_PONGS + 2


def test_requirement_9_no_key_is_in_a_repr() -> None:
    alice, _ = active_pair()
    assert repr(alice) == "MetaStart(LegacyMeta(name='bob', outgoing=True, state=ACTIVE))"


@pytest.mark.parametrize("bits", [1016, 1017, 1023, 1024])
def test_meta_keys_stay_below_moduli_of_any_number_of_bits(bits: int, odd_keys: Callable[[int], Any]) -> None:
    key = odd_keys(bits)
    assert key.public.bits == bits

    def credentials(name: str) -> PeerCredentials:
        return PeerCredentials(key.public if name == "bob" else private_key("alice").public, 0xC)

    alice = legacy_meta(
        "alice",
        "bob",
        outgoing=True,
        credentials=credentials,
        entropy=lambda size: b"\xff" * (size - 64) + counting_entropy()(64),
    )
    connect(alice, legacy_meta("bob", "alice", outgoing=False, credentials=credentials, rsa_key=key))


def test_requirement_9_no_key_or_cookie_is_in_the_repr_of_an_event() -> None:
    alice, bob = active_pair()
    key = "AB" * 48
    alice.send(f"16 alice bob {key} 427 672 4 0\n16 alice bob {key} 427 672 99 0\n".encode())
    events = deliver(alice, bob, WHOLE, 0.0)
    assert [type(event) for event in events] == [RequestReceived, LineRejected]
    assert "ABAB" not in repr(events)
    assert "secret" not in repr(ControlRequested("secret"))
