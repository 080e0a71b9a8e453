"""A bad link between two network interfaces: passes frames on, loses, doubles and delays some, and can repeat old ones.

Its chances come from a seed, so that a run can be made again; which packet they hit still depends on timing. Lines on
standard input steer it, and each is answered by one line on standard output:

    set loss=0.05 double=0.05 delay=0.1    chances for each frame (0 at the start); a delayed one comes 5 to 40 ms later
    replay COUNT                           the first and the last COUNT UDP datagrams that it passed on, again
    count                                  {"udp": datagrams that came in, "replayed": ..., ...} since the start

usage: packet_shim.py WEST EAST SEED     (interfaces; run where both are, as root)
       packet_shim.py plain INTERFACE    (has the kernel make whole checksums and no over-long frames there)
"""

from __future__ import annotations

import array
import fcntl
import heapq
import json
import random
import select
import socket
import struct
import sys
import time
from collections import deque

_PACKET_IGNORE_OUTGOING = 23
_SOL_PACKET = 263
_ETH_P_ALL = 3
_SIOCETHTOOL = 0x8946
# Transmit checksums, scatter-gather, TSO, GSO, GRO: each is switched off by its own old-style command.
_ETHTOOL_OFF = (0x17, 0x19, 0x1F, 0x24, 0x2C)
KEPT = 2000
"""Datagrams kept for `replay`, from the beginning and from the end, in each direction."""


def plain(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in _ETHTOOL_OFF:
            value = array.array("B", struct.pack("II", command, 0))
            request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
            try:
                fcntl.ioctl(control, _SIOCETHTOOL, request)
            except OSError as error:
                print(f"{interface}: command {command:#x}: {error.strerror}", file=sys.stderr)


def is_udp(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == 17


class Shim:
    def __init__(self, west: str, east: str, seed: int) -> None:
        self._sockets = [self._open(west), self._open(east)]
        self._random = random.Random(seed)
        self._chances = {"loss": 0.0, "double": 0.0, "delay": 0.0}
        self._late: list[tuple[float, int, int, bytes]] = []
        self._serial = 0
        self._first: list[list[bytes]] = [[], []]
        self._last: list[deque[bytes]] = [deque(maxlen=KEPT), deque(maxlen=KEPT)]
        self._counts = {"udp": 0, "tcp": 0, "lost": 0, "doubled": 0, "delayed": 0, "replayed": 0}

    @staticmethod
    def _open(interface: str) -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        sock.setsockopt(socket.SOL_SOCKET, 33, 8_000_000)  # SO_RCVBUFFORCE
        sock.bind((interface, 0))
        sock.setblocking(False)
        return sock

    def run(self) -> None:
        watched = [*self._sockets, sys.stdin]
        while True:
            now = time.monotonic()
            while self._late and self._late[0][0] <= now:
                _, _, side, frame = heapq.heappop(self._late)
                self._send(side, frame)
            wait = self._late[0][0] - now if self._late else None
            ready, _, _ = select.select(watched, [], [], wait)
            for side in (0, 1):
                if self._sockets[side] in ready:
                    self._drain(side)
            if sys.stdin in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                print(self._command(line.split()), flush=True)

    def _drain(self, side: int) -> None:
        for _ in range(64):
            try:
                frame = self._sockets[side].recv(65536)
            except BlockingIOError:
                return
            self._pass_on(1 - side, frame)

    def _pass_on(self, side: int, frame: bytes) -> None:
        if is_udp(frame):
            self._counts["udp"] += 1
        elif frame[12:14] == b"\x08\x00":
            self._counts["tcp"] += 1
        chance, draw = self._chances, self._random.random
        if draw() < chance["loss"]:
            self._counts["lost"] += 1
            return
        if is_udp(frame):
            if len(self._first[side]) < KEPT:
                self._first[side].append(frame)
            self._last[side].append(frame)
        for copy in range(2 if draw() < chance["double"] else 1):
            self._counts["doubled"] += copy
            if draw() < chance["delay"]:
                self._counts["delayed"] += 1
                self._serial += 1
                due = time.monotonic() + self._random.uniform(0.005, 0.04)
                heapq.heappush(self._late, (due, self._serial, side, frame))
            else:
                self._send(side, frame)

    def _send(self, side: int, frame: bytes) -> None:
        try:
            self._sockets[side].send(frame)
        except OSError:
            self._counts["lost"] += 1

    def _command(self, words: list[str]) -> str:
        match words:
            case ["set", *settings]:
                self._chances |= {name: float(value) for name, value in (word.split("=") for word in settings)}
                return json.dumps(self._chances)
            case ["replay", count]:
                for side in (0, 1):
                    for frame in [*self._first[side][: int(count)], *list(self._last[side])[-int(count) :]]:
                        self._send(side, frame)
                        self._counts["replayed"] += 1
                        time.sleep(0.0005)
                return json.dumps(self._counts)
            case ["count"]:
                return json.dumps(self._counts)
        return "?"


def main() -> None:
    if sys.argv[1] == "plain":
        plain(sys.argv[2])
        return
    west, east, seed = sys.argv[1:]
    for interface in (west, east):
        plain(interface)
    shim = Shim(west, east, int(seed))
    print("ready", flush=True)
    shim.run()


if __name__ == "__main__":
    main()
