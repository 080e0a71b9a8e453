"""Keys in the files (config 5): where they are looked for, and what is said when they cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from Crypto.PublicKey import RSA

from gmesh.config.directory import Directory
from gmesh.config.keys import load_private_ed25519, load_private_rsa
from gmesh.crypto.ed25519 import Ed25519PrivateKey, public_to_pem, public_to_text
from gmesh.crypto.rsa import RsaPrivateKey, RsaPublicKey
from gmesh.errors import KeyFileError
from tests.unit.config.net_directory import make, server

ED25519 = Ed25519PrivateKey.from_seed(bytes(range(32)))


@pytest.fixture(scope="module")
def rsa() -> RsaPrivateKey:
    return RsaPrivateKey.generate(1024)


@pytest.fixture(scope="module")
def other() -> RsaPrivateKey:
    return RsaPrivateKey.generate(1024)


def public_of(base: Path, text: str, **files: str) -> RsaPublicKey:
    make(base, {"hosts/b": text, **files})
    return Directory(base).host("b").rsa_public_key()


def test_private_key_in_the_usual_place(tmp_path: Path, rsa: RsaPrivateKey) -> None:
    ours = server(tmp_path, files={"rsa_key.priv": "a word before\n" + rsa.to_pem()})
    assert load_private_rsa(ours).public == rsa.public


def test_private_key_elsewhere(tmp_path: Path, rsa: RsaPrivateKey) -> None:
    ours = server(tmp_path, "Name = a\nPrivateKeyFile = k/x.pem\n", files={"k/x.pem": rsa.to_pem()})
    assert load_private_rsa(ours).public == rsa.public


def test_private_key_in_pkcs8(tmp_path: Path, rsa: RsaPrivateKey) -> None:
    text = RSA.import_key(rsa.to_pem()).export_key("PEM", pkcs=8).decode()
    assert load_private_rsa(server(tmp_path, files={"rsa_key.priv": text})).public == rsa.public


def test_inline_private_key(tmp_path: Path) -> None:
    exponent = 0xFFFF
    while True:
        try:
            key = RSA.generate(1024, e=exponent)
            break
        except ValueError:  # the exponent 65535 = 3 * 5 * 17 * 257 does not fit every pair of primes
            continue
    ours = server(tmp_path, f"Name = a\nPrivateKey = {key.d:X}\n", f"PublicKey = {key.n:X}\n")
    assert load_private_rsa(ours).public.modulus == key.n
    assert ours.rsa_public_key().modulus == key.n


def test_inline_private_key_without_the_public_one(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no PublicKey"):
        load_private_rsa(server(tmp_path, "Name = a\nPrivateKey = AB\n"))


def test_missing_private_key_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError) as caught:
        load_private_rsa(server(tmp_path))
    assert f"`{tmp_path}/rsa_key.priv': No such file or directory" in str(caught.value)
    assert f"`gmesh-keygen -c {tmp_path}'" in str(caught.value)


@pytest.mark.parametrize("text", ["", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"])
def test_broken_private_key_names_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(KeyFileError, match=r"rsa_key\.priv"):
        load_private_rsa(server(tmp_path, files={"rsa_key.priv": text}))


def test_public_key_in_the_host_file(tmp_path: Path, rsa: RsaPrivateKey, other: RsaPrivateKey) -> None:
    text = "Port = 1\n" + rsa.public.to_pem() + other.public.to_pem() + "Weight = 5\n"
    assert public_of(tmp_path, text) == rsa.public
    assert Directory(tmp_path).host("b").weight == 5


def test_public_key_with_crlf_and_a_mark(tmp_path: Path, rsa: RsaPrivateKey) -> None:
    assert public_of(tmp_path, "\ufeffPort = 1\r\n" + rsa.public.to_pem().replace("\n", "\r\n")) == rsa.public


def test_public_key_as_subject_public_key_info(tmp_path: Path, rsa: RsaPrivateKey) -> None:
    text = RSA.import_key(rsa.to_pem()).public_key().export_key("PEM").decode() + "\n"
    assert "BEGIN PUBLIC KEY" in text
    assert public_of(tmp_path, text) == rsa.public


def test_old_keys_are_passed_over(tmp_path: Path, rsa: RsaPrivateKey, other: RsaPrivateKey) -> None:
    tinc_1_0 = other.public.to_pem().replace("RSA", "OLD")
    tinc_1_1 = "".join(f"#{line}\n" for line in other.public.to_pem().splitlines())
    assert public_of(tmp_path, tinc_1_0 + tinc_1_1 + rsa.public.to_pem()) == rsa.public


def test_public_key_in_a_file_of_its_own_wins_over_the_block(
    tmp_path: Path, rsa: RsaPrivateKey, other: RsaPrivateKey
) -> None:
    text = "PublicKeyFile = b.pub\n" + other.public.to_pem()
    assert public_of(tmp_path, text, **{"b.pub": rsa.public.to_pem()}) == rsa.public


def test_no_public_key(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"No RSA public key in .*/hosts/b"):
        public_of(tmp_path, "Port = 1\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Port = 1\n-----BEGIN RSA PUBLIC KEY-----\nnonsense\n-----END RSA PUBLIC KEY-----\n", "hosts/b line 2"),
        ("PublicKeyFile = nope\n", "nope"),
        ("PublicKey = 12\n", "PublicKey in .*hosts/b"),
    ],
)
def test_unusable_public_keys(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(KeyFileError, match=message):
        public_of(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        f"Ed25519PublicKey = {public_to_text(ED25519.public)}\n",
        public_to_pem(ED25519.public),
        "Ed25519PublicKeyFile = b.ed\n",
    ],
)
def test_ed25519_public_key(tmp_path: Path, text: str) -> None:
    make(tmp_path, {"hosts/b": text, "b.ed": public_to_pem(ED25519.public)})
    assert Directory(tmp_path).host("b").ed25519_public_key() == ED25519.public


def test_no_ed25519_public_key(tmp_path: Path) -> None:
    assert Directory(make(tmp_path, {"hosts/b": ""})).host("b").ed25519_public_key() is None


@pytest.mark.parametrize("value", ["short", "é" * 43])
def test_bad_ed25519_public_key(tmp_path: Path, value: str) -> None:
    with pytest.raises(KeyFileError, match="hosts/b"):
        Directory(make(tmp_path, {"hosts/b": f"Ed25519PublicKey = {value}\n"})).host("b").ed25519_public_key()


def test_ed25519_private_key(tmp_path: Path) -> None:
    assert load_private_ed25519(server(tmp_path)) is None
    loaded = load_private_ed25519(server(tmp_path, files={"ed25519_key.priv": ED25519.to_pem()}))
    assert loaded is not None
    assert loaded.public == ED25519.public
    with pytest.raises(KeyFileError, match=r"ed25519_key\.priv"):
        load_private_ed25519(server(tmp_path, files={"ed25519_key.priv": "x"}))
