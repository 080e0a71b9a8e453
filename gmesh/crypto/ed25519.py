"""Ed25519 keys in tinc's expanded form, as bytes and as text (sptps 6.1, 8; config 5).

The multiplication with the base point is done by pycryptodome's C code. Not here: signatures, files.
"""

from __future__ import annotations

import hashlib
import re

from Crypto.PublicKey import ECC

from gmesh.crypto import base64
from gmesh.errors import KeyFileError

SEED_SIZE = 32
PRIVATE_SIZE = 64
PUBLIC_SIZE = 32
PUBLIC_TEXT_LENGTH = 43
_PEM_LINE_BYTES = 48

_PRIVATE_LABEL = "ED25519 PRIVATE KEY"
_PUBLIC_LABEL = "ED25519 PUBLIC KEY"
_BASE_POINT = (
    0x216936D3CD6E53FEC0A4E231FDD6DC5C692CC7609525A7B2C9562D608F25D51A,
    0x6666666666666666666666666666666666666666666666666666666666666658,
)


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
        self.public = _public_from_scalar(int.from_bytes(expanded[:32], "little"))

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

    def __repr__(self) -> str:
        return f"Ed25519PrivateKey(public={public_to_text(self.public)})"


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


def public_to_pem(public: bytes) -> str:
    """tinc's PEM-like text of a public key, with a newline at the end."""
    return _encode_pem(public, _PUBLIC_LABEL)


def public_from_pem(text: str) -> bytes:
    """The 32 bytes of the first public block of ``text``. Raises KeyFileError."""
    return _decode_pem(text, _PUBLIC_LABEL, PUBLIC_SIZE)


def _public_from_scalar(scalar: int) -> bytes:
    x, y = (ECC.EccPoint(*_BASE_POINT, curve="Ed25519") * scalar).xy  # type: ignore[attr-defined]
    return (int(y) | (int(x) & 1) << 255).to_bytes(PUBLIC_SIZE, "little")


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
