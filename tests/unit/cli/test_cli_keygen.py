"""gmesh-keygen: keys in tinc's forms and places, old ones disabled and kept (config 5, control-cli 5)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gmesh.cli import keygen
from gmesh.config.check import check
from gmesh.config.directory import Directory
from gmesh.config.keys import load_private_ed25519, load_private_rsa
from gmesh.config.notices import Level
from gmesh.errors import ConfigError
from tests.unit.config.net_directory import make

BITS = "1024"
"""Weak, and quick to make."""


def run(*arguments: str | Path) -> int:
    return keygen.main([str(argument) for argument in arguments])


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture
def node(tmp_path: Path) -> Path:
    return make(tmp_path / "net", {"tinc.conf": "Name = a\n", "hosts/a": "Port = 5\nSubnet = 10.0.0.0/8"})


def test_both_kinds_by_default(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", node, "--bits", BITS) == 0
    server = Directory(node).server()
    assert load_private_rsa(server).public == server.rsa_public_key()
    ed25519 = load_private_ed25519(server)
    assert ed25519 is not None
    assert ed25519.public == server.ed25519_public_key()
    assert [notice for notice in check(Directory(node)) if notice.level > Level.NOTICE] == []
    output = capsys.readouterr()
    assert "Generating 1024 bits keys:\nDone.\n" in output.err
    assert "Generating Ed25519 key pair:\nDone.\n" in output.err
    assert "WARNING: generating a weak 1024 bits RSA key!" in output.err
    assert "old key" not in output.err


def test_forms_and_modes(node: Path) -> None:
    assert run("-c", node, "--bits", BITS) == 0
    assert mode(node / "rsa_key.priv") == mode(node / "ed25519_key.priv") == 0o600
    private = (node / "rsa_key.priv").read_text()
    assert private.startswith("-----BEGIN RSA PRIVATE KEY-----\n")
    assert private.endswith("-----END RSA PRIVATE KEY-----\n")
    lines = (node / "ed25519_key.priv").read_text().splitlines()
    assert [len(line) for line in lines[1:-1]] == [64, 64]
    host = (node / "hosts" / "a").read_text().splitlines()
    assert host[:3] == ["Port = 5", "Subnet = 10.0.0.0/8", "-----BEGIN RSA PUBLIC KEY-----"]
    assert host[-1].startswith("Ed25519PublicKey = ")
    assert len(host[-1]) == len("Ed25519PublicKey = ") + 43


def test_only_one_kind(node: Path) -> None:
    assert run("-c", node, "--ed25519") == 0
    assert not (node / "rsa_key.priv").exists()
    (node / "ed25519_key.priv").unlink()
    assert run("-c", node, "--rsa", BITS) == 0
    assert not (node / "ed25519_key.priv").exists()


def test_an_ed25519_key_is_added_to_a_directory_of_tinc_1_0(node: Path) -> None:
    assert run("-c", node, "--rsa", "--bits", "1024") == 0
    before = [(node / name).read_text() for name in ("rsa_key.priv", "hosts/a")]
    assert run("-c", node, "--ed25519") == 0
    assert (node / "rsa_key.priv").read_text() == before[0]
    assert (node / "hosts" / "a").read_text().startswith(before[1])


@pytest.mark.parametrize("arguments", [("--rsa", "1024"), ("--rsa=1024",), ("--rsa", "--bits=1031")])
def test_size_of_rsa_keys(node: Path, arguments: tuple[str, ...]) -> None:
    assert run("-c", node, *arguments) == 0
    assert Directory(node).server().rsa_public_key().bits == 1024


def test_default_size(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", node, "--rsa") == 0
    assert Directory(node).server().rsa_public_key().bits == 2048
    assert "weak" not in capsys.readouterr().err


@pytest.mark.parametrize("bits", ["0", "511", "8200", "x", "-5", "99999999999999999999"])
def test_bad_sizes(node: Path, bits: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", node, f"--bits={bits}") == 1
    assert f"Invalid key size {bits} specified! It should be between 512 and 8192 bits." in capsys.readouterr().err
    assert not (node / "rsa_key.priv").exists()


def test_old_keys_are_disabled_and_kept(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", node, "--bits", BITS) == 0
    old = {name: (node / name).read_text() for name in ("rsa_key.priv", "ed25519_key.priv", "hosts/a")}
    capsys.readouterr()
    assert run("-c", node, "--bits", BITS) == 0
    assert capsys.readouterr().err.count("Warning: old key(s) found and disabled.") == 4
    for name in ("rsa_key.priv", "ed25519_key.priv"):
        text = (node / name).read_text()
        assert text.startswith("".join(f"#{line}\n" for line in old[name].splitlines()))
        assert text.count("\n-----BEGIN ") == 1
    host = (node / "hosts" / "a").read_text()
    assert host.startswith("Port = 5\nSubnet = 10.0.0.0/8\n#-----BEGIN RSA PUBLIC KEY-----\n#")
    assert host.count("\n#Ed25519PublicKey = ") == host.count("\nEd25519PublicKey = ") == 1
    server = Directory(node).server()
    assert load_private_rsa(server).public == server.rsa_public_key()
    assert [notice for notice in check(Directory(node)) if notice.level > Level.NOTICE] == []


def test_what_would_hide_the_new_key_is_disabled(node: Path) -> None:
    (node / "hosts" / "a").write_text("PublicKey = ABCDEF\nPublicKeyFile = x\nEd25519PublicKeyFile = y\nPort = 5\n")
    assert run("-c", node, "--bits", BITS) == 0
    server = Directory(node).server()
    assert load_private_rsa(server).public == server.rsa_public_key()
    assert server.ed25519_public_key() is not None
    assert server.get_str("Port") == "5"


def test_modes_of_existing_files(node: Path) -> None:
    (node / "hosts" / "a").chmod(0o640)
    (node / "rsa_key.priv").write_text("")
    (node / "rsa_key.priv").chmod(0o644)
    assert run("-c", node, "--bits", BITS) == 0
    assert mode(node / "hosts" / "a") == 0o640
    assert mode(node / "rsa_key.priv") == 0o600


def test_public_host_file_can_be_read_by_all(tmp_path: Path) -> None:
    node = make(tmp_path, {"tinc.conf": "Name = a\n"})
    (node / "hosts").rmdir()
    assert run("-c", node, "--ed25519") == 0
    assert mode(node / "hosts" / "a") == 0o644


def test_private_key_file_of_the_configuration_is_used(node: Path) -> None:
    (node / "tinc.conf").write_text("Name = a\nPrivateKeyFile = my.key\nMode = nonsense\n")
    assert run("-c", node, "--rsa", BITS) == 0
    assert (node / "my.key").exists()
    assert not (node / "rsa_key.priv").exists()


def test_without_a_name_public_keys_get_their_own_files(tmp_path: Path) -> None:
    assert run("-c", tmp_path, "--bits", BITS) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ed25519_key.priv",
        "ed25519_key.pub",
        "rsa_key.priv",
        "rsa_key.pub",
    ]
    assert (tmp_path / "rsa_key.pub").read_text().startswith("-----BEGIN RSA PUBLIC KEY-----\n")
    assert mode(tmp_path / "ed25519_key.pub") == 0o644


def test_a_new_node(tmp_path: Path) -> None:
    base = tmp_path / "up" / "net"
    assert run("-c", base, "--name", "berlin", "--bits", BITS) == 0
    assert (base / "tinc.conf").read_text() == "Name = berlin\n"
    server = Directory(base).server()
    assert server.name == "berlin"
    assert load_private_rsa(server).public == server.rsa_public_key()


def test_the_name_is_added_to_a_tinc_conf_without_one(tmp_path: Path) -> None:
    make(tmp_path, {"tinc.conf": "Mode = router"})
    assert run("-c", tmp_path, "--name", "berlin", "--ed25519") == 0
    assert (tmp_path / "tinc.conf").read_text() == "Mode = router\nName = berlin\n"


def test_an_existing_node_does_not_change_its_name(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", node, "--name", "a", "--ed25519") == 0
    assert run("-c", node, "--name", "b", "--ed25519") == 1
    assert "already names this node a" in capsys.readouterr().err
    (node / "tinc.conf").write_text("Name = a-b\n")
    assert run("-c", node, "--name", "b", "--ed25519") == 1
    assert (node / "tinc.conf").read_text() == "Name = a-b\n"


@pytest.mark.parametrize("name", ["a-b", "", "../x", "ä"])
def test_bad_names(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", tmp_path / "x", "--name", name) == 1
    assert "no node name" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_missing_directory_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-c", tmp_path / "x") == 1
    assert "--name NAME" in capsys.readouterr().err


def test_a_network_has_to_be_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("NETNAME", raising=False)
    assert run() == 1
    assert "--net" in capsys.readouterr().err
    assert run("--net", "../etc") == 1
    assert "Invalid character in netname!" in capsys.readouterr().err


def test_netname_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gmesh.config.paths.CONFDIR", tmp_path)
    monkeypatch.setenv("NETNAME", "office")
    assert run("--name", "a", "--ed25519") == 0
    assert (tmp_path / "office" / "hosts" / "a").exists()


def test_a_file_that_cannot_be_written(node: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (node / "ed25519_key.priv").mkdir()
    assert run("-c", node, "--ed25519") == 1
    assert f"{node}/ed25519_key.priv" in capsys.readouterr().err


def terminal(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Pretend that somebody sits there and gives these answers, then ends the input; returns what was asked."""
    asked: list[str] = []
    waiting = list(answers)

    def answer(prompt: str) -> str:
        asked.append(prompt)
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    monkeypatch.setattr(keygen, "_on_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", answer)
    return asked


