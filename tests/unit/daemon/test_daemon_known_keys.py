"""Whose Ed25519 keys are known, and what becomes of those that nodes tell us."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from gmesh.config.directory import Directory
from gmesh.crypto.ed25519 import Ed25519PrivateKey, public_to_pem, public_to_text
from gmesh.daemon import known_keys
from gmesh.daemon.known_keys import KnownKeys
from tests.vectors.legacy import private_key

OURS = Ed25519PrivateKey.from_seed(b"u" * 32)
ONE = Ed25519PrivateKey.from_seed(b"1" * 32).public
TWO = Ed25519PrivateKey.from_seed(b"2" * 32).public
TEXT = public_to_text


class Desk:
    def __init__(self, base: Path) -> None:
        self.hosts = base / "hosts"
        self.hosts.mkdir()
        self.base = base
        self.changes = 0
        self.greenlets: list[gevent.Greenlet] = []

    def host(self, name: str, text: str) -> None:
        (self.hosts / name).write_text(text)

    def keys(self, private: Ed25519PrivateKey | None = OURS) -> KnownKeys:
        keys = KnownKeys(private, Directory(self.base))
        keys.on_change = self.changed
        return keys

    def changed(self) -> None:
        self.changes += 1

    def keep(self, keys: KnownKeys) -> None:
        self.greenlets.append(gevent.spawn(keys.keep))


@pytest.fixture
def desk(tmp_path: Path, log_lines: list[str]) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    gevent.killall(desk.greenlets)


def wait_for(condition: Callable[[], object]) -> None:
    with gevent.Timeout(10):
        while not condition():
            gevent.sleep(0.005)


def test_every_form_of_a_host_files_key(desk: Desk) -> None:
    desk.host("a", f"Ed25519PublicKey = {TEXT(ONE)}\n")
    desk.host("b", public_to_pem(TWO))
    desk.host("c", "Ed25519PublicKeyFile = c.pub\n")
    (desk.base / "c.pub").write_text(public_to_pem(ONE))
    desk.host("d", "Subnet = 10.0.0.1\n")
    desk.host("e", "Ed25519PublicKey = nonsense\n")
    keys = desk.keys()
    assert [keys.public_key(name) for name in "abcdef"] == [ONE, TWO, ONE, None, None, None]
    assert keys.private_key is OURS


def test_who_speaks_only_the_legacy_protocol_knows_none(desk: Desk) -> None:
    desk.host("a", f"Ed25519PublicKey = {TEXT(ONE)}\n")
    keys = desk.keys(None)
    assert (keys.private_key, keys.public_key("a"), keys.refresh(everything=True)) == (None, None, [])


def test_only_what_has_changed_is_read_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        desk.host(name, f"Ed25519PublicKey = {TEXT(ONE)}\n")
    keys = desk.keys()
    read: list[str] = []
    host = Directory.host
    monkeypatch.setattr(Directory, "host", lambda self, name: (read.append(name), host(self, name))[1])
    assert keys.refresh() == []
    desk.host("b", f"Ed25519PublicKey = {TEXT(TWO)}\n# longer\n")
    (desk.hosts / "c").unlink()
    desk.host("d", f"Ed25519PublicKey = {TEXT(TWO)}\n")
    assert sorted(keys.refresh()) == ["b", "c", "d"]
    assert sorted(read) == ["b", "d"]
    assert [keys.public_key(name) for name in "abcd"] == [ONE, TWO, None, TWO]


def test_a_key_put_into_a_host_file_is_seen_without_a_reload(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_keys, "LOOK_INTERVAL", 0.01)
    keys = desk.keys()
    desk.keep(keys)
    desk.host("a", f"Ed25519PublicKey = {TEXT(ONE)}\n")
    wait_for(lambda: keys.public_key("a") == ONE)
    wait_for(lambda: desk.changes == 1)


def test_a_proved_key_counts_at_once_and_is_stored(desk: Desk) -> None:
    desk.host("a", "Subnet = 10.0.0.1\n")
    keys = desk.keys()
    keys.told("a", ONE, proved=True)
    assert (keys.public_key("a"), desk.changes) == (ONE, 1)
    desk.keep(keys)
    wait_for(lambda: Directory(desk.base).host("a").ed25519_public_key() == ONE)
    assert KnownKeys(OURS, Directory(desk.base)).public_key("a") == ONE


def test_requirement_4_an_unproved_key_counts_once_the_file_has_it(desk: Desk) -> None:
    desk.host("b", private_key("bob").public.to_pem())
    keys = desk.keys()
    for name in ("a", "b"):
        keys.told(name, ONE, proved=False)
    assert (keys.public_key("a"), desk.changes) == (None, 0)
    desk.keep(keys)
    wait_for(lambda: keys.public_key("a") == ONE)
    assert desk.changes == 1
    assert "proved by nothing" in (desk.hosts / "a").read_text()
    # It would keep out a node of tinc 1.0, if it is false.
    assert "Ed25519" not in (desk.hosts / "b").read_text()
    assert keys.public_key("b") is None


def test_requirement_4_nothing_is_put_in_the_place_of_a_key(desk: Desk) -> None:
    files = {"a": f"Ed25519PublicKey = {TEXT(ONE)}\n", "b": "Ed25519PublicKey = nonsense\n"}
    for name, text in files.items():
        desk.host(name, text)
    keys = desk.keys()
    for name in files:
        keys.told(name, TWO, proved=True)
    assert (keys.public_key("a"), keys.public_key("b")) == (ONE, None)
    # What an RSA key proves is better than what nothing does, whichever came first.
    keys.told("c", ONE, proved=False)
    keys.told("c", TWO, proved=True)
    keys.told("c", ONE, proved=False)
    desk.keep(keys)
    wait_for((desk.hosts / "c").exists)
    assert Directory(desk.base).host("c").ed25519_public_key() == TWO
    assert {name: (desk.hosts / name).read_text() for name in files} == files


def test_requirement_12_told_keys_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_keys, "MAX_TOLD", 3)
    keys = desk.keys()
    for number in range(5):
        keys.told(f"n{number}", ONE, proved=True)
    assert [keys.public_key(f"n{number}") for number in range(5)] == [ONE] * 3 + [None] * 2


def test_a_directory_that_cannot_be_written_is_logged_and_the_key_counts_in_memory(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    desk.host("a", "Subnet = 10.0.0.1\n")
    keys = desk.keys()

    def refuse(*args: object, **more: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(known_keys, "store_public_key", refuse)
    desk.keep(keys)
    keys.told("a", ONE, proved=True)
    wait_for(lambda: any("Read-only" in line for line in log_lines))
    assert keys.public_key("a") == ONE


def test_the_host_file_has_the_last_word(desk: Desk) -> None:
    desk.host("a", "")
    keys = desk.keys()
    keys.told("a", ONE, proved=True)
    desk.host("a", f"Ed25519PublicKey = {TEXT(TWO)}\n")
    assert keys.refresh() == ["a"]
    assert keys.public_key("a") == TWO


def test_requirement_12_unproved_keys_do_not_fill_the_disk(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    monkeypatch.setattr(known_keys, "MAX_UNPROVED", 3)
    keys = desk.keys()
    for number in range(6):
        keys.told(f"n{number}", ONE, proved=False)
        keys.told("n0", ONE, proved=False)
    keys.told("honest", ONE, proved=True)
    desk.keep(keys)
    wait_for((desk.hosts / "honest").exists)
    assert sorted(os.listdir(desk.hosts)) == ["honest", "n0", "n1", "n2"]
    assert sum("that nothing proves" in line for line in log_lines) == 1
