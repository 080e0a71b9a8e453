"""An attacker for the bad-input test: a stranger who knows nothing, or a member with a valid key and bad manners.

usage: hostile.py stranger ADDRESS NAME     NAME is a node that the victim knows
       hostile.py idle ADDRESS COUNT        holds COUNT connections open and silent until its input ends
       hostile.py datagrams ADDRESS COUNT   garbage to the UDP port, 2000 a second
       hostile.py member ADDRESS DIRECTORY VICTIM OTHER

Every loop is bounded. Prints what it did, one line for each kind of attack; fails only if an attack could not be made.
"""

from __future__ import annotations

import os
import random
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

PORT = 655
CIPHER, DIGEST = 427, 672
RANDOM = random.Random(20)


def connect(address: str) -> socket.socket:
    return socket.create_connection((address, PORT), timeout=5)


def offer(address: str, *pieces: bytes) -> None:
    """Connect, send each piece after whatever the victim said to the one before, and leave."""
    with connect(address) as connection:
        for piece in pieces:
            connection.settimeout(0.3)
            try:
                connection.sendall(piece)
                connection.recv(4096)
            except OSError:
                return


def stranger(address: str, name: str) -> None:
    for _ in range(50):
        offer(address, os.urandom(RANDOM.randrange(1, 4096)))
    print("50 x random bytes")
    for _ in range(10):
        offer(address, b"0 " + b"a" * 100_000)
    print("10 x a line of 100 kB")
    lines = [
        b"\n", b"0\n", b"0 \n", b"0 ../../etc/passwd 17\n", b"0 " + name.encode() + b" 99\n", b"0 nobody 17\n",
        b"0 " + name.encode() + b" 17.7\n", b"0 ^" + b"F" * 64 + b" 0\n", b"0 ?invited 17.7\n", b"4 655 0 c\n",
        b"99 x\n", b"-1\n", b"12 1 a b 10.0.0.1 655 0 1\n", b"\xff\xfe\x00\n", b"8\n" * 1000,
    ]  # fmt: skip
    for line in lines:
        offer(address, line)
    print(f"{len(lines)} x a bad first line")
    identify = b"0 " + name.encode() + b" 17\n"
    keys = [
        b"", b"zz", b"00", b"F" * 512, os.urandom(256).hex().upper().encode(), b"0" * 512, b"1" * 2100, b"-" * 512,
    ]  # fmt: skip
    for key in keys:
        for numbers in (b"427 672 0 0 ", b"0 0 0 0 ", b"999999 -5 99 99 ", b"427 672 4 12 "):
            offer(address, identify, b"1 " + numbers + key + b"\n")
    print(f"{4 * len(keys)} x a bogus METAKEY")
    metakey = b"1 %d %d 0 0 %s\n" % (CIPHER, DIGEST, b"0" + os.urandom(256).hex().upper().encode()[1:])
    for challenge in (b"2 " + b"00" * 256 + b"\n", b"2 xyz\n", os.urandom(600), b"3 " + b"00" * 32 + b"\n"):
        offer(address, identify, metakey, challenge)
    print("4 x a bogus challenge")


