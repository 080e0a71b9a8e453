"""Keys made here are keys for tinc 1.0, and the reverse: real daemons read each other's directories and connect."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gmesh.cli import keygen
from gmesh.config.directory import Directory
from gmesh.config.keys import load_private_rsa

TINCD = shutil.which("tincd", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
pytestmark = pytest.mark.skipif(TINCD is None, reason="there is no tincd here")

Start = Callable[[Path], Path]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_node(base: Path, name: str, connect_to: str = "") -> Path:
    (base / "hosts").mkdir(parents=True)
    lines = f"Name = {name}\nDeviceType = dummy\nAddressFamily = ipv4\nBindToAddress = 127.0.0.1\n"
    (base / "tinc.conf").write_text(lines + (f"ConnectTo = {connect_to}\n" if connect_to else ""))
    (base / "hosts" / name).write_text(f"Address = 127.0.0.1\nPort = {free_port()}\n")
    return base


def tinc_makes_keys(base: Path, bits: int = 2048) -> None:
    assert TINCD is not None
    command = [TINCD, "-c", str(base), f"-K{bits}"]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts tincd on a directory; returns its log. All are stopped at the end."""
    daemons: list[subprocess.Popen[bytes]] = []

    def run(base: Path) -> Path:
        assert TINCD is not None
        log = tmp_path / f"{base.name}.log"
        command = [TINCD, "-c", str(base), "-D", "-d2", f"--pidfile={tmp_path}/{base.name}.pid"]
        with log.open("wb") as output:
            daemons.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output))
        return log

    yield run
    for daemon in daemons:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(timeout=10)


def wait_for(log: Path, words: str, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while words not in log.read_text(errors="replace"):
        assert time.monotonic() < end, f"no {words!r} in:\n{log.read_text(errors='replace')}"
        time.sleep(0.05)


@pytest.mark.parametrize("bits", [1024, 2048])
def test_keys_of_tinc_are_read(tmp_path: Path, bits: int) -> None:
    base = new_node(tmp_path / "a", "a")
    tinc_makes_keys(base, 1024)
    tinc_makes_keys(base, bits)
    server = Directory(base).server()
    assert load_private_rsa(server).public == server.rsa_public_key()
    assert server.rsa_public_key().bits == bits


def test_keys_made_here_replace_those_of_tinc(tmp_path: Path) -> None:
    base = new_node(tmp_path / "a", "a")
    tinc_makes_keys(base)
    old = Directory(base).server().rsa_public_key()
    assert keygen.main(["-c", str(base), "--batch"]) == 0
    server = Directory(base).server()
    assert load_private_rsa(server).public == server.rsa_public_key() != old


def test_tinc_connects_with_keys_made_here(tmp_path: Path, start: Start) -> None:
    ours, theirs = new_node(tmp_path / "a", "a"), new_node(tmp_path / "b", "b", connect_to="a")
    for _ in range(2):  # the second time the old keys are disabled, which tinc has to understand too
        assert keygen.main(["-c", str(ours), "--batch"]) == 0
    tinc_makes_keys(theirs)
    shutil.copy(ours / "hosts" / "a", theirs / "hosts" / "a")
    shutil.copy(theirs / "hosts" / "b", ours / "hosts" / "b")
    log = start(ours)
    wait_for(log, "Ready")
    wait_for(start(theirs), "Connection with a (127.0.0.1")
    wait_for(log, "activated")
    assert "insecure" not in log.read_text()
