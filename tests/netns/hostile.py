"""Strangers for the bad-input test: they know the address, some names, and nothing else.

usage: hostile.py stranger ADDRESS NAME            every kind of nonsense by TCP, once; NAME is a node the victim knows
       hostile.py idle ADDRESS COUNT               COUNT silent or dripping connections until standard input ends
       hostile.py pester ADDRESS NAME OWN SECONDS  floods of connections, greetings and METAKEYs that take an RSA step
       hostile.py datagrams ADDRESS SECONDS        garbage of every size to the UDP port, 2000 a second
       hostile.py spoof SOURCE ADDRESS SECONDS     the same in SOURCE's name, with what it heard SOURCE send

Every loop is bounded. Prints one line for each kind of attack; fails only if an attack could not be made.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

PORT = 655
CIPHER, DIGEST = 429, 672
DATAGRAMS_PER_SECOND = 2000
RANDOM = random.Random(20)


def connect(address: str) -> socket.socket:
    return socket.create_connection((address, PORT), timeout=5)


def offer(address: str, pieces: Iterable[bytes]) -> None:
    """Connect, send each piece after whatever the victim said to the one before, and leave."""
    with contextlib.suppress(OSError), connect(address) as connection:
        for piece in pieces:
            connection.settimeout(0.3)
            connection.sendall(piece)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(4096):
                    return


def refused(address: str, pieces: Iterable[bytes]) -> bool:
    """Whether the victim is the one who ends the conversation, within some seconds."""
    with connect(address) as connection:
        connection.settimeout(8)
        try:
            for piece in pieces:
                connection.sendall(piece)
            while connection.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True


def hex_of(size: int) -> bytes:
    """As many bytes as a number below a modulus of that size has, in hex."""
    return (b"\0" + os.urandom(size - 1)).hex().upper().encode()


def conversations(name: str) -> Iterator[tuple[str, list[list[bytes]]]]:
    yield "random bytes", [[os.urandom(RANDOM.randrange(1, 4096))] for _ in range(50)]
    yield "a line of 100 kB", [[b"0 " + b"a" * 100_000] for _ in range(10)]
    yield "a line of 100 kB with an end", [[b"0 " + b"a" * 100_000 + b"\n"] for _ in range(10)]
    identify = b"0 " + name.encode() + b" 17\n"
    lines = [
        b"\n", b"0\n", b"0 \n", b"0 ../../etc/passwd 17\n", b"0 " + name.encode() + b" 99\n", b"0 nobody 17\n",
        b"0 " + name.encode() + b" 17.7\n", b"0 ^" + b"F" * 64 + b" 0\n", b"0 ?invited 17.7\n", b"4 655 0 c\n",
        b"99 x\n", b"-1\n", b"12 1 a b 10.0.0.1 655 0 1\n", b"\xff\xfe\x00\n", b"8\n" * 1000, b"0 B 17\n",
        b"1 427 672 0 0 00\n", b"2 00\n", b"3 00\n", b"0 a" + b" " * 1500 + b"17\n", b"GET / HTTP/1.1\r\n\r\n",
    ]  # fmt: skip
    yield "a bad first line", [[line] for line in lines]
    keys = [b"", b"zz", b"00", b"F" * 512, hex_of(256), b"0" * 512, b"1" * 2100, b"-" * 512]
    numbers = (b"427 672 0 0 ", b"0 0 0 0 ", b"999999 -5 99 99 ", b"427 672 4 12 ")
    yield "a bogus METAKEY", [[identify, b"1 " + first + key + b"\n"] for key in keys for first in numbers]
    metakey = b"1 %d %d 0 0 %s\n" % (CIPHER, DIGEST, hex_of(256))
    endings = (b"2 " + b"00" * 256 + b"\n", b"2 xyz\n", os.urandom(600), b"3 " + b"00" * 32 + b"\n", b"4 655 0 c\n")
    yield "a bogus challenge", [[identify, metakey, ending] for ending in endings]
    yield "replies in wrong order", [[identify, ending] for ending in (*endings, identify, metakey * 2)]
    yield "everything at once", [[identify + metakey + os.urandom(60_000)] for _ in range(3)]


def stranger(address: str, name: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        for title, attempts in conversations(name):
            list(pool.map(lambda pieces: offer(address, pieces), attempts))
            print(f"{len(attempts)} x {title}", flush=True)
        endless = [[b"0 " + b"a" * 50_000], [b"99\n"], [b"0 " + name.encode() + b" 17\n1 0 0 0 0 00\n"], [b"0 ^x 0\n"]]
        if not all(pool.map(lambda pieces: refused(address, pieces), endless)):
            raise SystemExit("a stranger who broke the protocol was not shown out")
    print("all were shown out", flush=True)


def idle(address: str, count: int) -> None:
    """Half of them say nothing, the others begin a greeting and drip the rest of it, a byte a second."""
    held = [connect(address) for _ in range(count)]
    over = threading.Event()

    def drip() -> None:
        for byte in b"0 A" + b" " * 2000:
            for connection in held[::2]:
                with contextlib.suppress(OSError):
                    connection.send(bytes([byte]))
            if over.wait(1.0):
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    print(f"{len(held)} connections held", flush=True)
    sys.stdin.read()
    over.set()
    dripping.join()


def pester(address: str, name: str, own: str, seconds: float) -> None:
    def metakey() -> None:
        offer(address, [f"0 {name} 17\n1 {CIPHER} {DIGEST} 0 0 ".encode() + hex_of(256) + b"\n"])

    def come_and_go() -> None:
        with contextlib.suppress(OSError), connect(address):
            pass

    def greet() -> None:
        offer(address, [f"0 {RANDOM.choice((name, own, 'nobody'))} 17\n".encode()])

    def burst() -> None:
        with contextlib.suppress(OSError), connect(address) as connection:
            connection.sendall(b"0 " + b"x" * 500_000)

    kinds: list[Callable[[], None]] = [metakey, metakey, come_and_go, greet, burst]
    counts = dict.fromkeys((kind.__name__ for kind in kinds), 0)
    end = time.monotonic() + seconds

    def work(kind: Callable[[], None]) -> None:
        while time.monotonic() < end:
            kind()
            counts[kind.__name__] += 1
            if kind is come_and_go:
                time.sleep(0.01)

    with ThreadPoolExecutor(2 * len(kinds)) as pool:
        list(pool.map(work, [*kinds, *kinds]))
    print(f"in {seconds:g} s:", ", ".join(f"{count} x {kind}" for kind, count in counts.items()), flush=True)


def paced(seconds: float) -> Iterator[int]:
    """Numbers at the pace of the flood until the time is over."""
    start = time.monotonic()
    number = 0
    while (gone := time.monotonic() - start) < seconds:
        yield number
        number += 1
        if (ahead := number / DATAGRAMS_PER_SECOND - gone) > 0:
            time.sleep(ahead)


def datagrams(address: str, seconds: float) -> None:
    sizes = (0, 1, 4, 12, 24, 60, 100, 500, 1400)
    count = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for count in paced(seconds):
            size = 65_000 if count % 200 == 0 else RANDOM.choice(sizes)
            with contextlib.suppress(OSError):
                sender.sendto(os.urandom(size), (address, PORT))
    print(f"{count} garbage datagrams in {seconds:g} s", flush=True)


def spoof(source: str, address: str, seconds: float) -> None:
    heard = overhear(source, address, 40)
    count = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
        for count in paced(seconds):
            payload = RANDOM.choice(heard)
            if count % 3 == 1:
                payload = os.urandom(len(payload))
            elif count % 3 == 2:
                place = RANDOM.randrange(len(payload))
                payload = payload[:place] + bytes([payload[place] ^ 1 << RANDOM.randrange(8)]) + payload[place + 1 :]
            sender.sendto(packet(source, address, payload), (address, 0))
    print(f"{count} datagrams in the name of {source} in {seconds:g} s, from {len(heard)} real ones", flush=True)


def overhear(source: str, address: str, count: int) -> list[bytes]:
    """Payloads of real datagrams from ``source`` to ``address`` that pass here."""
    heard: list[bytes] = []
    deadline = time.monotonic() + 15
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as listener:
        listener.settimeout(1)
        while len(heard) < count:
            if time.monotonic() > deadline:
                raise SystemExit(f"heard only {len(heard)} datagrams of {source}")
            with contextlib.suppress(TimeoutError):
                data = listener.recv(4096)
                ends = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
                length = int.from_bytes(data[24:26], "big") - 8
                if data[9] == socket.IPPROTO_UDP and ends == (source, address) and length > 0:
                    heard.append(data[28 : 28 + length])
    return heard


def packet(source: str, address: str, payload: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram between the usual ports; the kernel fills in the header's checksum."""
    udp = struct.pack("!HHHH", PORT, PORT, 8 + len(payload), 0) + payload
    ends = socket.inet_aton(source) + socket.inet_aton(address)
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + ends + udp


def main() -> None:
    match sys.argv[1:]:
        case ["stranger", address, name]:
            stranger(address, name)
        case ["idle", address, count]:
            idle(address, int(count))
        case ["pester", address, name, own, seconds]:
            pester(address, name, own, float(seconds))
        case ["datagrams", address, seconds]:
            datagrams(address, float(seconds))
        case ["spoof", source, address, seconds]:
            spoof(source, address, float(seconds))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
