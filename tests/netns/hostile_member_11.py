"""What a member of the second generation can do to hurt, for hostile_member.py: sessions, datagrams, gossip."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gmesh.crypto import base64
from gmesh.crypto.ed25519 import Ed25519PrivateKey, public_to_text
from gmesh.errors import DatagramError
from gmesh.proto.requests_11 import StartSession, as_req_key, handshake_answer, handshake_datagram
from gmesh.proto.sptps_datagram import DatagramSession
from gmesh.proto.sptps_handshake import data_label

if TYPE_CHECKING:
    from hostile_member import Member

Attack = Callable[["Member"], None]
PORT = 655
RANDOM = random.Random(22)
NULL_ID = bytes(6)
PACED = 0.0005
"""Seconds between two datagrams: the attack is their content."""


def node_id(name: str) -> bytes:
    return hashlib.sha512(name.encode()).digest()[:6]


def fresh_session(member: Member, target: str) -> DatagramSession:
    return DatagramSession(
        initiator=True,
        private_key=member.ed25519_key(),
        peer_public=member.victims_ed25519(),
        label=data_label(member.name, target),
        entropy=os.urandom,
        now=time.monotonic(),
    )


def kex_line(source: str, target: str, datagram: bytes) -> str:
    return as_req_key(source, target, StartSession(datagram)).format()


def made_up_kex() -> bytes:
    """Of the right form: a record number, a type, a version, a nonce, and something for a key."""
    return bytes(4) + b"\x80" + b"\0" + os.urandom(64)


def take_answers(member: Member, session: DatagramSession) -> None:
    """Let the session have what the victim answered, and tell the victim what the session has to say."""
    answers, member.answers = member.answers, []
    for answer in answers:
        with contextlib.suppress(DatagramError):
            session.receive(handshake_datagram(answer), time.monotonic())
    for datagram in session.data_to_send():
        member.say(handshake_answer(member.name, member.victim, datagram, 0).format())


def open_session(member: Member) -> DatagramSession:
    member.introduce()
    session = fresh_session(member, member.victim)
    member.say(*(kex_line(member.name, member.victim, datagram) for datagram in session.data_to_send()))
    deadline = time.monotonic() + 5
    while not session.established:
        member.listen(0.1)
        take_answers(member, session)
        if time.monotonic() > deadline:
            raise SystemExit("the victim does not finish a session with the member")
    member.push()
    return session


class Sender:
    """UDP datagrams from the member's usual port; what comes back is thrown away."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("", PORT))
        self._socket.setblocking(False)

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, payload: bytes) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(payload, (self._member.address, PORT))
        self._member.sent += 1
        time.sleep(PACED)
        if self._member.sent % 50 == 0:
            with contextlib.suppress(OSError):
                while True:
                    self._socket.recv(2048)
            self._member.listen(0.0)


def direct(member: Member, datagram: bytes) -> bytes:
    return NULL_ID + node_id(member.name) + datagram


def records() -> Iterator[tuple[int, bytes]]:
    """Types and data that no honest node sends."""
    yield from ((kind, os.urandom(60)) for kind in (*range(5, 128, 7), 127))
    yield from ((kind, b"") for kind in (0, 1, 2, 3, 4))
    yield from ((kind, data) for kind in (0, 2) for data in (b"\x45", b"\x60" + bytes(39), b"\0" * 14, b"\xff" * 1500))
    # Compressed: noise, an endless run of zeros, LZ4 and LZO that reach back before their beginning.
    yield from ((kind, os.urandom(size)) for kind in (1, 3) for size in (1, 2, 40, 1400))
    yield from ((kind, b"\x78\x9c\xed\xc1\x01\x0d\0\0\0\xc2\xa0" + bytes(1000)) for kind in (1, 3))
    yield from ((kind, b"\x1f" + b"\xff" * 600) for kind in (1, 3))
    # Probes: requests and replies with lengths that cannot be.
    for first in (b"\0", b"\1", b"\2", b"\3", b"\xff"):
        for length in (0, 1, 17, 18, 511, 1519, 9000, 65535):
            for size in (0, 1, 10, 15, 60, 1400):
                yield 4, first + length.to_bytes(2, "big") + bytes(size)


def nonsense_by_udp(scale: int) -> Attack:
    def attack(member: Member) -> None:
        session = open_session(member)
        with Sender(member) as sender:
            for _ in range(3 * scale):
                for kind, data in records():
                    sender.send(direct(member, session.send_record(kind, data)))

    return attack


def damaged(scale: int) -> Attack:
    """Datagrams of a real session: cut at every length, with a bit turned, again and again, in another's name."""

    def attack(member: Member) -> None:
        session = open_session(member)
        with Sender(member) as sender:
            for _ in range(scale):
                whole = direct(member, session.send_record(4, bytes(18)))
                for length in range(len(whole)):
                    sender.send(whole[:length])
                for _ in range(200):
                    place = RANDOM.randrange(len(whole))
                    sender.send(whole[:place] + bytes([whole[place] ^ 1 << RANDOM.randrange(8)]) + whole[place + 1 :])
                for _ in range(200):
                    sender.send(whole)
                far = [direct(member, session.send_record(4, bytes(18))) for _ in range(600)]
                for datagram in (*reversed(far), *far[::3]):
                    sender.send(datagram)

    return attack


