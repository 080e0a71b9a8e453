"""Frames within records: types, headers, compression, and PACKETs that were compressed by mistake."""

from __future__ import annotations

import os
import zlib

import pytest

from gmesh.errors import DatagramError
from gmesh.proto.compression import make_compressor
from gmesh.proto.sptps_packet import COMPRESSED, PLAIN, WITH_HEADER, FrameCodec, node_id
from gmesh.values import MTU

IPV4 = b"\x45" + bytes(99)
IPV6 = b"\x60" + bytes(99)
FRAME = bytes(12) + b"\x08\x00" + IPV4
ETHERNET = os.urandom(12) + b"\x08\x06" + bytes(46)
LEVELS = (1, 6, 9, 10, 11, 12)


def codec(level: int = 0, own: int = 0, *, with_header: bool = False) -> FrameCodec:
    return FrameCodec(level, own, with_header=with_header)


def test_router_mode_leaves_the_header_out_and_makes_one_up() -> None:
    assert codec().pack(os.urandom(12) + FRAME[12:]) == (PLAIN, IPV4)
    assert codec().unpack(PLAIN, IPV4) == FRAME
    assert codec().unpack(PLAIN, IPV6) == bytes(12) + b"\x86\xdd" + IPV6
    assert codec().unpack(WITH_HEADER, ETHERNET) == ETHERNET


def test_other_modes_keep_it() -> None:
    switch = codec(with_header=True)
    assert switch.pack(ETHERNET) == (WITH_HEADER, ETHERNET)
    assert switch.unpack(WITH_HEADER, ETHERNET) == ETHERNET
    with pytest.raises(DatagramError, match="no Ethernet header"):
        switch.unpack(PLAIN, IPV4)


@pytest.mark.parametrize("with_header", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_what_gets_smaller_is_compressed(level: int, with_header: bool) -> None:
    pytest.importorskip("lzallright")
    pytest.importorskip("lz4")
    sender, receiver = codec(level, 0, with_header=with_header), codec(0, level, with_header=with_header)
    kind, data = sender.pack(FRAME)
    assert kind == (WITH_HEADER if with_header else PLAIN) | COMPRESSED
    assert len(data) < len(IPV4)
    assert receiver.unpack(kind, data) == FRAME
    random = os.urandom(12) + b"\x08\x00\x45" + os.urandom(500)
    kind, data = sender.pack(random)
    assert not kind & COMPRESSED
    assert receiver.unpack(kind, data)[12:] == random[12:]


def test_a_level_that_cannot_be_done_is_not_used() -> None:
    for level in (-1, 13, 99):
        assert codec(level, level).pack(FRAME) == (PLAIN, IPV4)
        with pytest.raises(DatagramError, match="not announced"):
            codec(level, level).unpack(COMPRESSED, zlib.compress(IPV4))


@pytest.mark.parametrize("level", LEVELS)
def test_requirement_28_what_inflates_to_too_much_is_dropped(level: int) -> None:
    pytest.importorskip("lzallright")
    pytest.importorskip("lz4")
    compress = make_compressor(level)
    assert compress is not None
    for size in (MTU - 13, 1662, 65536, 1 << 20):
        with pytest.raises(DatagramError):
            codec(0, level).unpack(COMPRESSED, compress(b"\x45" + bytes(size - 1)))
    assert len(codec(0, level).unpack(COMPRESSED, compress(b"\x45" + bytes(MTU - 15)))) == MTU


@pytest.mark.parametrize("kind", [4, 5, 7, 8, 127, 128, 255])
def test_other_types_are_errors(kind: int) -> None:
    with pytest.raises(DatagramError, match="record type"):
        codec().unpack(kind, IPV4)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x55" + bytes(50), b"\xf0"])
def test_what_is_no_ip_packet_has_no_header(data: bytes) -> None:
    with pytest.raises(DatagramError, match="no IP packet"):
        codec().unpack(PLAIN, data)


def test_lengths() -> None:
    assert len(codec().unpack(PLAIN, b"\x45" + bytes(MTU - 15))) == MTU
    for kind, data in ((PLAIN, b"\x45" + bytes(MTU - 14)), (WITH_HEADER, b"\xff" * 13), (WITH_HEADER, b"\xff" * 1519)):
        with pytest.raises(DatagramError, match="frame length"):
            codec().unpack(kind, data)


def test_a_frame_that_looks_like_a_probe_is_dropped() -> None:
    with pytest.raises(DatagramError, match="probe"):
        codec(with_header=True).unpack(WITH_HEADER, bytes(60))


@pytest.mark.parametrize("level", LEVELS)
def test_requirement_11_tincs_packets_are_mended_in_router_mode(level: int) -> None:
    pytest.importorskip("lzallright")
    pytest.importorskip("lz4")
    compress = make_compressor(level)
    assert compress is not None
    mended = codec(0, level).mended
    for packet in (IPV4, IPV6):
        for nonsense in (bytes(14), b"\xff" * 14, os.urandom(12) + b"\x08\x06"):
            assert mended(nonsense + compress(packet))[14:] == packet
    # Whole frames stay as they are, and so does what cannot be mended.
    for frame in (FRAME, bytes(12) + b"\x86\xdd" + IPV6, ETHERNET, b"", bytes(14), os.urandom(15)):
        assert mended(frame) == frame
    assert codec(0, 0).mended(bytes(14) + zlib.compress(IPV4)) == bytes(14) + zlib.compress(IPV4)


def test_in_switch_mode_they_are_mended_where_a_checksum_tells() -> None:
    pytest.importorskip("lz4")
    for level, done in ((6, True), (12, False)):
        compress = make_compressor(level)
        assert compress is not None
        small = compress(ETHERNET)
        assert codec(0, level, with_header=True).mended(small) == (ETHERNET if done else small)
        assert codec(0, level, with_header=True).mended(ETHERNET) == ETHERNET


def test_node_ids_of_ascii_names() -> None:
    assert node_id("real").hex() == "310070ab4092"
    assert node_id("probe").hex() == "01be4e8c20d9"
