"""A recorded invitation: the URL, its halves, and the file that belongs to it."""

from __future__ import annotations

from typing import Any

import pytest

from gmesh.crypto import base64
from gmesh.crypto.ed25519 import Ed25519PrivateKey, public_to_text
from gmesh.proto.invitation import InvitationUrl, file_name, key_hash
from tests.vectors.legacy import load

RECORDED: dict[str, Any] = load("sptps-invitation")
KEY = Ed25519PrivateKey.from_seed(bytes.fromhex(RECORDED["invitation_key"]["seed"]))
COOKIE = bytes.fromhex(RECORDED["cookie"])


def test_key() -> None:
    assert public_to_text(KEY.public) == RECORDED["invitation_key"]["public_base64"]
    assert Ed25519PrivateKey.from_pem(RECORDED["invitation_key"]["private_pem"]).public == KEY.public


def test_hashes() -> None:
    assert key_hash(KEY.public).hex() == RECORDED["key_hash"]
    assert base64.encode(key_hash(KEY.public), url_safe=True) == RECORDED["key_hash_base64_url"]
    assert base64.encode(COOKIE, url_safe=True) == RECORDED["cookie_base64_url"]
    assert file_name(COOKIE, KEY.public) == RECORDED["file_name"]


@pytest.mark.parametrize(("which", "host"), [("url", "vpn.example.org"), ("url_ipv6", "2001:db8::1")])
def test_url(which: str, host: str) -> None:
    url = InvitationUrl.parse(RECORDED[which])
    assert url == InvitationUrl(host, "655", key_hash(KEY.public), COOKIE)
    assert url.format() == RECORDED[which]
    assert RECORDED["cookie_base64_url"] not in repr(url)
