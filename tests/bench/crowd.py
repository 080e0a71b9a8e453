"""A crowd for one daemon: a few neighbours that tell it of many nodes, and then are as quiet as a mesh gets.

usage: crowd.py ADDRESS VICTIM NODES DIRECTORY...

Each DIRECTORY holds rsa_key.priv and hosts/VICTIM; its name is a neighbour's. NODES counts neighbours and daemon too;
each further node has edges with two neighbours, and a subnet. Prints "Ready" when the daemon has taken it
all in, then answers PINGs until it is killed.
"""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Beside the namespace tests, whose folder is on the path of whoever runs this.
from hostile_member import Member, nonce


def neighbours_and_nodes(names: list[str], victim: str, address: str, count: int) -> Iterator[str]:
    """The lines that tell of the whole mesh."""
    for index, name in enumerate(names):
        yield f"12 {nonce()} {name} {victim} {address} 655 c 10"
        yield f"10 {nonce()} {name} 10.201.{index}.0/24"
    for number in range(count - len(names) - 1):
        node = f"node{number}"
        for near in (names[number % len(names)], names[(number + 1) % len(names)]):
            yield f"12 {nonce()} {node} {near} 10.9.{number}.2 655 c 20"
            yield f"12 {nonce()} {near} {node} 10.9.{number}.1 655 c 20"
        yield f"10 {nonce()} {node} 10.202.{number}.0/24"


def main() -> None:
    address, victim, nodes, *directories = sys.argv[1:]
    members = [Member(address, Path(directory), victim).__enter__() for directory in directories]
    members[0].say(*neighbours_and_nodes([member.name for member in members], victim, address, int(nodes)))
    for member in members:
        member.settle()
    print("Ready", flush=True)
    while True:
        now = time.monotonic()
        wake = min(member.meta.next_timeout() for member in members)
        readable = select.select([member.socket for member in members], [], [], max(wake - now, 0.0))[0]
        for member in members:
            if member.socket in readable:
                member.listen(0.0)
            if member.meta.next_timeout() <= time.monotonic():
                member.meta.on_timeout(time.monotonic())
                member.push()


if __name__ == "__main__":
    main()
