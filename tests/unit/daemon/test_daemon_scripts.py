"""Scripts with a real shell: order, environment, failures, time limits, bounds."""

from __future__ import annotations

import os
from pathlib import Path

import gevent
import pytest

from gmesh.daemon import scripts as module
from gmesh.daemon.logging_setup import DaemonLog
from gmesh.daemon.script_backlog import ScriptBacklog, ScriptJob
from gmesh.daemon.scripts import ScriptQueue, ScriptSettings
from gmesh.daemon.supervisor import Supervisor
from gmesh.mesh.actions import NodeDown, NodeUp, SubnetDown, SubnetUp
from gmesh.net import children
from gmesh.values import UNKNOWN_ADDRESS, Address, Subnet


@pytest.fixture
def lines():
    daemon_log = DaemonLog("tinc", 2)
    seen: list[str] = []
    daemon_log.subscribe(-1, lambda level, created, text: seen.append(text))
    yield seen
    daemon_log.close()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "hosts").mkdir()
    return tmp_path


@pytest.fixture
def supervisor():
    made = Supervisor(lambda reason: None)
    yield made
    made.kill_all()


@pytest.fixture
def queue(base: Path, supervisor: Supervisor, lines: list[str]) -> ScriptQueue:
    settings = ScriptSettings(str(base), "alpha", "anet", "/dev/net/tun", "tun0")
    made = ScriptQueue(settings, lambda: 2)
    supervisor.spawn("scripts", made.run, policy="restart")
    return made


def script(base: Path, name: str, body: str = 'echo "$0" >>out', mode: int = 0o755) -> None:
    path = base / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(mode)


def test_order_and_environment(base: Path, queue: ScriptQueue, lines: list[str], monkeypatch) -> None:
    monkeypatch.setenv("FROM_OUTSIDE", "kept")
    monkeypatch.setenv("TINC_UMBILICAL", "3 0")
    monkeypatch.setenv("SUBNET", "stale")
    body = 'sleep 0.02; { echo "$(basename "$0")"; env | sort | grep -vE "^(PWD|_|SHLVL|OLDPWD)="; } >>out'
    for name in ("tinc-up", "host-up", "hosts/beta-up", "subnet-up", "host-down", "subnet-down", "tinc-down"):
        script(base, name, body)
    where = Address("192.0.2.1", "655")
    net = Subnet.parse("10.0.5.0/24#10")
    queue.tinc(up=True)
    queue.mesh_event(SubnetUp("alpha", Subnet.parse("fd00:1::/64#7"), None))
    queue.mesh_event(NodeUp("beta", where))
    queue.mesh_event(SubnetUp("beta", net, where))
    queue.mesh_event(NodeDown("beta", UNKNOWN_ADDRESS))
    queue.mesh_event(SubnetDown("beta", net, UNKNOWN_ADDRESS))
    queue.tinc(up=False)
    assert queue.wait(10)
    runs: list[tuple[str, dict[str, str]]] = []
    for line in (base / "out").read_text().splitlines():
        if "=" in line:
            name, _, value = line.partition("=")
            runs[-1][1][name] = value
        else:
            runs.append((line, {}))
    assert [name for name, _ in runs] == [
        "tinc-up",
        "subnet-up",
        "host-up",
        "beta-up",
        "subnet-up",
        "host-down",
        "subnet-down",
        "tinc-down",
    ]
    common = {"NAME": "alpha", "NETNAME": "anet", "DEVICE": "/dev/net/tun", "INTERFACE": "tun0", "DEBUG": "2"}
    events = ["NODE", "REMOTEADDRESS", "REMOTEPORT", "SUBNET", "WEIGHT"]
    for _, variables in runs:
        assert variables["FROM_OUTSIDE"] == "kept"
        assert "TINC_UMBILICAL" not in variables
        assert common.items() <= variables.items()
    remote = {"NODE": "beta", "REMOTEADDRESS": "192.0.2.1", "REMOTEPORT": "655"}
    unknown = {"NODE": "beta", "REMOTEADDRESS": "unknown", "REMOTEPORT": "unknown"}
    assert [{key: variables[key] for key in events if key in variables} for _, variables in runs] == [
        {},
        {"NODE": "alpha", "SUBNET": "fd00:1::/64", "WEIGHT": "7"},
        remote,
        remote,
        remote | {"SUBNET": "10.0.5.0/24", "WEIGHT": "10"},
        unknown,
        unknown | {"SUBNET": "10.0.5.0/24", "WEIGHT": "10"},
        {},
    ]
    assert [line for line in lines if line.startswith("Executing")][3] == "Executing script hosts/beta-up"


def test_without_netname_and_device_the_variables_are_unset(base: Path, queue: ScriptQueue, monkeypatch) -> None:
    monkeypatch.setenv("NETNAME", "inherited")
    queue.settings = ScriptSettings(str(base), "alpha")
    script(base, "tinc-up", 'echo "${NETNAME-unset} ${DEVICE-unset} ${INTERFACE-unset}" >out')
    queue.tinc(up=True)
    assert queue.wait(10)
    assert (base / "out").read_text() == "unset unset unset\n"


