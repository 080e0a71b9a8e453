"""The key expansion against the standard's own construction."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from gmesh.crypto.prf import expand


def reference(secret: bytes, seed: bytes, blocks: int) -> bytes:
    chain, output = bytes(64), b""
    for _ in range(blocks + 1):
        chain = hmac.new(secret, chain + seed, hashlib.sha512).digest()
        output += chain
    return output[64:]


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 128, 300])
def test_any_length(length: int) -> None:
    assert expand(b"secret", b"seed", length) == reference(b"secret", b"seed", 5)[:length]


def test_output_can_be_cleared() -> None:
    output = expand(bytearray(b"secret"), b"seed", 128)
    output[:] = bytes(128)
    assert output == bytes(128)
