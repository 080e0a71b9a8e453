"""tinc's base64 and Ed25519 key texts: what is refused and what is not."""

from __future__ import annotations

import pytest

from gmesh.crypto import base64, ed25519
from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.errors import KeyFileError

KEY = Ed25519PrivateKey.from_seed(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_seed(bytes(range(1, 33)))


@pytest.mark.parametrize(("text", "data"), [("AA", b"\0"), ("BA", b"\1"), ("/D", b"\xff"), ("BIwA", b"\1\2\3")])
def test_base64_samples(text: str, data: bytes) -> None:
    assert base64.decode(text) == data
    assert base64.encode(data) == text


@pytest.mark.parametrize("text", ["A=", "====", "A A", "é", "AA\n", "$$$$"])
def test_base64_refuses_foreign_characters(text: str) -> None:
    with pytest.raises(ValueError, match="character"):
        base64.decode(text)


def test_base64_ignores_a_leftover_character_and_mixes_alphabets() -> None:
    assert base64.decode("BIwAA") == b"\1\2\3"
    assert base64.decode("+/-_") == base64.decode("+/+/")


def test_pem_may_follow_anything_and_have_dos_line_ends() -> None:
    text = f"# a comment\n{KEY.to_pem()}".replace("\n", "\r\n")
    assert Ed25519PrivateKey.from_pem(text).expanded == KEY.expanded


def test_private_key_with_a_strange_public_half_is_refused() -> None:
    body = base64.encode(KEY.expanded[:48]), base64.encode(KEY.expanded[48:] + OTHER.public)
    text = f"-----BEGIN ED25519 PRIVATE KEY-----\n{body[0]}\n{body[1]}\n-----END ED25519 PRIVATE KEY-----\n"
    with pytest.raises(KeyFileError, match="does not belong"):
        Ed25519PrivateKey.from_pem(text)


@pytest.mark.parametrize("expanded", [bytes(64), bytes(63), bytes([1]) + bytes(63)])
def test_impossible_private_keys_are_refused(expanded: bytes) -> None:
    with pytest.raises(KeyFileError):
        Ed25519PrivateKey(expanded)


@pytest.mark.parametrize("text", ["", "A" * 42, "A" * 44, "$" * 43])
def test_public_texts_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(KeyFileError):
        ed25519.public_from_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN ED25519 PUBLIC KEY-----\nAAAA\n-----END ED25519 PUBLIC KEY-----\n",
        "-----BEGIN ED25519 PUBLIC KEY-----\n$$$\n-----END ED25519 PUBLIC KEY-----\n",
    ],
)
def test_unreadable_public_pem_is_a_key_file_error(text: str) -> None:
    with pytest.raises(KeyFileError):
        ed25519.public_from_pem(text)


def test_requirement_9_the_private_key_is_in_no_repr() -> None:
    assert repr(KEY) == f"Ed25519PrivateKey(public={ed25519.public_to_text(KEY.public)})"
