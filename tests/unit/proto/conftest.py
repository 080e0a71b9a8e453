from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from Crypto.Math import Primality
from Crypto.PublicKey import RSA

from gmesh.crypto.rsa import RsaPrivateKey


@functools.cache
def _key_of(bits: int) -> RsaPrivateKey:
    while True:
        p = Primality.generate_probable_prime(exact_bits=bits // 2)
        q = Primality.generate_probable_prime(exact_bits=bits - bits // 2)
        modulus, order = int(p * q), int((p - 1) * (q - 1))
        if modulus.bit_length() == bits and order % 65537:
            return RsaPrivateKey(RSA.construct((modulus, 65537, pow(65537, -1, order), int(p), int(q))))


@pytest.fixture
def odd_keys() -> Callable[[int], RsaPrivateKey]:
    """Keys whose size is no whole number of bytes, as other tools can make them."""
    return _key_of
