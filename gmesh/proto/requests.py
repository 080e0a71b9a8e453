"""The requests of a meta connection: one dataclass each, text line to value and back (meta-legacy 2, topology 2).

Parsing is strict about form, because what does not parse is not passed on either (requirement 27), and lenient about
what may follow the known fields. Not here: framing, encryption, and what a request does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from gmesh.crypto.nids import CIPHERS, DIGESTS, MAX_DIGEST_SIZE, NONE
from gmesh.errors import PeerError
from gmesh.values import EDGE_WEIGHT_LIMIT, Address, Subnet, ip_version, is_node_name

MAX_LINE = 2176
"""Longest line in bytes, newline included; also the largest body of PACKET that a peer accepts (meta-legacy 1, 11)."""

MAX_FIELD = 2048
MAX_PORT_TEXT = 64
MAX_SUBNET = 63
MAX_IP_TEXT = 45
"""Eight groups of IPv6, the last two as IPv4."""

MAX_KEY_BYTES = 128
"""No cipher has anywhere near as much key and IV; the largest known is 48 bytes."""

PROTOCOL_MAJOR = 17
MINOR = 7
"""The newest minor version there is: SPTPS, ids in datagrams, UDP_INFO, MTU_INFO, SPTPS_PACKET (meta-sptps 2)."""

PROTOCOL_VERSION = f"{PROTOCOL_MAJOR}.{MINOR}"
LEGACY_VERSION = f"{PROTOCOL_MAJOR}.0"
"""What we say of ourselves to people and tools: minor version 0 is tinc 1.0's protocol."""

HIGHEST_COMPRESSION = 12

