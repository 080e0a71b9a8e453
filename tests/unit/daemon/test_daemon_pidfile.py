"""The pid file: contents, lock, stale files, clean removal."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gmesh.daemon.pidfile import (
    AlreadyRunningError,
    PidFile,
    PidRecord,
    make_cookie,
    read_pidfile,
)

HOLDER = """
import sys
from gmesh.daemon.pidfile import PidFile, PidRecord
held = PidFile.acquire(sys.argv[1])
import os
held.write(PidRecord(os.getpid(), "C" * 64, "127.0.0.1", "7101"))
print("held", flush=True)
sys.stdin.read()
held.remove()
"""


@pytest.fixture
def holder(tmp_path: Path):
    path = tmp_path / "tinc.pid"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process, path
    process.communicate("")


def is_locked(path: str) -> bool:
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_line_of_both_generations() -> None:
    line = "29528 3EA86ABE5DFB870F6922720CCD7D88C291852E21489B3F062271A1357EEDAF56 127.0.0.1 port 7101\n"
    record = PidRecord.parse(line)
    assert (record.pid, record.host, record.port) == (29528, "127.0.0.1", "7101")
    assert record.format() == line
    assert PidRecord.parse("77\n") == PidRecord(77)
    assert "3EA8" not in repr(record)
    for bad in ("", "\n", "x", "-4", "0"):
        with pytest.raises(ValueError, match="no process id"):
            PidRecord.parse(bad)


def test_cookie_is_64_upper_case_digits_and_fresh() -> None:
    cookie = make_cookie()
    assert len(cookie) == 64
    assert set(cookie) <= set("0123456789ABCDEF")
    assert cookie != make_cookie()


def test_write_read_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    held = PidFile.acquire("f.pid")
    monkeypatch.chdir("/")
    record = PidRecord(os.getpid(), make_cookie(), "::1", "655")
    held.write(record)
    path = tmp_path / "f.pid"
    assert read_pidfile(str(path)) == record
    assert path.stat().st_mode & 0o777 == 0o600
    assert is_locked(str(path))
    held.write(PidRecord(1, "A", "h", "1"))
    assert path.read_text() == "1 A h port 1\n"
    held.remove()
    held.remove()
    assert not path.exists()


def test_requirement_8_second_start_touches_nothing(holder) -> None:
    process, path = holder
    before = (path.read_bytes(), path.stat())
    with pytest.raises(AlreadyRunningError) as caught:
        PidFile.acquire(str(path), "anet")
    assert str(caught.value) == f"A tincd is already running for net `anet' with pid {process.pid}."
    with pytest.raises(AlreadyRunningError, match=rf"^A tincd is already running with pid {process.pid}\.$"):
        PidFile.acquire(str(path))
    after = path.stat()
    assert path.read_bytes() == before[0]
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (
        before[1].st_ino,
        before[1].st_mode,
        before[1].st_mtime_ns,
    )


def test_lock_ends_with_its_holder(holder) -> None:
    process, path = holder
    process.kill()
    process.wait()
    assert path.exists()
    held = PidFile.acquire(str(path))
    held.write(PidRecord(os.getpid()))
    held.remove()


def test_stale_pid_of_another_program_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "f.pid"
    path.write_text(f"{os.getppid()}\n")
    PidFile.acquire(str(path)).remove()
    assert not path.exists()


def test_living_tincd_without_a_lock_is_respected(tmp_path: Path) -> None:
    fake = tmp_path / "tincd"
    fake.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(fake), "60"])
    try:
        path = tmp_path / "f.pid"
        path.write_text(f"{process.pid}\n")
        while Path(f"/proc/{process.pid}/comm").read_text() != "tincd\n":
            os.sched_yield()
        with pytest.raises(AlreadyRunningError):
            PidFile.acquire(str(path))
        assert path.read_text() == f"{process.pid}\n"
    finally:
        process.kill()
        process.wait()


def test_lock_passes_to_the_child_of_a_fork(tmp_path: Path) -> None:
    path = tmp_path / "f.pid"
    held = PidFile.acquire(str(path))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        held.remove()
        os._exit(0)
    os.close(reader)
    held.close()
    assert is_locked(str(path))
    os.close(writer)
    os.waitpid(child, 0)
    assert not path.exists()


def test_removal_leaves_a_strangers_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "f.pid"
    held = PidFile.acquire(str(path))
    path.unlink()
    path.write_text("other")
    held.remove()
    assert path.read_text() == "other"


def test_symlinks_are_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("1")
    (tmp_path / "f.pid").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        PidFile.acquire(str(tmp_path / "f.pid"))
    assert target.read_text() == "1"
