"""What the mesh asks for. The mesh never does anything itself: `daemon.perform` executes these, in order.

Not here: the events that lead to them (`events.py`, `mesh.py`).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from gmesh.proto.packet import PacketKey
from gmesh.proto.sptps_flow import FlowState
from gmesh.proto.sptps_handshake import Step
from gmesh.values import Address, Subnet


class LaterLine(Protocol):
    """A line that is put together when it is sent, since there may be thousands at once: always an addition."""

    def __str__(self) -> str:
        """The line, to be asked for once."""


@dataclass(frozen=True, slots=True)
class SendLine:
    """Put a request line (without its newline) into the outbox of an active connection.

    ``fact`` names what the line is about, for instance ``("edge", a, b)``: a later line with the same
    fact replaces a waiting one in its place. None: never replaced.
    """

    connection: int
    line: str | LaterLine
    fact: Hashable = None


@dataclass(frozen=True, slots=True)
class ProceedHandshake:
    """Let a verified handshake go on to its last step (`proto.meta_base.MetaConnection.proceed`)."""

    connection: int


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """Close a connection. The mesh has already forgotten it; no `connection_closed` is needed, but harmless."""

    connection: int
    reason: str


@dataclass(frozen=True, slots=True)
class RoutesChanged:
    """Reachability, next hops, options or subnets changed: hand the data plane a new route snapshot."""


@dataclass(frozen=True, slots=True)
class InstallSendKey:
    """Packets to ``node`` are sealed with this key from now on, sequence numbers start at 1."""

    node: str
    key: PacketKey


@dataclass(frozen=True, slots=True)
class InstallReceiveKey:
    """Packets from ``node`` may be sealed with this key; the data plane accepts the one before a little longer."""

    node: str
    key: PacketKey


@dataclass(frozen=True, slots=True)
class ForgetSendKey:
    """The sending key of ``node`` is void; packets go by TCP until the next `InstallSendKey`."""

    node: str


@dataclass(frozen=True, slots=True)
class InstallSession:
    """The data plane takes over the flow of an SPTPS session with ``node`` whose first handshake is done.

    ``session`` is a number that the mesh never uses again. Datagrams of every installed session of a node are opened;
    what is sent goes by the one that `UseSession` named last. ``compression`` is the level that the node wants to
    receive, ``own_compression`` the one that we announced (data-sptps 3).
    """

    node: str
    session: int
    flow: FlowState
    compression: int = 0
    own_compression: int = 0


@dataclass(frozen=True, slots=True)
class UseSession:
    """Packets to ``node`` are sealed in this session from now on; what waited for one is sent."""

    node: str
    session: int


@dataclass(frozen=True, slots=True)
class DropSession:
    """Forget a session of ``node``, replay state and all."""

    node: str
    session: int


@dataclass(frozen=True, slots=True)
class SessionStep:
    """Do what a renewal asks for with an installed session, in this order (`proto.sptps_datagram.perform_step`).

    The datagram of a `SendHandshake` comes back as a `HandshakeSealed` event.
    """

    node: str
    session: int
    step: Step


@dataclass(frozen=True, slots=True)
class HoldFrames:
    """Seal nothing for ``node`` until the session that sends has another key by a `SessionStep`, or until the plane can
    let no more wait."""

    node: str


@dataclass(frozen=True, slots=True)
class OpenHandshake:
    """A handshake record of ``node`` came by ANS_KEY: open it in whichever installed session it fits.

    It comes back as a `HandshakeOpened` event, or is counted and dropped.
    """

    node: str
    datagram: bytes


@dataclass(frozen=True, slots=True)
class DatagramByTcp:
    """An SPTPS datagram from ``source`` to ``target`` came by way of the neighbour ``neighbour`` inside a REQ_KEY
    (meta-sptps 7.1, sub-request 21): open it, or relay it."""

    neighbour: str
    source: str
    target: str
    datagram: bytes


@dataclass(frozen=True, slots=True)
class StorePublicKey:
    """Append the Ed25519 key (32 usable bytes) that ``node`` told us to its host file, unless that has one.

    ``proved`` where its RSA key proved it (an upgrade); otherwise it is trusted on first use only.
    """

    node: str
    public: bytes
    proved: bool


@dataclass(frozen=True, slots=True)
class ForgetFlow:
    """``node`` is gone or starts afresh: drop keys, sessions, the path and the replay state."""

    node: str


@dataclass(frozen=True, slots=True)
class SetPath:
    """Where and how UDP reaches ``node``.

    ``address`` is where datagrams go, None where none is known. ``udp`` is False while UDP must not carry
    data to it. ``min_mtu`` is the largest frame (bytes) proved to arrive, 0 where none was; ``mtu`` is the
    bound used for fragmentation, ICMP and MSS. ``candidates`` are further addresses from which the node's
    datagrams may come.
    """

    node: str
    address: Address | None
    udp: bool
    min_mtu: int
    mtu: int
    candidates: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class SendProbe:
    """Seal ``frame`` (EtherType 0, `proto.probe`) for ``node`` and send it by UDP, never by TCP.

    ``address`` overrides where it goes. ``ttl`` is the outer time to live, 0 for the system's default.
    """

    node: str
    frame: bytes
    address: Address | None = None
    ttl: int = 0


@dataclass(frozen=True, slots=True)
class ForgetMac:
    """A learned address (6 bytes) is ours no more: the next frame of the own device that bears it is news again."""

    mac: bytes


@dataclass(frozen=True, slots=True)
class NodeUp:
    """``node`` became reachable: run host-up and hosts/NODE-up."""

    node: str
    address: Address


@dataclass(frozen=True, slots=True)
class NodeDown:
    """``node`` became unreachable: run host-down and hosts/NODE-down."""

    node: str
    address: Address


@dataclass(frozen=True, slots=True)
class SubnetUp:
    """A subnet of a reachable node appeared: run subnet-up. ``address`` is None for our own."""

    node: str
    subnet: Subnet
    address: Address | None


@dataclass(frozen=True, slots=True)
class SubnetDown:
    """Mirror of `SubnetUp`."""

    node: str
    subnet: Subnet
    address: Address | None


@dataclass(frozen=True, slots=True)
class Dial:
    """AutoConnect: keep a connection to ``node``, which the configuration need not name."""

    node: str


@dataclass(frozen=True, slots=True)
class StopDialling:
    """AutoConnect: do without the connection that a `Dial` asked for; never one that the configuration names."""

    node: str


@dataclass(frozen=True, slots=True)
class Log:
    """A line for the log: ``level`` is one of the standard library's, ``debug`` the least debug level that shows it.

    Lines with the same ``key`` are rate-limited together (with a count of what was left out); empty: never limited.
    """

    level: int
    debug: int
    text: str
    key: str = ""


Action = (
    SendLine
    | ProceedHandshake
    | CloseConnection
    | RoutesChanged
    | InstallSendKey
    | InstallReceiveKey
    | ForgetSendKey
    | InstallSession
    | UseSession
    | DropSession
    | SessionStep
    | HoldFrames
    | OpenHandshake
    | DatagramByTcp
    | StorePublicKey
    | ForgetFlow
    | SetPath
    | SendProbe
    | ForgetMac
    | NodeUp
    | NodeDown
    | SubnetUp
    | SubnetDown
    | Dial
    | StopDialling
    | Log
)
