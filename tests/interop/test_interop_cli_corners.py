"""Corners of the command line beside tinc's own daemon: signals and dumps, secrets, and files that are replaced."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_lab import BIN, TINCD, Mesh, Node, wait_for

pytestmark = pytest.mark.skipif(TINCD is None, reason="there is no tincd here")


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path)
    yield mesh
    mesh.stop()


def kill(node: Node, word: str) -> subprocess.CompletedProcess[str]:
    return node.run_in_foreground(f"-k{word}" if word else "-k")


def shape(node: Node, first: str, last: str) -> list[str]:
    """The lines of a dump, with what must differ between two daemons made equal."""
    lines = [re.sub(r"^\S{10} \S{8} .{7} ", "", line) for line in node.log.splitlines()]
    begin = max(index for index, line in enumerate(lines) if line.strip().startswith(first))
    end = next(index for index in range(begin, len(lines)) if lines[index].strip() == last)
    shapes = []
    for line in lines[begin : end + 1]:
        plain = re.sub(r"\b\d+\.\d+\.\d+\.\d+ port \d+", "HOST port N", line)
        plain = re.sub(r"total bytes (in|out): [ 0-9]{12}", r"total bytes \1: N", plain)
        plain = re.sub(r"\b(status|socket|weight|pmtu|min|max|options) [0-9a-f]+", r"\1 N", plain)
        plain = re.sub(r"outbuf \d+/\d+/\d+", "outbuf N/N/N", plain)
        plain = re.sub(r"\b[ab]\b", "X", plain)
        shapes.append(re.sub(r"(cipher|digest|maclength) \d+", r"\1 N", plain))
    return shapes


def test_the_dumps_of_1_0_have_the_same_form_in_both(mesh: Mesh) -> None:
    a, b = mesh.node("a"), mesh.node("b", "tinc")
    a.configure("ConnectTo = b")
    mesh.introduce(a, b)
    b.start()
    a.start()
    mesh.wait_connected(a, b)
    for word, first, last in (("USR1", "Connections:", "End of connections."), ("usr2", "Statistics", "End of subnet")):
        for node in (a, b):
            assert kill(node, word).returncode == 0
            wait_for(lambda node=node, last=last: node.said(last), f"{node.name} has dumped")
        full = last if last.endswith(".") else "End of subnet list."
        ours, theirs = shape(a, first, full), shape(b, first, full)
        # The order of nodes and subnets is each daemon's own, and so is what a device is called.
        assert sorted(line for line in ours if "device" not in line) == sorted(
            line for line in theirs if "device" not in line
        )


def test_signals_by_name_and_number(mesh: Mesh) -> None:
    a = mesh.node("a")
    a.start()
    for word, said in (
        ("HUP", "Got HUP signal"),
        ("hup", "Configuration reloaded"),
        ("ALRM", "Got ALRM signal"),
        (str(int(signal.SIGUSR1)), "End of connections"),
    ):
        assert kill(a, word).returncode == 0
        wait_for(lambda said=said: a.said(said), said)
    assert kill(a, "WINCH").returncode == 0
    bad = kill(a, "FOO")
    assert bad.returncode == 1
    assert "Invalid argument `FOO'" in bad.stderr
    assert a.alive
    assert kill(a, "").returncode == 0
    assert a.process is not None
    assert a.process.wait(20) == 0
    none = kill(a, "TERM")
    assert none.returncode == 1
    assert "No other tincd is running." in none.stderr


def test_a_signal_that_cannot_be_sent_and_a_stale_file(mesh: Mesh) -> None:
    a = mesh.node("a")
    a.start()
    a.end(signal.SIGKILL)
    stale = kill(a, "TERM")
    assert stale.returncode == 0
    assert "Removing stale lock file" in stale.stderr
    assert not a.pid_file.exists()


def test_hup_opens_the_log_anew_and_a_host_option_is_set(mesh: Mesh) -> None:
    a = mesh.node("a")
    log = a.run / "chosen.log"
    done = a.run_in_foreground(f"--logfile={log}", "-o", "a.Subnet=10.7.0.0/16", "-o", "FakeOpt=42", "-d", "2")
    assert done.returncode == 0
    assert any("10.7.0.0/16 owner a" in line for line in a.dump("subnets"))
    log.unlink()
    assert kill(a, "HUP").returncode == 0
    wait_for(lambda: log.exists() and "Configuration reloaded" in log.read_text(), "the log is there again")
    a.gmesh("stop")


SECRET = re.compile(r"[0-9A-Fa-f]{32,}")


def test_requirement_9_secrets_are_in_no_log_and_no_script(mesh: Mesh) -> None:
    a, b = mesh.node("a"), mesh.node("b")
    a.configure("ConnectTo = b")
    mesh.introduce(a, b)
    for node in (a, b):
        for script in ("tinc-up", "host-up", "subnet-up", "tinc-down"):
            (node.base / script).write_text(f"#!/bin/sh\nenv >>{node.run}/{node.name}.env\n")
            (node.base / script).chmod(0o755)
    b.start("-d10")
    a.start("-d10")
    mesh.wait_connected(a, b)
    cookies = [node.pid_file.read_text().split()[1] for node in (a, b)]
    # A dummy device sends nothing, so that keys are asked for by hand.
    a.gmesh("dump", "nodes")
    wait_for(lambda: a.said("AnsKey from") and b.said("AnsKey from"), "keys were exchanged")
    a.gmesh("reload")
    for node in (a, b):
        assert node.end() == 0
        # What the test runner puts into the environment is no secret of the daemon's.
        lines = (node.run / f"{node.name}.env").read_text().splitlines()
        environment = "\n".join(line for line in lines if not line.startswith("PYTEST_"))
        for text in (node.log, environment):
            assert not [word for word in SECRET.findall(text) if word]
            assert not any(cookie in text for cookie in cookies)
        assert "NODE=" in environment
        assert "<key>" in node.log


def test_requirement_10_files_keep_mode_and_owner_and_are_replaced_whole(mesh: Mesh) -> None:
    a = mesh.node("a")
    a.host_file.chmod(0o640)
    if os.getuid() == 0:
        os.chown(a.host_file, 1234, 4321)
    before = a.host_file.stat()
    with a.host_file.open() as reader:
        old = reader.read()
        command = [str(BIN / "gmeshd"), "-c", str(a.base), "-K1024"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        # Who had the old file open still sees all of it: a new one took its place.
        reader.seek(0)
        assert reader.read() == old
    after = a.host_file.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert (a.base / "rsa_key.priv").stat().st_mode & 0o777 == 0o600
    assert "old key(s) found and disabled" in done.stderr


def test_requirement_10_mistakes_have_file_and_line(mesh: Mesh) -> None:
    a = mesh.node("a")
    a.configure("PingIntervall = 10", "PingInterval = 10", "PingInterval = 20", "PingTimeout = soon")
    a.start()
    conf = re.escape(str(a.base / "tinc.conf"))
    assert a.said(rf"{conf} line 5: .*PingInterval\b")
    assert a.said(rf"{conf} line [67]: .*PingInterval")
    assert a.said(rf"{conf} line 8: .*PingTimeout")
    assert a.end() == 0


@pytest.mark.parametrize(
    ("bits", "code", "said"), [("100", 1, "Invalid argument `100'; BITS"), ("1027", 0, "Generating 1024 bits")]
)
def test_sizes_of_keys(mesh: Mesh, bits: str, code: int, said: str) -> None:
    a = mesh.node("a")
    done = a.run_in_foreground(f"-K{bits}")
    assert done.returncode == code
    assert said in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--bypass-security"], "--bypass-security is refused"),
        (["-D", "-U", "nosuchuser"], "unknown user `nosuchuser'"),
        (["--foo"], "unrecognized option '--foo'"),
        (["word"], "unrecognized argument 'word'"),
        (["-D", "-o", "Compression="], "Compression"),
        (["-D", "-o", "ProcessPriority=urgent"], "urgent"),
    ],
)
def test_refusals_end_with_1_and_leave_nothing(mesh: Mesh, options: list[str], said: str) -> None:
    a = mesh.node("a")
    done = a.run_in_foreground(*options)
    assert done.returncode == 1
    assert said in done.stderr
    assert not a.pid_file.exists()
