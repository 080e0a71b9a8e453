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

_Keystream = Callable[[bytes], bytes]


class ChaChaPoly:
    """``key`` is 32 bytes. `seal` with the same number twice gives the keystream away: the caller counts."""

    __slots__ = ("_start", "_tag")

    def __init__(self, key: bytes | bytearray) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError(f"a key of {len(key)} bytes instead of {KEY_SIZE}")
        make, self._tag = _backend()
        self._start: Callable[[bytes], _Keystream] = make(bytes(key))

    def __repr__(self) -> str:
        return "ChaChaPoly()"

    def seal(self, number: int, plain: bytes) -> bytes:
        """Ciphertext and tag, 16 bytes longer than ``plain``, of record ``number``."""
        crypt = self._start(number.to_bytes(8, "big"))
        # Block 0 is the key of the tag; the text begins with block 1.
        one_time = crypt(_ONE_BLOCK)
        text = crypt(plain)
        return text + self._tag(one_time[:32], text)

    def open(self, number: int, sealed: bytes) -> bytes | None:
        """The plaintext, or None where the tag is wrong; the tag is compared before anything is decrypted."""
        text = sealed[:-TAG_SIZE]
        crypt = self._start(number.to_bytes(8, "big"))
        one_time = crypt(_ONE_BLOCK)
        if not hmac.compare_digest(self._tag(one_time[:32], text), sealed[-TAG_SIZE:]):
            return None
        return crypt(text)


_Backend = tuple[Callable[[bytes], Callable[[bytes], _Keystream]], Callable[[bytes, bytes], bytes]]


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

    def keystreams(key: bytes) -> Callable[[bytes], _Keystream]:
        context: Any = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()

        def restart(nonce: bytes) -> _Keystream:
            context.reset_nonce(_COUNTER_0 + nonce)
            return context.update  # type: ignore[no-any-return]

        def begin(nonce: bytes) -> _Keystream:
            return Cipher(algorithms.ChaCha20(key, _COUNTER_0 + nonce), mode=None).encryptor().update

        # Versions before 43 cannot reuse a context.
        return restart if hasattr(context, "reset_nonce") else begin

    try:
        keystreams(bytes(KEY_SIZE))(bytes(8))
        Poly1305.generate_tag(bytes(KEY_SIZE), b"")
    except UnsupportedAlgorithm:
        return None
    return keystreams, Poly1305.generate_tag


def with_pycryptodome() -> _Backend:
    """What every installation has."""
    from Crypto.Cipher import ChaCha20
    from Crypto.Hash.Poly1305 import Poly1305_MAC

    def keystreams(key: bytes) -> Callable[[bytes], _Keystream]:
        return lambda nonce: ChaCha20.new(key=key, nonce=nonce).encrypt

    def tag(key: bytes, text: bytes) -> bytes:
        return Poly1305_MAC(key[:16], key[16:], text).digest()

    return keystreams, tag
