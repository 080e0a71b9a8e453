"""Which protocols our own keys and ExperimentalProtocol let us speak (sptps 8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmesh.config.directory import Directory
from gmesh.config.own_keys import OwnKeys, load_own_keys
from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.errors import KeyFileError
from tests.vectors.legacy import private_key

ED25519 = Ed25519PrivateKey.from_seed(b"p" * 32)


def load(base: Path, conf: str = "", *, rsa: str | None = None, ed25519: str | None = None) -> OwnKeys:
    (base / "hosts").mkdir()
    (base / "tinc.conf").write_text(f"Name = a\n{conf}")
    for name, text in (("rsa_key.priv", rsa), ("ed25519_key.priv", ed25519)):
        if text is not None:
            (base / name).write_text(text)
            (base / name).chmod(0o600)
    return load_own_keys(Directory(base).server())


RSA_PEM, ED25519_PEM = private_key("alice").to_pem(), ED25519.to_pem()


def test_both_keys(tmp_path: Path) -> None:
    keys = load(tmp_path, rsa=RSA_PEM, ed25519=ED25519_PEM)
    assert keys.rsa is not None
    assert keys.ed25519 is not None
    assert keys.ed25519.public == ED25519.public
    assert "SPTPS (tinc 1.1)" in keys.protocols
    assert "legacy protocol (tinc 1.0)" in keys.protocols
    assert keys.notices == ()
    assert ED25519_PEM.split("\n")[1] not in repr(keys)


def test_only_an_ed25519_key(tmp_path: Path) -> None:
    keys = load(tmp_path, ed25519=ED25519_PEM)
    assert (keys.rsa, keys.notices) == (None, ())
    assert keys.ed25519 is not None
    assert "SPTPS (tinc 1.1) only: there is no RSA key" in keys.protocols


def test_an_rsa_key_that_cannot_be_used_is_told_of(tmp_path: Path) -> None:
    keys = load(tmp_path, rsa="nonsense", ed25519=ED25519_PEM)
    assert keys.rsa is None
    assert "rsa_key.priv" in keys.notices[0].text


def test_only_an_rsa_key(tmp_path: Path) -> None:
    keys = load(tmp_path, rsa=RSA_PEM)
    assert keys.ed25519 is None
    assert "only: there is no Ed25519 key" in keys.protocols
    # The command leaves the RSA key alone, by which the peers know us.
    assert f"add one with `gmesh-keygen -c {tmp_path} --ed25519'" in keys.protocols


def test_an_ed25519_key_that_cannot_be_used_is_told_of(tmp_path: Path) -> None:
    keys = load(tmp_path, rsa=RSA_PEM, ed25519="nonsense")
    assert keys.ed25519 is None
    assert "cannot be used" in keys.protocols
    assert "ed25519_key.priv" in keys.notices[0].text


def test_experimental_protocol_no_is_the_legacy_protocol_whatever_keys_there_are(tmp_path: Path) -> None:
    keys = load(tmp_path, "ExperimentalProtocol = no\n", rsa=RSA_PEM, ed25519=ED25519_PEM)
    assert keys.ed25519 is None
    assert "ExperimentalProtocol = no" in keys.protocols


@pytest.mark.parametrize("ed25519", [None, "nonsense"])
def test_experimental_protocol_yes_needs_the_key(tmp_path: Path, ed25519: str | None) -> None:
    with pytest.raises(KeyFileError, match="ed25519_key"):
        load(tmp_path, "ExperimentalProtocol = yes\n", rsa=RSA_PEM, ed25519=ed25519)


def test_without_any_key_nothing_can_be_spoken(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="rsa_key"):
        load(tmp_path)


def test_the_key_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text(ED25519_PEM)
    keys = load(tmp_path, "Ed25519PrivateKeyFile = mine\n")
    assert keys.ed25519 is not None
