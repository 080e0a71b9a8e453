"""Tags by the OpenSSL of hashlib: the same as everybody's, and None where it cannot be had."""

from __future__ import annotations

import ctypes
import os

import pytest

from gmesh.crypto import openssl_poly1305
from gmesh.crypto.chacha_poly import ChaChaPoly, with_cryptography, with_pycryptodome
from gmesh.crypto.openssl_poly1305 import make_tag

poly1305 = pytest.importorskip("cryptography.hazmat.primitives.poly1305")


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1401, 65536])
def test_tags_agree(size: int) -> None:
    tag = make_tag()
    if tag is None:
        pytest.skip("this Python's OpenSSL is not to be had")
    for _ in range(20):
        key, text = os.urandom(32), os.urandom(size)
        assert tag(key + b"more", text + b"more", size) == poly1305.Poly1305.generate_tag(key, text)


class Library:
    """Has none of the functions."""

    def __init__(self, name: str) -> None:
        pass


def test_without_the_functions_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "PyDLL", Library)
    assert make_tag() is None


def test_a_function_that_makes_wrong_tags_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openssl_poly1305, "_SAMPLE_TAG", bytes(16))
    assert make_tag() is None


def test_ciphers_with_and_without_it_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    key = bytes(range(32))
    monkeypatch.setattr(openssl_poly1305, "make_tag", lambda: None)
    make = with_cryptography()
    assert make is not None
    seal, open_ = make(key)
    for number in (0, 1, 2**32 - 1):
        sealed = seal(number, b"some text")
        assert sealed == ChaChaPoly(key).seal(number, b"some text") == with_pycryptodome()(key)[0](number, b"some text")
        assert open_(number, sealed) == b"some text"
        assert open_(number, sealed[:-1] + b"x") is None
