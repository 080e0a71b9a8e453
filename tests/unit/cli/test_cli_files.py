"""Commands that write files: what they leave behind when they succeed, and that nothing is left when they fail."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gmesh.cli import main
from gmesh.cli.commands import exchange, init
from gmesh.config import write
from gmesh.config.check import check
from gmesh.config.directory import Directory
from gmesh.config.findings import Finding
from gmesh.config.notices import Level

ROOT = Path(main.__file__).parents[2]

Tool = Callable[..., tuple[int, str, str]]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net" / "hosts").mkdir(parents=True)
    (tmp_path / "net" / "tinc.conf").write_text("# mine\nName = foo\nMode = hub")
    (tmp_path / "net" / "hosts" / "foo").write_text("Subnet = 10.0.0.0/8\n")
    return tmp_path / "net"


@pytest.fixture
def tool(net: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tool:
    # `export` closes the descriptor for its reader; here others come after it.
    monkeypatch.setattr(exchange, "_close_output", lambda: None)

    def run(*words: str, text: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        code = main.main(["-c", str(net), "--pidfile", str(net / "d.pid"), *words])
        sys.stdout.flush()
        return (code, *capfd.readouterr())

    return run


def snapshot(base: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(base)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in base.rglob("*")
    }


# init


@pytest.fixture
def small_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "DEFAULT_BITS", 1024)


@pytest.mark.usefixtures("small_keys")
def test_init_makes_a_directory_without_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tmp_path / "new"
    assert main.main(["-c", str(base), "init", "foo"]) == 0
    assert (base / "tinc.conf").read_text() == "Name = foo\n"
    assert check(Directory(base)) == []
    modes = {name: stat.S_IMODE((base / name).stat().st_mode) for name in os.listdir(base)}
    assert modes["rsa_key.priv"] == modes["ed25519_key.priv"] == 0o600
    assert modes["hosts"] == modes["cache"] == modes["tinc-up"] == 0o755
    capsys.readouterr()
    done = subprocess.run([str(base / "tinc-up")], capture_output=True, text=True, check=True)
    assert "please edit it" in done.stderr


@pytest.mark.usefixtures("small_keys")
def test_init_with_address_and_interface_needs_no_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = tmp_path / "new"
    options = ["--vpn-address=10.1.0.1/24", "--interface", "vpn0", "--address=foo.example.org 7655"]
    assert main.main(["-c", str(base), "init", "foo", *options]) == 0
    assert (base / "tinc.conf").read_text() == "Name = foo\nInterface = vpn0\n"
    host = (base / "hosts" / "foo").read_text()
    assert host.startswith("Address = foo.example.org 7655\nSubnet = 10.1.0.1\n")
    assert check(Directory(base)) == []
    (tmp_path / "ip").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "ip").chmod(0o755)
    done = subprocess.run(
        [str(base / "tinc-up")],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "INTERFACE": "vpn0"},
    )
    assert done.stdout == "link set vpn0 up\naddr replace 10.1.0.1/24 dev vpn0\n"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--vpn-address=10.1.0.1"], "--vpn-address is an IP address and the VPN's prefix length"),
        (["--vpn-address=10.1.0.1/33"], "prefix length '33' is not between"),
        (["--vpn-address=02:00:00:00:00:01"], "--vpn-address is an IP address"),
        (["--vpn-address=$(reboot)/8"], "neither a MAC, an IPv4 nor an IPv6 address"),
        (["--interface=a/b"], "is no name of an interface"),
        (["--interface=sixteen-letters-"], "is no name of an interface"),
        (["--address=a b c"], "Address is 'a b c'"),
        (["--nonsense"], "unrecognized option '--nonsense'"),
        (["bar"], "Too many arguments!"),
    ],
)
def test_init_refuses_and_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    assert main.main(["-c", str(tmp_path / "new"), "init", "foo", *options]) == 1
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("small_keys")
def test_init_can_be_repeated_until_it_has_succeeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(write.os, "fsync", full_disk)
        assert main.main(["-c", str(tmp_path / "new"), "init", "foo"]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "new" / "tinc.conf").exists()
    assert main.main(["-c", str(tmp_path / "new"), "init", "foo"]) == 0
    assert check(Directory(tmp_path / "new")) == []


@pytest.mark.usefixtures("small_keys")
def test_init_where_the_port_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(init, "_can_bind", lambda port: port != 655)
    assert main.main(["-c", str(tmp_path / "new"), "init", "foo"]) == 0
    said = re.search(r"could not bind to port 655. Tinc will instead listen on port (\d+)\.", capsys.readouterr().err)
    assert said is not None
    assert f"Port = {said[1]}\n" in (tmp_path / "new" / "hosts" / "foo").read_text()


# Trouble with the disk (requirement 10 of the specification: nothing half-written)


def full_disk(_: int) -> None:
    raise OSError(28, os.strerror(28))


@pytest.mark.parametrize(
    "words",
    [
        ["set", "Mode", "switch"],
        ["add", "Subnet", "10.1.0.0/16"],
        ["del", "Mode"],
        ["generate-ed25519-keys"],
        ["import"],
    ],
)
def test_requirement_10_a_full_disk_leaves_every_file_as_it_was(
    net: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    before = snapshot(net)
    monkeypatch.setattr(write.os, "fsync", full_disk)
    code, _, err = tool(*words, text=b"Name = new\nWeight = 1\n")
    assert code == 1
    assert "No space left on device" in err
    assert str(net) in err
    assert snapshot(net) == before


def test_requirement_10_mode_owner_comments_and_links_stay(net: Path, tool: Tool) -> None:
    conf = net / "tinc.conf"
    conf.rename(net / "real.conf")
    conf.symlink_to("real.conf")
    (net / "real.conf").chmod(0o640)
    if os.getuid() == 0:
        os.chown(net / "real.conf", 1234, 4321)
    before = conf.stat()
    assert tool("set", "Mode", "switch") == (0, "", "")
    after = conf.stat()
    assert conf.is_symlink()
    assert conf.read_text() == "# mine\nName = foo\nMode = switch\n"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [path.name for path in net.iterdir() if "tmp" in path.name] == []


def test_a_pair_of_keys_is_saved_whole_or_not_at_all(net: Path, tool: Tool) -> None:
    assert tool("generate-ed25519-keys")[0] == 0
    (net / "hosts" / "foo").unlink()
    (net / "hosts" / "foo").mkdir()
    before = snapshot(net)
    code, _, err = tool("generate-ed25519-keys")
    assert code == 1
    assert f"Error opening file `{net}/hosts/foo': Is a directory" in err
    assert snapshot(net) == before


def test_what_is_no_text_survives(net: Path, tool: Tool) -> None:
    (net / "tinc.conf").write_bytes(b"\xef\xbb\xbf# \xff\xfe\nName = foo\nDevice = \x80\r\n")
    assert tool("set", "Mode", "hub")[0] == 0
    assert (net / "tinc.conf").read_bytes() == b"\xef\xbb\xbf# \xff\xfe\nName = foo\nDevice = \x80\r\nMode = hub\n"


def test_a_block_that_is_open_would_swallow_a_new_setting(net: Path, tool: Tool) -> None:
    (net / "hosts" / "foo").write_text("-----BEGIN RSA PUBLIC KEY-----\nabc\n")
    before = snapshot(net)
    code, _, err = tool("set", "Port", "7")
    assert code == 1
    assert f"{net}/hosts/foo line 1" in err
    assert snapshot(net) == before


def test_changes_at_once_are_all_kept(net: Path) -> None:
    command = [sys.executable, "-m", "gmesh.cli.main", "-c", str(net), "--pidfile", str(net / "d.pid"), "add", "Subnet"]
    running = [subprocess.Popen([*command, f"10.{number}.0.0/16"], cwd=ROOT) for number in range(6)]
    assert [process.wait(60) for process in running] == [0] * 6
    text = (net / "hosts" / "foo").read_text()
    assert sorted(re.findall(r"10\.(\d)\.0\.0/16", text)) == [str(number) for number in range(6)]


@pytest.mark.parametrize("name", ["tinc.conf", "hosts/foo"])
def test_files_that_are_none(net: Path, tool: Tool, name: str) -> None:
    (net / name).unlink()
    (net / name).mkdir()
    option = "Mode" if name == "tinc.conf" else "foo.Weight"
    for verb in ("get", "set"):
        code, out, err = tool(verb, option, *(["1"] if verb == "set" else []))
        assert (code, out) == (1, "")
        assert err.splitlines()[-1] == f"Could not open configuration file {net}/{name}: Is a directory"


# get, set, add, del


def test_hints(net: Path, tool: Tool) -> None:
    (net / "hosts" / "berlin").write_text("")
    assert tool("set", "Moed", "hub") == (
        1,
        "",
        "Moed: is not a known configuration variable! Use --force to use it anyway. Did you mean Mode?\n",
    )
    assert tool("get", "berlim.Port")[2].endswith("No such file or directory. Did you mean berlin?\n")
    assert tool("add", "ConnectTo", "berlim")[2].endswith("berlim yet. Did you mean berlin?\n")
    assert tool("set", "Mode", "ring")[2].startswith("Warning: gmeshd would not take this value: Invalid routing mode!")
    assert tool("set", "Mode", "ring")[2].endswith("gmeshd does not start with it, nor does it reload.\n")
    assert tool("get", "Mode")[1] == "ring\n"
    assert tool("verify", "berlim", text=b"Signature = berlim 1 " + b"A" * 86 + b"\n")[2].endswith(
        "Did you mean berlin?\n"
    )


@pytest.mark.parametrize(
    "subnet",
    [
        "1.1.1",
        "1:2:3:4:5:",
        "1:2:3:4:5:::6",
        "1:2:3:4:5:6:7:8:9",
        "256.256.256.256",
        "1:2:3:4:5:6:7:8.123",
        "1:2:3:4:5:6:7:1.2.3.4",
        "a:b:c:d:e:f:g:h",
        "1.1.1.1/0",
        "1.1.1.1/-1",
        "1.1.1.1/33",
        "1::/0",
        "1::/-1",
        "1::/129",
        ":" * 1024,
    ],
)
def test_subnets_that_are_none(net: Path, tool: Tool, subnet: str) -> None:
    before = snapshot(net)
    assert tool("add", "Subnet", subnet)[0] == 1
    assert snapshot(net) == before


# Host files


def test_import_is_bounded(net: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_HOST_FILE", 100)
    code, _, err = tool("import", text=b"Name = big\n" + b"x\n" * 100)
    assert (code, err) == (1, "The host file of big is larger than 0 KiB.\n")
    assert not (net / "hosts" / "big").exists()
    monkeypatch.setattr(exchange, "MAX_HOST_FILES", 2)
    code, _, err = tool("import", text=b"Name = a\nName = b\nName = c\nName = d\n")
    assert (code, err) == (1, "More than 2 host files in the input.\n")


@pytest.mark.parametrize("name", ["../evil", "a/b", "..", ".", "a\\b", "a\0b", "x-up", "\xe9"])
def test_import_writes_nothing_outside_hosts(net: Path, tool: Tool, name: str) -> None:
    before = snapshot(net.parent)
    code, _, err = tool("import", text=f"Name = {name}\nWeight = 1\n".encode())
    assert (code, err) == (1, "Invalid Name in input!\n")
    assert snapshot(net.parent) == before


def test_export_all_goes_on_after_a_file_that_cannot_be_read(net: Path, tool: Tool) -> None:
    (net / "hosts" / "bad").mkdir()
    code, out, err = tool("export-all")
    assert code == 1
    assert out == "Name = foo\nSubnet = 10.0.0.0/8\n"
    assert err == f"Could not open configuration file {net}/hosts/bad: Is a directory\n"
    # What failed to export does not import.
    assert tool("exchange-all", text=b"Name = new\nWeight = 1\n")[0] == 1
    assert not (net / "hosts" / "new").exists()


# edit


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("tinc.conf", "tinc.conf"),
        ("host-down", "host-down"),
        ("foo", "hosts/foo"),
        ("hosts/foo", "hosts/foo"),
        ("foo-up", "hosts/foo-up"),
        ("hosts/new-down", "hosts/new-down"),
        ("invitation-created", "invitation-created"),
        ("../x", ""),
        ("hosts/../x", ""),
        ("/etc/passwd", ""),
        ("conf.d/x", ""),
        ("", ""),
        ("-up", ""),
        ("foo-up-down", ""),
    ],
)
def test_which_files_may_be_edited(
    net: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch, name: str, path: str
) -> None:
    monkeypatch.setenv("VISUAL", "echo -n")
    expected = (0, f"{net}/{path}", "") if path else (1, "", "Invalid configuration filename.\n")
    assert tool("edit", name) == expected


def test_an_editor_that_fails(net: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "exit 3;")
    assert tool("edit", "tinc.conf")[0] == 1


# fsck


def test_fsck_twenty_planted_mistakes(net: Path, tool: Tool) -> None:
    (net / "tinc.conf").write_text(
        "Name = foo\nGraphDumpFile = x\nPort = 7\nPingTimeout = soon\nMode = ring\nConnectTo = nobody\n"
        "ConnectTo = foo\nConnectTo = bar\nConnectTo = 1.2.3.4\nMoode = hub\nHostnames = no\nHostnames = yes\n"
    )
    (net / "hosts" / "foo").write_text("Interface = x\nSubnet = 10.0.0.0/8\n")
    (net / "hosts" / "bar").write_text("Subnet = 10.0.0.0/8\nSubnet = 10.0.0.1/8\nWeight\n")
    (net / "hosts" / "open").write_text("-----BEGIN RSA PUBLIC KEY-----\n")
    (net / "hosts" / "bar.bak").write_text("")
    (net / "hosts" / "open").chmod(0o666)
    (net / "fake-up").write_text("")
    (net / "tinc-up").write_text("")
    (net / "rsa_key.priv").write_text("no key\n")
    (net / "rsa_key.priv").chmod(0o644)
    (net / "tinc-up").chmod(0o644)
    gone = subprocess.Popen(["true"])
    gone.wait()
    (net / "d.pid").write_text(f"{gone.pid}\n")
    code, out, err = tool("fsck")
    assert (code, out) == (1, "")
    conf, hosts = f"{net}/tinc.conf", f"{net}/hosts"
    for said in (
        f"WARNING: obsolete variable GraphDumpFile in {conf} line 2",
        f"WARNING: host variable Port found in server config {conf} line 3",
        "WARNING: Integer expected for configuration variable PingTimeout",
        "ERROR: Invalid routing mode!",
        f"WARNING: there is no host file for ConnectTo = nobody in {conf} line 6",
        f"WARNING: ConnectTo = foo in {conf} line 7 names this node itself",
        f"WARNING: hosts/bar has no Address for ConnectTo = bar in {conf} line 8",
        f"ERROR: Invalid name for outgoing connection in {conf} line 9",
        f"WARNING: unknown variable Moode in {conf} line 10",
        f"WARNING: multiple instances of variable Hostnames in {conf}",
        f"WARNING: server variable Interface found in host config {hosts}/foo line 1",
        f"WARNING: Subnet = 10.0.0.0/8 in {hosts}/foo line 2 is also in {hosts}/bar line 1",
        f"in {hosts}/bar line 2",
        f"ERROR: No value for variable `Weight' on line 3 while reading config file {hosts}/bar",
        f"has no END line: the rest is not read in {hosts}/open line 1",
        f"NOTE: {hosts}/bar.bak is no node's name",
        f"WARNING: anyone may write {hosts}/open",
        f"WARNING: Unknown script {net}/fake-up found.",
        f"WARNING: cannot read and execute {net}/tinc-up",
        f"WARNING: unsafe file permissions on {net}/rsa_key.priv.",
        f"WARNING: Error reading RSA private key file `{net}/rsa_key.priv'",
        f"WARNING: no public key in {hosts}/bar",
        f"NOTE: the pid file {net}/d.pid names process {gone.pid}, which does not run",
    ):
        assert any(said in line for line in err.splitlines()), said
    assert f" -c {net} del foo.Interface x\n" in err
    before = (net / "tinc.conf").read_text()
    code, _, err = tool("fsck", "--fix")
    assert code == 1
    for said in (
        f"Made {net}/tinc-up executable.",
        f"Fixed permissions of {net}/rsa_key.priv.",
        f"Fixed permissions of {hosts}/open.",
        f"Removed {net}/d.pid.",
        f"Kept Hostnames = no alone in {conf}.",
    ):
        assert f"{said}\n" in err
    # What needs a decision is left alone.
    assert (net / "tinc.conf").read_text() == before.replace("Hostnames = yes\n", "")
    assert not (net / "d.pid").exists()


def test_fsck_that_cannot_mend(net: Path, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fix() -> str:
        raise OSError(30, "Read-only file system", "x")

    from gmesh.cli.commands import fsck

    monkeypatch.setattr(fsck, "check", lambda _: [Finding(Level.ERROR, "bad", fails=True, fix=fix)])
    assert tool("fsck", "--fix") == (1, "", "ERROR: bad\nCould not mend it: x: Read-only file system\n")
    assert tool("fsck", "x", "--fix")[2] == "Too many arguments!\n"


# Output


def test_output_that_cannot_be_written(net: Path) -> None:
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gmesh.cli.main", "-c", str(net), "get", "Name"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_colours_and_no_questions_without_a_terminal(net: Path, tool: Tool) -> None:
    with contextlib.suppress(FileNotFoundError):
        (net / "rsa_key.priv").unlink()
    (net / "tinc-up").write_text("")
    (net / "tinc-up").chmod(0o644)
    _, out, err = tool("fsck")
    assert "\x1b" not in out + err
    assert "Fix y/n?" not in out + err
