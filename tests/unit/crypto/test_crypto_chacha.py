"""The record cipher: both libraries make the same bytes, and nothing that was changed opens."""

from __future__ import annotations

import pytest

from gmesh.crypto import chacha_poly
from gmesh.crypto.chacha_poly import ChaChaPoly

KEY = bytes(range(32))
NUMBERS = (0, 1, 2**32 - 1, 2**63)


def with_pycryptodome(monkeypatch: pytest.MonkeyPatch) -> ChaChaPoly:
    monkeypatch.setattr(chacha_poly, "_backend", chacha_poly.with_pycryptodome)
    return ChaChaPoly(KEY)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 63, 64, 65, 1421, 65536])
def test_libraries_agree(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    preferred = ChaChaPoly(KEY)
    other = with_pycryptodome(monkeypatch)
    plain = bytes(number % 251 for number in range(size))
    for number in NUMBERS:
        sealed = preferred.seal(number, plain)
        assert len(sealed) == size + chacha_poly.TAG_SIZE
        assert other.seal(number, plain) == sealed
        assert other.open(number, sealed) == preferred.open(number, sealed) == plain


def test_records_are_independent_of_the_order() -> None:
    cipher = ChaChaPoly(KEY)
    sealed = [cipher.seal(number, b"x" * number) for number in range(20)]
    for number in (3, 3, 19, 0, 7):
        assert cipher.open(number, sealed[number]) == b"x" * number


@pytest.mark.parametrize("library", ["preferred", "pycryptodome"])
def test_nothing_changed_opens(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cipher = ChaChaPoly(KEY) if library == "preferred" else with_pycryptodome(monkeypatch)
    sealed = cipher.seal(7, b"some text")
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        assert cipher.open(7, bytes(changed)) is None
    assert cipher.open(8, sealed) is None
    assert cipher.open(7, sealed[:-1]) is None
    assert cipher.open(7, b"") is None
    assert cipher.open(7, sealed) == b"some text"


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_key_size(size: int) -> None:
    with pytest.raises(ValueError, match="key of"):
        ChaChaPoly(bytes(size))


def test_repr_has_no_key() -> None:
    assert repr(ChaChaPoly(KEY)) == "ChaChaPoly()"