def test_interpreter_with_arguments_and_extension(base: Path, queue: ScriptQueue) -> None:
    queue.settings = ScriptSettings(str(base), "alpha", interpreter="sh -e", extension=".sh")
    script(base, "tinc-up.sh", "false; touch wrong", mode=0o644)
    script(base, "tinc-down.sh", "pwd >out", mode=0o644)
    queue.tinc(up=True)
    queue.tinc(up=False)
    assert queue.wait(10)
    assert not (base / "wrong").exists()
    assert (base / "out").read_text().strip() == str(base)


def test_odd_directory_names(tmp_path: Path, queue: ScriptQueue) -> None:
    base = tmp_path / "a $(touch pwned) 'quoted\" dir"
    base.mkdir()
    script(base, "tinc-up", "touch ran")
    queue.settings = ScriptSettings(str(base), "alpha")
    queue.tinc(up=True)
    assert queue.wait(10)
    assert (base / "ran").exists()
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    ("body", "mode", "message"),
    [
        ("exit 3", 0o755, "Script tinc-up exited with non-zero status 3"),
        ("exit 0", 0o644, "Script tinc-up exited with non-zero status 126"),
    ],
)
def test_failures_are_lines(
    base: Path, queue: ScriptQueue, lines: list[str], *, body: str, mode: int, message: str
) -> None:
    script(base, "tinc-up", body, mode)
    queue.tinc(up=True)
    assert queue.wait(10)
    assert message in lines


def test_missing_scripts_are_silent(queue: ScriptQueue, lines: list[str]) -> None:
    queue.tinc(up=True)
    assert len(queue) == 0
    assert queue.wait(0)
    assert lines == []


def test_missing_shell_and_failing_fork_are_lines(base: Path, queue: ScriptQueue, lines, monkeypatch) -> None:
    script(base, "tinc-up")
    monkeypatch.setattr(children, "SHELL", "/nonexistent/sh")
    queue.tinc(up=True)
    assert queue.wait(10)
    assert lines[-1].startswith("Could not run script tinc-up: [Errno 2]")

    def no_fork(*args: object, **kwargs: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "posix_spawn", no_fork)
    queue.tinc(up=True)
    assert queue.wait(10)
    assert lines[-1] == "Could not run script tinc-up: [Errno 11] Resource temporarily unavailable"


def test_descriptors_do_not_leak(base: Path, queue: ScriptQueue) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    script(base, "tinc-up", "ls -l /proc/self/fd >out")
    queue.tinc(up=True)
    assert queue.wait(10)
    os.close(reader)
    os.close(writer)
    assert "pipe" not in "\n".join((base / "out").read_text().splitlines()[4:])


def test_a_hanging_script_holds_up_scripts_only(base: Path, queue: ScriptQueue, lines, monkeypatch) -> None:
    monkeypatch.setattr(module, "SLOW_AFTER", 0.05)
    script(base, "tinc-up", "touch started; exec sleep 60")
    script(base, "host-up", "touch wrong")
    script(base, "tinc-down", "touch down")
    queue.tinc(up=True)
    queue.mesh_event(NodeUp("beta", UNKNOWN_ADDRESS))
    queue.tinc(up=False)
    ticks = 0
    with gevent.Timeout(5):
        while not any("runs for" in line for line in lines):
            gevent.sleep(0.01)
            ticks += 1
    assert ticks > 2
    assert not queue.wait(0)
    queue.finish(limit=0.05, last_limit=5)
    assert "Script tinc-up does not end: giving it up, and 1 others" in lines
    assert (base / "down").exists()
    assert not (base / "wrong").exists()


def test_a_script_deaf_to_term_is_killed(base: Path, queue: ScriptQueue, lines) -> None:
    script(base, "tinc-up", "trap '' TERM; touch started; while :; do sleep 0.05; done")
    queue.settings = ScriptSettings(str(base), "alpha", interpreter="exec sh")
    queue.tinc(up=True)
    with gevent.Timeout(5):
        while not (base / "started").exists():
            gevent.sleep(0.01)
    queue.finish(limit=0.01, last_limit=0.3)
    assert len(queue) == 0
    assert "Script tinc-up was killed by signal 9 (Killed)" in lines


def job(subject: str, up: bool) -> ScriptJob:
    return ScriptJob("x", {}, subject, up)


def test_backlog_strikes_out_pairs_and_keeps_the_order() -> None:
    backlog = ScriptBacklog(soft_limit=5)
    for entry in [job("a", True), job("b", True), ScriptJob("tinc-up"), job("a", False), job("c", False)]:
        assert backlog.put(entry) == 0
    assert backlog.put(job("a", True)) == 2
    assert [backlog.pop().subject for _ in range(len(backlog))] == ["b", None, "c", "a"]


def test_backlog_is_bounded_by_objects_under_flapping_and_by_a_hard_limit() -> None:
    backlog = ScriptBacklog(soft_limit=100, hard_limit=150)
    for number in range(10_000):
        backlog.put(job(f"node{number % 10}", number // 10 % 2 == 0))
    assert len(backlog) <= 101
    refused = sum(backlog.put(job(f"other{number}", True)) for number in range(1000))
    assert len(backlog) == 150
    assert refused >= 850
