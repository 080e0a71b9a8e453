"""Meta connections of the simulation: the steps of a handshake without its cryptography.

Hundreds of real handshakes would be most of a run's time, as each costs several private-key operations. Not here: the
real ones, which `World` can use as well.
"""

from __future__ import annotations

import functools

from gmesh.errors import PeerError
from gmesh.proto.meta_events import (
    Active,
    Identified,
    InfoReceived,
    LineRejected,
    MetaEvent,
    RequestReceived,
    Verified,
)
from gmesh.proto.requests import parse_request, request_number
from gmesh.proto.requests_11 import MtuInfo, UdpInfo, parse_newer
from gmesh.values import OPTION_VERSION_SHIFT

MINOR = 7


def options_of(minor: int) -> int:
    """What a node's ACK says; it names its version whatever the other end's is."""
    return 0xC | minor << OPTION_VERSION_SHIFT


@functools.lru_cache(maxsize=262_144)
def parse(line: str) -> MetaEvent:
    """The event of a line. It is parsed at every node that it reaches, always with the same result."""
    try:
        request = parse_newer(line, request_number(line))
        if isinstance(request, UdpInfo | MtuInfo):
            return InfoReceived(request, line)
        return RequestReceived(parse_request(line), line)
    except PeerError as error:
        return LineRejected(line, str(error))


class PlainMeta:
    """ID, ID and proof, proof and ACK, ACK (meta-legacy 3, meta-sptps 2). ``minor`` is 0 for tinc 1.0's protocol."""

    def __init__(self, *, outgoing: bool, my_name: str, weight: int, minor: int = 0) -> None:
        self.outgoing = outgoing
        self.active = False
        self._my_name = my_name
        self._weight = weight
        self._minor = minor
        self._peer = ""
        self._peer_minor = 0
        self._held = False
        self._out = bytearray()
        self._in = ""
        if outgoing:
            self.send(self._greeting())

    @property
    def pending(self) -> int:
        return len(self._out)

    def send(self, plain: bytes) -> None:
        self._out += plain

    def data_to_send(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def proceed(self, now: float) -> list[MetaEvent]:
        self._held = False
        self.send((b"" if self.outgoing else b"3\n") + f"4 {self._weight}\n".encode())
        return self.receive(b"", now)

    def receive(self, data: bytes, now: float) -> list[MetaEvent]:
        self._in += data.decode("ascii")
        events: list[MetaEvent] = []
        while not self._held:
            if self.active:
                *lines, self._in = self._in.split("\n")
                events += map(parse, lines)
                break
            line, newline, rest = self._in.partition("\n")
            if not newline:
                break
            self._in = rest
            self._handshake(line, events)
        return events

    def _handshake(self, line: str, events: list[MetaEvent]) -> None:
        if line[0] == "0":
            _, self._peer, minor = line.split()
            self._peer_minor = int(minor)
            events.append(Identified(self._peer, self._peer_minor))
            self.send(b"2\n" if self.outgoing else self._greeting())
        elif line[0] in "23":
            self._held = True
            events.append(Verified())
        else:
            self.active = True
            events.append(
                Active(
                    name=self._peer,
                    port="655",
                    weight_received=int(line[2:]),
                    weight_sent=self._weight,
                    options_received=options_of(self._peer_minor),
                    options_sent=options_of(self._minor),
                )
            )

    def _greeting(self) -> bytes:
        return f"0 {self._my_name} {self._minor}\n".encode()
