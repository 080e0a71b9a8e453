"""The daemon's command line: what it means, what it refuses, and that looking at it is cheap."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gmesh.cli import gmeshd, kill
from gmesh.daemon.options import DaemonOptions


def read(*line: str, **environment: str) -> DaemonOptions:
    return gmeshd.options_of(gmeshd.arguments_of(line), environment, pid=4711)


def run(*line: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(gmeshd.__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-m", "gmesh.cli.gmeshd", *line],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": root, **environment},
    )


def test_defaults() -> None:
    assert read() == DaemonOptions()


@pytest.mark.parametrize(
    ("line", "level"),
    [
        (["-d"], 1),
        (["-dd"], 0),
        (["-d", "-d"], 2),
        (["-d5"], 5),
        (["-d", "5", "-d"], 6),
        (["-d", "foo"], 0),
        (["--debug=7x"], 7),
        (["-d3", "-d2"], 2),
    ],
)
def test_debug_levels(line: list[str], level: int) -> None:
    assert read(*line).debug == level


def test_paths_are_made_absolute_and_the_last_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = read("-c", "a", "-c", ".", "--pidfile=p", "--logfile", "conf/.//./log", "-n", "x", "-n", "y", "-R")
    assert options.confbase == str(tmp_path)
    assert options.pidfile == str(tmp_path / "p")
    assert options.logfile == str(tmp_path / "conf/log")
    assert options.netname == "y"
    assert options.chroot


def test_the_last_log_destination_counts() -> None:
    assert read("--logfile", "-s") == DaemonOptions(syslog=True)
    assert read("-s", "--logfile") == DaemonOptions(logfile="")
    assert read("--logfile=/a", "--logfile=/b").logfile == "/b"


def test_options_are_kept_in_order() -> None:
    assert read("-o", "A=1", "-D", "--option=b.C=2").overrides == ("A=1", "b.C=2")


def test_netname_from_the_environment_and_none_by_a_dot() -> None:
    assert read(NETNAME="env").netname == "env"
    assert read("-n", ".", NETNAME="env").netname is None
    assert read("-n", "given", NETNAME="env").netname == "given"
    assert "unsafe" in read("-n", "a<b").netname_warning


def test_socket_activation_stays_in_the_foreground() -> None:
    assert not read("-D").detach
    assert not read(LISTEN_PID="4711").detach
    assert read(LISTEN_PID="4712").detach


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (["stray"], "unrecognized argument 'stray'"),
        (["--pidfile"], "option '--pidfile' requires an argument"),
        (["--nosuch"], "unrecognized option '--nosuch'"),
        (["--help", "--nosuch"], "unrecognized option '--nosuch'"),
    ],
)
def test_bad_command_lines(line: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert gmeshd.main(line) == 1
    program = os.path.basename(sys.argv[0])
    assert capsys.readouterr().err == f"{program}: {complaint}\nTry `{program} --help' for more information.\n"


@pytest.mark.parametrize("name", ["a/b", "a\\b", ".a"])
def test_bad_netnames(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert gmeshd.main(["-n", name]) == 1
    assert "Invalid character in netname!" in capsys.readouterr().err


def test_bypass_security_is_refused_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert gmeshd.main(["-D", "--bypass-security"]) == 1
    assert "--bypass-security is refused" in capsys.readouterr().err


def test_help_and_version_win(capsys: pytest.CaptureFixture[str]) -> None:
    assert gmeshd.main(["-k", "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Usage:")
    assert all(f"--{option.long}" in out for option in gmeshd.OPTIONS)
    assert gmeshd.main(["--bypass-security", "--version"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].startswith("Features: ")
    assert "version 0." in out.splitlines()[0]


def test_looking_does_not_import_gevent() -> None:
    code = (
        "import sys; from gmesh.cli.gmeshd import main; main(['--version']); main(['-k', '-c', '/nonexistent'])\n"
        "assert not [m for m in sys.modules if m.startswith('gevent')]"
    )
    root = str(Path(gmeshd.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_kill_sends_the_signal(tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "60"])
    (tmp_path / "pid").write_text(f"{child.pid} COOKIE 127.0.0.1 port 655\n")
    done = run("--pidfile", str(tmp_path / "pid"), "-k", "usr1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert child.wait(10) == -signal.SIGUSR1


def test_kill_messages(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    done = run("-kFOO", "--pidfile", str(pid))
    assert done.returncode == 1
    assert done.stderr.startswith(
        "Invalid argument `FOO'; SIGNAL must be a number or one of "
        "HUP, TERM, KILL, USR1, USR2, WINCH, INT or ALRM.\nTry "
    )
    done = run("-k", "-n", "anet", "--pidfile", str(pid))
    assert (done.returncode, done.stderr) == (1, "No other tincd is running for net `anet'.\n")
    child = subprocess.Popen(["true"])
    child.wait()
    pid.write_text(f"{child.pid}\n")
    done = run("-k", "--pidfile", str(pid))
    assert (done.returncode, done.stderr) == (0, "The tincd is no longer running. Removing stale lock file.\n")
    assert not pid.exists()


def test_kill_does_not_take_a_forbidden_pid_file_for_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def forbidden(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(kill, "read_pidfile", forbidden)
    assert kill.send_signal(read("--pidfile", f"{tmp_path}/pid"), "TERM") == 1
    assert capsys.readouterr().err == f"Could not open pid file {tmp_path}/pid: Permission denied\n"


def test_kill_finds_the_fallback_in_confbase(tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "60"])
    (tmp_path / "pid").write_text(f"{child.pid}\n")
    done = run("-c", str(tmp_path), "-n", "no_such_net_anywhere", "-k")
    assert done.returncode == 0
    assert child.wait(10) == -signal.SIGTERM
