"""Cutting IPv4 packets (topology 9.4)."""

from __future__ import annotations

import pytest

from gmesh.route.fragments import fragments
from tests.unit.route.route_frames import internet_sum, ipv4

DATA = bytes(range(256)) * 6


def test_sizes_observed_on_the_wire() -> None:
    """MTU 796, frame 1142: 794 and 382."""
    pieces = fragments(ipv4(payload=DATA[: 1142 - 34]), 796)
    assert [len(piece) for piece in pieces] == [794, 382]


def test_pieces_are_exact() -> None:
    pieces = fragments(ipv4(payload=DATA[:1200], ttl=9), 590)
    assert pieces == [
        ipv4(payload=DATA[0:552], ttl=9, flags=0x2000),
        ipv4(payload=DATA[552:1104], ttl=9, flags=0x2000 + 69),
        ipv4(payload=DATA[1104:1200], ttl=9, flags=138),
    ]
    assert all(internet_sum(piece[14:34]) == 0 for piece in pieces)


def test_the_last_piece_may_be_full() -> None:
    assert fragments(ipv4(payload=DATA[:1104]), 590) == [
        ipv4(payload=DATA[:552], flags=0x2000),
        ipv4(payload=DATA[552:1104], flags=69),
    ]


def test_a_fragment_is_cut_further() -> None:
    assert fragments(ipv4(payload=DATA[:800], flags=0x2000 + 100), 590) == [
        ipv4(payload=DATA[:552], flags=0x2000 + 100),
        ipv4(payload=DATA[552:800], flags=0x2000 + 169),
    ]


def test_link_header_and_tag_are_kept() -> None:
    link, tag = bytes(range(12)), b"\x81\x00\x00\x05"
    pieces = fragments(ipv4(payload=DATA[:1000], link=link, tag=tag), 594)
    assert [piece[:18] for piece in pieces] == [link + tag + b"\x08\x00"] * 2
    assert [len(piece) for piece in pieces] == [590, 38 + 448]


@pytest.mark.parametrize(
    "frame",
    [
        ipv4(payload=DATA[:800], options=b"\1\1\1\1"),
        ipv4(payload=DATA[:800]) + b"padding",
        ipv4(payload=DATA[:800])[:-1],
        ipv4(payload=DATA[:800], flags=0x1FFF),  # would end beyond 65535
        ipv4()[:33],
    ],
)
def test_what_cannot_be_cut(frame: bytes) -> None:
    assert fragments(frame, 590) == []
