"""The conversation of an invitation, both ends, and what neither puts up with."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from gmesh.crypto.ed25519 import Ed25519PrivateKey, public_to_text
from gmesh.errors import PeerError
from gmesh.proto.invitation import COOKIE_SIZE, MAX_FILE, InvitationUrl, is_url_place, key_hash
from gmesh.proto.invitation_guest import (
    Greeted,
    GuestEvent,
    InvalidKeyError,
    InvitationAccepted,
    InvitationGuest,
    InvitationReceived,
)
from gmesh.proto.invitation_host import JOIN_SECONDS, InvitationHost
from gmesh.proto.meta_events import InvitationPresented, JoinerKeyReceived, MetaEvent
from gmesh.proto.sptps import StreamSession
from gmesh.proto.sptps_handshake import INVITATION_LABEL
from tests.vectors.legacy import pieces
from tests.vectors.sptps import ed25519_key

COOKIE = bytes(range(COOKIE_SIZE))
SECRET = "A" * 48
NODE_KEY = ed25519_key("joiner").public


class Talk:
    """A joiner at an inviter."""

    def __init__(self, key: Ed25519PrivateKey | None = None, url_key: Ed25519PrivateKey | None = None) -> None:
        self.key = key or ed25519_key("inviter")
        expected = (url_key or self.key).public
        self.guest = InvitationGuest(
            InvitationUrl("host", "655", key_hash(expected), COOKIE), random.Random(1).randbytes
        )
        greeting = self.guest.data_to_send().decode("ascii")
        self.word = greeting.split()[1]
        assert greeting.endswith(" 17.1\n")
        self.host = InvitationHost(
            my_name="alice",
            key=self.key,
            joiner=self.word[1:],
            entropy=random.Random(2).randbytes,
            now=0.0,
            patience=5.0,
        )

    def run(self, step: int = 65536, now: float = 0.0) -> tuple[list[GuestEvent], list[MetaEvent]]:
        """Carry bytes in pieces until both are silent; what each end heard."""
        guest_events: list[GuestEvent] = []
        host_events: list[MetaEvent] = []
        while True:
            to_guest, to_host = self.host.data_to_send(), self.guest.data_to_send()
            if not to_guest and not to_host:
                return guest_events, host_events
            for piece in pieces(to_guest, itertools.repeat(step)):
                guest_events += self.guest.receive(piece, now)
            for piece in pieces(to_host, itertools.repeat(step)):
                host_events += self.host.receive(piece, now)


@pytest.mark.parametrize("step", [1, 7, 65536])
@pytest.mark.parametrize("size", [0, 1, 1024, 5000])
def test_all_goes_well(step: int, size: int) -> None:
    talk = Talk()
    assert talk.run(step) == ([Greeted("alice")], [InvitationPresented(COOKIE)])
    assert COOKIE.hex() not in repr(InvitationPresented(COOKIE))
    text = random.Random(size).randbytes(size)
    talk.host.hand_out("x" * 24, "bob", text, 0.0)
    assert talk.run(step) == ([InvitationReceived(text)], [])
    talk.guest.send_key(NODE_KEY)
    assert talk.run(step) == ([], [JoinerKeyReceived(NODE_KEY)])
    talk.host.proceed(0.0)
    assert talk.run(step) == ([InvitationAccepted()], [])


def test_another_inviter_is_found_out_before_it_learns_the_cookie() -> None:
    talk = Talk(key=ed25519_key("impostor"), url_key=ed25519_key("inviter"))
    with pytest.raises(InvalidKeyError, match="invalid key") as caught:
        talk.run()
    assert caught.value.key == public_to_text(ed25519_key("impostor").public)
    assert talk.guest.data_to_send() == b""
    with pytest.raises(PeerError):
        talk.guest.receive(b"x", 0.0)


@pytest.mark.parametrize(
    "greeting",
    [
        b"0 alice 16.7\n",
        b"0 al/ice 17.7\n",
        b"1 alice 17.7\n",
        b"\n",
        b"0 alice 17.7\n4\n",
        b"0 alice 17.7\n4 short\n",
        b"0 alice 17.7\n0 alice 17.7\n",
        b"\xff" * 5000,
    ],
)
def test_greetings_that_a_joiner_does_not_take(greeting: bytes) -> None:
    with pytest.raises(PeerError):
        Talk().guest.receive(greeting, 0.0)


def test_a_file_without_end() -> None:
    """What a hostile inviter sends is bounded."""
    talk = Talk()
    talk.run()
    talk.host.hand_out("x" * 24, "bob", bytes(MAX_FILE + 1), 0.0)
    with pytest.raises(PeerError, match="larger than 1024 KiB"):
        talk.run()


@pytest.mark.parametrize("text", ["", "A" * 42, "A" * 44, "A" * 42 + "\n", "A" * 42 + "!", "A" * 43, "\xff" * 43])
def test_requirement_30_no_joiner_greets_with_what_is_no_key(text: str) -> None:
    with pytest.raises(PeerError, match="bad key"):
        InvitationHost(
            my_name="alice",
            key=ed25519_key("inviter"),
            joiner=text,
            entropy=random.Random(1).randbytes,
            now=0.0,
            patience=5.0,
        )


class HostileJoiner:
    """A joiner that may send any record."""

    def __init__(self) -> None:
        temporary = ed25519_key("temporary")
        self.host = InvitationHost(
            my_name="alice",
            key=ed25519_key("inviter"),
            joiner=public_to_text(temporary.public),
            entropy=random.Random(2).randbytes,
            now=0.0,
            patience=5.0,
        )
        self.session = StreamSession(
            initiator=True,
            private_key=temporary,
            peer_public=ed25519_key("inviter").public,
            label=INVITATION_LABEL,
            entropy=random.Random(3).randbytes,
            now=0.0,
        )
        name, key, kex = self.host.data_to_send().split(b"\n", 2)
        assert (name, key) == (b"0 alice 17.7", f"4 {public_to_text(ed25519_key('inviter').public)}".encode())
        self.session.receive(kex, 0.0)
        while data := self.session.data_to_send():
            self.host.receive(data, 0.0)
            self.session.receive(self.host.data_to_send(), 0.0)

    def say(self, kind: int, data: bytes) -> list[MetaEvent]:
        self.session.send_record(kind, data)
        return self.host.receive(self.session.data_to_send(), 0.0)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (0, b""),
        (0, COOKIE[1:]),
        (0, COOKIE + b"x"),
        (1, COOKIE),
        (1, public_to_text(NODE_KEY).encode()),
        (2, b""),
        (99, b""),
    ],
)
def test_no_file_without_a_cookie(kind: int, data: bytes) -> None:
    with pytest.raises(PeerError):
        HostileJoiner().say(kind, data)


def test_one_cookie_for_each_connection() -> None:
    joiner = HostileJoiner()
    assert joiner.say(0, COOKIE) == [InvitationPresented(COOKIE)]
    with pytest.raises(PeerError):
        joiner.say(0, COOKIE)


@pytest.mark.parametrize(
    "data",
    [
        public_to_text(NODE_KEY).encode() + b"\nSubnet = 0.0.0.0/0",
        public_to_text(NODE_KEY).encode()[:-1] + b"\n",
        b"\n" * 43,
        b"A" * 43,
        b"",
        b"\xff" * 43,
    ],
)
def test_requirement_30_a_joiner_cannot_send_other_lines_as_its_key(data: bytes) -> None:
    joiner = HostileJoiner()
    joiner.say(0, COOKIE)
    joiner.host.hand_out("x" * 24, "bob", b"Name = bob\n", 0.0)
    with pytest.raises(PeerError, match="bad key"):
        joiner.say(1, data)


def test_a_record_that_a_joiner_does_not_need_is_not_waited_for() -> None:
    joiner = HostileJoiner()
    with pytest.raises(PeerError, match="too long"):
        joiner.host.receive((60000).to_bytes(2, "big"), 0.0)


def test_time_of_a_stranger_and_of_a_joiner() -> None:
    joiner = HostileJoiner()
    assert joiner.host.next_timeout() == 5.0
    joiner.say(0, COOKIE)
    joiner.host.hand_out("x" * 24, "bob", b"Name = bob\n", 3.0)
    assert joiner.host.next_timeout() == 3.0 + JOIN_SECONDS
    joiner.host.on_timeout(5.0)
    with pytest.raises(PeerError, match="too long"):
        joiner.host.on_timeout(3.0 + JOIN_SECONDS)
    assert joiner.host.next_timeout() == -math.inf


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        f"host{SECRET}",
        f"host/{SECRET[1:]}",
        f"host/{SECRET}A",
        f"host/{SECRET[1:]}!",
        f"[::1/{SECRET}",
        f"::1/{SECRET}",
        f"[::1]x/{SECRET}",
        f"[host]/{SECRET}",
        f"host:/{SECRET}",
        f"host:0/{SECRET}",
        f"host:65536/{SECRET}",
        f"host:http/{SECRET}",
        f"ho st/{SECRET}",
        f"host/{SECRET}\n",
        f"/{SECRET}",
        f":1/{SECRET}",
    ],
)
def test_urls_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"no such|not of the form"):
        InvitationUrl.parse(text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (f"host/{SECRET}", "host", "655"),
        (f"10.0.0.1:1/{SECRET}", "10.0.0.1", "1"),
        (f"[fe80::1%eth0]:65535/{SECRET}", "fe80::1%eth0", "65535"),
        (f"h.example/{'+/-_' * 12}", "h.example", "655"),
    ],
)
def test_urls(text: str, host: str, port: str) -> None:
    url = InvitationUrl.parse(text)
    assert (url.host, url.port) == (host, port)
    assert InvitationUrl.parse(url.format()) == url


@pytest.mark.parametrize(("host", "port"), [("a b", "1"), ("a", "x"), ("", "1"), ("a:b", "1"), ("$h", "1"), ("a", "0")])
def test_places_that_no_url_can_have(host: str, port: str) -> None:
    assert not is_url_place(host, port)
