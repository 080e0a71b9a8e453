"""Supervision: nothing ends unseen, and each policy does what it says."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from gmesh.daemon import supervisor as module
from gmesh.daemon.logging_setup import DaemonLog
from gmesh.daemon.supervisor import Supervisor


@pytest.fixture
def lines():
    daemon_log = DaemonLog("tinc", 1)
    seen: list[str] = []
    daemon_log.subscribe(-1, lambda level, created, text: seen.append(text))
    yield seen
    daemon_log.close()


def fail() -> None:
    raise RuntimeError("no luck")


def test_log_policy_logs_counts_and_goes_on(lines: list[str]) -> None:
    fatal: list[str] = []
    supervisor = Supervisor(fatal.append)
    supervisor.spawn("reader alpha", fail).join(1)
    gevent.sleep(0)
    assert lines[0] == "Internal error in reader alpha: RuntimeError: no luck"
    assert any("RuntimeError: no luck" in line for line in lines[2:])
    assert supervisor.failures == {"reader": 1}
    assert supervisor.names == []
    assert fatal == []


def test_traceback_only_from_debug_level_one() -> None:
    daemon_log = DaemonLog("tinc", 0)
    seen: list[str] = []
    daemon_log.subscribe(-1, lambda level, created, text: seen.append(text))
    Supervisor(lambda reason: None).spawn("reader", fail).join(1)
    daemon_log.close()
    assert seen == ["Internal error in reader: RuntimeError: no luck"]


def test_restart_policy_backs_off_and_recovers(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []
    monkeypatch.setattr(module.gevent, "sleep", delays.append)
    supervisor = Supervisor(lambda reason: None)
    runs: list[int] = []

    def work(limit: int) -> None:
        runs.append(1)
        if len(runs) <= limit:
            raise ValueError("again")

    supervisor.spawn("timer", work, 12, policy="restart").join(1)
    assert len(runs) == 13
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 30.0
    assert supervisor.failures["timer"] == 12


def test_fatal_policy_asks_once_for_the_end(lines: list[str]) -> None:
    fatal: list[str] = []
    supervisor = Supervisor(fatal.append)
    first = supervisor.spawn("device", fail, policy="fatal")
    second = supervisor.spawn("udp", fail, policy="fatal")
    gevent.joinall([first, second], timeout=1)
    assert fatal == ["device failed"]


def test_killing_is_quiet_and_restarts_nothing(lines: list[str]) -> None:
    supervisor = Supervisor(lambda reason: None)
    running = Event()
    ended = Event()

    def work() -> None:
        running.set()
        try:
            gevent.sleep(1000)
        finally:
            ended.set()

    supervisor.spawn("worker", work, policy="restart")
    kept = supervisor.spawn("scripts", gevent.sleep, 1000)
    assert running.wait(1)
    assert supervisor.kill_all(keep=["scripts"]) == []
    assert ended.is_set()
    assert lines == []
    assert supervisor.names == ["scripts"]
    kept.kill()


def test_kill_all_does_not_wait_for_ever(lines: list[str]) -> None:
    supervisor = Supervisor(lambda reason: None)
    release = Event()
    started = Event()

    def stubborn() -> None:
        while not release.is_set():
            try:
                started.set()
                release.wait()
            except gevent.GreenletExit:
                continue

    supervisor.spawn("stubborn one", stubborn)
    assert started.wait(1)
    assert supervisor.kill_all(timeout=0.05) == ["stubborn one"]
    assert lines == ["stubborn one does not end"]
    release.set()
