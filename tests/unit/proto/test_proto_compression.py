"""Compression of packets: all levels, bounds, and what is said where a package is missing."""

from __future__ import annotations

import random
import zlib

import pytest

from gmesh.errors import DatagramError, GmeshError, PeerError
from gmesh.proto import compression
from gmesh.proto.compression import (
    GROWTH,
    MAX_PAYLOAD,
    compression_problem,
    lzo_size,
    make_compressor,
    make_decompressor,
)
from gmesh.proto.packet import PacketKey, PacketOpener, PacketSealer
from tests.vectors.legacy import counting_entropy

ALL_LEVELS = range(1, 13)
OF_PACKAGES = {10: ("_lzo", "lzallright"), 11: ("_lzo", "lzallright"), 12: ("_lz4", "lz4")}

TEXT = b"".join(b"line %d of some text that repeats itself\n" % number for number in range(40))[:1518]


def need(level: int) -> None:
    if level in OF_PACKAGES:
        pytest.importorskip(OF_PACKAGES[level][1])


def pair(level: int) -> tuple[compression.Transform, compression.Transform]:
    need(level)
    compress, decompress = make_compressor(level), make_decompressor(level)
    assert compress is not None
    assert decompress is not None
    return compress, decompress


def mixed_bytes(chance: random.Random) -> bytes:
    """What frames may hold: zeros, noise and repetitions."""
    parts = (
        lambda: bytes(chance.randrange(400)),
        lambda: chance.randbytes(chance.randrange(400)),
        lambda: b"abc" * chance.randrange(100),
        lambda: bytes(chance.randrange(4) for _ in range(chance.randrange(60))),
    )
    return b"".join(chance.choice(parts)() for _ in range(chance.randrange(8)))


@pytest.mark.parametrize("level", ALL_LEVELS)
def test_what_is_compressed_comes_back(level: int) -> None:
    compress, decompress = pair(level)
    chance = random.Random(level)
    for _ in range(200):
        frame = mixed_bytes(chance)[:1518]
        assert decompress(compress(frame)) == frame
    assert len(compress(TEXT)) < 500


@pytest.mark.parametrize("level", ALL_LEVELS)
def test_noise_grows_by_no_more_than_is_planned_for(level: int) -> None:
    compress, _ = pair(level)
    chance = random.Random(level)
    for size in (*range(14, 40), 238, 239, 1417, 1450, 1518):
        assert len(compress(chance.randbytes(size))) <= size + GROWTH


def test_level_0_is_no_compression() -> None:
    assert make_compressor(0) is None
    assert make_decompressor(0) is None


@pytest.mark.parametrize("level", ALL_LEVELS)
def test_requirement_28_no_method_inflates_to_more_than_the_bound(level: int) -> None:
    compress, decompress = pair(level)
    assert decompress(compress(bytes(MAX_PAYLOAD))) == bytes(MAX_PAYLOAD)
    for size in (MAX_PAYLOAD + 1, 5000, 400_000):
        with pytest.raises(DatagramError, match="does not decompress"):
            decompress(compress(bytes(size)))


def test_requirement_28_the_lzo_library_never_sees_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    lzallright = pytest.importorskip("lzallright")

    class Watched:
        LZOError, InputNotConsumed = lzallright.LZOError, lzallright.InputNotConsumed
        called = False

        class LZOCompressor:
            @staticmethod
            def decompress(data: bytes, hint: int) -> bytes:
                Watched.called = True
                return bytes(lzallright.LZOCompressor.decompress(data, hint))

    bomb, frame = (lzallright.LZOCompressor().compress(bytes(size)) for size in (300_000, 100))
    with pytest.raises(DatagramError, match="longer"):
        compression._inflate_lzo(Watched, bomb)
    assert not Watched.called
    assert compression._inflate_lzo(Watched, frame) == bytes(100)
    assert Watched.called


def test_sizes_read_from_lzo_blocks_are_those_that_the_library_makes() -> None:
    lzallright = pytest.importorskip("lzallright")
    compressor, chance = lzallright.LZOCompressor(), random.Random(7)
    inflated = 0
    for _ in range(3000):
        block = bytearray(compressor.compress(mixed_bytes(chance)))
        for _ in range(chance.randrange(3)):
            block[chance.randrange(len(block))] = chance.randrange(256)
        try:
            size = len(lzallright.LZOCompressor.decompress(bytes(block), 10))
        except (lzallright.LZOError, lzallright.InputNotConsumed):
            continue
        inflated += 1
        assert lzo_size(bytes(block), 1 << 30) == size
    assert inflated > 1000


@pytest.mark.parametrize("level", ALL_LEVELS)
def test_nothing_but_a_datagram_error_comes_of_damaged_blocks(level: int) -> None:
    compress, decompress = pair(level)
    chance = random.Random(level)
    good = compress(TEXT)
    refused = 0
    for _ in range(2000):
        block = bytearray(chance.choice((good, chance.randbytes(chance.randrange(200)))))
        for _ in range(chance.randrange(4)):
            if block:
                block[chance.randrange(len(block))] = chance.randrange(256)
        block = block[: chance.choice((len(block), chance.randrange(len(block) + 1)))]
        try:
            assert len(decompress(bytes(block))) <= MAX_PAYLOAD
        except DatagramError:
            refused += 1
    assert refused > 500
    with pytest.raises(DatagramError):
        decompress(b"")


@pytest.mark.parametrize("level", OF_PACKAGES)
def test_a_missing_package_is_named(level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    function, package = OF_PACKAGES[level]
    monkeypatch.setattr(compression, function, lambda: None)
    problem = compression_problem(level)
    assert package in problem
    assert "gmesh[compress]" in problem
    with pytest.raises(ValueError, match=package):
        make_compressor(level)
    with pytest.raises(ValueError, match=package):
        make_decompressor(level)
    with pytest.raises(PeerError, match=package):
        PacketKey.from_answer("ab" * 48, 427, 672, 4, level)
    with pytest.raises(GmeshError, match=package):
        PacketKey.generate(cipher=427, digest=672, mac_length=4, compression=level, entropy=counting_entropy())


@pytest.mark.parametrize("level", [-1, 13])
def test_other_levels_are_unknown(level: int) -> None:
    assert "unknown" in compression_problem(level)


@pytest.mark.parametrize("level", [0, 1, 9, 10, 11, 12])
@pytest.mark.parametrize(("digest", "mac_length"), [(672, 4), (674, 64), (0, 0)])
@pytest.mark.parametrize("cipher", [427, 91, 0])
def test_packets_of_any_level_open(cipher: int, digest: int, mac_length: int, level: int) -> None:
    need(level)
    key = PacketKey.generate(
        cipher=cipher, digest=digest, mac_length=mac_length, compression=level, entropy=counting_entropy()
    )
    sealer, opener = PacketSealer(key), PacketOpener(key, 16)
    for frame in (TEXT, bytes(14), random.Random(1).randbytes(1518)):
        assert opener.open(sealer.seal(frame)) == frame


def test_zlib_streams_of_any_kind_are_read() -> None:
    _, decompress = pair(1)
    for level in range(10):
        assert decompress(zlib.compress(TEXT, level)) == TEXT
