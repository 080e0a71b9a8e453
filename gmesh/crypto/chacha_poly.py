"""tinc's ChaCha20-Poly1305 (sptps 3), which is older than the AEAD of RFC 8439 and makes other bytes.

The record number is a nonce of 64 bits, the tag covers the ciphertext alone. One object serves one key for both
directions of the transform; the package `cryptography` is used where it is there, for three times the speed. Not here:
record numbers and what is in a record.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Callable
from typing import Any

KEY_SIZE = 32
TAG_SIZE = 16

_ONE_BLOCK = bytes(64)
_COUNTER_0 = bytes(8)

_Crypt = Callable[[bytes, bytes], bytes]
"""A function of a nonce (8 bytes) and data: the data XORed with the keystream from its first byte on."""


class ChaChaPoly:
    """``key`` is 32 bytes. `seal` with the same number twice gives the keystream away: the caller counts."""

    __slots__ = ("_crypt", "_tag")

    def __init__(self, key: bytes | bytearray) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError(f"a key of {len(key)} bytes instead of {KEY_SIZE}")
        make, self._tag = _backend()
        self._crypt: _Crypt = make(bytes(key))

    def __repr__(self) -> str:
        return "ChaChaPoly()"

    def seal(self, number: int, plain: bytes) -> bytes:
        """Ciphertext and tag, 16 bytes longer than ``plain``, of record ``number``."""
        # Block 0 is the key of the tag; the text begins with block 1. One call for both is cheaper than two.
        stream = self._crypt(number.to_bytes(8, "big"), _ONE_BLOCK + plain)
        text = stream[64:]
        return text + self._tag(stream[:32], text)

    def open(self, number: int, sealed: bytes) -> bytes | None:
        """The plaintext, or None where the tag is wrong."""
        text = sealed[:-TAG_SIZE]
        stream = self._crypt(number.to_bytes(8, "big"), _ONE_BLOCK + text)
        if not hmac.compare_digest(self._tag(stream[:32], text), sealed[-TAG_SIZE:]):
            return None
        return stream[64:]


_Backend = tuple[Callable[[bytes], _Crypt], Callable[[bytes, bytes], bytes]]


@functools.cache
def _backend() -> _Backend:
    """The first that works: it makes keystreams of a key, and tags of a one-time key."""
    return _with_cryptography() or with_pycryptodome()


def _with_cryptography() -> _Backend | None:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
        from cryptography.hazmat.primitives.poly1305 import Poly1305
    except ImportError:
        return None

    def keystreams(key: bytes) -> _Crypt:
        context: Any = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
        if not hasattr(context, "reset_nonce"):
            # Versions before 43 cannot reuse a context.
            return begin(key)
        reset, update = context.reset_nonce, context.update

        def crypt(nonce: bytes, data: bytes) -> bytes:
            reset(_COUNTER_0 + nonce)
            return update(data)  # type: ignore[no-any-return]

        return crypt

    def begin(key: bytes) -> _Crypt:
        return lambda nonce, data: (
            Cipher(algorithms.ChaCha20(key, _COUNTER_0 + nonce), mode=None).encryptor().update(data)
        )

    try:
        keystreams(bytes(KEY_SIZE))(bytes(8), b"")
        Poly1305.generate_tag(bytes(KEY_SIZE), b"")
    except UnsupportedAlgorithm:
        return None
    return keystreams, Poly1305.generate_tag


def with_pycryptodome() -> _Backend:
    """What every installation has."""
    from Crypto.Cipher import ChaCha20
    from Crypto.Hash.Poly1305 import Poly1305_MAC

    def keystreams(key: bytes) -> _Crypt:
        return lambda nonce, data: ChaCha20.new(key=key, nonce=nonce).encrypt(data)

    def tag(key: bytes, text: bytes) -> bytes:
        return Poly1305_MAC(key[:16], key[16:], text).digest()

    return keystreams, tag
