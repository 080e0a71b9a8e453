from __future__ import annotations

import pytest
from Crypto.PublicKey import RSA

from gmesh.crypto.rsa import HEX_EXPONENT, RsaPrivateKey, RsaPublicKey
from gmesh.errors import KeyFileError
from tests.vectors.legacy import private_key


@pytest.mark.parametrize("bits", [512, 768, 1024, 1032])
def test_generated_keys_have_their_size_and_work(bits: int) -> None:
    key = RsaPrivateKey.generate(bits)
    assert key.public.bits == bits
    assert key.size == key.public.size == bits // 8
    message = bytes([0x7F]) + bytes(range(1, key.size))
    assert key.decrypt(key.public.encrypt(message)) == message
    assert RsaPrivateKey.from_pem(key.to_pem()).decrypt(key.public.encrypt(message)) == message


def test_size_is_rounded_down_to_whole_bytes() -> None:
    assert RsaPrivateKey.generate(519).public.bits == 512


@pytest.mark.parametrize("bits", [0, 504, 511, 8200])
def test_sizes_outside_the_limits_are_refused(bits: int) -> None:
    with pytest.raises(KeyFileError, match="not between 512 and 8192"):
        RsaPrivateKey.generate(bits)


def test_small_results_keep_their_leading_zeros() -> None:
    key = private_key("alice")
    message = bytes(255) + b"\x05"
    encrypted = key.public.encrypt(message)
    assert len(encrypted) == 256
    assert key.decrypt(encrypted) == message


@pytest.mark.parametrize("length", [0, 255, 257])
def test_wrong_lengths_are_refused(length: int) -> None:
    key = private_key("alice")
    with pytest.raises(ValueError, match="length"):
        key.public.encrypt(bytes(length))
    with pytest.raises(ValueError, match="length"):
        key.decrypt(bytes(length))


def test_numbers_above_the_modulus_are_refused() -> None:
    key = private_key("alice")
    with pytest.raises(ValueError, match="below the modulus"):
        key.public.encrypt(b"\xff" * 256)
    with pytest.raises(ValueError, match="below the modulus"):
        key.decrypt(b"\xff" * 256)


def test_pkcs8_and_subject_public_key_info_are_read() -> None:
    key = private_key("alice")
    pkcs8 = RSA.import_key(key.to_pem()).export_key("PEM", pkcs=8).decode()
    assert "BEGIN PRIVATE KEY" in pkcs8
    assert RsaPrivateKey.from_pem(pkcs8).public == key.public
    spki = RSA.import_key(key.to_pem()).public_key().export_key("PEM").decode()
    assert "BEGIN PUBLIC KEY" in spki
    assert RsaPublicKey.from_pem(spki) == key.public


def test_first_usable_block_of_a_host_file_counts() -> None:
    alice, bob = private_key("alice").public, private_key("bob").public
    old = bob.to_pem().replace("RSA", "OLD")
    text = f"Address = example.org\r\n{old}\nSubnet = 10.0.0.0/8\n{alice.to_pem()}{bob.to_pem()}"
    assert RsaPublicKey.from_pem(text) == alice
    assert RsaPublicKey.from_pem(text.replace("\n", "\r\n")) == alice


def test_hex_keys_have_the_exponent_65535() -> None:
    numbers = RSA.generate(1024, e=HEX_EXPONENT)
    public = RsaPublicKey.from_hex(f"{numbers.n:X}")
    assert public.exponent == 0xFFFF
    private = RsaPrivateKey.from_hex(f"{numbers.n:x}", f"{numbers.d:X}")
    message = bytes([1]) + bytes(127)
    assert private.decrypt(public.encrypt(message)) == message


@pytest.mark.parametrize(
    "text",
    ["", "-----BEGIN RSA PUBLIC KEY-----\n", "-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n"],
)
def test_unreadable_public_keys_are_key_file_errors(text: str) -> None:
    with pytest.raises(KeyFileError):
        RsaPublicKey.from_pem(text)


@pytest.mark.parametrize(
    "text",
    ["", "-----BEGIN RSA PRIVATE KEY-----\n!\n-----END RSA PRIVATE KEY-----\n", private_key("bob").public.to_pem()],
)
def test_unreadable_private_keys_are_key_file_errors(text: str) -> None:
    with pytest.raises(KeyFileError):
        RsaPrivateKey.from_pem(text)


@pytest.mark.parametrize("text", ["", "xyz", "0", "ff", "f" * 2050, "12 34"])
def test_bad_hex_keys_are_key_file_errors(text: str) -> None:
    with pytest.raises(KeyFileError):
        RsaPublicKey.from_hex(text)


def test_requirement_9_private_numbers_are_in_no_repr() -> None:
    assert repr(private_key("alice")) == "RsaPrivateKey(2048 bits)"
