"""ICMP and ICMPv6 errors, byte for byte (topology 9.4)."""

from __future__ import annotations

import struct

import pytest

from gmesh.route.icmp import ErrorLimit, Trouble, answerable, error
from tests.unit.route.route_frames import internet_sum, ipv4, ipv6, packed, pseudo

MACS = bytes.fromhex("020000000001020000000002")


@pytest.mark.parametrize(
    ("trouble", "kind", "code"),
    [
        (Trouble.UNKNOWN, 3, 6),
        (Trouble.UNREACHABLE, 3, 0),
        (Trouble.PROHIBITED, 3, 9),
        (Trouble.TIME_EXCEEDED, 11, 0),
        (Trouble.TOO_BIG, 3, 4),
    ],
)
def test_ipv4_errors_are_exact(trouble: Trouble, kind: int, code: int) -> None:
    mtu = 782 if trouble is Trouble.TOO_BIG else 0
    frame = ipv4(payload=bytes(range(100)))
    answer = error(trouble, frame, mtu)
    message = struct.pack("!BBHI", kind, code, 0, mtu) + frame[14:]
    message = message[:2] + struct.pack("!H", internet_sum(message)) + message[4:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, 255, 1, 0) + packed("10.0.2.2")
    header += packed("10.0.1.1")
    header = header[:10] + struct.pack("!H", internet_sum(header)) + header[12:]
    assert answer == bytes(12) + b"\x08\x00" + header + message


def test_lengths_observed_on_the_wire() -> None:
    """A short original comes back whole; one of 1000 bytes gives a frame of 590 (vectors/legacy-behaviour)."""
    assert len(error(Trouble.UNKNOWN, ipv4(payload=bytes(38)))) == 100
    assert len(error(Trouble.UNKNOWN, ipv4(payload=bytes(966)))) == 590
    assert len(error(Trouble.UNKNOWN, ipv6(payload=bytes(966)))) == 590


@pytest.mark.parametrize(
    ("trouble", "kind", "code"),
    [
        (Trouble.UNKNOWN, 1, 3),
        (Trouble.UNREACHABLE, 1, 0),
        (Trouble.PROHIBITED, 1, 1),
        (Trouble.TIME_EXCEEDED, 3, 0),
        (Trouble.TOO_BIG, 2, 0),
    ],
)
def test_ipv6_errors_are_exact(trouble: Trouble, kind: int, code: int) -> None:
    mtu = 1366 if trouble is Trouble.TOO_BIG else 0
    frame = ipv6(payload=bytes(range(100)), link=MACS)
    message = struct.pack("!BBHI", kind, code, 0, mtu) + frame[14:]
    total = internet_sum(pseudo("fd00:2::2", "fd00:1::1", len(message), 58) + message)
    message = message[:2] + struct.pack("!H", total) + message[4:]
    expected = ipv6("fd00:2::2", "fd00:1::1", message, following=58, hops=255, link=MACS[6:] + MACS[:6])
    assert error(trouble, frame, mtu) == expected


def test_link_header_is_turned_round_with_its_tag() -> None:
    tag = b"\x81\x00\x00\x07"
    answer = error(Trouble.UNKNOWN, ipv4(payload=b"12345678", link=MACS, tag=tag))
    plain = error(Trouble.UNKNOWN, ipv4(payload=b"12345678"))
    assert answer == MACS[6:] + MACS[:6] + tag + plain[12:]


def test_another_sender_than_the_destination() -> None:
    answer = error(Trouble.TIME_EXCEEDED, ipv4(payload=b"x"), source=packed("192.0.2.1"))
    assert answer[26:30] == packed("192.0.2.1")
    assert internet_sum(answer[14:34]) == 0
    answer = error(Trouble.TIME_EXCEEDED, ipv6(payload=b"x"), source=packed("fd00:1::ff"))
    assert answer[22:38] == packed("fd00:1::ff")
    assert internet_sum(pseudo("fd00:1::ff", "fd00:1::1", len(answer) - 54, 58) + answer[54:]) == 0


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
def test_no_error_about_an_icmp_error(kind: int) -> None:
    assert not answerable(ipv4(payload=bytes((kind, 0)) + bytes(30), protocol=1))
    behind_options = ipv4(payload=bytes((kind, 0)) + bytes(30), protocol=1, options=b"\1\1\1\1")
    assert not answerable(behind_options)


@pytest.mark.parametrize("kind", [0, 8, 13])
def test_errors_about_icmp_queries(kind: int) -> None:
    assert answerable(ipv4(payload=bytes((kind, 0)) + bytes(30), protocol=1))


@pytest.mark.parametrize(
    ("kind", "answered"), [(1, False), (2, False), (3, False), (127, False), (128, True), (129, True)]
)
def test_icmpv6_errors_and_queries(kind: int, answered: bool) -> None:
    message = bytes((kind, 0)) + bytes(30)
    assert answerable(ipv6(payload=message, following=58)) == answered
    hop_by_hop = bytes((58, 0)) + bytes(6)
    assert answerable(ipv6(payload=hop_by_hop + message, following=0)) == answered


def test_no_error_about_later_fragments() -> None:
    assert answerable(ipv4(payload=bytes(32), flags=0x2000))
    assert not answerable(ipv4(payload=bytes(32), flags=0x2001))
    assert not answerable(ipv4(payload=bytes(32), flags=0x0100))
    first, later = bytes((17, 0, 0, 1)) + bytes(4), bytes((17, 0, 0, 8)) + bytes(4)
    assert answerable(ipv6(payload=first + bytes(32), following=44))
    assert not answerable(ipv6(payload=later + bytes(32), following=44))


@pytest.mark.parametrize("source", ["224.0.0.1", "239.255.255.255", "255.255.255.255", "0.0.0.0"])
def test_no_error_to_other_than_a_host(source: str) -> None:
    assert not answerable(ipv4(source))


@pytest.mark.parametrize("destination", ["224.0.0.1", "255.255.255.255"])
def test_no_error_about_ipv4_for_many(destination: str) -> None:
    assert not answerable(ipv4(destination=destination))


def test_no_error_from_or_to_ipv6_groups() -> None:
    assert not answerable(ipv6("ff02::1"))
    assert not answerable(ipv6("::"))
    assert not answerable(ipv6(destination="ff02::1"))


def test_three_errors_a_second() -> None:
    """Any three within a second, wherever the second begins (vectors/legacy-behaviour: 5 at once -> 3)."""
    limit = ErrorLimit()
    assert [limit.allows(5.0) for _ in range(5)] == [True, True, True, False, False]
    assert not limit.allows(5.99)
    assert limit.allows(6.0)
    limit = ErrorLimit()
    times = [0.0, 0.5, 0.75, 1.0, 1.25, 1.5]
    assert [limit.allows(now) for now in times] == [True, True, True, True, False, True]
