"""Looking a directory over: what a start would not show."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmesh.config.check import check
from gmesh.config.directory import Directory
from gmesh.config.newkeys import places, save_ed25519, save_rsa
from gmesh.config.notices import Level
from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.crypto.rsa import RsaPrivateKey
from tests.unit.config.net_directory import make


@pytest.fixture(scope="module")
def rsa() -> RsaPrivateKey:
    return RsaPrivateKey.generate(1024)


@pytest.fixture
def good(tmp_path: Path, rsa: RsaPrivateKey) -> Path:
    directory = Directory(make(tmp_path, {"tinc.conf": "Name = a\n", "hosts/a": ""}))
    save_rsa(rsa, places(directory, "rsa"))
    save_ed25519(Ed25519PrivateKey.from_seed(bytes(32)), places(directory, "ed25519"))
    return tmp_path


def problems(base: Path, level: Level = Level.NOTICE) -> list[str]:
    return [str(notice) for notice in check(Directory(base)) if notice.level >= level]


def test_a_good_directory_has_no_problems(good: Path) -> None:
    assert check(Directory(good)) == []


def test_the_example_directory_has_no_problems() -> None:
    example = Path(__file__).parents[3] / "hosts.example"
    notices = [notice for notice in check(Directory(example)) if "insecure file permissions" not in notice.text]
    assert notices == []


def test_an_empty_directory(tmp_path: Path) -> None:
    messages = problems(tmp_path, Level.ERROR)
    assert any("tinc.conf" in message for message in messages)
    assert any("hosts" in message for message in messages)


def test_a_public_key_of_another_pair(good: Path, rsa: RsaPrivateKey) -> None:
    other = RsaPrivateKey.generate(1024)
    (good / "hosts" / "a").write_text(other.public.to_pem())
    messages = problems(good, Level.ERROR)
    assert any("RSA public key does not belong" in message and "hosts/a" in message for message in messages)
    assert any("no Ed25519 public key" in message for message in messages)


def test_missing_keys(good: Path) -> None:
    (good / "rsa_key.priv").unlink()
    assert any("gmesh-keygen" in message for message in problems(good, Level.ERROR))


def test_a_peer_without_a_key(good: Path) -> None:
    make(good, {"hosts/b": "Adress = 10.0.0.1\n"})
    messages = problems(good)
    assert any("hosts/b line 1" in message and "did you mean Address" in message for message in messages)
    assert any("No RSA public key in" in message for message in messages)


def test_files_nobody_reads_and_scripts_that_do_not_run(good: Path) -> None:
    make(good, {"hosts/a.bak": "", "hosts/b-c": "", "tinc-up": "#!/bin/sh\n", "hosts/a-up": "#!/bin/sh\n"})
    (good / "tinc-up").chmod(0o644)
    (good / "hosts" / "a-up").chmod(0o644)
    messages = problems(good)
    for name, words in {
        "a.bak": "no node's name",
        "b-c": "no node's name",
        "tinc-up": "not exec",
        "a-up": "not exec",
    }.items():
        assert any(name in message and words in message for message in messages), name
    assert len(messages) == 4
    (good / "tinc.conf").write_text("Name = a\nScriptsInterpreter = /bin/sh\n")
    assert len(problems(good)) == 2


def test_files_that_anyone_may_write(good: Path) -> None:
    (good / "hosts" / "a").chmod(0o666)
    assert any("anyone may write" in message for message in problems(good, Level.WARNING))


def test_obsolete_options(good: Path) -> None:
    make(good, {"tinc.conf": "Name = a\nGraphDumpFile = x\n"})
    assert any("tinc.conf line 2: GraphDumpFile is obsolete" in message for message in problems(good))


def test_without_a_name_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    make(tmp_path, {"tinc.conf": b"ConnectTo = \x80\nMode = foo\n"})
    messages = problems(tmp_path, Level.ERROR)
    assert any("Name for tinc daemon required" in message for message in messages)
    assert any("line 1: Invalid name for outgoing connection" in message for message in messages)
    assert any("line 2: Invalid routing mode!" in message for message in messages)
