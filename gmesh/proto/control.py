"""The control protocol as text: requests, answers, dump lines, both directions (control 1 to 4).

Not here: the socket, the check of the cookie, and where the numbers in a dump come from.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from gmesh.errors import PeerError
from gmesh.values import Address, Subnet

CONTROL = 18
CONTROL_VERSION = 0
UNSUPPORTED = f"{CONTROL} -1"
UNSPECIFIED_ADDRESS = Address("unspec", "unspec")
BROADCAST_OWNER = "(broadcast)"
UNIDENTIFIED = "<unknown>"
CONTROL_CLIENT = "<control>"
MAX_REQUEST = 2048
REPORT = "report"
"""Argument of reload by which gmesh's tool asks gmeshd for more: the answer has the number of lines that follow, as one
more field. tinc's daemon takes no notice of it."""

_DECIMAL = re.compile(r"-?[0-9]{1,20}\Z", re.ASCII)
_HEX = re.compile(r"[0-9A-Fa-f]{1,8}\Z", re.ASCII)


class ControlCode(IntEnum):
    """The numbers of requests (control 2)."""

    STOP = 0
    RELOAD = 1
    RESTART = 2
    DUMP_NODES = 3
    DUMP_EDGES = 4
    DUMP_SUBNETS = 5
    DUMP_CONNECTIONS = 6
    DUMP_GRAPH = 7
    PURGE = 8
    SET_DEBUG = 9
    RETRY = 10
    CONNECT = 11
    DISCONNECT = 12
    DUMP_TRAFFIC = 13
    PCAP = 14
    LOG = 15
    TRIED = 100
    """gmesh's own, with a node's name: the addresses at which UDP to it has been tried. tinc answers `UNSUPPORTED`."""


class NodeStatus(IntFlag):
    """Status bits of a node line."""

    VALID_KEY = 1 << 1
    WAITING_FOR_KEY = 1 << 2
    VISITED = 1 << 3
    REACHABLE = 1 << 4
    INDIRECT = 1 << 5
    SPTPS = 1 << 6
    UDP_CONFIRMED = 1 << 7
    SEND_LOCALLY = 1 << 8
    UDP_PACKET = 1 << 9
    VALID_KEY_IN = 1 << 10
    HAS_ADDRESS = 1 << 11
    PING_SENT = 1 << 12


class ConnectionStatus(IntFlag):
    """Status bits of a connection line."""

    PINGED = 1 << 0
    CONNECTING = 1 << 2
    ENCRYPT_OUT = 1 << 6
    DECRYPT_IN = 1 << 7
    MST = 1 << 8
    CONTROL = 1 << 9
    PCAP = 1 << 10
    LOG = 1 << 11
    LOG_COLOR = 1 << 12
    INVITATION = 1 << 13
    INVITATION_USED = 1 << 14
    TARPIT = 1 << 15


def node_id(name: str) -> bytes:
    """The six bytes that stand for a node in dumps and datagrams."""
    return hashlib.sha512(name.encode("ascii")).digest()[:6]


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """``18 NUMBER [ARGUMENTS]``. ``code`` may be one that nobody defined."""

    code: int
    arguments: tuple[str, ...] = ()

    def format(self) -> str:
        return " ".join((str(CONTROL), str(int(self.code)), *self.arguments))

    def integer(self, index: int) -> int:
        """An argument as a number of 32 bits. Raises PeerError where it is none, which ends the connection."""
        text = self.arguments[index] if index < len(self.arguments) else ""
        if not _DECIMAL.match(text) or not -(2**31) <= int(text) < 2**31:
            raise PeerError("an argument of the control request is missing or no number")
        return int(text)


def parse_control_request(line: str) -> ControlRequest:
    """Read a client's line without its newline. Raises PeerError for anything but a control request."""
    fields = line.split()
    if len(line) > MAX_REQUEST or len(fields) < 2 or fields[0] != str(CONTROL) or not _DECIMAL.match(fields[1]):
        raise PeerError("not a control request")
    return ControlRequest(int(fields[1]), tuple(fields[2:]))


def greeting_request(cookie: str) -> str:
    """The client's first line."""
    return f"0 ^{cookie} {CONTROL_VERSION}"


