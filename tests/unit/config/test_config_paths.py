"""Where files lie and which netnames are taken (config 1, 2; daemon-cli 4)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gmesh.config import paths
from gmesh.config.netname import check_netname
from gmesh.config.paths import RuntimeFiles, config_base, socket_of
from gmesh.errors import ConfigError


def test_config_base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert config_base("office") == Path("/etc/tinc/office")
    assert config_base(None) == Path("/etc/tinc")
    monkeypatch.chdir(tmp_path)
    assert config_base("office", "sub/../net") == tmp_path / "net"


def test_runtime_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "RUNDIR", tmp_path)
    monkeypatch.setattr(paths, "LOGDIR", tmp_path)
    base = Path("/etc/tinc/office")
    files = RuntimeFiles.choose("office", base)
    assert (files.pid, files.socket) == (tmp_path / "tinc.office.pid", tmp_path / "tinc.office.socket")
    assert files.log == tmp_path / "tinc.office.log"
    assert RuntimeFiles.choose(None, base).pid == tmp_path / "tinc.pid"
    assert RuntimeFiles.choose("office", base, "/run/x").socket == Path("/run/x.socket")


def test_runtime_files_fall_back_to_the_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    files = RuntimeFiles.choose("office", Path("/c"))
    assert (files.pid, files.socket, files.log) == (Path("/c/pid"), Path("/c/pid.socket"), Path("/c/log"))


def test_socket_names() -> None:
    assert socket_of(Path("/run/tinc.x.pid")) == Path("/run/tinc.x.socket")
    assert socket_of(Path("/run/pid")) == Path("/run/pid.socket")


@pytest.mark.parametrize("name", ["", "."])
def test_no_netname(name: str) -> None:
    assert check_netname(name) == (None, "")


@pytest.mark.parametrize("name", ["a/b", "..", ".x", "a\\b", "a\nb", "\x7f"])
def test_refused_netnames(name: str) -> None:
    with pytest.raises(ConfigError, match="Invalid character in netname!"):
        check_netname(name)


@pytest.mark.parametrize("name", ["a b", "a$b", "a|b", "a*"])
def test_unsafe_netnames(name: str) -> None:
    checked, warning = check_netname(name)
    assert checked == name
    assert "unsafe character in netname!" in warning