_NUMBER = re.compile(r"[0-9]{1,9}\Z", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,10}\Z", re.ASCII)
_HEX_NUMBER = re.compile(r"(?:0[xX])?[0-9A-Fa-f]{1,8}\Z", re.ASCII)
_NONCE = re.compile(r"(?:0[xX])?[0-9A-Fa-f]{1,16}\Z", re.ASCII)
_HEX_BYTES = re.compile(r"(?:[0-9A-Fa-f]{2})+\Z", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+\Z", re.ASCII)
_VERSION = re.compile(r"([0-9]{1,2})(?:\.([0-9]{1,3}))?\Z", re.ASCII)
_PRINTABLE = re.compile(r"[ -~]*\Z", re.ASCII)


_shared = functools.lru_cache(1024)(str)
"""The same object for equal ports: thousands of edges have one of a few."""


class _Fields:
    """The fields of one line, taken from the left. Every failure is a PeerError that names the request."""

    __slots__ = ("_fields", "_next", "_title")

    def __init__(self, title: str, fields: list[str]) -> None:
        self._title = title
        self._fields = fields
        self._next = 1

    def fail(self, reason: str) -> PeerError:
        return PeerError(f"bad {self._title}: {reason}")

    @property
    def left(self) -> int:
        return len(self._fields) - self._next

    def word(self, what: str) -> str:
        if self._next >= len(self._fields):
            raise self.fail(f"{what} is missing")
        field = self._fields[self._next]
        self._next += 1
        if len(field) > MAX_FIELD:
            raise self.fail(f"{what} is longer than {MAX_FIELD} characters")
        return field

    def match(self, what: str, pattern: re.Pattern[str]) -> str:
        field = self.word(what)
        if not pattern.match(field):
            raise self.fail(f"{what} {field[:40]!r} is malformed")
        return field

    def name(self, what: str) -> str:
        field = self.word(what)
        if not is_node_name(field):
            raise self.fail(f"{what} {field[:40]!r} is no node name")
        return field

    def integer(self, what: str, low: int = -(2**31), high: int = 2**31 - 1) -> int:
        value = int(self.match(what, _INTEGER))
        if not low <= value <= high:
            raise self.fail(f"{what} {value} is not between {low} and {high}")
        return value

    def hex_number(self, what: str) -> int:
        return int(self.match(what, _HEX_NUMBER), 16)

    def hex_bytes(self, what: str) -> bytes:
        return bytes.fromhex(self.match(what, _HEX_BYTES))

    def nonce(self) -> str:
        return self.match("nonce", _NONCE)

    def address(self, what: str) -> Address:
        """Numeric host and port. A word for either, also an interface's name as scope, ends tinc 1.0 wherever the line
        arrives, and no daemon writes one (requirement 27)."""
        host, port = self.word(what), self.match(f"port of {what}", _NUMBER)
        if len(host) > MAX_IP_TEXT or "%" in host or not ip_version(host):
            raise self.fail(f"{what} {host[:40]!r} is not numeric")
        if int(port) > 65535:
            raise self.fail(f"port {port} of {what} is above 65535")
        return Address(host, _shared(port))

    def subnet(self) -> Subnet:
        text = self.word("subnet")
        if len(text) > MAX_SUBNET:
            raise self.fail(f"subnet is longer than {MAX_SUBNET} characters")
        try:
            return Subnet.parse(text)
        except ValueError as error:
            raise self.fail(f"subnet: {error}") from None

    def rest(self) -> list[str]:
        return self._fields[self._next :]


@dataclass(frozen=True, slots=True)
class Id:
    """ID (4.1). ``minor`` is None where the version has none, as from tinc 1.0."""

    NUMBER: ClassVar[int] = 0
    GOSSIP: ClassVar[bool] = False
    name: str
    major: int = PROTOCOL_MAJOR
    minor: int | None = None

    def format(self) -> str:
        version = f"{self.major}" if self.minor is None else f"{self.major}.{self.minor}"
        return f"0 {self.name} {version}"

    @classmethod
    def read(cls, fields: _Fields) -> Id:
        name = fields.name("name")
        version = _VERSION.match(fields.word("version"))
        if version is None:
            raise fields.fail("version is malformed")
        return cls(name, int(version[1]), None if version[2] is None else int(version[2]))


@dataclass(frozen=True, slots=True)
class MetaKey:
    """METAKEY (4.2). ``key`` is the RSA ciphertext, as long as the receiver's modulus."""

    NUMBER: ClassVar[int] = 1
    GOSSIP: ClassVar[bool] = False
    cipher: int
    digest: int
    mac_length: int
    compression: int
    key: bytes

    def format(self) -> str:
        return f"1 {self.cipher} {self.digest} {self.mac_length} {self.compression} {self.key.hex().upper()}"

    @classmethod
    def read(cls, fields: _Fields) -> MetaKey:
        cipher = fields.integer("cipher")
        digest = fields.integer("digest")
        mac_length = fields.integer("MAC length", 0, MAX_DIGEST_SIZE)
        return cls(cipher, digest, mac_length, fields.integer("compression"), fields.hex_bytes("key"))


@dataclass(frozen=True, slots=True)
class Challenge:
    """CHALLENGE (4.3): as many random bytes as the receiver's modulus has."""

    NUMBER: ClassVar[int] = 2
    GOSSIP: ClassVar[bool] = False
    data: bytes

    def format(self) -> str:
        return f"2 {self.data.hex().upper()}"

    @classmethod
    def read(cls, fields: _Fields) -> Challenge:
        return cls(fields.hex_bytes("challenge"))


@dataclass(frozen=True, slots=True)
class ChallengeReply:
    """CHAL_REPLY (4.4): the digest of the challenge."""

    NUMBER: ClassVar[int] = 3
    GOSSIP: ClassVar[bool] = False
    digest: bytes

    def format(self) -> str:
        return f"3 {self.digest.hex().upper()}"

    @classmethod
    def read(cls, fields: _Fields) -> ChallengeReply:
        return cls(fields.hex_bytes("digest"))


@dataclass(frozen=True, slots=True)
class Ack:
    """ACK (4.5). ``port`` is text, ``weight`` milliseconds, ``options`` the sender's bits for this connection."""

    NUMBER: ClassVar[int] = 4
    GOSSIP: ClassVar[bool] = False
    port: str
    weight: int
    options: int

    def format(self) -> str:
        return f"4 {self.port} {self.weight} {self.options:x}"

    @classmethod
    def read(cls, fields: _Fields) -> Ack:
        port = fields.word("port")
        if len(port) > MAX_PORT_TEXT:
            raise fields.fail(f"port is longer than {MAX_PORT_TEXT} characters")
        return cls(port, fields.integer("weight"), fields.hex_number("options"))


@dataclass(frozen=True, slots=True)
class TermReq:
    """TERMREQ (12): the peer asks us to close, after a key upgrade."""

    NUMBER: ClassVar[int] = 7
    GOSSIP: ClassVar[bool] = False

    def format(self) -> str:
        return "7"

    @classmethod
    def read(cls, fields: _Fields) -> TermReq:
        return cls()


@dataclass(frozen=True, slots=True)
class Ping:
    """PING (9)."""

    NUMBER: ClassVar[int] = 8
    GOSSIP: ClassVar[bool] = False

    def format(self) -> str:
        return "8"

    @classmethod
    def read(cls, fields: _Fields) -> Ping:
        return cls()


@dataclass(frozen=True, slots=True)
class Pong:
    """PONG (9)."""

    NUMBER: ClassVar[int] = 9
    GOSSIP: ClassVar[bool] = False

    def format(self) -> str:
        return "9"

    @classmethod
    def read(cls, fields: _Fields) -> Pong:
        return cls()


@dataclass(frozen=True, slots=True)
class AddSubnet:
    """ADD_SUBNET (topology 2): ``owner`` serves ``subnet``."""

    NUMBER: ClassVar[int] = 10
    GOSSIP: ClassVar[bool] = True
    nonce: str
    owner: str
    subnet: Subnet

    def format(self) -> str:
        return f"10 {self.nonce} {self.owner} {self.subnet}"

    @classmethod
    def read(cls, fields: _Fields) -> AddSubnet:
        return cls(fields.nonce(), fields.name("owner"), fields.subnet())


@dataclass(frozen=True, slots=True)
class DelSubnet:
    """DEL_SUBNET (topology 2): ``owner`` no longer serves ``subnet``."""

    NUMBER: ClassVar[int] = 11
    GOSSIP: ClassVar[bool] = True
    nonce: str
    owner: str
    subnet: Subnet

    def format(self) -> str:
        return f"11 {self.nonce} {self.owner} {self.subnet}"

    @classmethod
    def read(cls, fields: _Fields) -> DelSubnet:
        return cls(fields.nonce(), fields.name("owner"), fields.subnet())


@dataclass(frozen=True, slots=True)
class AddEdge:
    """ADD_EDGE (topology 2). ``address`` is the target's as the source sees it, ``local`` the source's own end."""

    NUMBER: ClassVar[int] = 12
    GOSSIP: ClassVar[bool] = True
    nonce: str
    source: str
    target: str
    address: Address
    options: int
    weight: int
    local: Address | None = None

    def format(self) -> str:
        line = (
            f"12 {self.nonce} {self.source} {self.target} {self.address.host} {self.address.port} "
            f"{self.options:x} {self.weight}"
        )
        return line if self.local is None else f"{line} {self.local.host} {self.local.port}"

    @classmethod
    def read(cls, fields: _Fields) -> AddEdge:
        nonce, source, target = fields.nonce(), fields.name("source"), fields.name("target")
        if source == target:
            raise fields.fail(f"{source} has an edge to itself")
        address = fields.address("address")
        options = fields.hex_number("options")
        weight = fields.integer("weight", -EDGE_WEIGHT_LIMIT, EDGE_WEIGHT_LIMIT)
        local = fields.address("local address") if fields.left else None
        return cls(nonce, source, target, address, options, weight, local)


@dataclass(frozen=True, slots=True)
class DelEdge:
    """DEL_EDGE (topology 2)."""

    NUMBER: ClassVar[int] = 13
    GOSSIP: ClassVar[bool] = True
    nonce: str
    source: str
    target: str

    def format(self) -> str:
        return f"13 {self.nonce} {self.source} {self.target}"

    @classmethod
    def read(cls, fields: _Fields) -> DelEdge:
        nonce, source, target = fields.nonce(), fields.name("source"), fields.name("target")
        if source == target:
            raise fields.fail(f"{source} has no edge to itself")
        return cls(nonce, source, target)


@dataclass(frozen=True, slots=True)
class KeyChanged:
    """KEY_CHANGED (data-legacy 3.4): ``node`` threw away all keys it had made."""

    NUMBER: ClassVar[int] = 14
    GOSSIP: ClassVar[bool] = True
    nonce: str
    node: str

    def format(self) -> str:
        return f"14 {self.nonce} {self.node}"

    @classmethod
    def read(cls, fields: _Fields) -> KeyChanged:
        return cls(fields.nonce(), fields.name("node"))


_SUB_REQUESTS_WITH_BASE64 = frozenset({15, 20, 21})


@dataclass(frozen=True, slots=True)
class ReqKey:
    """REQ_KEY (data-legacy 3.1): ``source`` wants ``target``'s key. ``extra`` is what followed, empty in the legacy
    form; it begins with a sub-request number above 0 (requirement 25)."""

    NUMBER: ClassVar[int] = 15
    GOSSIP: ClassVar[bool] = False
    source: str
    target: str
    extra: str = ""

    def format(self) -> str:
        line = f"15 {self.source} {self.target}"
        return f"{line} {self.extra}" if self.extra else line

    @classmethod
    def read(cls, fields: _Fields) -> ReqKey:
        source, target = fields.name("source"), fields.name("target")
        extra = fields.rest()
        if extra:
            sub_request = fields.match("sub-request", _NUMBER)
            if int(sub_request) == 0:
                raise fields.fail("sub-request is 0")
            if int(sub_request) in _SUB_REQUESTS_WITH_BASE64:
                fields.match("payload", _BASE64)
        return cls(source, target, " ".join(extra))


@dataclass(frozen=True, slots=True)
class AnsKey:
    """ANS_KEY (data-legacy 3.2): the key with which ``target`` encrypts towards ``source``.

    ``key`` stays text: hex of key and IV, or base64 of an SPTPS record where the three numbers are -1.
    ``address`` is where a relay saw ``source``, None if no relay said so.
    """

    NUMBER: ClassVar[int] = 16
    GOSSIP: ClassVar[bool] = False
    source: str
    target: str
    key: str
    cipher: int
    digest: int
    mac_length: int
    compression: int
    address: Address | None = None

    @property
    def is_sptps(self) -> bool:
        """Whether the key is a handshake record of an SPTPS session (meta-sptps 7.2)."""
        return self.cipher == -1

    def format(self) -> str:
        line = (
            f"16 {self.source} {self.target} {self.key} {self.cipher} {self.digest} {self.mac_length} "
            f"{self.compression}"
        )
        return line if self.address is None else f"{line} {self.address.host} {self.address.port}"

    def __repr__(self) -> str:
        return f"AnsKey(source={self.source!r}, target={self.target!r}, cipher={self.cipher}, digest={self.digest})"

    @classmethod
    def read(cls, fields: _Fields) -> AnsKey:
        source, target = fields.name("source"), fields.name("target")
        key = fields.word("key")
        cipher = fields.integer("cipher", -1, 65535)
        digest = fields.integer("digest", -1, 65535)
        # tinc 1.0 with Digest = none sends its MACLength, whatever that is.
        mac_length = fields.integer("MAC length", -1, 65535 if digest == NONE else MAX_DIGEST_SIZE)
        compression = fields.integer("compression", 0, HIGHEST_COMPRESSION)
        address = fields.address("address") if fields.left else None
        answer = cls(source, target, key, cipher, digest, mac_length, compression, address)
        problem = answer._impossible()
        if problem:
            raise fields.fail(problem)
        return answer

    def _impossible(self) -> str:
        """What no honest node ever sends and some daemons die of, or an empty text."""
        numbers = (self.cipher, self.digest, self.mac_length)
        if numbers == (-1, -1, -1):
            return "" if _BASE64.match(self.key) else "key is not base64"
        if min(numbers) < 0:
            return "only some of cipher, digest and MAC length are -1"
        if not _HEX_BYTES.match(self.key):
            return "key is not an even number of hex digits"
        cipher, digest, size = CIPHERS.get(self.cipher), DIGESTS.get(self.digest), len(self.key) // 2
        if size > MAX_KEY_BYTES or (cipher is not None and size != cipher.material_size):
            return f"a key of {size} bytes does not fit cipher {self.cipher}"
        if digest is not None and digest.size and self.mac_length > digest.size:
            return f"MAC length {self.mac_length} is above the digest's {digest.size}"
        return ""


@dataclass(frozen=True, slots=True)
class Packet:
    """PACKET (11): ``length`` bytes of frame follow the line directly."""

    NUMBER: ClassVar[int] = 17
    GOSSIP: ClassVar[bool] = False
    length: int

    def format(self) -> str:
        return f"17 {self.length}"

    @classmethod
    def read(cls, fields: _Fields) -> Packet:
        return cls(fields.integer("length", 0, MAX_LINE))


Request = (
    Id
    | MetaKey
    | Challenge
    | ChallengeReply
    | Ack
    | TermReq
    | Ping
    | Pong
    | AddSubnet
    | DelSubnet
    | AddEdge
    | DelEdge
    | KeyChanged
    | ReqKey
    | AnsKey
    | Packet
)

_REGISTRY: dict[int, tuple[str, Callable[[_Fields], Request]]] = {
    Id.NUMBER: ("ID", Id.read),
    MetaKey.NUMBER: ("METAKEY", MetaKey.read),
    Challenge.NUMBER: ("CHALLENGE", Challenge.read),
    ChallengeReply.NUMBER: ("CHAL_REPLY", ChallengeReply.read),
    Ack.NUMBER: ("ACK", Ack.read),
    TermReq.NUMBER: ("TERMREQ", TermReq.read),
    Ping.NUMBER: ("PING", Ping.read),
    Pong.NUMBER: ("PONG", Pong.read),
    AddSubnet.NUMBER: ("ADD_SUBNET", AddSubnet.read),
    DelSubnet.NUMBER: ("DEL_SUBNET", DelSubnet.read),
    AddEdge.NUMBER: ("ADD_EDGE", AddEdge.read),
    DelEdge.NUMBER: ("DEL_EDGE", DelEdge.read),
    KeyChanged.NUMBER: ("KEY_CHANGED", KeyChanged.read),
    ReqKey.NUMBER: ("REQ_KEY", ReqKey.read),
    AnsKey.NUMBER: ("ANS_KEY", AnsKey.read),
    Packet.NUMBER: ("PACKET", Packet.read),
}


def request_number(line: str) -> int:
    """The number that a line begins with. Raises PeerError where there is none."""
    first = line.split(maxsplit=1)[:1]
    if not first or not _NUMBER.match(first[0]):
        raise PeerError("a request does not begin with a number")
    return int(first[0])


def request_title(number: int) -> str:
    """The name of a request for messages."""
    return _REGISTRY[number][0] if number in _REGISTRY else f"request {number}"


def parse_request(line: str) -> Request:
    """Read one line without its newline. Raises PeerError, whose text names the request and what is wrong with it.

    Fields that follow the known ones are ignored, as extensions live there. Only printable ASCII passes.
    """
    number = request_number(line)
    if number not in _REGISTRY:
        raise PeerError(f"unknown request {number}")
    title, read = _REGISTRY[number]
    if len(line) >= MAX_LINE or not _PRINTABLE.match(line):
        raise PeerError(f"bad {title}: not a line of printable ASCII below {MAX_LINE} bytes")
    return read(_Fields(title, line.split()))
