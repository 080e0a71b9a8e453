"""What a meta connection reports while it reads (contract 1).

Lines may hold keys and greetings cookies, so these are in no repr.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gmesh.proto.requests import Request
from gmesh.proto.requests_11 import MtuInfo, UdpInfo


@dataclass(frozen=True, slots=True)
class Identified:
    """The peer said who it is and we know its key. ``minor`` is its minor protocol version, 0 for tinc 1.0."""

    name: str
    minor: int


@dataclass(frozen=True, slots=True)
class Verified:
    """The peer proved its identity. Nothing more is read or sent until `proceed()`."""


@dataclass(frozen=True, slots=True)
class Active:
    """Both ACKs are exchanged. ``port`` is text; weights are milliseconds; options are the bits as received and as
    sent, not yet combined (meta-legacy 4.5, 6). ``clamp_mss`` is the local override of the peer's host file."""

    name: str
    port: str
    weight_received: int
    weight_sent: int
    options_received: int
    options_sent: int
    clamp_mss: bool | None = None


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A request other than PING and PONG on an active connection; ``line`` is its text as it came, no newline."""

    request: Request
    line: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class LineRejected:
    """A gossip or key line that does not parse: its origin's fault, so it is dropped, not the connection."""

    line: str = field(repr=False)
    reason: str


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """The body of PACKET: one frame, taken as coming from the neighbour (meta-legacy 11)."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The peer answered a PING after ``round_trip`` seconds."""

    round_trip: float


@dataclass(frozen=True, slots=True)
class ControlRequested:
    """The connection wants to be a control connection (control 1): ``cookie`` is what followed ``^``."""

    cookie: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class InvitationRequested:
    """Somebody wants to join with an invitation (invitations): ``key`` is the text that followed ``?``."""

    key: str


@dataclass(frozen=True, slots=True)
class InvitationPresented:
    """The joiner shows the cookie of its invitation, 18 bytes, and waits for the file."""

    cookie: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class JoinerKeyReceived:
    """The joiner has made its key, 32 usable bytes, and waits to hear that it is in its place."""

    public: bytes


@dataclass(frozen=True, slots=True)
class InfoReceived:
    """A hint about addresses or sizes from a peer of tinc 1.1 (meta-sptps 7.4, 7.5); ``line`` as in RequestReceived."""

    request: UdpInfo | MtuInfo
    line: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """The body of SPTPS_PACKET: node ids of 6 bytes each, and a datagram between these two (meta-sptps 6).

    Nothing of it is protected by the meta connection.
    """

    destination: bytes
    source: bytes
    datagram: bytes


@dataclass(frozen=True, slots=True)
class PublicKeyReceived:
    """A peer that proved its RSA key says its Ed25519 key, 32 usable bytes (meta-sptps 4). ``known`` if it was ours.

    One that was not known is to be stored in the peer's host file. The connection ends, to begin again with SPTPS at
    once.
    """

    name: str
    public: bytes
    known: bool


@dataclass(frozen=True, slots=True)
class KeyUnknownThere:
    """The peer that we connected to lacks our Ed25519 key, and would wait for the legacy handshake for ever. The
    connection ends; one that offers an exchange of keys from the start does not have this trouble (meta-sptps 2.1)."""

    name: str


MetaEvent = (
    Identified
    | Verified
    | Active
    | RequestReceived
    | LineRejected
    | FrameReceived
    | PongReceived
    | ControlRequested
    | InvitationRequested
    | InvitationPresented
    | JoinerKeyReceived
    | InfoReceived
    | DatagramReceived
    | PublicKeyReceived
    | KeyUnknownThere
)
