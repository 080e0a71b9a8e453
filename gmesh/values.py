"""The words every room shares: node names, subnets, addresses, option bits.

Not here: anything with state or behaviour beyond parsing and formatting.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from dataclasses import dataclass
from enum import IntEnum

MTU = 1518
"""Largest frame in bytes: 1500 of payload, 14 of Ethernet header, 4 of VLAN tag (data-legacy 1)."""

ETHERNET_HEADER = 14
DEFAULT_PORT = 655
DEFAULT_WEIGHT = 10
"""Weight of a subnet that names none; lower is preferred (topology 5)."""

OPTION_INDIRECT = 0x1
OPTION_TCPONLY = 0x2
OPTION_PMTU = 0x4
OPTION_CLAMP_MSS = 0x8
OPTION_VERSION_SHIFT = 24
"""The top byte of an edge's options is the protocol minor version of the node it points to (meta-legacy 6)."""

WEIGHT_LIMIT = 2**31 - 1
EDGE_WEIGHT_LIMIT = 2**30 - 1
"""The difference of two weights of edges fits 32 bits: tinc 1.1 crashes at others, wherever they arrive."""

_NAME = re.compile(r"[A-Za-z0-9_]+\Z", re.ASCII)
MAX_NAME_LENGTH = 255
"""A name is also a file name in hosts/, so longer ones cannot exist on disk."""

MAX_INTERFACE_NAME = 15
"""Bytes: IFNAMSIZ without the closing zero."""


def is_node_name(text: str) -> bool:
    """Whether ``text`` may name a node: ASCII letters, digits and ``_`` (config 3)."""
    return len(text) <= MAX_NAME_LENGTH and _NAME.match(text) is not None


@functools.lru_cache(maxsize=4096)
def ip_version(host: str) -> int:
    """4 or 6, or 0 where ``host`` is no numeric address. An IPv6 address may have a scope.

    Answers are remembered, as the same few addresses come again and again in gossip.
    """
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0


def cut_interface_name(name: str) -> str:
    """As much of an interface's name as the kernel takes: its first 15 bytes, without what is no (whole) character."""
    return name.encode(errors="ignore")[:MAX_INTERFACE_NAME].decode(errors="ignore")


class SubnetKind(IntEnum):
    """Kinds of subnet, in the order in which tinc lists them."""

    MAC = 0
    IPV4 = 1
    IPV6 = 2


