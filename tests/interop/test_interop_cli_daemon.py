"""gmesh and tinc's own tool on one running daemon, tinc's and gmesh's: the same answers (control, control-cli 6)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_pair import Pair, Result, Side, needs_tinc

pytestmark = needs_tinc

SETUP = """\
init foo
set DeviceType dummy
set Port 0
set AddressFamily ipv4
set BindToAddress 127.0.0.1
set AutoConnect no
add Subnet 10.0.0.0/24
add Subnet 10.0.0.7
add Subnet fd00:1::/64#5
"""


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Running:
    """One daemon, which both tools talk to."""

    def __init__(self, starter: Side, other: Side) -> None:
        self.sides = (starter, other)
        self.starter = starter
        # The other tool works on the same directory and pid file.
        other.where = starter.where
        other.options = starter.options

    def same(self, *words: str) -> Result:
        first, second = (side.run(*words) for side in self.sides)
        assert self.alike(first) == self.alike(second), words
        return first

    @staticmethod
    def alike(result: Result) -> Result:
        """Without what differs between two control connections, or from moment to moment."""
        out = re.sub(r"socket \d+", "socket N", result.out)
        return Result(result.code, re.sub(r"rtt [\d.]+", "rtt N", out), result.err)


def end(side: Side) -> None:
    path = side.where / "d.pid"
    if path.exists():
        pid = int(path.read_text().split()[0])
        if str(side.where / "d.pid").encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(params=["tinc", "gmesh"])
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    pair = Pair(tmp_path)
    starter, other = pair.sides if request.param == "tinc" else pair.sides[::-1]
    # tinc 1.1pre18's daemon does not find a relative directory again once it has changed its own.
    starter.options = ("-c", str(starter.where / "net"))
    done = starter.run(text=SETUP)
    assert done.code == 0, done
    (starter.where / "net" / "hosts" / "bar").write_text("Weight = 1\n")
    log = f"--logfile={starter.where / 'log'}"
    assert starter.run("start", log).code == 0
    wait_for((starter.where / "d.pid").exists, "a pid file")
    daemon = Running(starter, other)
    yield daemon
    end(starter)


def test_what_is_asked_of_a_daemon(running: Running) -> None:
    for words in (
        ["pid"],
        ["dump", "nodes"],
        ["dump", "reachable", "nodes"],
        ["list", "EDGES"],
        ["dump", "subnets"],
        ["dump", "connections"],
        ["dump", "graph"],
        ["dump", "digraph"],
        ["dump", "invitations"],
        ["dump", "what"],
        ["dump", "reachable", "edges"],
        ["info", "foo"],
        ["info", "bar"],
        ["info", "nobody"],
        ["info", "10.0.0.7"],
        ["info", "10.0.0.0/24"],
        ["info", "10.0.0.0/25"],
        ["info", "fd00:1::/64#5"],
        ["info", "fd00:1::/64#6"],
        ["info", "fd00:1::1"],
        ["info", "192.0.2.1"],
        ["info", "1.2.3.4.5"],
        ["info", "a-b"],
        ["retry"],
        ["purge"],
        ["reload"],
        ["disconnect", "bar"],
        ["get", "Name"],
    ):
        running.same(*words)
    first, second = running.sides
    assert first.run("debug", "3").err == ["Old level 0, new level 3."]
    assert second.run("debug", "-1").err == ["Old level 3, new level -1."]
    assert second.run("debug", "0").err == ["Old level 3, new level 0."]


def test_a_session_keeps_its_connection(running: Running) -> None:
    session = "dump connections\npid\ndump connections\n"
    for side in running.sides:
        done = side.run(text=session)
        assert done.code == 0
        assert done.err == []
        assert done.out.count("<control>") == 2


def test_a_change_reaches_the_daemon_at_once(running: Running) -> None:
    for number, side in enumerate(running.sides):
        subnet = f"10.9.{number}.0/24"
        assert side.run("add", "Subnet", subnet).code == 0
        wait_for(lambda subnet=subnet, side=side: f"{subnet} owner foo" in side.run("dump", "subnets").out, subnet)


def test_already_running_and_stopped_by_the_other_tool(running: Running) -> None:
    starter, other = running.sides
    pid = (starter.where / "d.pid").read_text().split()[0]
    assert starter.run("start").err == [f"A tincd is already running with pid {pid}."]
    assert other.run("stop") == Result(0, "", [])
    wait_for(lambda: not (starter.where / "d.pid").exists(), "the pid file is gone")
    assert other.run("stop").code == 1
    assert other.run("pid").err[0].startswith("Could not open pid file")


def test_restart(running: Running) -> None:
    starter = running.starter
    before = starter.run("pid").out
    assert starter.run("restart", f"--logfile={starter.where / 'log'}").code == 0
    wait_for((starter.where / "d.pid").exists, "a pid file")
    after = starter.run("pid").out
    assert after.strip().isdigit()
    assert after != before
    for words in (["restart", "word"], ["restart", "--nonsense"]):
        assert starter.run(*words).code == 1


def test_the_port_that_is_really_used(running: Running) -> None:
    port = (running.starter.where / "d.pid").read_text().split()[4]
    gmesh = next(side for side in running.sides if side.program.name == "gmesh")
    assert gmesh.run("get", "Port").out == f"{port}\n"
    # Another node's is not ours: the git version of tinc gets that wrong.
    (gmesh.where / "net" / "hosts" / "bar").write_text("Port = 7\n")
    assert gmesh.run("get", "bar.Port").out == "7\n"


def test_a_daemon_that_has_died(running: Running) -> None:
    assert running.starter.run("stop").code == 0
    gone = subprocess.Popen(["true"])
    gone.wait()
    path = running.starter.where / "d.pid"
    for side in running.sides:
        path.write_text(f"{gone.pid} {'AB' * 32} 127.0.0.1 port 655\n")
        assert side.run("reload") == Result(1, "", [f"Could not find tincd running at pid {gone.pid}"])
        assert not path.exists()


def test_the_log_as_it_comes(running: Running) -> None:
    for side in running.sides:
        reader = subprocess.Popen(
            [str(side.program), *side.options, f"--pidfile={side.where / 'd.pid'}", "log", "5"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert reader.stdout is not None
        wait_for(lambda side=side: any(int(row.split()[-1], 16) & 1 << 11 for row in logs(side)), "a reader of the log")
        assert side.run("reload").code == 0
        assert any("'reload' command" in line for line in iter(reader.stdout.readline, ""))
        reader.send_signal(signal.SIGINT)
        reader.stdout.close()
        reader.wait(10)


def logs(side: Side) -> list[str]:
    return side.run("dump", "connections").out.splitlines()


def test_a_reload_is_understood_by_both(running: Running) -> None:
    for side in running.sides:
        assert side.run("reload").code == 0
