"""What our own edge to a neighbour says: address, options and weight, from what both ends know of the connection.

Not here: when it is announced (`mesh.py`), and everybody else's edges (`gossip.py`).
"""

from __future__ import annotations

from gmesh.proto.meta_events import Active
from gmesh.values import EDGE_WEIGHT_LIMIT, OPTION_CLAMP_MSS, OPTION_PMTU, OPTION_VERSION_SHIFT, Address

UNROUTABLE = "0.0.0.1"
_LOW_OPTIONS = (1 << OPTION_VERSION_SHIFT) - 1


def combined_options(ack: Active) -> int:
    """The options of the edge to a new neighbour, from what both sides sent (meta-legacy 6)."""
    sent, received = ack.options_sent, ack.options_received
    if not sent & received & OPTION_PMTU:
        sent &= ~OPTION_PMTU
        received &= ~OPTION_PMTU
    options = (sent | received) & _LOW_OPTIONS | received & ~_LOW_OPTIONS & 0xFFFFFFFF
    if ack.clamp_mss is not None:
        options = options | OPTION_CLAMP_MSS if ack.clamp_mss else options & ~OPTION_CLAMP_MSS
    return options


def edge_address(tcp: Address, port: str) -> Address:
    """What our edge to a neighbour says: its TCP address with the port that it announced (meta-legacy 4.5).

    Always numeric and without a scope, because anything else ends stock daemons; an address that only a proxy knows is
    replaced by one that leads nowhere, as tinc 1.0 does (meta-legacy 10.2).
    """
    host = tcp.host.partition("%")[0]
    if tcp.family == 0:
        host = UNROUTABLE
    usable = port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536
    return Address(host, port if usable else tcp.port)


def local_address(host: str, port: str) -> Address | None:
    """What our edges say of ourselves: the local end of the TCP connection with our UDP port, for those in our own
    network (topology 2). Only what everyone can read: numeric, and without a scope."""
    address = Address(host, port)
    return address if "%" not in host and address.endpoint is not None else None


def edge_weight(ack: Active) -> int:
    """The average of what both sides measured."""
    return (_sane_weight(ack.weight_sent) + _sane_weight(ack.weight_received)) // 2


def _sane_weight(weight: int) -> int:
    """A peer's may be anything."""
    return max(0, min(weight, EDGE_WEIGHT_LIMIT))
