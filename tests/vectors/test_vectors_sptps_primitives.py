"""Recorded signatures, secrets, key expansions and sealed records."""

from __future__ import annotations

from typing import Any

import pytest

from gmesh.crypto import chacha_poly, curve, ed25519
from gmesh.crypto.prf import expand
from tests.vectors.legacy import load

PRIMITIVES: dict[str, Any] = load("sptps-primitives")


@pytest.mark.parametrize("number", range(len(PRIMITIVES["signatures"])))
def test_signatures(number: int) -> None:
    recorded = PRIMITIVES["signatures"][number]
    key = ed25519.Ed25519PrivateKey(bytes.fromhex(PRIMITIVES["keys"][recorded["key"]]["private_expanded"]))
    message, signature = bytes.fromhex(recorded["message"]), bytes.fromhex(recorded["signature"])
    assert key.sign(message) == signature
    assert ed25519.verify(key.public, message, signature)


@pytest.mark.parametrize("number", range(len(PRIMITIVES["ecdh"])))
def test_secrets(number: int) -> None:
    recorded = PRIMITIVES["ecdh"][number]
    scalar = bytes.fromhex(recorded["private_expanded"])[:32]
    public, secret = bytes.fromhex(recorded["peer_public"]), bytes.fromhex(recorded["secret"])
    assert curve.shared_secret(scalar, public) == secret
    assert curve.exchange_with_pycryptodome(scalar, curve.to_montgomery(public)) == secret


@pytest.mark.parametrize("number", range(len(PRIMITIVES["prf"])))
def test_key_expansion(number: int) -> None:
    recorded = PRIMITIVES["prf"][number]
    output = expand(bytes.fromhex(recorded["secret"]), bytes.fromhex(recorded["seed"]), recorded["length"])
    assert output.hex() == recorded["output"]


@pytest.mark.parametrize("library", ["preferred", "pycryptodome"])
@pytest.mark.parametrize("number", range(len(PRIMITIVES["cipher"])))
def test_sealed_records(number: int, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "pycryptodome":
        monkeypatch.setattr(chacha_poly, "_backend", chacha_poly.with_pycryptodome)
    recorded = PRIMITIVES["cipher"][number]
    cipher = chacha_poly.ChaChaPoly(bytes.fromhex(recorded["key_block"])[:32])
    plain, sealed = bytes.fromhex(recorded["plaintext"]), bytes.fromhex(recorded["sealed"])
    assert cipher.seal(recorded["number"], plain) == sealed
    assert cipher.open(recorded["number"], sealed) == plain
    assert cipher.open(recorded["number"] + 1, sealed) is None
