"""`--json`: what comes out has exactly the names that docs/gmesh-json.md promises."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gmesh.cli import main
from gmesh.cli.commands import files

ROOT = Path(main.__file__).parents[2]


def promised() -> dict[str, set[str]]:
    """The names in each section of the page, by every command in its heading."""
    text = (ROOT / "docs" / "gmesh-json.md").read_text(encoding="utf-8")
    sections = {}
    for heading, body in re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", text, re.MULTILINE):
        names = {
            name for row in re.findall(r"^\| (`.*?) \|", body, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
        }
        sections.update(dict.fromkeys(re.findall(r"`(.*?)`", heading), names))
    sections["info NODE"] |= sections["dump nodes"]
    return sections


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "hosts").mkdir()
    (tmp_path / "tinc.conf").write_text("Name = foo\nConnectTo = bar\n")
    (tmp_path / "hosts" / "foo").write_text("Subnet = 10.0.0.0/8\n")
    (tmp_path / "invitations").mkdir()
    (tmp_path / "invitations" / ("a" * 24)).write_text("Name = new\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.daemon.fake_backend", str(tmp_path / "d.pid")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "serving\n"
    yield tmp_path
    process.kill()
    process.communicate()


def run(net: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    main.main(["-c", str(net), "--pidfile", str(net / "d.pid"), *words])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("dump nodes", ["--json", "dump", "nodes"]),
        ("dump reachable nodes", ["dump", "--json", "reachable", "nodes"]),
        ("dump edges", ["dump", "edges", "--json"]),
        ("dump subnets", ["list", "subnets", "--json"]),
        ("dump connections", ["--json", "dump", "connections"]),
        ("dump invitations", ["--json", "dump", "invitations"]),
        ("info NODE", ["info", "bar", "--json"]),
        ("info ADDRESS", ["--json", "info", "fd00:1::5"]),
        ("get", ["--json", "get", "ConnectTo"]),
        ("get", ["--json", "get", "Port"]),
        ("fsck", ["fsck", "--json"]),
    ],
)
def test_names(net: Path, capsys: pytest.CaptureFixture[str], section: str, words: list[str]) -> None:
    rows = run(net, capsys, *words)
    assert rows
    assert all(set(row) == promised()[section] for row in rows)


def test_network(net: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("alpha", "beta", "empty"):
        (net / "nets" / name).mkdir(parents=True)
    for name in ("alpha", "beta", "."):
        (net / "nets" / name / "tinc.conf").write_text("Name = x\n")
    monkeypatch.setattr(files, "CONFDIR", net / "nets")
    rows = run(net, capsys, "network", "--json")
    assert [row["network"] for row in rows] == [".", "alpha", "beta"]
    assert set(rows[0]) == promised()["network"]
    assert main.main(["network"]) == 0
    assert capsys.readouterr().out == ".\nalpha\nbeta\n"
    monkeypatch.setattr(files, "CONFDIR", net / "none")
    assert main.main(["network"]) == 1
    assert capsys.readouterr().err == f"Could not read directory {net}/none: No such file or directory\n"


def test_values(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(net, capsys, "--json", "get", "connectto") == [
        {"variable": "ConnectTo", "value": "bar", "file": f"{net}/tinc.conf", "line": 2}
    ]
    (invitation,) = run(net, capsys, "dump", "invitations", "--json")
    assert (invitation["invitation"], invitation["node"]) == ("a" * 24, "new")
    (node,) = run(net, capsys, "info", "bar", "--json")
    assert node["id"] == "d82c4eb5261c"
    assert node["reachability"] == "unknown"
    assert node["status_words"] == ["visited", "reachable"]


def test_a_shell_forgets_json_after_the_command(
    net: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = io.TextIOWrapper(io.BytesIO(b"dump subnets --json\ndump subnets\n"))
    monkeypatch.setattr(sys, "stdin", lines)
    assert main.main(["-c", str(net), "--pidfile", str(net / "d.pid")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("{")
    assert out[-1] == "fd00:1::/64#5 owner foo"
