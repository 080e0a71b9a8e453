"""Arithmetic of Ed25519's curve: points as 32 bytes, multiplication, and Diffie-Hellman in tinc's form (sptps 6.4).

pycryptodome's C code does the point arithmetic. Conversions from and to bytes are Python integers, so nothing here
claims to take constant time: someone who measures times on this machine to the microsecond is not kept out. Not here:
key formats and signatures (`ed25519.py`).
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Callable
from typing import Any

from Crypto.PublicKey import ECC

FIELD = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
POINT_SIZE = 32
SECRET_SIZE = 32

_MASK = 2**255 - 1
_D = -121665 * pow(121666, -1, FIELD) % FIELD
_SQRT_MINUS_ONE = pow(2, (FIELD - 1) // 4, FIELD)
_BASE_POINT = (
    0x216936D3CD6E53FEC0A4E231FDD6DC5C692CC7609525A7B2C9562D608F25D51A,
    0x6666666666666666666666666666666666666666666666666666666666666658,
)
_ORDER_8_Y = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER_Y = frozenset({0, 1, FIELD - 1, _ORDER_8_Y, FIELD - _ORDER_8_Y})
"""The y coordinates of the eight points whose order divides 8. Multiplied by a clamped scalar they all vanish."""


class BadPoint(ValueError):
    """Bytes that are no point, or one of small order, with which every secret would be the same."""


def point(x: int, y: int) -> Any:
    return ECC.EccPoint(x, y, curve="Ed25519")  # type: ignore[attr-defined]


@functools.cache
def _base() -> Any:
    return point(*_BASE_POINT)


def multiply_base(scalar: int) -> Any:
    """``scalar`` times the base point."""
    return _base() * scalar


def encode(value: Any) -> bytes:
    """The 32 bytes of a point: y little endian, and the lowest bit of x on top."""
    x, y = value.xy
    return (int(y) | (int(x) & 1) << 255).to_bytes(POINT_SIZE, "little")


def decode(data: bytes) -> Any:
    """The point that 32 bytes stand for. Raises BadPoint, also for one of small order."""
    number = int.from_bytes(data, "little")
    y, odd = number & _MASK, number >> 255
    if len(data) != POINT_SIZE or y >= FIELD:
        raise BadPoint("no point of the curve")
    check_order(data)
    square = y * y % FIELD
    numerator, denominator = square - 1, _D * square + 1
    root = pow(numerator * pow(denominator, 7, FIELD), (FIELD - 5) // 8, FIELD)
    x = numerator * pow(denominator, 3, FIELD) * root % FIELD
    if (denominator * x * x - numerator) % FIELD:
        x = x * _SQRT_MINUS_ONE % FIELD
        if (denominator * x * x - numerator) % FIELD:
            raise BadPoint("no point of the curve")
    if x & 1 != odd:
        x = FIELD - x
    return point(x, y)


def check_order(data: bytes) -> None:
    """Raises BadPoint when the 32 bytes are one of the points of small order (requirement 3)."""
    if (int.from_bytes(data, "little") & _MASK) % FIELD in _SMALL_ORDER_Y:
        raise BadPoint("a point of small order")


def to_montgomery(public: bytes) -> bytes:
    """The u coordinate for X25519 of an Edwards point, 32 bytes. Raises BadPoint for small orders."""
    if len(public) != POINT_SIZE:
        raise BadPoint("no point of the curve")
    check_order(public)
    y = int.from_bytes(public, "little") & _MASK
    return ((1 + y) * pow(1 - y, -1, FIELD) % FIELD).to_bytes(POINT_SIZE, "little")


def shared_secret(scalar: bytes | bytearray, public: bytes) -> bytes:
    """The secret of a clamped ``scalar`` and the other end's Edwards point, 32 bytes each (sptps 4.1).

    Raises BadPoint for a point of small order, and where the secret comes out as zero for any other reason.
    """
    try:
        secret = _exchange()(bytes(scalar), to_montgomery(public))
    except BadPoint:
        raise
    except ValueError:
        raise BadPoint("a shared secret of zero") from None
    if hmac.compare_digest(secret, bytes(SECRET_SIZE)):
        raise BadPoint("a shared secret of zero")
    return secret


@functools.cache
def _exchange() -> Callable[[bytes, bytes], bytes]:
    """X25519 of the faster library that is there."""
    try:
        from cryptography.hazmat.primitives.asymmetric import x25519
    except ImportError:
        return exchange_with_pycryptodome

    def exchange(scalar: bytes, u: bytes) -> bytes:
        private = x25519.X25519PrivateKey.from_private_bytes(scalar)
        return private.exchange(x25519.X25519PublicKey.from_public_bytes(u))

    return exchange


def exchange_with_pycryptodome(scalar: bytes, u: bytes) -> bytes:
    """X25519 without the package `cryptography`. Raises ValueError where the result is zero."""
    from Crypto.Protocol import DH

    secret = DH.key_agreement(
        static_priv=DH.import_x25519_private_key(scalar),
        static_pub=DH.import_x25519_public_key(u),
        kdf=lambda shared: shared,
    )
    return bytes(secret)