def idle(address: str, count: int) -> None:
    held = [connect(address) for _ in range(count // 2)]
    for number in range(count - len(held)):
        connection = connect(address)
        connection.sendall(b"0 A"[: number % 4])
        held.append(connection)
    print(f"{len(held)} connections held", flush=True)
    sys.stdin.read()


def datagrams(address: str, count: int) -> None:
    start = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(count):
            sender.sendto(os.urandom(RANDOM.choice((0, 1, 4, 12, 24, 60, 100, 500, 1400))), (address, PORT))
            if (ahead := number / 2000 - (time.monotonic() - start)) > 0:
                time.sleep(ahead)
    print(f"{count} garbage datagrams in {time.monotonic() - start:.1f} s")


def member(address: str, directory: Path, victim: str, other: str) -> None:
    for title, lines in attacks(directory.name, victim, other):
        sent, refusal = speak(address, directory, victim, lines)
        print(f"{title}: {sent} lines taken{', then the connection was closed' if refusal else ''}", flush=True)


def attacks(me: str, victim: str, other: str) -> Iterator[tuple[str, list[str]]]:
    def nonce() -> str:
        return f"{RANDOM.getrandbits(31):x}"

    weights = (-1, -(2**31), 2**31 - 1, 0, 2**40, -5)
    yield "edges with absurd weights", [f"12 {nonce()} {me} made{n} 10.9.9.9 655 c {w}" for n, w in enumerate(weights)]
    yield (
        "edges with absurd addresses",
        [
            f"12 {nonce()} {me} odd{n} {text} c 1"
            for n, text in enumerate(
                ("x y", "256.1.1.1 99999", "::: 0", "255.255.255.255 655", "127.0.0.1 655", "% -1")
            )
        ],
    )
    yield (
        "edges of others",
        [
            line
            for _ in range(50)
            for line in (
                f"12 {nonce()} {victim} {me} 10.9.9.9 1 f 1",
                f"12 {nonce()} {other} {me} 10.9.9.9 1 f 1",
                f"12 {nonce()} {victim} {victim} 10.9.9.9 1 f 1",
                f"13 {nonce()} {victim} nobody",
            )
        ],
    )
    yield (
        "invented nodes",
        [
            line
            for n in range(4000)
            for line in (f"12 {nonce()} {me} inv{n} 10.9.9.9 655 c 1", f"12 {nonce()} inv{n} {me} 10.9.9.9 655 c 1")
        ],
    )
    yield (
        "a giant subnet list",
        [f"10 {nonce()} {me} 172.16.{n >> 8 & 255}.{n & 255}" for n in range(20_000)],
    )
    yield (
        "subnets that are none",
        [
            f"10 {nonce()} {me} {text}"
            for text in ("10.0.0.0/99", "fd00::/-1", "1.2.3", "02:00:00:00:00:zz", "0.0.0.0/0#99999999999", "/", "#")
        ],
    )
    yield "an invented owner that asks for a key", [
        f"10 {nonce()} ghost 10.77.0.0/24", f"15 ghost {victim}", f"15 ghost {other}",
    ]  # fmt: skip
    yield "impossible key requests", [
        f"15 {me} {other}", f"15 {me} {other} 0", f"15 {me} {other} x", f"16 {me} {other} ZZ 427 672 4 0",
        f"16 {me} {other} 00 427 672 4 0", f"16 {me} {other} {'00' * 900} 427 672 400 99",
        f"16 {me} {victim} 00 1 2 3 4",
        f"16 {other} {victim} {'00' * 48} 427 672 -4 0", f"14 {nonce()} ghost", f"16 {me} {other}", "15", "16 x",
    ]  # fmt: skip
    for line in ("4 655 0 c", "1 427 672 0 0 00", "3 00", "17 60000", "17 -1", "99", "12", "junk"):
        yield f"out of place: {line[:12]}", [line]
    yield "the same line again and again", [f"14 1 {me}"] * 20_000


def speak(address: str, directory: Path, victim: str, lines: Iterable[str]) -> tuple[int, bool]:
    """Handshake as the member in ``directory`` and say the lines; how many went out, and whether we were thrown out."""
    from gmesh.crypto.rsa import RsaPrivateKey, RsaPublicKey
    from gmesh.errors import PeerError
    from gmesh.proto.meta import LegacyMeta, PeerCredentials
    from gmesh.proto.meta_events import Verified

    public = RsaPublicKey.from_pem((directory / "hosts" / victim).read_text())
    private = RsaPrivateKey.from_pem((directory / "rsa_key.priv").read_text())
    sent = 0
    with connect(address) as connection:
        meta = LegacyMeta(
            outgoing=True,
            my_name=directory.name,
            private_key=private,
            expected_name=victim,
            credentials=lambda name: PeerCredentials(public, 0xC),
            entropy=os.urandom,
            now=time.monotonic(),
            ping_interval=60,
            ping_timeout=5,
            port=str(PORT),
        )

        def exchange(wait: float) -> None:
            connection.sendall(meta.data_to_send())
            connection.settimeout(wait)
            try:
                data = connection.recv(65536)
            except TimeoutError:
                return
            if not data:
                raise ConnectionResetError
            now = time.monotonic()
            if any(isinstance(event, Verified) for event in meta.receive(data, now)):
                meta.proceed(now)
            connection.sendall(meta.data_to_send())

        try:
            deadline = time.monotonic() + 5
            while not meta.active:
                exchange(0.2)
                if time.monotonic() > deadline:
                    raise SystemExit("the member was not admitted")
            for line in lines:
                meta.send(line.encode() + b"\n")
                sent += 1
                if sent % 200 == 0:
                    exchange(0.001)
            for _ in range(5):
                exchange(0.1)
        except (OSError, PeerError):
            if not meta.active:
                raise
            return sent, True
    return sent, False


def main() -> None:
    role, address, *rest = sys.argv[1:]
    if role == "stranger":
        stranger(address, rest[0])
    elif role == "idle":
        idle(address, int(rest[0]))
    elif role == "datagrams":
        datagrams(address, int(rest[0]))
    elif role == "member":
        directory = Path(rest[0])
        assert re.fullmatch(r"[A-Za-z0-9_]+", directory.name)
        member(address, directory, *rest[1:])
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
