"""gmeshd under another user and in another root: it still lets peers in, dials them by name, reloads, and cleans up."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_lab import TINCD, Mesh, Node, wait_for

pytestmark = pytest.mark.skipif(os.getuid() != 0 or TINCD is None, reason="needs root and a tincd")

NET_BIND_SERVICE = 1 << 10
NET_ADMIN = 1 << 12


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    """In a directory that everybody can read: those of pytest are closed."""
    where = Path(tempfile.mkdtemp(prefix="gmesh-rights."))
    where.chmod(0o755)
    mesh = Mesh(where)
    yield mesh
    mesh.stop()
    shutil.rmtree(where)


def status(node: Node, key: str) -> str:
    assert node.process is not None
    text = Path(f"/proc/{node.process.pid}/status").read_text()
    found = re.search(rf"^{key}:\s*(.*)$", text, re.MULTILINE)
    assert found is not None
    return found[1]


def neighbours(mesh: Mesh, *lines: str) -> tuple[Node, Node]:
    """a (gmesh) connects to b (tinc), whose address is a name."""
    a, b = mesh.node("a"), mesh.node("b", "tinc")
    b.host_file.write_text(b.host_file.read_text().replace("Address = 127.0.0.1", "Address = localhost"))
    a.configure("ConnectTo = b", *lines)
    mesh.introduce(a, b)
    return a, b


def check_life(mesh: Mesh, a: Node, b: Node) -> None:
    """What a daemon does in its life, seen from outside."""
    mesh.wait_connected(a, b)
    b.end()
    wait_for(lambda: not any("b at" in line for line in a.dump("connections")), "a has lost b")
    b.start()
    wait_for(lambda: any(line.startswith("b at") for line in a.dump("connections")), "a has dialled b again")
    with a.host_file.open("a") as file:
        file.write("Subnet = 10.0.9.0/24\n")
    a.send(signal.SIGHUP)
    wait_for(lambda: a.said("subnet 10.0.9.0/24 added"), "the reload")
    a.send(signal.SIGUSR2)
    wait_for(lambda: a.said("End of subnet list"), "the dump")
    assert a.said("10.0.9.0/24#10 owner a")
    assert a.end() == 0
    left = {path.name for path in a.pid_file.parent.iterdir() if path.name.startswith("a.")}
    assert left == {a.log_file.name}


@pytest.mark.parametrize("mark", [False, True])
def test_as_another_user(mesh: Mesh, mark: bool) -> None:
    a, b = neighbours(mesh, *(["FWMark = 7"] if mark else []))
    (a.base / "host-up").write_text("#!/bin/sh\ngrep -E '^(Uid|CapEff|CapInh|CapAmb)' /proc/self/status >out\n")
    (a.base / "host-up").chmod(0o755)
    (a.base / "out").touch()
    nobody = pwd.getpwnam("nobody")
    os.chown(a.base / "out", nobody.pw_uid, nobody.pw_gid)
    b.start()
    a.start("-U", "nobody")
    assert status(a, "Uid").split() == [str(nobody.pw_uid)] * 4
    assert status(a, "Gid").split() == [str(nobody.pw_gid)] * 4
    wanted = NET_BIND_SERVICE | (NET_ADMIN if mark else 0)
    for kind in ("CapEff", "CapPrm"):
        assert int(status(a, kind), 16) == wanted
    check_life(mesh, a, b)
    script = dict(line.split(":", 1) for line in (a.base / "out").read_text().splitlines())
    assert script["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert {int(script[kind], 16) for kind in ("CapEff", "CapInh", "CapAmb")} == {0}


@pytest.mark.parametrize("user", [(), ("-U", "nobody")])
def test_in_another_root(mesh: Mesh, user: tuple[str, ...]) -> None:
    a, b = neighbours(mesh)
    b.start()
    a.start("-R", *user)
    assert a.process is not None
    assert os.readlink(f"/proc/{a.process.pid}/root") == str(a.base)
    children = Path(f"/proc/{a.process.pid}/task/{a.process.pid}/children").read_text().split()
    check_life(mesh, a, b)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_a_name_helper_that_dies_is_reported_and_survived(mesh: Mesh) -> None:
    a, b = neighbours(mesh)
    a.start("-R")
    assert a.process is not None
    for pid in Path(f"/proc/{a.process.pid}/task/{a.process.pid}/children").read_text().split():
        if b"name_helper" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(int(pid), signal.SIGKILL)
    b.start()
    wait_for(lambda: a.said("cannot resolve localhost|names cannot be looked up"), "the failure is reported")
    assert a.alive
    assert a.end() == 0


def test_files_that_the_user_cannot_read_are_named(mesh: Mesh) -> None:
    a, _ = neighbours(mesh)
    (a.base / "hosts" / "b").chmod(0o600)
    a.start("-U", "nobody")
    assert a.said(r"hosts/b will not be readable for user nobody")
    assert a.end() == 0


def test_memory_is_locked_and_priority_set(mesh: Mesh) -> None:
    a = mesh.node("a")
    a.configure("ProcessPriority = low")
    a.start("-L")
    assert a.process is not None
    assert int(status(a, "VmLck").split()[0]) > 10_000
    assert os.getpriority(os.PRIO_PROCESS, a.process.pid) == 10
    assert a.end() == 0
