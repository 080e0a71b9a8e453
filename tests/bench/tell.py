"""A neighbour that tells a daemon of a large mesh, and watches what the daemon's processor does about it.

usage: tell.py ADDRESS DIRECTORY VICTIM PID NODES EDGES SUBNETS

DIRECTORY holds the keys and hosts/VICTIM; its name is the neighbour's, and its keys say of which generation the
connection is. Prints "result" lines when the daemon, whose process is PID, knows and reaches all of the mesh and
has come to rest, then "Ready", and stays until it is killed.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

# Beside the namespace tests, whose folder is on the path of whoever runs this.
from database import lines
from hostile_member import Member

TICK = 1 / os.sysconf("SC_CLK_TCK")
QUIET_SECONDS = 2.5
"""Longer than the longest interval between two graph runs."""


def processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def rest(member: Member, process: int) -> float:
    """Wait until the process has not used its processor for a while; returns what it had used by then."""
    used, since = processor_seconds(process), time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        member.listen(0.1)
        now = processor_seconds(process)
        if now - used > 2 * TICK:
            used, since = now, time.monotonic()
    return processor_seconds(process)


def main() -> None:
    address, directory, victim, process, nodes, edges, subnets = sys.argv[1:]
    with Member(address, Path(directory), victim) as member:
        told = list(
            lines(
                member.name,
                victim,
                nodes=int(nodes),
                edges=int(edges),
                subnets=int(subnets),
                sptps=member.second,
            )
        )
        before = rest(member, int(process))
        began = time.monotonic()
        member.say(*told)
        member.settle()
        wall = time.monotonic() - began
        print(f"result settle {rest(member, int(process)) - before:.2f}")
        print(f"result settle_wall {wall:.2f}")
        print("Ready", flush=True)
        while True:
            member.listen(1.0)


if __name__ == "__main__":
    main()
