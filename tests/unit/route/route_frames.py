"""Frames and snapshots for the tests of routing, written down plainly and apart from the code under test."""

from __future__ import annotations

import ipaddress
import struct

from gmesh.route.snapshot import RouteNode, RouteSettings, RouteSnapshot
from gmesh.values import OPTION_CLAMP_MSS, OPTION_PMTU, Subnet

OPTIONS = OPTION_PMTU | OPTION_CLAMP_MSS
TUN = bytes(12)
"""The two hardware addresses as a tun device's frames have them."""


def internet_sum(data: bytes) -> int:
    """The checksum as RFC 1071 words it."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def ipv4(
    source: str = "10.0.1.1",
    destination: str = "10.0.2.2",
    payload: bytes = b"",
    *,
    protocol: int = 17,
    ttl: int = 64,
    flags: int = 0,
    options: bytes = b"",
    link: bytes = TUN,
    tag: bytes = b"",
) -> bytes:
    """A frame with an IPv4 packet; ``flags`` is the 16-bit word of flags and fragment offset."""
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45 + len(options) // 4,
        0,
        20 + len(options) + len(payload),
        0x1234,
        flags,
        ttl,
        protocol,
        0,
        packed(source),
        packed(destination),
    )
    header += options
    header = header[:10] + struct.pack("!H", internet_sum(header)) + header[12:]
    return link + tag + b"\x08\x00" + header + payload


def ipv6(
    source: str = "fd00:1::1",
    destination: str = "fd00:2::2",
    payload: bytes = b"",
    *,
    following: int = 17,
    hops: int = 64,
    link: bytes = TUN,
    tag: bytes = b"",
) -> bytes:
    header = struct.pack("!IHBB", 0x6000_0000, len(payload), following, hops)
    return link + tag + b"\x86\xdd" + header + packed(source) + packed(destination) + payload


def pseudo(source: str, destination: str, length: int, protocol: int) -> bytes:
    if ":" in source:
        return packed(source) + packed(destination) + struct.pack("!II", length, protocol)
    return packed(source) + packed(destination) + struct.pack("!BBH", 0, protocol, length)


def tcp(source: str, destination: str, options: bytes = b"", data: bytes = b"", flags: int = 2) -> bytes:
    """A TCP segment with a right checksum; ``options`` are padded to whole words."""
    options += b"\0" * (-len(options) % 4)
    head = struct.pack("!HHIIBBHHH", 40000, 80, 1, 0, (5 + len(options) // 4) << 4, flags, 65535, 0, 0)
    segment = head + options + data
    total = internet_sum(pseudo(source, destination, len(segment), 6) + segment)
    return segment[:16] + struct.pack("!H", total) + segment[18:]


def snapshot(*, nodes: dict[str, RouteNode] | None = None, options: int = OPTIONS, **settings: object) -> RouteSnapshot:
    """``a`` is we; ``b`` and ``c`` are neighbours, ``d`` lies behind ``c``, ``gone`` is unreachable.

    Node x of a..d serves 10.0.N.0/24 and fd00:N::/32 with N = 1..4, ``gone`` has N = 9.
    """
    picture = {
        "a": RouteNode("a", True, "a", "a", options),
        "b": RouteNode("b", True, "b", "b", options, True, True),
        "c": RouteNode("c", True, "c", "c", options, True, True),
        "d": RouteNode("d", True, "c", "c", options),
        "gone": RouteNode("gone", False),
    }
    picture.update(nodes or {})
    subnets = []
    for owner, number in (("a", 1), ("b", 2), ("c", 3), ("d", 4), ("gone", 9)):
        subnets.append((Subnet.parse(f"10.0.{number}.0/24"), owner))
        subnets.append((Subnet.parse(f"fd00:{number}::/32"), owner))
    return RouteSnapshot("a", options, picture, tuple(subnets), RouteSettings(**settings))  # type: ignore[arg-type]
