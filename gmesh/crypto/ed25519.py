"""Ed25519 in tinc's form: expanded keys, as bytes and as text, and their signatures (sptps 6.1 to 6.3, 8; config 5).

No library signs with an expanded key, as its seed is gone, so signing is put together from SHA-512 and a multiplication
with the base point. The latter is pycryptodome's C code, the rest Python integers: it is **not** constant time, and a
signature is made once per handshake only. Not here: files, the curve itself (`curve.py`).
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from collections.abc import Callable

from gmesh.crypto import base64, curve
from gmesh.errors import KeyFileError

SEED_SIZE = 32
PRIVATE_SIZE = 64
PUBLIC_SIZE = 32
PUBLIC_TEXT_LENGTH = 43
SIGNATURE_SIZE = 64
_PEM_LINE_BYTES = 48

_PRIVATE_LABEL = "ED25519 PRIVATE KEY"
_PUBLIC_LABEL = "ED25519 PUBLIC KEY"


class Ed25519PrivateKey:
    """``expanded`` is the scalar (32 bytes, little endian, clamped) and the prefix, ``public`` the 32 public bytes."""

    __slots__ = ("expanded", "public")

    def __init__(self, expanded: bytes) -> None:
        """Raises KeyFileError unless ``expanded`` is 64 bytes whose scalar is clamped."""
        if len(expanded) != PRIVATE_SIZE:
            raise KeyFileError(f"an Ed25519 private key of {len(expanded)} bytes instead of {PRIVATE_SIZE}")
        if expanded[0] & 7 or expanded[31] & 0xC0 != 0x40:
            raise KeyFileError("the scalar of the Ed25519 private key is not a clamped one")
        self.expanded = expanded
        self.public = curve.encode(curve.multiply_base(int.from_bytes(expanded[:32], "little")))

    @classmethod
    def from_seed(cls, seed: bytes) -> Ed25519PrivateKey:
        """Make a key from 32 random bytes, which cannot be recovered from it."""
        if len(seed) != SEED_SIZE:
            raise ValueError(f"a seed of {len(seed)} bytes instead of {SEED_SIZE}")
        expanded = bytearray(hashlib.sha512(seed).digest())
        expanded[0] &= 248
        expanded[31] &= 63
        expanded[31] |= 64
        return cls(bytes(expanded))

    @classmethod
    def from_pem(cls, text: str) -> Ed25519PrivateKey:
        """Read the first private block of ``text``. Raises KeyFileError, also when the public half does not belong."""
        body = _decode_pem(text, _PRIVATE_LABEL, PRIVATE_SIZE + PUBLIC_SIZE)
        key = cls(body[:PRIVATE_SIZE])
        if body[PRIVATE_SIZE:] != key.public:
            raise KeyFileError("the public half of the Ed25519 private key does not belong to it")
        return key

    def to_pem(self) -> str:
        """tinc's PEM-like text, with a newline at the end."""
        return _encode_pem(self.expanded + self.public, _PRIVATE_LABEL)

    @property
    def scalar(self) -> bytes:
        """The clamped scalar, 32 bytes little endian, as Diffie-Hellman takes it."""
        return self.expanded[:32]

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes, the same that RFC 8032 makes of the seed (sptps 6.2)."""
        nonce = _hash_to_scalar(self.expanded[32:], message)
        commitment = curve.encode(curve.multiply_base(nonce))
        challenge = _hash_to_scalar(commitment, self.public, message)
        answer = (nonce + challenge * int.from_bytes(self.scalar, "little")) % curve.ORDER
        return commitment + answer.to_bytes(32, "little")

    def __repr__(self) -> str:
        return f"Ed25519PrivateKey(public={public_to_text(self.public)})"


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the owner of ``public`` signed ``message``, by the plain equation without cofactor (sptps 6.3).

    False for anything malformed, and for a public key of small order, for which anybody could sign (requirement 3).
    """
    if len(signature) != SIGNATURE_SIZE:
        return False
    try:
        curve.check_order(public)
        return _verifier()(public, message, signature)
    except curve.BadPoint:
        return False


@functools.cache
def _verifier() -> Callable[[bytes, bytes, bytes], bool]:
    """The faster library's verification, where there is one."""
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        Ed25519PublicKey.from_public_bytes(curve.encode(curve.multiply_base(1)))
    except (ImportError, UnsupportedAlgorithm):
        return verify_with_pycryptodome

    def check(public: bytes, message: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        except (ValueError, InvalidSignature):
            return False
        return True

    return check


def verify_with_pycryptodome(public: bytes, message: bytes, signature: bytes) -> bool:
    """The verification where the package `cryptography` is missing: a few milliseconds. Raises curve.BadPoint."""
    answer = int.from_bytes(signature[32:], "little")
    if answer >= curve.ORDER:
        return False
    key = curve.decode(public)
    challenge = _hash_to_scalar(signature[:32], public, message)
    commitment = curve.multiply_base(answer) + -key * challenge
    return hmac.compare_digest(curve.encode(commitment), signature[:32])


def public_to_text(public: bytes) -> str:
    """The value of the option Ed25519PublicKey: 43 characters."""
    return base64.encode(public)


def public_from_text(text: str) -> bytes:
    """The 32 bytes of an option Ed25519PublicKey. Raises KeyFileError unless it is 43 characters of base64."""
    if len(text) != PUBLIC_TEXT_LENGTH:
        raise KeyFileError(f"an Ed25519 public key of {len(text)} characters instead of {PUBLIC_TEXT_LENGTH}")
    try:
        return base64.decode(text)
    except ValueError as error:
        raise KeyFileError(f"the Ed25519 public key has {error}") from None


def require_usable(public: bytes) -> None:
    """Raises KeyFileError unless the 32 bytes are a point that a key can be: on the curve and of no small order."""
    try:
        curve.decode(public)
    except curve.BadPoint as error:
        raise KeyFileError(f"the Ed25519 public key is {error}") from None


def public_to_pem(public: bytes) -> str:
    """tinc's PEM-like text of a public key, with a newline at the end."""
    return _encode_pem(public, _PUBLIC_LABEL)


def public_from_pem(text: str) -> bytes:
    """The 32 bytes of the first public block of ``text``. Raises KeyFileError."""
    return _decode_pem(text, _PUBLIC_LABEL, PUBLIC_SIZE)


def _hash_to_scalar(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % curve.ORDER


def _encode_pem(data: bytes, label: str) -> str:
    lines = [base64.encode(data[i : i + _PEM_LINE_BYTES]) for i in range(0, len(data), _PEM_LINE_BYTES)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def _decode_pem(text: str, label: str, size: int) -> bytes:
    match = re.search(rf"^-----BEGIN {label}-----\r?\n(.*?)^-----END {label}-----", text, re.MULTILINE | re.DOTALL)
    if match is None:
        raise KeyFileError(f"no {label.lower().replace('ed25519', 'Ed25519')} in PEM form")
    try:
        data = b"".join(base64.decode(line) for line in match[1].split())
    except ValueError as error:
        raise KeyFileError(f"the {label.lower().replace('ed25519', 'Ed25519')} has {error}") from None
    if len(data) != size:
        raise KeyFileError(f"the key in PEM form has {len(data)} bytes instead of {size}")
    return data
