"""Files keep mode and owner and are replaced atomically (requirement 10)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gmesh.config.write import replace_file


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_new_file_has_the_mode_asked_for(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        replace_file(tmp_path / "f", b"x", 0o644)
    finally:
        os.umask(old)
    assert (tmp_path / "f").read_bytes() == b"x"
    assert mode(tmp_path / "f") == 0o644


def test_requirement_10_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(0o640)
    replace_file(path, b"new", 0o644)
    assert (path.read_bytes(), mode(path)) == (b"new", 0o640)
    replace_file(path, b"secret", 0o600, exact_mode=True)
    assert mode(path) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_requirement_10_existing_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    replace_file(path, b"new", 0o644)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_symbolic_links_stay(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    replace_file(tmp_path / "link", b"new", 0o644)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_requirement_10_a_failure_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        replace_file(path, b"new", 0o644)
    assert caught.value.filename == str(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]
    assert path.read_bytes() == b"old"


def test_a_directory_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(OSError, match="not a regular file"):
        replace_file(tmp_path / "d", b"", 0o644)


def test_the_missing_directory_is_blamed_on_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        replace_file(tmp_path / "no" / "f", b"", 0o644)
    assert caught.value.filename == str(tmp_path / "no" / "f")
