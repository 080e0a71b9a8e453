"""The daemon's log: levels, forms, limits, masking, rotation."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import pytest

from gmesh.daemon.detach import Umbilical
from gmesh.daemon.log_limit import LogLimiter
from gmesh.daemon.logging_setup import FOLLOW, NOTICE, DaemonLog, escape, log, mask


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def daemon_log(clock: Clock):
    made = DaemonLog("tinc.anet", 0, clock)
    yield made
    made.close()


def file_of(daemon_log: DaemonLog, tmp_path: Path) -> Path:
    path = tmp_path / "log"
    assert daemon_log.add_file(str(path))
    return path


def test_debug_level_decides(daemon_log: DaemonLog, tmp_path: Path) -> None:
    path = file_of(daemon_log, tmp_path)
    log(0, NOTICE, "always")
    log(1, logging.INFO, "only at one")
    daemon_log.debug = 1
    log(1, logging.INFO, "now at one")
    log(2, logging.INFO, "only at two")
    assert [line.split(": ", 1)[1] for line in path.read_text().splitlines()] == ["always", "now at one"]


def test_records_of_other_rooms_have_a_default_level(daemon_log: DaemonLog, tmp_path: Path) -> None:
    path = file_of(daemon_log, tmp_path)
    other = logging.getLogger("gmesh.net")
    other.warning("100 %% odd %s", "thing")
    other.info("detail")
    assert "100 % odd thing" in path.read_text()
    assert "detail" not in path.read_text()
    daemon_log.debug = 1
    other.info("detail")
    other.info("deep", extra={"debug": 2})
    assert "detail" in path.read_text()
    assert "deep" not in path.read_text()


def test_file_form(daemon_log: DaemonLog, tmp_path: Path) -> None:
    path = file_of(daemon_log, tmp_path)
    log(0, NOTICE, "Ready")
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d tinc\.anet\[{os.getpid()}\]: Ready\n", path.read_text())


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        (False, r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d NOTICE  Ready\n"),
        (True, "\x1b\\[90m\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d \x1b\\[36;1mNOTICE \x1b\\[0m Ready\n"),
    ],
)
def test_stderr_form(daemon_log: DaemonLog, colour: bool, expected: str) -> None:
    reader, writer = os.pipe()
    umbilical = Umbilical(writer, colour=colour)
    daemon_log.add_umbilical(umbilical)
    log(0, NOTICE, "Ready")
    umbilical.ready()
    log(0, NOTICE, "after the end")
    assert re.fullmatch(expected + "\\0", os.read(reader, 1000).decode())
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_quiet_starter_hears_of_trouble_only(daemon_log: DaemonLog) -> None:
    reader, writer = os.pipe()
    umbilical = Umbilical(writer, quiet=True)
    daemon_log.add_umbilical(umbilical)
    log(0, NOTICE, "Listening")
    log(0, logging.WARNING, "odd")
    umbilical.ready()
    assert os.read(reader, 1000).decode().endswith(" WARNING odd\n\0")
    os.close(reader)


def test_a_missing_reader_loses_lines_and_nothing_else(daemon_log: DaemonLog, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    umbilical = Umbilical(writer)
    daemon_log.add_umbilical(umbilical)
    os.close(reader)
    path = file_of(daemon_log, tmp_path)
    log(0, NOTICE, "Ready")
    assert "Ready" in path.read_text()
    umbilical.ready()


def test_full_disk_is_reported_when_it_is_over(daemon_log: DaemonLog, tmp_path: Path, monkeypatch) -> None:
    path = file_of(daemon_log, tmp_path)
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log(0, NOTICE, "one")
    log(0, NOTICE, "two")
    monkeypatch.setattr(os, "write", real)
    log(0, NOTICE, "three")
    assert [line.split(": ", 1)[1] for line in path.read_text().splitlines()] == [
        "three",
        "2 messages could not be written",
    ]


def test_unopenable_file_is_no_error(daemon_log: DaemonLog, tmp_path: Path, capfd) -> None:
    assert not daemon_log.add_file(str(tmp_path / "missing" / "log"))
    log(0, NOTICE, "into the void")
    assert f"Could not open log file {tmp_path}/missing/log: No such file or directory" in capfd.readouterr().err


def test_reopen_after_rotation(daemon_log: DaemonLog, tmp_path: Path) -> None:
    path = file_of(daemon_log, tmp_path)
    log(0, NOTICE, "old")
    path.rename(tmp_path / "log.1")
    daemon_log.reopen()
    log(0, NOTICE, "new")
    assert "old" in (tmp_path / "log.1").read_text()
    assert path.read_text().endswith("new\n")
    assert "old" not in path.read_text()


def test_failed_reopen_keeps_the_old_file(daemon_log: DaemonLog, tmp_path: Path) -> None:
    path = file_of(daemon_log, tmp_path)
    path.rename(tmp_path / "log.1")
    path.mkdir()
    daemon_log.reopen()
    log(0, NOTICE, "still here")
    text = (tmp_path / "log.1").read_text()
    assert f"Unable to reopen log file {path}: Is a directory" in text
    assert "still here" in text


def test_a_peer_cannot_forge_lines_or_terminals(daemon_log: DaemonLog, tmp_path: Path) -> None:
    path = file_of(daemon_log, tmp_path)
    log(0, logging.ERROR, "bad name \x1b[2J\r\nReady \u202e \udcff")
    assert path.read_text().count("\n") == 1
    assert path.read_text().endswith("bad name \\x1b[2J\\r\\nReady \\u202e \\udcff\n")


def test_long_messages_are_cut(daemon_log: DaemonLog, tmp_path: Path) -> None:
    path = file_of(daemon_log, tmp_path)
    log(0, NOTICE, "x" * 5000)
    assert path.read_text().endswith(": " + "x" * 1023 + "\n")


def test_requirement_9_cookies_and_keys_are_masked(daemon_log: DaemonLog, tmp_path: Path) -> None:
    path = file_of(daemon_log, tmp_path)
    daemon_log.debug = 10
    cookie, key = "3EA86ABE" * 8, "0123456789abcdef" * 6
    log(4, logging.DEBUG, f"Got ID from <control>: 0 ^{cookie} 0")
    log(0, logging.ERROR, f"Invalid name ^{cookie}")
    log(4, logging.DEBUG, f"Got ANS_KEY: 16 a b {key} 427 672 4 0")
    text = path.read_text()
    assert cookie not in text
    assert key not in text
    assert "16 a b (96 digits hidden) 427 672 4 0" in text
    assert mask("node deadbeefdeadbeefdeadbeefdeadbeef is up", 0) == "node deadbeefdeadbeefdeadbeefdeadbeef is up"


def test_escape_leaves_ordinary_text_alone() -> None:
    assert escape("Grüße 10.0.0.0/8 ✓") == "Grüße 10.0.0.0/8 ✓"


def test_traceback_becomes_clean_lines(daemon_log: DaemonLog, tmp_path: Path) -> None:
    path = file_of(daemon_log, tmp_path)
    try:
        raise ValueError("inner\nforged")
    except ValueError as error:
        log(0, logging.ERROR, "broken", exception=error)
    lines = path.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d tinc\.anet\[", line) for line in lines)
    assert any("ValueError: inner" in line for line in lines)


def test_requirement_18_same_key_is_limited_and_summed_up(daemon_log: DaemonLog, tmp_path: Path, clock: Clock) -> None:
    path = file_of(daemon_log, tmp_path)
    for number in range(1000):
        log(0, logging.ERROR, f"Bad packet {number}", key="bad packet")
    assert path.read_text().count("Bad packet") == 5
    log(0, logging.ERROR, "something else", key="else")
    log(0, NOTICE, "without a key")
    clock.now += 10.1
    daemon_log.tick()
    daemon_log.tick()
    lines = path.read_text().splitlines()
    assert lines[-1].endswith("995 more like this were left out: Bad packet 0")
    assert len(lines) == 8
    log(0, logging.ERROR, "Bad packet again", key="bad packet")
    assert "Bad packet again" in path.read_text()


def test_requirement_18_a_flood_of_ever_new_keys_stays_below_100_kb(
    daemon_log: DaemonLog, tmp_path: Path, clock: Clock
) -> None:
    path = file_of(daemon_log, tmp_path)
    for number in range(200_000):
        clock.now += 60 / 200_000
        log(0, logging.WARNING, f"Got bad ID from 198.51.100.7 port {number}: invalid name", key=f"bad id {number}")
    for _ in range(3):
        clock.now += 30
        daemon_log.tick()
    assert 10_000 < path.stat().st_size < 100_000
    assert "more like this were left out" in path.read_text()


def test_limiter_remembers_a_bounded_number_of_keys_and_loses_no_count() -> None:
    limiter = LogLimiter(total_burst=10_000, max_keys=100)
    passed = sum(limiter.admit(f"k{i // 10}", 30, 0, "t", 0.0) for i in range(10_000))
    summaries = list(limiter.due(20.0))
    assert passed == 5000
    assert sum(summary.count for summary in summaries) == 5000
    assert len(summaries) == 101


def test_subscribers_have_their_own_level(daemon_log: DaemonLog) -> None:
    deep: list[str] = []
    follower: list[str] = []
    subscription = daemon_log.subscribe(5, lambda level, created, text: deep.append(text))
    daemon_log.subscribe(FOLLOW, lambda level, created, text: follower.append(text))
    assert daemon_log.wants(5)
    assert not daemon_log.wants(6)
    log(5, logging.DEBUG, "traffic")
    log(0, NOTICE, "Ready")
    assert deep == ["traffic", "Ready"]
    assert follower == ["Ready"]
    subscription.close()
    subscription.close()
    assert not daemon_log.wants(1)
    log(0, NOTICE, "more")
    assert deep == ["traffic", "Ready"]


def test_lines_caused_by_delivering_are_dropped(daemon_log: DaemonLog) -> None:
    seen: list[str] = []

    def receive(level: int, created: float, text: str) -> None:
        seen.append(text)
        log(0, NOTICE, "sent a line")

    daemon_log.subscribe(0, receive)
    log(0, NOTICE, "Ready")
    assert seen == ["Ready"]
