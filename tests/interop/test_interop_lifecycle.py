"""The real gmeshd from start to stop: locks, stale files, exit codes, detaching, and mistakes in its directory."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_lab import Mesh, Node, wait_for


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path)
    yield mesh
    mesh.stop()


@pytest.fixture
def node(mesh: Mesh) -> Node:
    return mesh.node("a")


def runtime_files(node: Node) -> set[str]:
    return {path.name for path in node.pid_file.parent.iterdir()} - {node.log_file.name}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_stop_it_with_exit_code_0_and_leave_nothing(node: Node, number: int) -> None:
    node.start()
    assert {"a.pid", "a.socket"} <= runtime_files(node)
    assert node.end(number) == 0
    assert not {"a.pid", "a.socket"} & runtime_files(node)


def test_the_tool_stops_it(node: Node) -> None:
    node.start()
    assert node.gmesh("pid").stdout.strip() == str(node.process.pid if node.process else "")
    node.gmesh("stop")
    assert node.process is not None
    assert node.process.wait(10) == 0
    assert node.gmesh("pid", check=False).returncode != 0


def test_it_may_be_controlled_by_tcp_with_the_cookie(node: Node) -> None:
    node.start()
    pid, cookie, host, _, port = node.pid_file.read_text().split()
    with (
        socket.create_connection((host, int(port)), 10) as right,
        socket.create_connection((host, int(port)), 10) as no,
    ):
        no.sendall(f"0 ^{cookie[::-1]} 0\n18 9 -1\n".encode())
        right.sendall(f"0 ^{cookie} 0\n18 9 -1\n".encode())
        with right.makefile() as lines:
            assert [lines.readline() for _ in range(3)] == ["0 a 17.0\n", f"4 0 {pid}\n", "18 9 2\n"]
        right.sendall(b"18 0\n")
        # Nothing was said to the other one, not even at the end.
        assert no.recv(1) == b""
    assert node.process is not None
    assert node.process.wait(10) == 0
    assert cookie not in node.log


def test_what_it_says_about_itself(node: Node) -> None:
    node.start()
    assert [line.split()[0] for line in node.dump("nodes")] == ["a"]
    assert any("10.0.0.1 owner a" in line for line in node.dump("subnets"))
    assert node.dump("edges") == []
    assert "a" in node.gmesh("info", "a").stdout
    node.gmesh("debug", "5")
    node.gmesh("retry")
    node.gmesh("purge")
    node.gmesh("reload")
    assert node.said("Configuration reloaded") == 1


def test_requirement_8_a_second_start_touches_nothing(node: Node) -> None:
    node.start()
    before = node.pid_file.read_text()
    inode = node.pid_file.with_suffix(".socket").stat().st_ino
    for options in (("-D",), ()):
        second = node.run_in_foreground(*options)
        assert second.returncode == 1
        assert second.stderr.strip()
    assert node.pid_file.read_text() == before
    assert node.pid_file.with_suffix(".socket").stat().st_ino == inode
    assert node.alive
    assert node.dump("nodes")
    assert node.end() == 0


def test_a_stale_pid_file_does_not_hinder_a_start(node: Node) -> None:
    node.start()
    node.end(signal.SIGKILL)
    assert node.pid_file.exists()
    node.start()
    assert node.dump("nodes")
    assert node.end() == 0


def test_a_detached_start_returns_when_the_daemon_is_ready(node: Node) -> None:
    done = node.run_in_foreground(f"--logfile={node.log_file}")
    assert done.returncode == 0, done.stderr
    # At once, without waiting for anything.
    assert node.dump("nodes")
    pid = int(node.pid_file.read_text().split()[0])
    assert os.getsid(pid) != os.getsid(0)
    assert node.said("Ready") == 1
    node.gmesh("stop")
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or not node.pid_file.exists(), "the daemon is gone")


def test_a_detached_start_that_fails_says_why(node: Node) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", node.port))
        taken.listen()
        done = node.run_in_foreground(f"--logfile={node.log_file}")
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert not node.pid_file.exists()


MISTAKES = [
    ("tinc.conf", "Mode = sideways", 5),
    ("tinc.conf", "MaxConnectionBurst = 0", 5),
    ("tinc.conf", "Cipher = rot13", 5),
    ("hosts/a", "Subnet = 300.1.1.1", 1),
    ("hosts/a", "Subnet = 10.0.0.1/33", 1),
]


@pytest.mark.parametrize(("file", "text", "line"), MISTAKES)
def test_mistakes_are_reported_with_file_and_line(node: Node, file: str, text: str, line: int) -> None:
    path = node.base / file
    before = path.read_text()
    path.write_text(before + text + "\n" if line > 1 else text + "\n" + before)
    done = node.run_in_foreground("-D")
    assert done.returncode == 1
    assert f"{path} line {line}" in done.stderr, done.stderr
    assert not node.pid_file.exists()


def test_several_mistakes_are_reported_at_once(node: Node) -> None:
    node.configure("Mode = sideways", "MaxConnectionBurst = 0")
    done = node.run_in_foreground("-D")
    assert done.returncode == 1
    assert "line 5" in done.stderr
    assert "line 6" in done.stderr


@pytest.mark.parametrize("missing", ["tinc.conf", "rsa_key.priv", "Name"])
def test_what_is_missing_is_named(node: Node, missing: str) -> None:
    if missing == "Name":
        (node.base / "tinc.conf").write_text("DeviceType = dummy\n")
    else:
        (node.base / missing).unlink()
    done = node.run_in_foreground("-D")
    assert done.returncode == 1
    assert missing in done.stderr
    assert not node.pid_file.exists()


def test_survivable_mistakes_are_warnings(node: Node) -> None:
    node.configure("PingIntervall = 10", "UPnP = yes")
    node.start()
    assert node.said(r"tinc.conf line 5: .*PingInterval\b")
    assert node.said(r"tinc.conf line 6: .*UPnP")
    assert node.end() == 0


def test_keys_that_do_not_match_are_named_without_any_debug_level(mesh: Mesh) -> None:
    a, b = mesh.node("a"), mesh.node("b")
    a.configure("ConnectTo = b")
    mesh.introduce(a, b)
    (b.base / "hosts" / "a").write_text((b.base / "hosts" / "b").read_text())
    b.start("-d0")
    a.start("-d0")
    wait_for(lambda: a.said("the keys do not match: compare hosts/b here") > 0, "a says so")


def test_an_unknown_peer_is_named_without_any_debug_level(mesh: Mesh) -> None:
    a, b = mesh.node("a"), mesh.node("b")
    a.configure("ConnectTo = b")
    mesh.introduce(a, b)
    (b.base / "hosts" / "a").unlink()
    b.start("-d0")
    a.start("-d0")
    wait_for(lambda: b.said(r"A peer is refused: unknown identity \(a\)") > 0, "b says so")


def test_an_own_public_key_that_does_not_fit_is_a_warning(mesh: Mesh) -> None:
    a, b = mesh.node("a"), mesh.node("b")
    (a.base / "hosts" / "a").write_text((b.base / "hosts" / "b").read_text())
    a.start("-d0")
    assert a.said("does not belong to our private key")
    assert a.end() == 0
