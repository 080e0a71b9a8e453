"""A database of a given size as a neighbour describes it: what the settle benchmark feeds to a daemon.

Not here: connections, and what is measured (`tell.py`).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator

LOCAL_PORT = 655


def lines(teller: str, victim: str, *, nodes: int, edges: int, subnets: int, sptps: bool) -> Iterator[str]:
    """The lines of ``teller``, in the order in which a node describes what it knows: by name, subnets before edges.

    ``nodes`` counts both ends of the connection, ``edges`` are directed: a random tree below the teller, and as many
    links more. With ``sptps`` edges have the local address of tinc 1.1 and its version in the options.
    """
    rng = random.Random(nodes)
    names = [teller, *(f"node{number:04d}" for number in range(nodes - 2))]
    index = {name: number for number, name in enumerate(names)}
    links = {(names[number], names[rng.randrange(max(0, number - 40), number)]) for number in range(1, len(names))}
    # One link is the one to the victim, whose own direction is no news to it.
    while len(links) < edges // 2 - 1:
        a, b = rng.sample(names, 2)
        if (b, a) not in links:
            links.add((a, b))
    targets: dict[str, list[str]] = defaultdict(list)
    for a, b in links:
        targets[a].append(b)
        targets[b].append(a)
    targets[teller].append(victim)
    owned: dict[str, list[int]] = defaultdict(list)
    for number in range(subnets):
        owned[names[number % len(names)]].append(number)
    options = "700000c" if sptps else "c"

    def nonce() -> str:
        return f"{rng.getrandbits(31):x}"

    for name in sorted(names):
        for number in owned[name]:
            text = f"fd00:{number:x}::/64" if number % 4 == 3 else f"10.{number >> 8}.{number & 255}.0/24"
            yield f"10 {nonce()} {name} {text}"
        for target in sorted(targets[name]):
            place = index.get(target, len(names))
            line = (
                f"12 {nonce()} {name} {target} 192.0.{place >> 8}.{place & 255} 655 {options} {rng.randrange(5, 400)}"
            )
            here = index[name]
            yield f"{line} 172.16.{here >> 8}.{here & 255} {LOCAL_PORT}" if sptps else line
