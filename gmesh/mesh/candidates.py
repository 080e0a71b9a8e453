"""The addresses at which a node may be reached by UDP, and which of them are worth a probe.

A small bounded table. Not here: when they are probed (`udp.py`, `punching.py`).
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import ItemsView, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from gmesh.values import Address

MAX_CANDIDATES = 10
EVERYBODY_NEAR = ("255.255.255.255", "ff02::1")
"""Hosts to which a datagram for our own network goes when it is not known where in it the node is."""

MAX_PORTS = 2


class Source(Enum):
    """Where an address of the node was learnt."""

    EDGE = auto()
    LOCAL = auto()
    REFLEXIVE = auto()
    SEEN = auto()


@dataclass(slots=True)
class Candidate:
    """An address at which the node may be, and when it was probed last."""

    source: Source
    probed_at: float = -math.inf


class Candidates:
    """At most `MAX_CANDIDATES` addresses, oldest first. ``changed`` is set by whatever adds or removes one."""

    def __init__(self) -> None:
        self.changed = False
        self._table: dict[Address, Candidate] = {}

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, address: object) -> bool:
        return address in self._table

    def __iter__(self) -> Iterator[Address]:
        return iter(self._table)

    def get(self, address: Address) -> Candidate | None:
        return self._table.get(address)

    def items(self) -> ItemsView[Address, Candidate]:
        return self._table.items()

    def add(self, address: Address, source: Source, keep: Address | None) -> bool:
        """Whether ``address`` is new. Where there are too many, the oldest goes, but never ``keep``."""
        if address in self._table:
            return False
        while len(self._table) >= MAX_CANDIDATES:
            del self._table[next(other for other in self._table if other != keep)]
        self._table[address] = Candidate(source)
        self.changed = True
        return True

    def nearby(self) -> list[Address]:
        """Where the node hears us if it is in our network: everybody there, with the port that edges say it has."""
        ports = dict.fromkeys(address.port for address, known in self._table.items() if known.source is Source.EDGE)
        return [Address(host, port) for port in list(ports)[:MAX_PORTS] for host in EVERYBODY_NEAR]

    def clear(self) -> None:
        self._table.clear()
        self.changed = True


def is_probeable(address: Address) -> bool:
    """Whether an address that others told us may be probed: numeric, with a port, and one host's."""
    if address.endpoint is None:
        return False
    host = ipaddress.ip_address(address.host)
    return not (host.is_multicast or host.is_unspecified or str(host) == "255.255.255.255")
