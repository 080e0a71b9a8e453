"""tinc's ChaCha20-Poly1305 (sptps 3), which is older than the AEAD of RFC 8439 and makes other bytes.

The record number is a nonce of 64 bits, the tag covers the ciphertext alone. One object serves one key for both
directions of the transform; the package `cryptography` is used where it is there, for three times the speed. Not here:
record numbers and what is in a record.
"""

from __future__ import annotations

import functools
import hmac
import struct
from collections.abc import Callable
from typing import Any

KEY_SIZE = 32
TAG_SIZE = 16

_ONE_BLOCK = bytes(64)
"""Block 0 of the keystream is the key of the tag; the text begins with block 1. One call makes both."""
_NONCE = struct.Struct(">Q")
_COUNTER_AND_NONCE = struct.Struct(">QQ")

_Seal = Callable[[int, bytes], bytes]
_Open = Callable[[int, bytes], bytes | None]
_Tag = Callable[[bytes, bytes, int], bytes]
"""From a one-time key, the first 32 bytes of the first argument, and the first so many bytes of a text to the tag."""
_Backend = Callable[[bytes], tuple[_Seal, _Open]]


class ChaChaPoly:
    """``key`` is 32 bytes.

    ``seal(number, plain)`` gives ciphertext and tag, 16 bytes longer than ``plain``, of record ``number``; with the
    same number twice it gives the keystream away: the caller counts. ``open(number, sealed)`` gives the plaintext, or
    None where the tag is wrong.
    """

    __slots__ = ("open", "seal")

    seal: _Seal
    open: _Open

    def __init__(self, key: bytes | bytearray) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError(f"a key of {len(key)} bytes instead of {KEY_SIZE}")
        self.seal, self.open = _backend()(bytes(key))

    def __repr__(self) -> str:
        return "ChaChaPoly()"


@functools.cache
def _backend() -> _Backend:
    """The first that works."""
    return with_cryptography() or with_pycryptodome()


def with_cryptography() -> _Backend | None:
    """None where the package is missing, or its OpenSSL lacks the cipher."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
        from cryptography.hazmat.primitives.poly1305 import Poly1305
    except ImportError:
        return None

    make_tag, nonce = Poly1305.generate_tag, _COUNTER_AND_NONCE.pack

    def begin(key: bytes, number: int) -> Any:
        return Cipher(algorithms.ChaCha20(key, nonce(0, number)), mode=None).encryptor()

    def make(key: bytes) -> tuple[_Seal, _Open]:
        context: Any = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
        if not hasattr(context, "reset_nonce"):
            # Versions before 43 cannot reuse a context.
            return _compose(
                lambda number, data: begin(key, number).update(data),
                lambda stream, text, size: make_tag(stream[:32], text[:size]),
            )
        # Each call of a function of Python costs a packet as much as a pass of the cipher over a small one, so there
        # is none in between.
        restart, update = context.reset_nonce, context.update

        def seal(number: int, plain: bytes) -> bytes:
            restart(nonce(0, number))
            stream = update(_ONE_BLOCK + plain)
            text = stream[64:]
            return text + make_tag(stream[:32], text)  # type: ignore[no-any-return]

        def open_(number: int, sealed: bytes) -> bytes | None:
            size = len(sealed) - TAG_SIZE
            if size < 0:
                return None
            restart(nonce(0, number))
            # That the tag goes through the cipher as well costs less than a copy without it.
            stream = update(_ONE_BLOCK + sealed)
            if not hmac.compare_digest(make_tag(stream[:32], sealed[:size]), sealed[size:]):
                return None
            return stream[64:-TAG_SIZE]  # type: ignore[no-any-return]

        return seal, open_

    try:
        make(bytes(KEY_SIZE))[0](0, b"")
    except UnsupportedAlgorithm:
        return None
    return make


def with_pycryptodome() -> _Backend:
    """What every installation has."""
    from Crypto.Cipher import ChaCha20
    from Crypto.Hash.Poly1305 import Poly1305_MAC

    def tag(stream: bytes, text: bytes, size: int) -> bytes:
        return Poly1305_MAC(stream[:16], stream[16:32], text[:size]).digest()

    return lambda key: _compose(
        lambda number, data: ChaCha20.new(key=key, nonce=_NONCE.pack(number)).encrypt(data), tag
    )


def _compose(crypt: Callable[[int, bytes], bytes], tag: _Tag) -> tuple[_Seal, _Open]:
    """``crypt`` makes a cipher's pass over data by record number, from the first byte of the keystream on."""

    def seal(number: int, plain: bytes) -> bytes:
        stream = crypt(number, _ONE_BLOCK + plain)
        text = stream[64:]
        return text + tag(stream, text, len(text))

    def open_(number: int, sealed: bytes) -> bytes | None:
        size = len(sealed) - TAG_SIZE
        if size < 0:
            return None
        stream = crypt(number, _ONE_BLOCK + sealed[:size])
        return stream[64:] if hmac.compare_digest(tag(stream, sealed, size), sealed[size:]) else None

    return seal, open_