def greeting_answer(name: str, version: str, pid: int) -> tuple[str, str]:
    """The daemon's two lines after a right cookie; ``version`` is that of its meta protocol, like 17."""
    return f"0 {name} {version}", f"4 {CONTROL_VERSION} {pid}"


def parse_greeting_answer(first: str, second: str) -> tuple[str, str, int]:
    """The client's reading of the daemon's two lines: name, version, pid. Raises PeerError."""
    identity, ack = first.split(), second.split()
    if len(identity) < 3 or identity[0] != "0":
        raise PeerError("the daemon does not identify itself")
    if len(ack) < 3 or ack[:2] != ["4", str(CONTROL_VERSION)] or not _DECIMAL.match(ack[2]):
        raise PeerError("the daemon speaks another version of the control protocol")
    return identity[1], identity[2], int(ack[2])


def result(code: int, value: int) -> str:
    """The answer of requests that have a result: 0, an error number, or what was asked for."""
    return f"{CONTROL} {int(code)} {value}"


def end_of_dump(code: int) -> str:
    """The line after the last one of a dump."""
    return f"{CONTROL} {int(code)}"


def stream_header(code: int, length: int) -> str:
    """The line before ``length`` bytes of log text or captured frame (control 4)."""
    return f"{CONTROL} {int(code)} {length}"


class _Reader:
    """The fields of a dump line from the left. Every failure is a PeerError."""

    __slots__ = ("_fields", "_next")

    def __init__(self, line: str, code: ControlCode) -> None:
        self._fields = line.split()
        self._next = 0
        if self._fields[:2] != [str(CONTROL), str(int(code))] or len(self._fields) < 3:
            raise PeerError(f"not a line of {code.name}")
        self._next = 2

    def word(self) -> str:
        if self._next >= len(self._fields):
            raise PeerError("a dump line is too short")
        self._next += 1
        return self._fields[self._next - 1]

    def decimal(self) -> int:
        text = self.word()
        if not _DECIMAL.match(text):
            raise PeerError("a dump line holds a word where a number belongs")
        return int(text)

    def hexadecimal(self) -> int:
        text = self.word()
        if not _HEX.match(text):
            raise PeerError("a dump line holds a word where a hexadecimal number belongs")
        return int(text, 16)

    def hop(self) -> str:
        name = self.word()
        return "" if name == "-" else name

    def address(self) -> Address:
        host = self.word()
        if self.word() != "port":
            raise PeerError("a dump line holds no address where one belongs")
        return Address(host, self.word())


@dataclass(frozen=True, slots=True)
class NodeLine:
    """One node. ``next_hop`` and ``via`` are empty where there are none; times as in control 3."""

    CODE = ControlCode.DUMP_NODES
    name: str
    address: Address
    cipher: int
    digest: int
    mac_length: int
    compression: int
    options: int
    status: NodeStatus
    next_hop: str
    via: str
    distance: int
    mtu: int
    min_mtu: int
    max_mtu: int
    last_change: int
    round_trip_us: int
    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int

    def format(self) -> str:
        return (
            f"{CONTROL} {int(self.CODE)} {self.name} {node_id(self.name).hex()} {self.address} "
            f"{self.cipher} {self.digest} {self.mac_length} {self.compression} "
            f"{self.options:x} {int(self.status):x} {self.next_hop or '-'} {self.via or '-'} {self.distance} "
            f"{self.mtu} {self.min_mtu} {self.max_mtu} {self.last_change} {self.round_trip_us} "
            f"{self.packets_in} {self.bytes_in} {self.packets_out} {self.bytes_out}"
        )

    @classmethod
    def parse(cls, line: str) -> NodeLine:
        """Raises PeerError. The node id is not kept: it follows from the name."""
        fields = _Reader(line, cls.CODE)
        name, _node_id = fields.word(), fields.word()
        return cls(
            name=name,
            address=fields.address(),
            cipher=fields.decimal(),
            digest=fields.decimal(),
            mac_length=fields.decimal(),
            compression=fields.decimal(),
            options=fields.hexadecimal(),
            status=NodeStatus(fields.hexadecimal()),
            next_hop=fields.hop(),
            via=fields.hop(),
            distance=fields.decimal(),
            mtu=fields.decimal(),
            min_mtu=fields.decimal(),
            max_mtu=fields.decimal(),
            last_change=fields.decimal(),
            round_trip_us=fields.decimal(),
            packets_in=fields.decimal(),
            bytes_in=fields.decimal(),
            packets_out=fields.decimal(),
            bytes_out=fields.decimal(),
        )


