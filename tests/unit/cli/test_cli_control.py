"""The control tool against a daemon that is faked behind a real control socket."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gmesh.cli import client, main
from gmesh.cli.commands import graph, info
from gmesh.proto.control import ConnectionLine, NodeLine, NodeStatus
from gmesh.values import Address
from tests.unit.daemon.fake_backend import node

ROOT = Path(main.__file__).parents[2]

Tool = Callable[..., tuple[int, str, str]]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.daemon.fake_backend", str(tmp_path / "f.pid")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "serving\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def tool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Tool:
    def run(*words: str) -> tuple[int, str, str]:
        code = main.main(["-c", str(tmp_path), "--pidfile", str(tmp_path / "f.pid"), *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_dumps(daemon: subprocess.Popen[str], tool: Tool) -> None:
    assert tool("dump", "nodes") == (
        0,
        "bar id d82c4eb5261c at 127.0.0.1 port 7102 cipher 427 digest 672 maclength 4 compression 0 options c "
        "status 0018 nexthop bar via bar distance 1 pmtu 1518 (min 0 max 1518) rx 1 2 tx 3 4\n",
        "",
    )
    assert tool("LIST", "Reachable", "NODES")[1].startswith("bar id ")
    assert tool("dump", "edges")[1] == (
        "bar to foo at 127.0.0.1 port 7101 local unspec port unspec options 700000c weight 0\n"
    )
    assert tool("dump", "subnets")[1] == "ff:ff:ff:ff:ff:ff owner (broadcast)\nfd00:1::/64#5 owner foo\n"
    lines = tool("dump", "connections")[1].splitlines()
    assert lines[0] == "bar at 127.0.0.1 port 48998 options c socket 15 status 100"
    assert re.fullmatch(r"<control> at localhost port unix options 0 socket \d+ status 200", lines[1])
    code, out, _ = tool("--json", "dump", "subnets")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()][1] == {"subnet": "fd00:1::/64#5", "owner": "foo"}
    assert json.loads(tool("dump", "edges", "--json")[1])["address"] == {"host": "127.0.0.1", "port": "7101"}


def test_graph(daemon: subprocess.Popen[str], tool: Tool) -> None:
    assert tool("dump", "digraph")[1].splitlines() == [
        "digraph {",
        ' "bar" [label = "bar", color = "black"];',
        ' "bar" -> "foo" [w = 65537.000000, weight = 65537.000000];',
        "}",
    ]
    assert tool("dump", "graph")[1].splitlines()[0] == "graph {"


def changed(**values: object) -> NodeLine:
    row = node("bar")
    return NodeLine(**{name: values.get(name, getattr(row, name)) for name in NodeLine.__slots__})  # type: ignore[arg-type]


UP = NodeStatus.REACHABLE | NodeStatus.VALID_KEY


@pytest.mark.parametrize(
    ("row", "way", "shade"),
    [
        (changed(address=Address("MYSELF", "655")), "can reach itself", "green"),
        (changed(status=NodeStatus.VALID_KEY), "unreachable", "red"),
        (changed(status=UP, via="hub"), "indirectly via hub", "orange"),
        (changed(status=NodeStatus.REACHABLE), "unknown", "black"),
        (changed(status=UP, min_mtu=1400), "directly with UDP", "green"),
        (changed(status=UP), "directly with TCP", "black"),
        (changed(status=UP, next_hop="hub"), "none, forwarded via hub", "black"),
    ],
)
def test_reachability_and_colour(row: NodeLine, way: str, shade: str) -> None:
    assert info.reachability(row) == way
    assert f'color = "{shade}"' in graph.colour(row)


def test_info(daemon: subprocess.Popen[str], tool: Tool) -> None:
    code, out, _ = tool("info", "bar")
    assert code == 0
    assert out.splitlines() == [
        "Node:         bar",
        "Node ID:      d82c4eb5261c",
        "Address:      127.0.0.1 port 7102",
        "Online since: never",
        "Status:       visited reachable",
        "Options:      pmtu_discovery clamp_mss",
        "Protocol:     17.0",
        "Reachability: unknown",
        "RX:           1 packets  2 bytes",
        "TX:           3 packets  4 bytes",
        "Edges:        foo",
        "Subnets:     ",
    ]
    assert tool("info", "fd00:1::5") == (0, "Subnet: fd00:1::/64#5\nOwner:  foo\n", "")
    assert tool("info", "fd00:1::/64#5")[0] == 0
    assert tool("info", "fd00:1::/64#6") == (1, "", "Unknown subnet fd00:1::/64#6.\n")
    assert tool("info", "fd00:1::/65")[2] == "Unknown subnet fd00:1::/65.\n"
    assert tool("info", "192.0.2.1")[2] == "Unknown address 192.0.2.1.\n"
    assert tool("info", "1.2.3.4.5")[2] == "Could not parse subnet or address '1.2.3.4.5'.\n"
    assert tool("info", "nobody")[2] == "Unknown node nobody.\n"
    assert tool("info", "a-b")[2] == "Argument is not a node name, subnet or address.\n"
    assert tool("info")[:2] == (1, "")
    assert tool("info")[2].startswith("Invalid number of arguments.\nUsage: gmesh info NODE")


def test_steering(daemon: subprocess.Popen[str], tool: Tool) -> None:
    assert tool("pid") == (0, f"{daemon.pid}\n", "")
    for word in ("retry", "purge"):
        assert tool(word) == (0, "", "")
    assert tool("reload") == (0, "", "subnet 10.0.0.0/24 added\ntwo lines\n")
    assert tool("debug", "5") == (0, "", "Old level 0, new level 5.\n")
    assert tool("debug", "-1")[2] == "Old level 5, new level -1.\n"
    assert tool("debug", "x")[2] == "Old level 5, new level 0.\n"
    assert tool("connect", "bar")[0] == 0
    assert tool("disconnect", "bar") == (0, "", "")
    assert tool("disconnect", "other") == (1, "", "Could not disconnect other.\n")
    assert tool("disconnect", "b/r") == (1, "", "Invalid name for node.\n")


DUMPED = "To be dumped: one of nodes, reachable nodes, edges, subnets, connections, graph, digraph, invitations."


@pytest.mark.parametrize(
    ("words", "complaint", "usage"),
    [
        (["dump"], f"Invalid number of arguments.\n{DUMPED}", True),
        (["dump", "a", "b"], f"Invalid number of arguments.\n{DUMPED}", True),
        (["dump", "what"], f"Unknown dump type 'what'.\n{DUMPED}", True),
        (["dump", "reachable", "edges"], "`reachable' only supported for nodes.", True),
        (["pid", "x"], "Too many arguments!", False),
        (["debug"], "Invalid number of arguments.", False),
        (["debug", "1", "2"], "Invalid number of arguments.", False),
        (["connect"], "Invalid number of arguments.", False),
        (["log", "a", "b"], "Too many arguments!", False),
        (["version", "x"], "Too many arguments!", False),
        (["nonsense"], "Unknown command `nonsense'.", True),
        (["dmp"], "Unknown command `dmp'. Did you mean dump?", True),
    ],
)
def test_complaints(
    daemon: subprocess.Popen[str], tool: Tool, words: list[str], complaint: str, *, usage: bool
) -> None:
    program = os.path.basename(sys.argv[0])
    last = f"Try `{program} --help' for more information.\n" if usage else ""
    assert tool(*words) == (1, "", f"{complaint}\n{last}")


def test_stop_waits_for_the_end_and_log_ends_by_itself(
    daemon: subprocess.Popen[str], tool: Tool, tmp_path: Path
) -> None:
    log = subprocess.Popen(
        [sys.executable, "-m", "gmesh.cli.main", "--pidfile", str(tmp_path / "f.pid"), "log"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while " status a00" not in tool("dump", "connections")[1]:
        assert time.monotonic() < deadline
    assert tool("reload")[0] == 0
    assert tool("stop") == (0, "", "")
    assert daemon.wait(5) == 0
    out, _ = log.communicate(timeout=10)
    assert log.returncode == 0
    assert [line.split(" ", 2)[2] for line in out.splitlines()] == [
        "NOTICE  Got 'reload' command",
        "NOTICE  Got 'stop' command",
        "NOTICE  Terminating",
    ]


def test_a_daemon_that_does_not_answer(
    daemon: subprocess.Popen[str], tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(client, "REPLY_LIMIT", 0.2)
    daemon.send_signal(signal.SIGSTOP)
    code, _, err = tool("dump", "nodes")
    daemon.send_signal(signal.SIGCONT)
    assert code == 1
    assert "Timed out waiting for the server to reply." in err


def test_without_a_daemon(tool: Tool, tmp_path: Path) -> None:
    path = tmp_path / "f.pid"
    code, out, err = tool("dump", "nonsense")
    assert (code, out) == (1, "")
    assert err.startswith(f"Could not open pid file {path}: No such file or directory; does the daemon run")
    assert tool("dump", "invitations") == (0, "", "No outstanding invitations.\n")
    gone = subprocess.Popen(["true"])
    gone.wait()
    path.write_text(f"{gone.pid} AB 127.0.0.1 port 655\n")
    (tmp_path / "f.socket").write_text("")
    assert tool("reload") == (1, "", f"Could not find tincd running at pid {gone.pid}\n")
    assert not path.exists()
    assert not (tmp_path / "f.socket").exists()


def test_stop_falls_back_to_the_signal(tool: Tool, tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "60"])
    (tmp_path / "f.pid").write_text(f"{child.pid}\n")
    assert tool("stop") == (0, "", f"Sent TERM signal to process with PID {child.pid}.\n")
    assert child.wait(10) == -signal.SIGTERM


def test_outstanding_invitations(tool: Tool, tmp_path: Path) -> None:
    directory = tmp_path / "invitations"
    directory.mkdir()
    (directory / ("a" * 24)).write_text("Name = bar\nNetName = x\n")
    (directory / "ed25519_key.priv").write_text("secret")
    assert tool("dump", "invitations") == (0, f"{'a' * 24} bar\n", "")


def test_start_reports_what_the_daemon_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    fake = tmp_path / "gmeshd"
    fake.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "line = int(os.environ['TINC_UMBILICAL'].split()[0])\n"
        "os.write(line, ' '.join(sys.argv[1:]).encode() + b'\\n')\n"
        "sys.exit(1) if 'fail' in sys.argv else os.write(line, b'\\0')\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "gmesh")])
    options = f"--config={tmp_path} --pidfile={tmp_path}/f.pid"
    assert main.main(["-c", str(tmp_path), "--pidfile", str(tmp_path / "f.pid"), "start", "-d1"]) == 0
    assert capfd.readouterr().err == f"{options} -d1\n"
    assert main.main(["-c", str(tmp_path), "--pidfile", str(tmp_path / "f.pid"), "start", "fail"]) == 1
    assert capfd.readouterr().err == f"{options} fail\nError starting {fake}\n"


def test_start_when_one_runs(daemon: subprocess.Popen[str], tool: Tool) -> None:
    assert tool("-n", "anet", "start")[2].endswith(
        f"A tincd is already running for net `anet' with pid {daemon.pid}.\n"
    )


def test_get(tool: Tool, tmp_path: Path, daemon: subprocess.Popen[str]) -> None:
    (tmp_path / "hosts").mkdir()
    (tmp_path / "tinc.conf").write_text("Name = foo\nMODE=switch\n")
    (tmp_path / "hosts" / "foo").write_text("Subnet = 10.0.0.0/8\nSubnet = 10.1.0.0/16\n")
    assert tool("get", "name") == (0, "foo\n", "")
    assert tool("get", "Mode") == (0, "switch\n", "")
    assert tool("get", "subnet") == (0, "10.0.0.0/8\n10.1.0.0/16\n", "")
    assert tool("get", "foo.Subnet")[1].startswith("10.0.0.0/8")
    assert tool("get", "Port") == (0, "7101\n", "")
    assert tool("get", "Cipher")[2] == "No matching configuration variables found.\n"
    assert tool("get", "Moed")[2].startswith(
        "Warning: Moed is not a known configuration variable! Did you mean Mode?\n"
    )
    assert tool("get", "a/b.Subnet")[2] == "Invalid name for node.\n"
    assert tool("get", "foo.")[2] == "No variable given.\n"
    assert tool("get")[2] == "Invalid number of arguments.\n"
    assert tool("get", "Mode", "=", "hub") == (0, "", "")
    assert tool("get", "mode") == (0, "hub\n", "")


def test_shell_session(daemon: subprocess.Popen[str], tool: Tool, tmp_path: Path) -> None:
    def session(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gmesh.cli.main", "-n", "x", "-n", "y", "--pidfile", str(tmp_path / "f.pid")],
            cwd=ROOT,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )

    done = session("# comment\n\n  pid\nretry\nquit\nnonsense\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{daemon.pid}\n", "")
    done = session(" # indented\nversion # x\n")
    assert done.returncode == 1
    assert "Unknown command `#'." in done.stderr
    assert "Too many arguments!" in done.stderr
    assert session("").returncode == 0


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (["--nosuch"], "unrecognized option '--nosuch'"),
        (["--net"], "option '--net' requires an argument"),
        (["--net", "get", "name"], "Unknown command `name'."),
        (["-n", "a/b", "pid"], "Invalid character in netname!"),
    ],
)
def test_bad_command_lines(line: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(line) == 1
    assert complaint in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Usage:")
    assert "Valid options are" in out
    assert main.main(["help", "x"]) == 0
    assert capsys.readouterr().out == out
    assert main.main(["--version"]) == 0
    assert re.match(r"gmesh version [0-9.]+ ", capsys.readouterr().out)


def test_looking_is_quick_and_without_gevent(daemon: subprocess.Popen[str], tmp_path: Path) -> None:
    code = (
        "import sys; from gmesh.cli.main import main\n"
        f"main(['--pidfile', {str(tmp_path / 'f.pid')!r}, 'dump', 'nodes'])\n"
        "assert not [name for name in sys.modules if name.startswith(('gevent', 'Crypto', 'gmesh.mesh'))]"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_unidentified_connections_have_a_name_in_dumps() -> None:
    from gmesh.cli.commands.dump import connection_text
    from gmesh.proto.control import ConnectionStatus

    row = ConnectionLine("", Address("192.0.2.1", "1"), 0, 7, ConnectionStatus(0))
    assert connection_text(row) == "<unknown> at 192.0.2.1 port 1 options 0 socket 7 status 0"
