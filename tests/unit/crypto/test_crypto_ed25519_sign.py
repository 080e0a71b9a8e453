"""Signatures with expanded keys: what verifies, and what does not in either library."""

from __future__ import annotations

import hashlib

import pytest

from gmesh.crypto import curve, ed25519
from gmesh.crypto.ed25519 import Ed25519PrivateKey

KEY = Ed25519PrivateKey.from_seed(hashlib.sha256(b"signer").digest())
MESSAGE = b"what is signed"
SIGNATURE = KEY.sign(MESSAGE)


@pytest.fixture(params=["preferred", "pycryptodome"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pycryptodome":
        monkeypatch.setattr(ed25519, "_verifier", lambda: ed25519.verify_with_pycryptodome)


def test_own_signature_verifies() -> None:
    assert ed25519.verify(KEY.public, MESSAGE, SIGNATURE)


def test_is_what_the_library_makes_of_the_seed() -> None:
    from Crypto.PublicKey import ECC
    from Crypto.Signature import eddsa

    seed = hashlib.sha256(b"signer").digest()
    assert eddsa.new(ECC.construct(curve="Ed25519", seed=seed), "rfc8032").sign(MESSAGE) == SIGNATURE


@pytest.mark.parametrize("bit", range(0, 512, 37))
def test_a_changed_bit_does_not(bit: int) -> None:
    changed = bytearray(SIGNATURE)
    changed[bit // 8] ^= 1 << bit % 8
    assert not ed25519.verify(KEY.public, MESSAGE, bytes(changed))


def test_another_message_or_key_does_not() -> None:
    other = Ed25519PrivateKey.from_seed(bytes(32))
    assert not ed25519.verify(KEY.public, MESSAGE + b"!", SIGNATURE)
    assert not ed25519.verify(other.public, MESSAGE, SIGNATURE)


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_other_sizes_do_not(size: int) -> None:
    assert not ed25519.verify(KEY.public, MESSAGE, (SIGNATURE + b"!")[:size])


@pytest.mark.parametrize("size", [0, 31, 33])
def test_public_keys_of_other_sizes_do_not(size: int) -> None:
    assert not ed25519.verify((KEY.public + b"!")[:size], MESSAGE, SIGNATURE)


def test_an_answer_above_the_order_does_not() -> None:
    answer = int.from_bytes(SIGNATURE[32:], "little") + curve.ORDER
    assert not ed25519.verify(KEY.public, MESSAGE, SIGNATURE[:32] + answer.to_bytes(32, "little"))


def test_requirement_3_a_public_key_of_small_order_signs_nothing() -> None:
    # With the identity as key, R = S * B is a signature of anything.
    identity = (1).to_bytes(32, "little")
    forged = curve.encode(curve.multiply_base(5)) + (5).to_bytes(32, "little")
    assert not ed25519.verify(identity, MESSAGE, forged)


def test_repr_has_no_secret() -> None:
    assert KEY.expanded.hex() not in repr(KEY)
    assert repr(KEY) == f"Ed25519PrivateKey(public={ed25519.public_to_text(KEY.public)})"