@dataclass(frozen=True, slots=True)
class EdgeLine:
    """One edge: ``address`` is the target's, ``local`` the source's own, `UNSPECIFIED_ADDRESS` where unknown."""

    CODE = ControlCode.DUMP_EDGES
    source: str
    target: str
    address: Address
    local: Address
    options: int
    weight: int

    def format(self) -> str:
        return (
            f"{CONTROL} {int(self.CODE)} {self.source} {self.target} {self.address} {self.local} "
            f"{self.options:x} {self.weight}"
        )

    @classmethod
    def parse(cls, line: str) -> EdgeLine:
        """Raises PeerError."""
        fields = _Reader(line, cls.CODE)
        source, target = fields.word(), fields.word()
        return cls(source, target, fields.address(), fields.address(), fields.hexadecimal(), fields.decimal())


@dataclass(frozen=True, slots=True)
class SubnetLine:
    """One subnet; ``owner`` is empty for the ranges that mean everybody."""

    CODE = ControlCode.DUMP_SUBNETS
    subnet: Subnet
    owner: str

    def format(self) -> str:
        return f"{CONTROL} {int(self.CODE)} {self.subnet} {self.owner or BROADCAST_OWNER}"

    @classmethod
    def parse(cls, line: str) -> SubnetLine:
        """Raises PeerError."""
        fields = _Reader(line, cls.CODE)
        try:
            subnet = Subnet.parse(fields.word())
        except ValueError as error:
            raise PeerError(f"a dump line holds a bad subnet: {error}") from None
        owner = fields.word()
        return cls(subnet, "" if owner == BROADCAST_OWNER else owner)


@dataclass(frozen=True, slots=True)
class ConnectionLine:
    """One connection; ``name`` is empty before the peer's ID, and `CONTROL_CLIENT` for control connections."""

    CODE = ControlCode.DUMP_CONNECTIONS
    name: str
    address: Address
    options: int
    socket: int
    status: ConnectionStatus

    def format(self) -> str:
        return (
            f"{CONTROL} {int(self.CODE)} {self.name or UNIDENTIFIED} {self.address} {self.options:x} {self.socket} "
            f"{int(self.status):x}"
        )

    @classmethod
    def parse(cls, line: str) -> ConnectionLine:
        """Raises PeerError."""
        fields = _Reader(line, cls.CODE)
        name = fields.word()
        address, options, socket = fields.address(), fields.hexadecimal(), fields.decimal()
        status = ConnectionStatus(fields.hexadecimal())
        return cls("" if name == UNIDENTIFIED else name, address, options, socket, status)


@dataclass(frozen=True, slots=True)
class TrafficLine:
    """A node's counters."""

    CODE = ControlCode.DUMP_TRAFFIC
    name: str
    packets_in: int
    bytes_in: int
    packets_out: int
    bytes_out: int

    def format(self) -> str:
        return (
            f"{CONTROL} {int(self.CODE)} {self.name} {self.packets_in} {self.bytes_in} {self.packets_out} "
            f"{self.bytes_out}"
        )

    @classmethod
    def parse(cls, line: str) -> TrafficLine:
        """Raises PeerError."""
        fields = _Reader(line, cls.CODE)
        return cls(fields.word(), *(fields.decimal() for _ in range(4)))


@dataclass(frozen=True, slots=True)
class TriedLine:
    """An address at which UDP to a node may work: where that was learnt, seconds since the last probe or -1."""

    CODE = ControlCode.TRIED
    address: Address
    source: str
    seconds: int

    def format(self) -> str:
        return f"{CONTROL} {int(self.CODE)} {self.address} {self.source} {self.seconds}"

    @classmethod
    def parse(cls, line: str) -> TriedLine:
        """Raises PeerError."""
        fields = _Reader(line, cls.CODE)
        return cls(fields.address(), fields.word(), fields.decimal())
