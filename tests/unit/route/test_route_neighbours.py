"""Address resolution for a tap device (topology 9.7)."""

from __future__ import annotations

import struct

import pytest

from gmesh.route.router import Drop, Router, ToDevice
from gmesh.values import MTU
from tests.unit.route.route_frames import internet_sum, ipv6, packed, pseudo, snapshot

ASKER = bytes.fromhex("0200000000a5")
MADE_UP = bytes.fromhex("02000000005a")


def mtus(node: str) -> int:
    return MTU


def arp(operation: int, sender: bytes, sender_ip: str, target: bytes, target_ip: str, *, link: bytes) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return link + b"\x08\x06" + head + sender + packed(sender_ip) + target + packed(target_ip)


def ask_arp(target: str) -> bytes:
    return arp(1, ASKER, "10.0.1.1", bytes(6), target, link=b"\xff" * 6 + ASKER)


def ask_nd(target: str, option: bytes = b"\x01\x01" + ASKER, source: str = "fd00:1::1") -> bytes:
    message = struct.pack("!BBHI", 135, 0, 0, 0) + packed(target) + option
    return solicit(message, source)


def solicit(message: bytes, source: str = "fd00:1::1") -> bytes:
    group = "ff02::1:ff00:2"
    total = internet_sum(pseudo(source, group, len(message), 58) + message)
    message = message[:2] + struct.pack("!H", total) + message[4:]
    return ipv6(source, group, message, following=58, hops=255, link=b"\x33\x33\xff\0\0\2" + ASKER)


def advertise(target: str, option: bytes) -> bytes:
    message = struct.pack("!BBHI", 136, 0, 0, 0x40000000) + packed(target) + option
    total = internet_sum(pseudo(target, "fd00:1::1", len(message), 58) + message)
    message = message[:2] + struct.pack("!H", total) + message[4:]
    return ipv6(target, "fd00:1::1", message, following=58, hops=255, link=ASKER + MADE_UP)


@pytest.fixture
def router() -> Router:
    return Router(snapshot(tap=True))


def test_arp_is_answered_with_a_made_up_address(router: Router) -> None:
    expected = arp(2, MADE_UP, "10.0.2.2", ASKER, "10.0.1.1", link=ASKER + MADE_UP)
    assert router.decide(ask_arp("10.0.2.2"), "a", mtus, 0.0) == [ToDevice(expected)]


def test_arp_from_a_padding_kernel(router: Router) -> None:
    expected = arp(2, MADE_UP, "10.0.2.2", ASKER, "10.0.1.1", link=ASKER + MADE_UP)
    assert router.decide(ask_arp("10.0.2.2") + bytes(18), "a", mtus, 0.0) == [ToDevice(expected)]


@pytest.mark.parametrize(
    "frame",
    [
        ask_arp("10.0.1.7"),  # our own
        ask_arp("10.99.0.1"),  # nobody's
        ask_arp("10.0.2.2")[:-1],
        arp(2, ASKER, "10.0.1.1", bytes(6), "10.0.2.2", link=b"\xff" * 6 + ASKER),  # a reply
        ask_nd("fd00:1::7"),
        ask_nd("fd99::1"),
        ask_nd("fd00:2::2")[:-1] + b"\0",  # a wrong checksum
        ask_nd("fd00:2::2", source="::"),
        ask_nd("fd00:2::2")[:77],
        ask_nd("fd00:2::2")[:55],
    ],
)
def test_questions_without_answer(router: Router, frame: bytes) -> None:
    (verdict,) = router.decide(frame, "a", mtus, 0.0)
    assert isinstance(verdict, Drop)


def test_solicitation_with_link_address(router: Router) -> None:
    expected = advertise("fd00:2::2", b"\x02\x01" + MADE_UP)
    assert router.decide(ask_nd("fd00:2::2"), "a", mtus, 0.0) == [ToDevice(expected)]


def test_solicitation_without_link_address(router: Router) -> None:
    assert router.decide(ask_nd("fd00:2::2", b""), "a", mtus, 0.0) == [ToDevice(advertise("fd00:2::2", b""))]


def test_solicitation_longer_than_its_frame(router: Router) -> None:
    """Its checksum would be right for the bytes that are there and the length that it claims."""
    frame = ask_nd("fd00:2::2")
    length = len(frame) - 54
    lying = struct.pack("!H", length + 8)
    total = int.from_bytes(frame[56:58], "big") - 8
    frame = frame[:18] + lying + frame[20:56] + struct.pack("!H", total) + frame[58:]
    assert internet_sum(pseudo("fd00:1::1", "ff02::1:ff00:2", length + 8, 58) + frame[54:]) == 0
    assert [type(verdict) for verdict in router.decide(frame, "a", mtus, 0.0)] == [Drop]


@pytest.mark.parametrize("frame", [ask_arp("10.0.2.2"), ask_nd("fd00:2::2")])
def test_only_for_the_own_tap_device(router: Router, frame: bytes) -> None:
    assert [type(verdict) for verdict in router.decide(frame, "b", mtus, 0.0)] == [Drop]
    assert [type(verdict) for verdict in Router(snapshot(tap=False)).decide(frame, "a", mtus, 0.0)] == [Drop]
