"""Compression of legacy packets: zlib, LZO1X and LZ4, in raw blocks without lengths (data-legacy 4).

LZO and LZ4 come from optional packages (the extra `compress`). Whatever a block claims, no more than `MAX_PAYLOAD`
bytes are ever made of it. Not here: who chooses the level.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any

from gmesh.errors import DatagramError

MAX_PAYLOAD = 1661
"""Bytes of the smallest packet buffer among the daemons; nothing decompresses to more (data-legacy 1, 4)."""

GROWTH = 11
"""Bytes that the largest frame may gain when it is compressed, by any of the methods."""

LZO_LEVELS = (10, 11)
LZ4_LEVEL = 12
HIGHEST_LEVEL = LZ4_LEVEL

Transform = Callable[[bytes], bytes]

_INSTALL = "install it with: pip install 'gmesh[compress]'"


@functools.cache
def _lzo() -> Any:
    """The module for LZO1X, None where it is missing. It is not GPL, as the original library and its bindings are."""
    try:
        import lzallright
    except ImportError:
        return None
    return lzallright


@functools.cache
def _lz4() -> Any:
    """The module for LZ4 blocks, None where it is missing."""
    try:
        import lz4.block
    except ImportError:
        return None
    return lz4.block


def compression_problem(level: int) -> str:
    """Why packets cannot be compressed so here, and what helps; empty where they can."""
    if not 0 <= level <= HIGHEST_LEVEL:
        return f"compression {level} is unknown"
    if level in LZO_LEVELS and _lzo() is None:
        return f"compression {level} (LZO) needs the Python package lzallright; {_INSTALL}, or choose 0 to 9"
    if level == LZ4_LEVEL and _lz4() is None:
        return f"compression {level} (LZ4) needs the Python package lz4; {_INSTALL}, or choose 0 to 9"
    return ""


def make_compressor(level: int) -> Transform | None:
    """A function from a frame to what is sent for it; None for level 0. Raises ValueError for one not usable here."""
    if level == 0:
        return None
    _check(level)
    if level in LZO_LEVELS:
        # There is one compressor for both levels: the better one of the originals only differs in its patience.
        compress: Transform = _lzo().LZOCompressor().compress
        return compress
    if level == LZ4_LEVEL:
        return functools.partial(_lz4().compress, store_size=False)
    return functools.partial(zlib.compress, level=level)


def make_decompressor(level: int) -> Transform | None:
    """The inverse; None for level 0. The function raises DatagramError for what is damaged or inflates to too much."""
    if level == 0:
        return None
    _check(level)
    if level in LZO_LEVELS:
        return functools.partial(_inflate_lzo, _lzo())
    if level == LZ4_LEVEL:
        return functools.partial(_inflate_lz4, _lz4())
    return _inflate_zlib


def _check(level: int) -> None:
    problem = compression_problem(level)
    if problem:
        raise ValueError(problem)


def _inflate_zlib(payload: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        frame = inflater.decompress(payload, MAX_PAYLOAD)
    except zlib.error as error:
        raise DatagramError(f"does not decompress: {error}") from None
    if not inflater.eof:
        raise DatagramError("does not decompress: not a whole frame")
    return frame


def _inflate_lz4(lz4_block: Any, payload: bytes) -> bytes:
    try:
        frame: bytes = lz4_block.decompress(payload, uncompressed_size=MAX_PAYLOAD)
    except lz4_block.LZ4BlockError:
        raise DatagramError("does not decompress: damaged or longer than the largest frame") from None
    return frame


def _inflate_lzo(lzallright: Any, payload: bytes) -> bytes:
    # The library makes as much as a block says, so what it says is added up before.
    try:
        size = lzo_size(payload, MAX_PAYLOAD)
    except IndexError:
        raise DatagramError("does not decompress: the block has no end") from None
    if size > MAX_PAYLOAD:
        raise DatagramError("does not decompress: longer than the largest frame")
    try:
        frame: bytes = lzallright.LZOCompressor.decompress(payload, size)
    except (lzallright.LZOError, lzallright.InputNotConsumed):
        raise DatagramError("does not decompress: the block is damaged") from None
    return frame


def lzo_size(block: bytes, limit: int) -> int:
    """How many bytes an LZO1X block inflates to; some number above ``limit`` as soon as that is passed.

    Only lengths are read: a token copies from what was made before, or literally, and up to three literals may follow.
    Raises IndexError for a block that ends before its end mark.
    """
    size = at = literals = 0
    if block[0] > 17:
        size = block[0] - 17
        at = 1 + size
        literals = min(size, 4)
    while size <= limit:
        token = block[at]
        at += 1
        if token >= 64:
            size += (token >> 5) + 1
            literals = token & 3
            at += 1
        elif token >= 16:
            bits = 31 if token >= 32 else 7
            length = token & bits
            if length == 0:
                extra, at = _extension(block, at)
                length = bits + extra
            low, high = block[at], block[at + 1]
            if token < 32 and not token & 8 and low < 4 and high == 0:
                return size
            size += length + 2
            literals = low & 3
            at += 2
        elif literals == 0:
            if token == 0:
                extra, at = _extension(block, at)
                token = 15 + extra
            size += token + 3
            at += token + 3
            # The mark of a long run: what follows it is a copy, and no literals follow this token.
            literals = 4
            continue
        else:
            size += 3 if literals == 4 else 2
            literals = token & 3
            at += 1
        size += literals
        at += literals
    return size


def _extension(block: bytes, at: int) -> tuple[int, int]:
    """A length that did not fit its token, from position ``at``, and the position behind it."""
    length = 0
    while block[at] == 0:
        length += 255
        at += 1
    return length + block[at], at + 1