ADDRESS_BITS = {SubnetKind.MAC: 48, SubnetKind.IPV4: 32, SubnetKind.IPV6: 128}
_MAC = re.compile(r"[0-9A-Fa-f]{1,8}(?::[0-9A-Fa-f]{1,8}){5}\Z", re.ASCII)
_DECIMAL = re.compile(r"-?[0-9]{1,10}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Subnet:
    """A range of addresses that a node serves (topology 5).

    ``address`` is 6, 4 or 16 bytes by ``kind``; ``prefix`` counts bits, the full width for MACs.
    """

    kind: SubnetKind
    address: bytes
    prefix: int
    weight: int = DEFAULT_WEIGHT

    @classmethod
    def parse(cls, text: str) -> Subnet:
        """Read either generation's text form. Raises ValueError with the reason.

        Host bits below the prefix are kept as they are: on the wire nobody masks them.
        """
        body, hash_sign, weight_text = text.partition("#")
        weight = DEFAULT_WEIGHT
        if hash_sign:
            if not _DECIMAL.match(weight_text):
                raise ValueError(f"weight {weight_text!r} is not an integer")
            weight = int(weight_text)
            if abs(weight) > WEIGHT_LIMIT:
                raise ValueError(f"weight {weight} is outside 32 bits")
        host, slash, prefix_text = body.partition("/")
        if _MAC.match(host):
            if slash:
                raise ValueError("a MAC subnet takes no prefix length")
            mac = bytes(int(group, 16) & 0xFF for group in host.split(":"))
            return cls(SubnetKind.MAC, mac, 48, weight)
        try:
            packed = ipaddress.ip_address(host.partition("%")[0] if "%" in host else host).packed
        except ValueError:
            raise ValueError(f"{host!r} is neither a MAC, an IPv4 nor an IPv6 address") from None
        if "%" in host:
            raise ValueError("a subnet takes no scope")
        kind = SubnetKind.IPV4 if len(packed) == 4 else SubnetKind.IPV6
        bits = ADDRESS_BITS[kind]
        prefix = bits
        if slash:
            if not _DECIMAL.match(prefix_text) or not 0 <= int(prefix_text) <= bits:
                raise ValueError(f"prefix length {prefix_text!r} is not between 0 and {bits}")
            prefix = int(prefix_text)
        return cls(kind, packed, prefix, weight)

    @property
    def host_bits_set(self) -> bool:
        """Whether bits below the prefix are set, which configuration files may not contain."""
        bits = ADDRESS_BITS[self.kind]
        return int.from_bytes(self.address, "big") & ((1 << (bits - self.prefix)) - 1) != 0

    def matches(self, address: bytes) -> bool:
        """Whether ``address`` (as many bytes as ours) lies inside."""
        shift = len(address) * 8 - self.prefix
        return int.from_bytes(address, "big") >> shift == int.from_bytes(self.address, "big") >> shift

    def sort_key(self) -> tuple[int, int, bytes, int]:
        """Order of tables and scripts: kind, longer prefix, address, weight (topology 5.1)."""
        return (self.kind, -self.prefix, self.address, self.weight)

    def format(self, *, with_weight: bool = True) -> str:
        """The short form of tinc 1.1: no full-length prefix, no default weight."""
        if self.kind is SubnetKind.MAC:
            text = ":".join(f"{byte:02x}" for byte in self.address)
        else:
            text = str(ipaddress.ip_address(self.address))
            if self.prefix != ADDRESS_BITS[self.kind]:
                text += f"/{self.prefix}"
        if with_weight and self.weight != DEFAULT_WEIGHT:
            text += f"#{self.weight}"
        return text

    def format_long(self) -> str:
        """The form of tinc 1.0.36: always a prefix and a weight, nothing compressed."""
        if self.kind is SubnetKind.MAC:
            return ":".join(f"{byte:x}" for byte in self.address) + f"#{self.weight}"
        if self.kind is SubnetKind.IPV4:
            host = ".".join(str(byte) for byte in self.address)
        else:
            host = ":".join(f"{int.from_bytes(self.address[i : i + 2], 'big'):x}" for i in range(0, 16, 2))
        return f"{host}/{self.prefix}#{self.weight}"

    def __str__(self) -> str:
        return self.format()


BROADCAST_SUBNETS = tuple(
    map(Subnet.parse, ("ff:ff:ff:ff:ff:ff", "255.255.255.255", "224.0.0.0/4", "ff00::/8")),
)
"""Ranges that nobody owns and that mean everybody (topology 5.1)."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host and port as text, as gossip carries them: usually numeric, otherwise kept opaque (topology 2)."""

    host: str
    port: str

    @classmethod
    def from_sockaddr(cls, sockaddr: tuple[object, ...]) -> Address:
        """From what sockets report: IPv4-mapped IPv6 is unmapped, a link-local scope is kept as ``%scope``."""
        host, port = str(sockaddr[0]), str(sockaddr[1])
        if host.startswith("::ffff:") and "." in host:
            host = host[7:]
        return cls(host, port)

    @property
    def family(self) -> int:
        """4 or 6, or 0 where the host is no numeric address."""
        return ip_version(self.host)

    @property
    def endpoint(self) -> tuple[str, int] | None:
        """What a socket can send to, or None: not numeric, no port, or port 0."""
        if self.family == 0 or not self.port.isascii() or not self.port.isdigit() or len(self.port) > 5:
            return None
        port = int(self.port)
        return (self.host, port) if 0 < port < 65536 else None

    def __str__(self) -> str:
        return f"{self.host} port {self.port}"


UNKNOWN_ADDRESS = Address("unknown", "unknown")
