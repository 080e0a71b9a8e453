"""The requests that tinc 1.1 added, and what it packs into REQ_KEY and ANS_KEY (meta-sptps 6, 7).

They are values like those of `requests.py`, which also has the ADD_EDGE of eight fields. Not here: what a node does
with them, and SPTPS itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from gmesh.crypto import base64, ed25519
from gmesh.errors import KeyFileError, PeerError
from gmesh.proto.requests import HIGHEST_COMPRESSION, AnsKey, ReqKey, _Fields
from gmesh.values import MTU, Address

MIN_MTU = 512
NODE_ID_SIZE = 6
IDS_SIZE = 2 * NODE_ID_SIZE
MIN_DATAGRAM = 5
MAX_RAW = 32767
"""tinc reads the length as a signed number of 16 bits."""

MAX_HANDSHAKE_DATAGRAM = 86
"""An encrypted KEX; every other handshake record is shorter (meta-sptps 7.3)."""


@dataclass(frozen=True, slots=True)
class SptpsPacket:
    """SPTPS_PACKET (6): ``length`` raw bytes follow the record directly, two node ids and a datagram."""

    NUMBER: ClassVar[int] = 21
    GOSSIP: ClassVar[bool] = False
    length: int

    def format(self) -> str:
        return f"21 {self.length}"

    @classmethod
    def read(cls, fields: _Fields) -> SptpsPacket:
        return cls(fields.integer("length", IDS_SIZE + MIN_DATAGRAM, MAX_RAW))


@dataclass(frozen=True, slots=True)
class UdpInfo:
    """UDP_INFO (7.4): ``source`` can be reached by UDP at ``address``, which ``target`` is to know."""

    NUMBER: ClassVar[int] = 22
    GOSSIP: ClassVar[bool] = False
    source: str
    target: str
    address: Address

    def format(self) -> str:
        return f"22 {self.source} {self.target} {self.address.host} {self.address.port}"

    @classmethod
    def read(cls, fields: _Fields) -> UdpInfo:
        return cls(fields.name("source"), fields.name("target"), fields.address("address"))


@dataclass(frozen=True, slots=True)
class MtuInfo:
    """MTU_INFO (7.5): frames to ``source`` may have ``mtu`` bytes, at most the largest frame there is."""

    NUMBER: ClassVar[int] = 23
    GOSSIP: ClassVar[bool] = False
    source: str
    target: str
    mtu: int

    def format(self) -> str:
        return f"23 {self.source} {self.target} {self.mtu}"

    @classmethod
    def read(cls, fields: _Fields) -> MtuInfo:
        source, target = fields.name("source"), fields.name("target")
        return cls(source, target, min(MTU, fields.integer("MTU", MIN_MTU)))


NewerRequest = SptpsPacket | UdpInfo | MtuInfo

_READERS: dict[int, tuple[str, Callable[[_Fields], NewerRequest]]] = {
    SptpsPacket.NUMBER: ("SPTPS_PACKET", SptpsPacket.read),
    UdpInfo.NUMBER: ("UDP_INFO", UdpInfo.read),
    MtuInfo.NUMBER: ("MTU_INFO", MtuInfo.read),
}
HIGHEST_REQUEST = max(_READERS)


def parse_newer(line: str, number: int) -> NewerRequest | None:
    """Read a line whose ``number`` is above PACKET's; None for numbers that stand for no request. Raises PeerError."""
    if number not in _READERS:
        return None
    title, read = _READERS[number]
    return read(_Fields(title, line.split()))


@dataclass(frozen=True, slots=True)
class StartSession:
    """Sub-request 15 of REQ_KEY: the datagram of the KEX with which the writer begins a session."""

    SUB: ClassVar[int] = 15
    datagram: bytes


@dataclass(frozen=True, slots=True)
class AskPublicKey:
    """Sub-request 19: send me your Ed25519 key."""

    SUB: ClassVar[int] = 19


@dataclass(frozen=True, slots=True)
class TellPublicKey:
    """Sub-request 20: the writer's Ed25519 key, 32 usable bytes. Nothing proves whose it is."""

    SUB: ClassVar[int] = 20
    public: bytes


@dataclass(frozen=True, slots=True)
class SessionData:
    """Sub-request 21: one datagram of VPN data, on its way over TCP."""

    SUB: ClassVar[int] = 21
    datagram: bytes


SubRequest = StartSession | AskPublicKey | TellPublicKey | SessionData


def sub_request(request: ReqKey) -> SubRequest | None:
    """What a REQ_KEY carries; None for the legacy form and for numbers that nobody knows. Raises PeerError."""
    fields = request.extra.split()
    if not fields:
        return None
    number = int(fields[0])
    if number == AskPublicKey.SUB:
        return AskPublicKey()
    if number not in (StartSession.SUB, TellPublicKey.SUB, SessionData.SUB):
        return None
    if len(fields) < 2:
        raise PeerError(f"bad REQ_KEY: nothing behind sub-request {number}")
    if number == TellPublicKey.SUB:
        return TellPublicKey(_public_key(fields[1]))
    datagram = _datagram("REQ_KEY", fields[1])
    if number == SessionData.SUB:
        return SessionData(datagram)
    if len(datagram) > MAX_HANDSHAKE_DATAGRAM:
        raise PeerError("bad REQ_KEY: no handshake record is that long")
    return StartSession(datagram)


def as_req_key(source: str, target: str, content: SubRequest) -> ReqKey:
    """The REQ_KEY that carries a sub-request."""
    match content:
        case AskPublicKey():
            extra = f"{content.SUB}"
        case TellPublicKey():
            extra = f"{content.SUB} {ed25519.public_to_text(content.public)}"
        case StartSession() | SessionData():
            extra = f"{content.SUB} {base64.encode(content.datagram)}"
    return ReqKey(source, target, extra)


def handshake_answer(
    source: str, target: str, datagram: bytes, compression: int, address: Address | None = None
) -> AnsKey:
    """The ANS_KEY with a handshake record; ``compression`` is what the writer wants to receive (7.2)."""
    if not 0 <= compression <= HIGHEST_COMPRESSION:
        raise ValueError(f"compression {compression} does not exist")
    return AnsKey(source, target, base64.encode(datagram), -1, -1, -1, compression, address)


def handshake_datagram(answer: AnsKey) -> bytes:
    """The handshake record in an ANS_KEY of that form. Raises PeerError."""
    if not answer.is_sptps:
        raise PeerError("bad ANS_KEY: a legacy key where a handshake record is expected")
    datagram = _datagram("ANS_KEY", answer.key)
    if len(datagram) > MAX_HANDSHAKE_DATAGRAM:
        raise PeerError("bad ANS_KEY: no handshake record is that long")
    return datagram


def _datagram(title: str, text: str) -> bytes:
    try:
        datagram = base64.decode(text)
    except ValueError as error:
        raise PeerError(f"bad {title}: {error}") from None
    if len(datagram) < MIN_DATAGRAM:
        raise PeerError(f"bad {title}: a datagram of {len(datagram)} bytes")
    return datagram


def _public_key(text: str) -> bytes:
    """Decoded and checked before anyone stores it (requirement 30)."""
    try:
        public = ed25519.public_from_text(text)
        ed25519.require_usable(public)
    except KeyFileError as error:
        raise PeerError(f"bad REQ_KEY: {error}") from None
    return public
