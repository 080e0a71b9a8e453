"""Recorded keys and base64 pairs."""

from __future__ import annotations

from typing import Any

import pytest

from gmesh.crypto import base64, ed25519
from gmesh.crypto.rsa import RsaPrivateKey, RsaPublicKey
from tests.vectors.legacy import load

ED25519_KEYS: dict[str, Any] = load("sptps-primitives")["keys"]


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_rsa_keys(name: str) -> None:
    recorded = load("legacy-keys")["keys"][name]
    private = RsaPrivateKey.from_pem(recorded["private_pem"])
    public = RsaPublicKey.from_pem(recorded["public_pem"])
    assert private.public == public
    assert (public.bits, public.size) == (2048, 256)
    assert private.to_pem() == recorded["private_pem"]
    assert public.to_pem().startswith("-----BEGIN RSA PUBLIC KEY-----\n")
    assert RsaPublicKey.from_pem(public.to_pem()) == public


@pytest.mark.parametrize("pair", load("sptps-base64"), ids=lambda pair: pair["base64"][:12] or "empty")
def test_base64(pair: dict[str, str]) -> None:
    data = bytes.fromhex(pair["hex"])
    assert base64.encode(data) == pair["base64"]
    assert base64.encode(data, url_safe=True) == pair["base64_url"]
    assert base64.decode(pair["base64"]) == data
    assert base64.decode(pair["base64_url"]) == data


@pytest.mark.parametrize("name", ED25519_KEYS)
def test_ed25519_keys(name: str) -> None:
    recorded = ED25519_KEYS[name]
    key = ed25519.Ed25519PrivateKey.from_seed(bytes.fromhex(recorded["seed"]))
    assert key.expanded.hex() == recorded["private_expanded"]
    assert key.public.hex() == recorded["public"]
    assert key.to_pem() == recorded["private_pem"]
    assert ed25519.Ed25519PrivateKey.from_pem(recorded["private_pem"]).expanded == key.expanded
    assert ed25519.public_to_text(key.public) == recorded["public_base64"]
    assert ed25519.public_from_text(recorded["public_base64"]) == key.public
    assert ed25519.public_to_pem(key.public) == recorded["public_pem"]
    assert ed25519.public_from_pem(recorded["public_pem"]) == key.public
