"""Keys that nodes tell us are appended to host files, and to nothing else (requirements 4 and 30)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gmesh.config.directory import Directory
from gmesh.config.learned import store_public_key
from gmesh.crypto.ed25519 import Ed25519PrivateKey, public_to_pem, public_to_text
from gmesh.errors import ConfigError
from tests.vectors.legacy import private_key

PUBLIC = Ed25519PrivateKey.from_seed(b"p" * 32).public
OTHER = Ed25519PrivateKey.from_seed(b"o" * 32).public
PEM = private_key("bob").public.to_pem()


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    (tmp_path / "hosts").mkdir()
    return Directory(tmp_path)


@pytest.mark.parametrize("before", [PEM, PEM.rstrip("\n"), "Address = 10.0.0.1\r\n" + PEM, "", "# caf\xe9\n"])
@pytest.mark.parametrize("proved", [True, False])
def test_requirement_30_the_file_is_what_it_was_and_one_key_more(
    directory: Directory, before: str, proved: bool
) -> None:
    if PEM.strip() in before and not proved:
        return
    path = directory.host_file("bob")
    path.write_bytes(before.encode("latin-1"))
    path.chmod(0o640)
    store_public_key(directory, "bob", PUBLIC, proved=proved)
    after = path.read_bytes().decode("latin-1")
    added = after.removeprefix(before).lstrip("\n").split("\n")
    assert after.startswith(before)
    assert added[0].startswith("# told")
    assert ("proved by nothing" in added[0]) != proved
    assert added[1:] == [f"Ed25519PublicKey = {public_to_text(PUBLIC)}", ""]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    host = directory.host("bob")
    assert host.ed25519_public_key() == PUBLIC
    if PEM in before:
        assert host.rsa_public_key() == private_key("bob").public


@pytest.mark.parametrize("before", [PEM, "PublicKey = ABCDEF\n", "PublicKeyFile = bob.pem\n"])
def test_requirement_30_what_nothing_proves_keeps_no_node_with_an_rsa_key_out(
    directory: Directory, before: str
) -> None:
    path = directory.host_file("bob")
    path.write_text(before)
    with pytest.raises(ConfigError, match="RSA"):
        store_public_key(directory, "bob", PUBLIC, proved=False)
    assert path.read_text() == before
    store_public_key(directory, "bob", PUBLIC, proved=True)
    assert directory.host("bob").ed25519_public_key() == PUBLIC


def test_a_node_without_a_file_gets_one(directory: Directory) -> None:
    store_public_key(directory, "carol", PUBLIC, proved=False)
    assert directory.host("carol").ed25519_public_key() == PUBLIC
    assert stat.S_IMODE(directory.host_file("carol").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    "before",
    [
        f"Ed25519PublicKey = {public_to_text(OTHER)}\n",
        f"ed25519publickey={public_to_text(OTHER)}\n",
        "Ed25519PublicKey = nonsense\n",
        "Ed25519PublicKeyFile = bob.pub\n",
        public_to_pem(OTHER),
        "-----BEGIN RSA PUBLIC KEY-----\nthe end is missing\n",
    ],
)
def test_requirement_4_no_key_is_written_over_or_behind_what_hides_it(directory: Directory, before: str) -> None:
    path = directory.host_file("bob")
    path.write_text(before)
    with pytest.raises(ConfigError):
        store_public_key(directory, "bob", PUBLIC, proved=True)
    assert path.read_text() == before
    assert os.listdir(directory.hosts) == ["bob"]


@pytest.mark.parametrize("name", ["../bob", "bob\nPort = 1", "", "a b", "."])
def test_requirement_30_a_name_that_is_none_gets_no_file(directory: Directory, name: str) -> None:
    with pytest.raises(ConfigError):
        store_public_key(directory, name, PUBLIC, proved=True)
    with pytest.raises(ConfigError):
        store_public_key(directory, "bob", PUBLIC + b"\n", proved=True)
    assert os.listdir(directory.hosts) == []
