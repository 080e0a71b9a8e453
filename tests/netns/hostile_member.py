"""A member with a valid key and bad manners, for the bad-input test.

usage: hostile_member.py [--all] ADDRESS DIRECTORY VICTIM OTHER THIRD

DIRECTORY holds hosts/VICTIM and rsa_key.priv, or ed25519_key.priv for a member of the second generation, whose further
attacks are in hostile_member_11.py; its name is the member's. OTHER and THIRD are further nodes behind the victim.
Each attack has a connection of its own. With --all the storms are ten times as long. Prints one line for each attack;
fails only if the member is not let in any more.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import hostile_member_11

from gmesh.crypto.ed25519 import Ed25519PrivateKey, public_from_text
from gmesh.crypto.rsa import RsaPrivateKey, RsaPublicKey
from gmesh.errors import PeerError
from gmesh.proto.meta_base import PeerCredentials
from gmesh.proto.meta_events import PongReceived, RequestReceived, Verified
from gmesh.proto.meta_sptps import REQUEST_RECORD, SptpsMeta
from gmesh.proto.meta_start import MetaStart
from gmesh.proto.packet import PacketKey, PacketSealer
from gmesh.proto.probe import make_request
from gmesh.proto.requests import AnsKey

PORT = 655
RANDOM = random.Random(21)
ETHERNET = b"\x02\0\0\0\0\2\x02\0\0\0\0\1"


class Left(Exception):
    """The member has gone on purpose."""


Attack = Callable[["Member"], None]


def nonce() -> str:
    return f"{RANDOM.getrandbits(31):x}"


class Member:
    """One connection of the member. `say` raises OSError or PeerError when it has been thrown out."""

    def __init__(self, address: str, directory: Path, victim: str) -> None:
        self.address, self.name, self.victim = address, directory.name, victim
        self.sent = 0
        self.answered = False
        self.victims_key: AnsKey | None = None
        self.answers: list[AnsKey] = []
        host_file = (directory / "hosts" / victim).read_text()
        key_file = directory / "ed25519_key.priv"
        self._rsa: RsaPrivateKey | None = None
        self._ed25519: Ed25519PrivateKey | None = None
        self._victims_ed25519: bytes | None = None
        self._victims_rsa: RsaPublicKey | None = None
        if key_file.exists():
            self._ed25519 = Ed25519PrivateKey.from_pem(key_file.read_text())
            found = re.search(r"^Ed25519PublicKey = (\S+)$", host_file, re.MULTILINE)
            assert found
            self._victims_ed25519 = public_from_text(found[1])
        else:
            self._rsa = RsaPrivateKey.from_pem((directory / "rsa_key.priv").read_text())
            self._victims_rsa = RsaPublicKey.from_pem(host_file)
        self.options = 0xC if self._ed25519 is None else 0x700000C

    @property
    def second(self) -> bool:
        """Whether it speaks the protocol of tinc 1.1."""
        return self._ed25519 is not None

    def ed25519_key(self) -> Ed25519PrivateKey:
        assert self._ed25519 is not None
        return self._ed25519

    def victims_ed25519(self) -> bytes:
        assert self._victims_ed25519 is not None
        return self._victims_ed25519

    def __enter__(self) -> Member:
        self.socket = socket.create_connection((self.address, PORT), timeout=30)
        self.meta = MetaStart(
            outgoing=True,
            my_name=self.name,
            rsa_key=self._rsa,
            ed25519_key=self._ed25519,
            expected_name=self.victim,
            credentials=lambda name: PeerCredentials(self._victims_rsa, self.options, ed25519=self._victims_ed25519),
            entropy=os.urandom,
            now=time.monotonic(),
            ping_interval=60,
            ping_timeout=30,
            port=str(PORT),
        )
        deadline = time.monotonic() + 8
        try:
            while not self.meta.active:
                self.listen(0.2)
                if time.monotonic() > deadline:
                    raise SystemExit("the member was not admitted")
        except (OSError, PeerError) as error:
            raise SystemExit(f"the member was not admitted: {error}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def push(self) -> None:
        self.socket.sendall(self.meta.data_to_send())

    def listen(self, wait: float) -> None:
        """Send what is due, and take in what the victim says within ``wait`` seconds."""
        self.push()
        if not select.select([self.socket], [], [], wait)[0]:
            return
        data = self.socket.recv(262_144)
        if not data:
            raise ConnectionResetError
        now = time.monotonic()
        for event in self.meta.receive(data, now):
            if isinstance(event, Verified):
                self.meta.proceed(now)
            elif isinstance(event, PongReceived):
                self.answered = True
            elif isinstance(event, RequestReceived):
                request = event.request
                if isinstance(request, AnsKey) and (request.source, request.target) == (self.victim, self.name):
                    self.victims_key = request
                    self.answers = [*self.answers[-50:], request]
        self.push()

    def say(self, *lines: str) -> None:
        for line in lines:
            self.put(line.encode() + b"\n")
            self.sent += 1
            if self.sent % 200 == 0:
                self.listen(0.0)

    def put(self, piece: bytes) -> None:
        """Lines and parts of them, also such as a connection would not send."""
        chosen = self.meta.chosen
        if isinstance(chosen, SptpsMeta):
            chosen._session.send_record(REQUEST_RECORD, piece)
        else:
            self.meta.send(piece)

    def settle(self) -> None:
        """Wait until the victim has dealt with all that was said: its answer to a PING comes after that."""
        self.answered = False
        self.meta.ping_now(time.monotonic())
        deadline = time.monotonic() + 30
        while not self.answered:
            self.listen(0.1)
            if time.monotonic() > deadline:
                raise SystemExit("the victim does not answer")

    def introduce(self) -> None:
        """What a well-behaved node says first: its edge to the victim, and a key for packets to it."""
        self.say(f"12 {nonce()} {self.name} {self.victim} {self.address} 655 {self.options:x} 1")
        if not self.second:
            self.say(self.own_key(self.victim))

    def own_key(self, target: str) -> str:
        return f"16 {self.name} {target} {os.urandom(48).hex().upper()} 427 672 4 0"

    def open_flow(self) -> PacketSealer:
        """Our side of a UDP flow with the victim, who gives neighbours its key unasked."""
        self.introduce()
        deadline = time.monotonic() + 5
        while self.victims_key is None:
            self.listen(0.1)
            if time.monotonic() > deadline:
                raise SystemExit("the victim gave the member no key")
        answer = self.victims_key
        return PacketSealer(
            PacketKey.from_answer(answer.key, answer.cipher, answer.digest, answer.mac_length, answer.compression)
        )


def telling(lines: Iterable[str]) -> Attack:
    def attack(member: Member) -> None:
        member.introduce()
        member.say(*lines)

    return attack


def gossip(me: str, victim: str, other: str, third: str, scale: int) -> Iterator[tuple[str, Iterable[str]]]:
    weights = (-1, -(2**31), 2**31 - 1, 0, 2**40, -5)
    yield "edges with absurd weights", [f"12 {nonce()} {me} made{n} 10.9.9.9 655 c {w}" for n, w in enumerate(weights)]
    addresses = (
        "x y", "256.1.1.1 99999", "::: 0", "255.255.255.255 655", "127.0.0.1 655", "% -1", "10.9.9.9 0",
        "fe80::1%eth0 655", "unknown unknown", "224.0.0.1 655", ":: 655", "10.2.0.2 655", "localhost http",
    )  # fmt: skip
    yield (
        "edges with absurd addresses",
        [
            f"12 {nonce()} {ends} {text} {options} 1"
            for n, text in enumerate(addresses)
            for options in ("c", "ffffffff", "0", "-1")
            for ends in (f"{me} odd{n}", f"odd{n} {me}", f"{me} {victim}")
        ],
    )
    yield "edges of others", [
        line
        for _ in range(50)
        for line in (
            f"12 {nonce()} {victim} {me} 10.9.9.9 1 f 1",
            f"12 {nonce()} {other} {me} 10.9.9.9 1 f 1",
            f"12 {nonce()} {victim} {victim} 10.9.9.9 1 f 1",
            f"13 {nonce()} {victim} nobody",
            f"12 {nonce()} ghost1 ghost2 10.9.9.9 655 c 1",
        )
    ]  # fmt: skip
    yield (
        "our name used by another",
        [
            line
            for n in range(300)
            for line in (f"12 {nonce()} {victim} false{n % 7} 10.9.9.9 1 c 1", f"13 {nonce()} {victim} {other}")
        ],
    )
    yield (
        "invented nodes",
        (
            line
            for n in range(5000 * scale)
            for line in (f"12 {nonce()} {me} inv{n} 10.9.9.9 655 c 1", f"12 {nonce()} inv{n} {me} 10.9.9.9 655 c 1")
        ),
    )
    yield (
        "a giant subnet list",
        (f"10 {nonce()} {me} 172.{16 + (n >> 16)}.{n >> 8 & 255}.{n & 255}" for n in range(5000 * scale)),
    )
    yield (
        "invented owners of subnets",
        (f"10 {nonce()} own{n % 500} 11.{n >> 16}.{n >> 8 & 255}.{n & 255}/32#{n}" for n in range(3000 * scale)),
    )
    yield (
        "one fact, there and gone",
        (
            line
            for _ in range(2500 * scale)
            for line in (f"10 {nonce()} {me} 192.168.77.0/24", f"11 {nonce()} {me} 192.168.77.0/24")
        ),
    )
    yield "many facts, there and gone", (
        line
        for n in range(1500 * scale)
        for line in (
            f"12 {nonce()} {me} tmp{n} 10.9.9.9 655 c 1", f"12 {nonce()} tmp{n} {me} 10.9.9.9 655 c 1",
            f"13 {nonce()} {me} tmp{n}", f"13 {nonce()} tmp{n} {me}",
        )
    )  # fmt: skip
    yield (
        "subnets that are none",
        [
            f"10 {nonce()} {me} {text}"
            for text in ("10.0.0.0/99", "fd00::/-1", "1.2.3", "02:00:00:00:00:zz", "0.0.0.0/0#99999999999", "/", "#")
        ],
    )
    yield "the same line again and again", (f"14 1 {me}" for _ in range(5000 * scale))
    yield (
        "keys changed all the time",
        (f"14 {nonce()} {who}" for _ in range(1000 * scale) for who in (me, other, third, victim, "ghost")),
    )


def keys(me: str, victim: str, other: str, third: str, scale: int) -> Iterator[tuple[str, Iterable[str]]]:
    yield (
        "an invented owner that asks for a key",
        [
            f"10 {nonce()} ghost 10.77.0.0/24",
            *(f"15 ghost {target}" for target in (victim, other, third)),
            *(f"16 ghost {target} {'AB' * 48} 427 672 4 0" for target in (victim, other, third)),
        ],
    )
    good = "AB" * 48
    requests = [
        f"15 {me} %s", f"15 {me} %s 0", f"15 {me} %s 0 x", f"15 {me} %s x", f"15 {me} %s -1", f"15 {me} %s 15",
        f"15 {me} %s 15 !!", f"15 {me} %s 16 AAAA", f"15 {me} %s 99 a b c", f"15 {me} %s 4294967296",
        f"15 {me} %s 19 {'A' * 2000}",
    ]  # fmt: skip
    answers = [
        "ZZ 427 672 4 0", "00 427 672 4 0", f"{'00' * 900} 427 672 400 99", "00 1 2 3 4", f"{good} 427 672 -4 0",
        f"{good} 427 672 4 99", f"{good} 427 672 65 0", f"{good} 427 99999 4 0", f"{good} 99999 672 4 0",
        "00 0 0 0 0", f"{good} -1 -1 -1 0", f"{good} -1 672 4 0", f"{good} 427 672 4 0 word 655",
        f"{good} 427 672 4 0 10.9.9.9 99999", f"{good} 427 672 4 0 10.9.9.9", f"{good} 427 672 4 11", "!! -1 -1 -1 0",
        f"{good[:-1]} 427 672 4 0", "", f"{good} 427 672 4", f"{'AB' * 24} 91 64 4 0", f"{'AB' * 8} 5 64 4 0",
    ]  # fmt: skip
    yield "impossible key requests", [request % target for request in requests for target in (victim, other, third)]
    yield "impossible keys", [f"16 {me} {target} {key}" for key in answers for target in (victim, other, third)]
    yield "key lines that are cut short", ["15", "16", "16 x", "14", f"16 {me} {third}", f"15 {me}", "15 x y z", "14 1"]
    yield (
        "key requests without end",
        (f"15 {me} {target}" for _ in range(1000 * scale) for target in (victim, other, third)),
    )
    yield (
        "keys without end",
        (
            f"16 {me} {target} {os.urandom(48).hex()} 427 672 4 0"
            for _ in range(500 * scale)
            for target in (victim, other, third)
        ),
    )
    yield (
        "keys that point elsewhere",
        (
            f"16 {me} {victim} {os.urandom(48).hex()} 427 672 4 0 10.9.{n >> 8 & 255}.{n & 255} 655"
            for n in range(1000 * scale)
        ),
    )


def frames(member: Member) -> Iterator[bytes]:
    def ipv4(target: str, size: int, lie: int = 0) -> bytes:
        header = b"\x45\0" + (20 + size + lie).to_bytes(2, "big") + b"\0\0\0\0\x40\x01\0\0"
        return ETHERNET + b"\x08\0" + header + socket.inet_aton("10.200.0.99") + socket.inet_aton(target) + bytes(size)

    for target in ("255.255.255.255", "10.200.0.1", "10.200.0.2", "10.200.0.3", "10.99.0.1", "224.0.0.5", "0.0.0.0"):
        for size, lie in ((0, 0), (64, 1000), (64, -60), (1400, 0), (64, 60_000 - 84)):
            yield ipv4(target, size, lie)
    yield ETHERNET + b"\x86\xdd" + b"\x60" + bytes(39)
    yield ETHERNET + b"\x86\xdd" + b"\x60\0\0\0\xff\xff\x3a\xff" + bytes(32) + bytes(100)
    yield ETHERNET + b"\x08\x06" + bytes(28)
    yield ETHERNET + b"\x81\x00\0\0\x08\0" + bytes(20)
    yield ETHERNET + b"\0\0" + bytes(10)
    yield ETHERNET + b"\x08\0"
    yield ETHERNET + b"\x08\0" + bytes(3)
    yield ETHERNET + b"\x08\0\x4f" + bytes(30)


def by_tcp(scale: int) -> Attack:
    def attack(member: Member) -> None:
        member.introduce()
        for number, frame in enumerate(list(frames(member)) * 40 * scale):
            member.meta.send(b"17 %d\n" % len(frame) + frame)
            member.sent += 1
            if number % 100 == 0:
                member.listen(0.0)
        for length in (0, 1, 13, 1519, 2000):
            member.meta.send(b"17 %d\n" % length + bytes(length))
        member.listen(0.2)

    return attack


def by_udp(seconds: float) -> Attack:
    def attack(member: Member) -> None:
        sealer = member.open_flow()
        choice = list(frames(member))
        probes = [make_request(size, os.urandom) for size in (14, 17, 18, 64, 1400, 1451)]
        probes += [b"\2\xff\xff" + bytes(15), b"\2\0\0" + bytes(15), b"\1" + bytes(1400), b"\xff" + bytes(60)]
        end = time.monotonic() + seconds
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("", PORT))
            sender.setblocking(False)
            while time.monotonic() < end:
                for _ in range(20):
                    frame = RANDOM.choice(RANDOM.choice((choice, probes)))
                    with contextlib.suppress(OSError):
                        sender.sendto(sealer.seal(frame), (member.address, PORT))
                    member.sent += 1
                with contextlib.suppress(OSError):
                    while True:
                        sender.recv(2048)
                member.listen(0.01)

    return attack


def deaf(member: Member) -> None:
    """Never read: neither answers to our PINGs nor what the victim has to tell."""
    member.introduce()
    member.socket.settimeout(0.5)
    for n in range(2000):
        member.meta.send(b"8\n" * 100 + f"12 {nonce()} {member.victim} far{n} 10.9.9.9 1 c 1\n".encode())
        member.sent += 101
        member.push()
    time.sleep(1.0)
    raise Left


def half_frame(member: Member) -> None:
    """Leave in the middle of a frame."""
    member.introduce()
    member.put(b"17 1400\n")
    member.put(b"only this")
    member.push()
    raise Left


def reconnecting(address: str, directory: Path, victim: str, seconds: float) -> str:
    """Again and again, with the connection before still there: the same name twice at once."""
    end = time.monotonic() + seconds
    count = 0
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(contextlib.ExitStack())
        while time.monotonic() < end:
            new = contextlib.ExitStack()
            member = new.enter_context(Member(address, directory, victim))
            with contextlib.suppress(OSError, PeerError):
                member.introduce()
                # Not before the victim has this one may the next begin: else that would be the one to be refused.
                member.settle()
            old.close()
            old = stack.enter_context(new)
            count += 1
    return f"{count} connections in {seconds:g} s"


def main() -> None:
    everything = sys.argv[1:2] == ["--all"]
    address, path, victim, *others = sys.argv[1 + everything :]
    other, third = others
    directory = Path(path)
    me = directory.name
    assert re.fullmatch(r"[A-Za-z0-9_]+", me)
    scale = 10 if everything else 1

    def run(title: str, attack: Attack) -> None:
        start = time.monotonic()
        with Member(address, directory, victim) as member:
            ending = ""
            try:
                attack(member)
                member.settle()
            except Left:
                ending = ", then it left"
            except (OSError, PeerError):
                ending = ", then the connection was closed"
        print(f"{title}: {member.sent} lines in {time.monotonic() - start:.1f} s{ending}", flush=True)

    # The storms come last, as every connection after them is told what they left.
    for title, lines in keys(me, victim, other, third, scale):
        run(title, telling(lines))
    for line in (
        "4 655 0 c",
        "1 427 672 0 0 00",
        "2 00",
        "3 00",
        "0 M 17",
        "17 60000",
        "17 -1",
        "99",
        "12",
        "junk",
        "7",
    ):
        run(f"out of place: {line}", telling([line]))
    run("packets by TCP", by_tcp(scale))
    if Member(address, directory, victim).second:
        for title, attack in hostile_member_11.attacks(me, victim, other, third, scale):
            run(title, attack)
    else:
        run("packets and probes by UDP", by_udp(3.0 * scale))
    run("half a frame", half_frame)
    print(f"reconnecting: {reconnecting(address, directory, victim, 3.0 * scale)}", flush=True)
    for title, lines in gossip(me, victim, other, third, scale):
        run(title, telling(lines))
    run("neither listens nor stops", deaf)


if __name__ == "__main__":
    main()
