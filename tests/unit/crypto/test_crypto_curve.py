"""Points of small order are known and refused, and the two libraries agree."""

from __future__ import annotations

import hashlib

import pytest

from gmesh.crypto import curve
from gmesh.crypto.ed25519 import Ed25519PrivateKey

D = -121665 * pow(121666, -1, curve.FIELD) % curve.FIELD


def root(value: int) -> int | None:
    value %= curve.FIELD
    candidate = pow(value, (curve.FIELD + 3) // 8, curve.FIELD)
    for factor in (1, pow(2, (curve.FIELD - 1) // 4, curve.FIELD)):
        if (candidate * factor) ** 2 % curve.FIELD == value:
            return candidate * factor % curve.FIELD
    return None


def small_order_ys() -> set[int]:
    """From the equations: orders 1, 2, 4 (y = 0), and 8, whose double has y = 0: d y^4 + 2 y^2 = 1."""
    ys = {0, 1, curve.FIELD - 1}
    discriminant = root(1 + D)
    assert discriminant is not None
    for sign in (1, -1):
        y = root((sign * discriminant - 1) * pow(D, -1, curve.FIELD))
        if y is not None:
            ys |= {y, curve.FIELD - y}
    return ys


def encodings() -> list[bytes]:
    """All that stand for these points: either sign, and y above the field where it fits."""
    below = small_order_ys()
    ys = below | {y + curve.FIELD for y in below if y + curve.FIELD < 2**255}
    return [(y | sign << 255).to_bytes(32, "little") for y in sorted(ys) for sign in (0, 1)]


def test_there_are_five_such_ys() -> None:
    assert len(small_order_ys()) == 5


@pytest.mark.parametrize("public", encodings(), ids=lambda public: public.hex()[:16] + public.hex()[-4:])
def test_requirement_3_small_order_points_are_refused(public: bytes) -> None:
    scalar = Ed25519PrivateKey.from_seed(bytes(32)).scalar
    with pytest.raises(curve.BadPoint):
        curve.shared_secret(scalar, public)
    with pytest.raises(curve.BadPoint):
        curve.decode(public)


def test_requirement_3_a_secret_of_zero_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Points of the twist come here too: what counts is the result.
    scalar = Ed25519PrivateKey.from_seed(bytes(32)).scalar
    monkeypatch.setattr(curve, "to_montgomery", lambda public: bytes(32))
    with pytest.raises(curve.BadPoint):
        curve.shared_secret(scalar, bytes(32))
    with pytest.raises(ValueError):  # noqa: PT011
        curve.exchange_with_pycryptodome(scalar, bytes(32))


@pytest.mark.parametrize("number", range(20))
def test_libraries_agree_and_points_survive_decoding(number: int) -> None:
    mine, theirs = (Ed25519PrivateKey.from_seed(hashlib.sha256(bytes([number, end])).digest()) for end in (0, 1))
    secret = curve.shared_secret(mine.scalar, theirs.public)
    assert secret == curve.shared_secret(theirs.scalar, mine.public)
    assert secret == curve.exchange_with_pycryptodome(mine.scalar, curve.to_montgomery(theirs.public))
    assert curve.encode(curve.decode(mine.public)) == mine.public


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(33), (2).to_bytes(32, "little")])
def test_no_points(public: bytes) -> None:
    with pytest.raises(curve.BadPoint):
        curve.decode(public)