def ids(other: str, third: str, scale: int) -> Attack:
    """Any two ids around noise, by UDP and on the meta connection."""

    def attack(member: Member) -> None:
        member.introduce()
        names = [node_id(name) for name in (member.name, member.victim, other, third, "nobody")]
        names += [NULL_ID, b"\xff" * 6]
        with Sender(member) as sender:
            for _ in range(3 * scale):
                for target in names:
                    for source in names:
                        for size in (0, 4, 5, 20, 21, 60, 1400):
                            sender.send(target + source + os.urandom(size))
                            raw = target + source + bytes(4) + b"\x80" + os.urandom(size)
                            member.meta.send(b"21 %d\n" % len(raw) + raw)
                            member.sent += 1

    return attack


def renewals(scale: int) -> Attack:
    """KEX upon KEX under the keys of a session that is in use."""

    def attack(member: Member) -> None:
        session = open_session(member)
        lines: list[str] = []
        for number in range(10 * scale):
            session.renew(time.monotonic())
            lines = [handshake_answer(member.name, member.victim, d, 0).format() for d in session.data_to_send()]
            member.say(*lines * (1 + number % 3))
            for _ in range(4):
                member.listen(0.03)
                take_answers(member, session)
        member.say(*lines * 200)

    return attack


def telling(*lines: str) -> Attack:
    def attack(member: Member) -> None:
        member.introduce()
        member.say(*lines)

    return attack


def kex_storm(other: str, third: str, scale: int) -> Attack:
    """Sessions begun without end, in our own name and in others'."""

    def attack(member: Member) -> None:
        member.introduce()
        real = [datagram for _ in range(20) for datagram in fresh_session(member, member.victim).data_to_send()]
        for number in range(300 * scale):
            datagram = real[number % 20] if number % 2 else made_up_kex()
            member.say(kex_line(member.name, member.victim, datagram), kex_line(member.name, other, datagram))
            member.say(kex_line(other, member.victim, datagram), kex_line(other, third, datagram))
            member.say(kex_line(third, other, datagram), kex_line("ghost", member.victim, datagram))

    return attack


def attacks(me: str, victim: str, other: str, third: str, scale: int) -> Iterator[tuple[str, Attack]]:
    yield "sessions begun without end", kex_storm(other, third, scale)
    yield "renewals without end", renewals(scale)
    good = base64.encode(bytes(4) + b"\x80" + os.urandom(65))
    signature = base64.encode(bytes(3) + b"\1\x80" + os.urandom(64))
    pairs = [(me, victim), (me, other), (other, victim), (third, other), (victim, other), ("ghost", victim)]
    texts = [good, signature, base64.encode(os.urandom(86)), "A", "!!", "A" * 1900, base64.encode(os.urandom(21))]
    endings = ["-1 -1 -1 0", "-1 -1 -1 99", "-1 -1 -1 -1", "-1 -1 -1", "-1 -1 -1 11 10.9.9.9 655", "427 672 4 0"]
    yield (
        "handshake records that fit nowhere",
        telling(*(f"16 {a} {b} {text} {ending}" for a, b in pairs for text in texts for ending in endings)),
    )
    strange = public_to_text(Ed25519PrivateKey.from_seed(os.urandom(32)).public)
    low = base64.encode(b"\1" + bytes(31))
    yield (
        "public keys of others",
        telling(
            *(f"15 {a} {b} 20 {key}" for a, b in pairs for key in (strange, low, strange[:-1], "", "A" * 43, "x y")),
            *(f"15 {a} {b} 19{rest}" for a, b in pairs for rest in ("", " ", f" {strange}")),
        ),
    )
    yield (
        "sub-requests that there are not",
        telling(
            *(
                f"15 {a} {b} {sub}"
                for a, b in pairs
                for sub in ("0", "0 x", "-15", "x", "15", "21", "22 A", "21 A", f"21 {good}")
            )
        ),
    )
    yield (
        "lies about addresses and sizes",
        telling(
            *(
                f"22 {a} {b} {address}"
                for a, b in pairs
                for address in (
                    "10.9.9.9 655",
                    "10.5.0.2 655",
                    "255.255.255.255 655",
                    "224.0.0.1 655",
                    ":: 1",
                    "127.0.0.1 655",
                )
            ),
            *(f"23 {a} {b} {mtu}" for a, b in pairs for mtu in (512, 513, 1518, 1519, 65535, 2**31)),
        ),
    )
    for line in (
        f"23 {other} {victim} 511",
        f"23 {me} {victim} -1",
        "22 a",
        "22 a b c d",
        "18 x",
        "19 a b",
        "20 a b c",
        "21 3",
        "24 x",
    ):
        yield f"out of place: {line}", telling(line)
    yield "datagrams with any two ids", ids(other, third, scale)
    yield "records that nobody sends", nonsense_by_udp(scale)
    yield "datagrams cut, damaged, repeated", damaged(scale)
    edges = [(victim, other), (other, victim), (victim, third), (third, victim), (victim, me), (me, victim)]
    yield (
        "others said to speak the old protocol",
        telling(
            *(
                f"12 {RANDOM.getrandbits(31):x} {a} {b} 10.9.9.9 655 {options} 1"
                for _ in range(5)
                for options in ("c", "100000c", "0", "ff00000c", "200000c")
                for a, b in edges
            )
        ),
    )
