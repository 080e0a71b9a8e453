"""Lowering the MSS that TCP announces (topology 9.4)."""

from __future__ import annotations

import struct

import pytest

from gmesh.route.mss import clamped, may_carry_mss
from tests.unit.route.route_frames import internet_sum, ipv4, ipv6, pseudo, tcp

A4, B4, A6, B6 = "10.0.1.1", "10.0.2.2", "fd00:1::1", "fd00:2::2"
VLAN = b"\x81\x00\x00\x05"


def mss(value: int) -> bytes:
    return b"\x02\x04" + struct.pack("!H", value)


def syn4(tcp_options: bytes, **kwargs: object) -> bytes:
    return ipv4(A4, B4, tcp(A4, B4, tcp_options, b"data"), protocol=6, **kwargs)  # type: ignore[arg-type]


def syn6(options: bytes, **kwargs: object) -> bytes:
    return ipv6(A6, B6, tcp(A6, B6, options), following=6, **kwargs)  # type: ignore[arg-type]


def test_ipv4_as_observed() -> None:
    """MTU 796 gives 742, and the checksum is what a full computation gives."""
    assert clamped(syn4(mss(1460)), 796) == syn4(mss(742))


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (syn4(mss(1460), options=b"\1\1\1\1"), syn4(mss(738), options=b"\1\1\1\1")),
        (syn4(mss(1460), tag=VLAN), syn4(mss(738), tag=VLAN)),
        (syn6(mss(1440)), syn6(mss(722))),
        (syn6(mss(1440), tag=VLAN), syn6(mss(718), tag=VLAN)),
    ],
)
def test_other_headers(frame: bytes, expected: bytes) -> None:
    assert clamped(frame, 796) == expected


@pytest.mark.parametrize("before", [b"\1", b"\1\1", b"\1\1\1", b"\x08\x0a" + bytes(8), b"\x04\x02", b"\x03\x03\x07"])
def test_mss_need_not_be_the_first_option(before: bytes) -> None:
    """At odd offsets too, where the value is spread over two words of the sum."""
    assert clamped(syn4(before + mss(1460)), 796) == syn4(before + mss(742))


def test_ipv4_in_ipv4() -> None:
    inner = syn4(mss(1460))[14:]
    expected = syn4(mss(722))[14:]
    assert clamped(ipv4(payload=inner, protocol=4), 796) == ipv4(payload=expected, protocol=4)


@pytest.mark.parametrize(
    "frame",
    [
        syn4(mss(742)),
        syn4(mss(100)),
        syn4(b""),
        syn4(b"\0" + mss(1460)),  # behind the end of the list
        syn4(b"\x02\x03\x05"),  # an MSS of the wrong length
        syn4(b"\x02\x06" + mss(1460)),
        syn4(b"\1\1\x02\x04"),  # its value would lie in the data
        syn4(b"\x05\x00" + mss(1460)),  # an option that never ends
        syn4(b"\x05\x01" + mss(1460)),
        syn4(mss(1460), flags=1),  # a later fragment has no TCP header
        ipv4(payload=tcp(A4, B4, mss(1460)), protocol=17),
        ipv6(payload=bytes((6, 0)) + bytes(6) + tcp(A6, B6, mss(1460)), following=0),
        syn4(mss(1460))[:57],  # cut within the option
        syn4(mss(1460))[:50],
        bytes(12) + b"\x08\x06" + syn4(mss(1460))[14:],
    ],
)
def test_left_alone_as_the_same_object(frame: bytes) -> None:
    assert clamped(frame, 796) is frame


def test_the_quick_look_reaches_the_last_place() -> None:
    late = syn4(b"\1" * 36 + mss(1460), options=b"\1" * 40)
    assert may_carry_mss(late)
    assert may_carry_mss(ipv4(payload=late[14:], protocol=4, options=b"\1" * 40, tag=VLAN))
    assert may_carry_mss(syn4(mss(1460)))
    assert not may_carry_mss(syn4(b"\1\1\x08\x0a" + bytes(8)))


def test_no_mtu_makes_a_negative_mss() -> None:
    frame = syn4(mss(1460))
    assert clamped(frame, 54) is frame
    assert clamped(frame, 55) == syn4(mss(1))


def test_the_sum_is_right_in_full() -> None:
    segment = clamped(syn6(b"\1" + mss(1440)), 1000)[54:]
    assert internet_sum(pseudo(A6, B6, len(segment), 6) + segment) == 0