def test_on_a_terminal_file_names_are_asked_for(node: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    asked = terminal(monkeypatch, "mine.priv", "", "")
    assert run("-c", node, "--bits", BITS) == 0
    assert asked[0] == f"Please enter a file to save private RSA key to [{node}/rsa_key.priv]: "
    assert [text.split(" to ")[1].removeprefix("save ") for text in asked] == [
        "private RSA key",
        "public RSA key",
        "private Ed25519 key",
        "public Ed25519 key",
    ]
    assert (tmp_path / "mine.priv").exists()
    assert not (node / "rsa_key.priv").exists()
    assert "RSA PUBLIC KEY" in (node / "hosts" / "a").read_text()


def test_batch_never_asks(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = terminal(monkeypatch)
    assert run("-c", node, "--ed25519", "--batch") == 0
    assert asked == []


def test_interrupted_at_a_question(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(prompt: str) -> str:
        raise KeyboardInterrupt

    terminal(monkeypatch)
    monkeypatch.setattr("builtins.input", interrupt)
    assert run("-c", node, "--ed25519") == 1
    assert not (node / "ed25519_key.priv").exists()


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--help")
    assert caught.value.code is None
    text = capsys.readouterr().out
    assert "Examples:" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_unknown_options_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--frobnicate", "-n", "office")
    assert caught.value.code == 1
    assert "cannot make sense of `--frobnicate -n office'" in capsys.readouterr().err


def test_bits_are_rounded_down() -> None:
    assert keygen.parse_bits("2055") == 2048
    with pytest.raises(ConfigError):
        keygen.parse_bits("١٠٢٤")


def test_runs_without_gevent(node: Path) -> None:
    code = (
        "import sys; from gmesh.cli.keygen import main; code = main(sys.argv[1:]); "
        "assert 'gevent' not in sys.modules; assert 'configobj' not in sys.modules; sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "-c", str(node), "--rsa", BITS]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
