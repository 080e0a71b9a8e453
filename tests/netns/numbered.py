"""Numbered UDP datagrams through the mesh: how many arrive, and does any arrive twice?

usage: numbered.py send ADDRESS COUNT RATE PORT          COUNT datagrams, RATE a second
       numbered.py receive ADDRESS PORT STATE            until it is killed; STATE holds how many came, and came again
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from pathlib import Path


def send(address: str, count: int, rate: float, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        begin = time.monotonic()
        base = time.time_ns()
        for number in range(count):
            with contextlib.suppress(ConnectionRefusedError):
                sock.sendto((base + number).to_bytes(8, "big") + bytes(400), (address, port))
            time.sleep(max(0.0, begin + (number + 1) / rate - time.monotonic()))


def receive(address: str, port: int, state: Path) -> None:
    seen: set[bytes] = set()
    again = 0
    fresh = state.with_name(state.name + ".new")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)
        sock.bind((address, port))
        sock.settimeout(0.2)
        while True:
            fresh.write_text(f"{len(seen)} {again}\n")
            os.replace(fresh, state)
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                try:
                    number = sock.recv(2048)[:8]
                except TimeoutError:
                    break
                again += number in seen
                seen.add(number)


def main() -> None:
    match sys.argv[1:]:
        case ["send", address, count, rate, port]:
            send(address, int(count), float(rate), int(port))
        case ["receive", address, port, state]:
            receive(address, int(port), Path(state))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
