"""What the data plane tells the mesh, and what the mesh reads from it.

Not here: requests from peers, which are `proto.requests`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gmesh.values import Address


@dataclass(frozen=True, slots=True)
class KeyNeeded:
    """A frame was to go to ``node`` and there is no sending key or session for it, or a datagram claims to be from it
    and there is none to open it with (at most once a second per node)."""

    node: str


@dataclass(frozen=True, slots=True)
class ProbeReceived:
    """An authentic probe frame arrived from ``node`` by UDP from ``address``."""

    node: str
    frame: bytes
    address: Address


@dataclass(frozen=True, slots=True)
class AddressSeen:
    """An authentic datagram of ``node`` came from ``address``, which is not where we send to."""

    node: str
    address: Address


@dataclass(frozen=True, slots=True)
class TooBig:
    """The kernel refused a frame of ``size`` bytes to ``node`` with EMSGSIZE."""

    node: str
    size: int


@dataclass(frozen=True, slots=True)
class ReceiveKeyWorn:
    """``node`` used more than 2**30 sequence numbers of the key we made for it (data-legacy 3.4), or either end of its
    session more than 2**31 record numbers (requirement 3)."""

    node: str


@dataclass(frozen=True, slots=True)
class HandshakeOpened:
    """``data`` of a handshake record of ``node``, authentic and new in this session (answer to `OpenHandshake`)."""

    node: str
    session: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HandshakeSealed:
    """The datagram of a handshake record that a `SessionStep` asked for, to be sent to ``node`` by ANS_KEY."""

    node: str
    session: int
    datagram: bytes


@dataclass(frozen=True, slots=True)
class SessionDoubted:
    """A datagram that says it is of ``node`` opens in none of its sessions (at most once a second per node)."""

    node: str


@dataclass(frozen=True, slots=True)
class SessionConfirmed:
    """The first authentic datagram of ``node`` arrived in this session."""

    node: str
    session: int


@dataclass(frozen=True, slots=True)
class RelayedDatagram:
    """An authentic packet of ``node`` for us came through a relay or by TCP (at most once a second per node)."""

    node: str
    by_tcp: bool


@dataclass(frozen=True, slots=True)
class PathWanted:
    """What came by TCP would go on to ``node`` by UDP, if that were known to work just now (at most once a second per
    node)."""

    node: str


@dataclass(frozen=True, slots=True)
class MacSeen:
    """In switch mode, a frame of the own device bears the source address ``mac`` (6 bytes), which was not known."""

    mac: bytes


SessionEvent = HandshakeOpened | HandshakeSealed | SessionDoubted | SessionConfirmed
"""What concerns the SPTPS sessions with a node."""

NodeEvent = (
    KeyNeeded | ProbeReceived | AddressSeen | TooBig | ReceiveKeyWorn | RelayedDatagram | PathWanted | SessionEvent
)
"""What is about one node's data channel."""

DataEvent = NodeEvent | MacSeen


@dataclass(slots=True)
class FlowCounters:
    """Counters of one node's flow, read by timers and dumps. Times are the loop's monotonic seconds, 0 = never.

    ``wanted`` counts data frames meant for the node, whichever way they went; ``udp_out`` those sent to it by UDP.
    ``last_authentic`` is about UDP straight from the node, ``last_opened`` about its sessions: also what came through a
    relay or by TCP.
    """

    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    wanted: int = 0
    udp_out: int = 0
    last_authentic: float = 0.0
    last_opened: float = 0.0


class FlowReader(Protocol):
    """The part of the data plane that the mesh's timers may read."""

    def counters(self, node: str) -> FlowCounters | None: ...

    def mac_ages(self) -> Mapping[bytes, float]:
        """When each address (6 bytes) of the own device that was told of was last seen; empty but in switch mode."""
