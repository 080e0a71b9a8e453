"""invitations/ of an inviter: what is open, what is used up, and what a new node is told."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gmesh.config.directory import Directory
from gmesh.config.invitations import InvitationFiles, invitation_text, invited_node
from gmesh.errors import ConfigError, KeyFileError
from gmesh.proto.invitation import MAX_FILE, file_name
from tests.vectors.sptps import ed25519_key

KEY = ed25519_key("inviter")
COOKIES = [bytes([number]) * 18 for number in range(5)]
WEEK = 604800


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    (tmp_path / "hosts").mkdir()
    (tmp_path / "tinc.conf").write_text("Name = alice\nMode = switch\nInterface = x\nbroadcast = mst\n")
    (tmp_path / "hosts" / "alice").write_text("Address = alice.example\nSubnet = 10.0.0.1")
    return Directory(tmp_path, "net")


@pytest.fixture
def files(directory: Directory) -> InvitationFiles:
    files = InvitationFiles(directory)
    files.prepare()
    return files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_modes(files: InvitationFiles) -> None:
    assert mode(files.path) == 0o700
    files.path.chmod(0o755)
    files.prepare()
    assert mode(files.path) == 0o700
    files.save_key(KEY)
    path = files.create(COOKIES[0], KEY.public, "Name = bob\n")
    assert (mode(files.key_file), mode(path)) == (0o600, 0o600)
    assert path.name == file_name(COOKIES[0], KEY.public)


def test_key(files: InvitationFiles) -> None:
    assert files.private_key() is None
    files.save_key(KEY)
    loaded = files.private_key()
    assert loaded is not None
    assert loaded.public == KEY.public
    files.key_file.write_text("nonsense")
    with pytest.raises(KeyFileError, match="ed25519_key"):
        files.private_key()
    files.drop_key()
    files.drop_key()
    assert files.private_key() is None


def test_requirement_6_several_are_listed_aged_and_revocable(files: InvitationFiles) -> None:
    for cookie, name in zip(COOKIES, ["bob", "bob", "carol"], strict=False):
        files.create(cookie, KEY.public, f"Name = {name}\n")
    (files.path / ("x" * 23)).write_text("Name = dave\n")
    (files.path / ("x" * 24)).write_text("no name\n")
    listed = files.all()
    assert sorted(one.node for one in listed) == ["", "bob", "bob", "carol"]
    old = next(one for one in listed if one.node == "bob")
    age(old.path, 3600)
    now = old.created
    assert not files.read(old.name)[0].expired(now, 3600)  # type: ignore[index]
    assert files.read(old.name)[0].expired(now + 1, 3600)  # type: ignore[index]
    left = files.prune(now + 1, 3600)
    assert sorted(one.node for one in left) == ["", "bob", "carol"]
    assert [one.node for one in files.revoke("bob")] == ["bob"]
    (carol,) = (one for one in files.all() if one.node == "carol")
    assert [one.name for one in files.revoke(carol.name)] == [carol.name]
    assert files.revoke("carol") == []
    assert (files.path / ("x" * 23)).exists()


def test_requirement_6_claimed_once_and_given_back(files: InvitationFiles) -> None:
    path = files.create(COOKIES[0], KEY.public, "Name = bob\n")
    claim = files.claim(path.name)
    assert claim is not None
    assert files.claim(path.name) is None
    assert files.read(path.name) is None
    assert [one.name for one in files.used()] == [path.name]
    claim.give_back()
    again = files.claim(path.name)
    assert again is not None
    again.consume()
    assert files.all() == files.used() == []


def test_left_overs_go_by_age(files: InvitationFiles) -> None:
    path = files.create(COOKIES[0], KEY.public, "Name = bob\n")
    assert files.claim(path.name) is not None
    used = path.with_name(path.name + ".used")
    files.prune(used.stat().st_mtime, WEEK)
    assert used.exists()
    files.prune(used.stat().st_mtime + WEEK + 1, WEEK)
    assert not used.exists()


@pytest.mark.parametrize(
    "name", ["../tinc.conf", "", "ed25519_key.priv", "x" * 23, "x" * 25, "/" * 24, "../../../etc/passwd/xxxx"]
)
def test_nothing_else_can_be_read_by_an_invitations_name(files: InvitationFiles, name: str) -> None:
    files.save_key(KEY)
    assert files.read(name) is None


def test_far_too_large(files: InvitationFiles) -> None:
    path = files.create(COOKIES[0], KEY.public, "Name = bob\n" + "#" * MAX_FILE)
    with pytest.raises(ConfigError, match="1024 KiB"):
        files.read(path.name)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        (b"Name = bob\n", "bob"),
        (b"name bob\r\nx", "bob"),
        (b"Name=bob", "bob"),
        (b"", ""),
        (b"\nName = bob\n", ""),
        (b"Name = ../x\n", ""),
        (b"Name = \xff\n", ""),
        (b"Mode = hub\nName = bob\n", ""),
    ],
)
def test_invited_node(text: bytes, node: str) -> None:
    assert invited_node(text) == node


SEPARATOR = "#---------------------------------------------------------------#"


def test_text(directory: Directory) -> None:
    head = f"Name = bob\nNetName = net\nConnectTo = alice\nMode = switch\nBroadcast = mst\n{SEPARATOR}\nName = alice\n"
    own = "Address = alice.example\nSubnet = 10.0.0.1\n"
    assert invitation_text(directory, "bob", "alice.example", "655") == head + own
    assert invitation_text(directory, "bob", "alice.example", "7000") == f"{head}{own}Port = 7000\n"


@pytest.mark.parametrize("before", ["Port = 0\n", "Port = 655\n", "port=9\nPort = 10\n"])
def test_text_says_the_port_in_use(directory: Directory, before: str) -> None:
    directory.host_file("alice").write_text(f"{before}Subnet = 10.0.0.1\n")
    text = invitation_text(directory, "bob", "10.1.1.1 80", "7000")
    assert text.endswith("Name = alice\nAddress = 10.1.1.1 80\nPort = 7000\nSubnet = 10.0.0.1\n")


def test_text_without_a_safe_netname_and_with_a_name_in_the_host_file(directory: Directory) -> None:
    directory.host_file("alice").write_text("Name = mallory\nAddress = a\n")
    text = invitation_text(Directory(directory.base, "a b"), "bob", "a", "655")
    assert "NetName" not in text
    assert "mallory" not in text
