"""The shell: completion, history, a kept connection; and how fast a command answers."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gmesh.cli import main, shell
from gmesh.cli.context import Context

ROOT = Path(main.__file__).parents[2]
SECONDS = 20.0


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "hosts").mkdir()
    (tmp_path / "tinc.conf").write_text("Name = foo\nMode = hub\n")
    (tmp_path / "hosts" / "foo").write_text("Subnet = 10.0.0.0/8\n")
    (tmp_path / "hosts" / "foo-up").write_text("")
    return tmp_path


@pytest.fixture
def context(net: Path) -> Iterator[Context]:
    made = Context(confbase=str(net), pidfile=str(net / "d.pid"), in_shell=True)
    yield made
    made.disconnect()


def complete(context: Context, line: str) -> list[str]:
    *before, text = line.split(" ")
    return shell.candidates(context, main.COMMANDS, before, text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ge", ["generate-ed25519-keys", "generate-keys", "generate-rsa-keys", "get"]),
        ("dump ", sorted(shell.DUMPS)),
        ("dump re", ["reachable"]),
        ("dump reachable ", ["nodes"]),
        ("dump nodes ", []),
        ("set co", ["Compression", "ConnectTo"]),
        ("get f", ["foo.", "Forwarding", "FWMark"]),
        ("get foo.p", ["foo.PMTU", "foo.PMTUDiscovery", "foo.Port", "foo.PublicKey", "foo.PublicKeyFile"]),
        ("get foo.Name", []),
        ("set Mode ", []),
        ("info ", ["foo"]),
        ("verify ", ["*", ".", "foo"]),
        ("edit t", ["tinc-down", "tinc-up", "tinc.conf"]),
        ("reload ", []),
    ],
)
def test_completion_without_a_daemon(context: Context, line: str, words: list[str]) -> None:
    assert sorted(complete(context, line)) == sorted(words)


def test_hidden_and_missing_commands_are_not_offered(context: Context) -> None:
    offered = complete(context, "")
    assert "dump" in offered
    assert not {"list", "config"} & set(offered)
    for name in main.COMMANDS:
        assert name in main.HELP


def test_completion_with_a_daemon(context: Context, net: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.daemon.fake_backend", str(net / "d.pid")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "serving\n"
    try:
        assert complete(context, "info ") == ["bar", "fd00:1::/64#5", "ff:ff:ff:ff:ff:ff"]
        assert complete(context, "disconnect b") == ["bar"]
        first = context.connect()
        assert context.connect() is first
    finally:
        process.kill()
        process.communicate()
    assert not first.alive
    assert complete(context, "info f") == ["foo"]


class Terminal:
    """gmesh on a pseudo terminal."""

    def __init__(self, net: Path) -> None:
        command = [sys.executable, "-m", "gmesh.cli.main", "-c", str(net), "--pidfile", str(net / "d.pid")]
        environment = {**os.environ, "TERM": "xterm", "INPUTRC": "/dev/null", "PYTHONPATH": str(ROOT)}
        # A session of its own, so that Ctrl-C on this terminal means this process.
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, command, environment)
        self.code: int | None = None
        self.seen = b""

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def expect(self, text: bytes, nudge: bytes = b"") -> bytes:
        """Read until the text appears, typing ``nudge`` all the while; returns what came before it."""
        end = time.monotonic() + SECONDS
        while text not in self.seen:
            assert time.monotonic() < end, (text, self.seen)
            self.type(nudge)
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 4096)
                except OSError:
                    # The other side has closed: what is not there yet will not come.
                    assert text in self.seen, self.seen
        before, _, self.seen = self.seen.partition(text)
        return before

    def wait(self) -> int:
        """The exit code, once it has ended by itself."""
        end = time.monotonic() + SECONDS
        while self.code is None:
            assert time.monotonic() < end
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.02)
        return self.code

    def close(self) -> None:
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)


def test_on_a_terminal(net: Path) -> None:
    pytest.importorskip("readline")
    terminal = Terminal(net)
    try:
        terminal.expect(b"gmesh> ")
        # Tab completes the command, then the option.
        terminal.type(b"get Na\t\n")
        terminal.expect(b"foo\r\n")
        terminal.expect(b"gmesh> ")
        # The line before comes back.
        terminal.type(b"get Mode\n")
        terminal.expect(b"hub\r\n")
        terminal.expect(b"gmesh> ")
        terminal.type(b"\x1b[A\x1b[A\n")
        terminal.expect(b"foo\r\n")
        terminal.expect(b"gmesh> ")
        # Ctrl-C gives up the line, not the shell.
        terminal.type(b"bogus")
        terminal.expect(b"bogus")
        # Python may sleep through one that comes just before it waits for the next key.
        terminal.expect(b"gmesh> ", nudge=b"\x03")
        # Said again, as one Ctrl-C too many may give it up.
        terminal.expect(b"gmesh.office> ", nudge=b"network office\n")
        terminal.type(b"bogus\n")
        terminal.expect(b"Unknown command `bogus'.")
        terminal.type(b"exit\n")
        assert terminal.wait() == 1
    finally:
        terminal.close()


def test_init_asks_for_the_name_on_a_terminal(net: Path) -> None:
    (net / "tinc.conf").unlink()
    terminal = Terminal(net)
    try:
        terminal.expect(b"gmesh> ")
        terminal.type(b"init\n")
        terminal.expect(b"Enter the Name you want your tinc node to have: ")
        terminal.type(b"a-b\n")
        terminal.expect(b"Invalid Name! Only a-z, A-Z, 0-9 and _ are allowed characters.")
        terminal.type(b"quit\n")
        assert terminal.wait() == 1
    finally:
        terminal.close()


def test_fsck_asks_on_a_terminal(net: Path) -> None:
    (net / "rsa_key.priv").write_text("")
    (net / "rsa_key.priv").chmod(0o644)
    terminal = Terminal(net)
    try:
        terminal.expect(b"gmesh> ")
        terminal.type(b"fsck\n")
        terminal.expect(b"unsafe file permissions on")
        terminal.expect(b"Fix y/n? ")
        terminal.type(b"y\n")
        terminal.expect(b"Fixed permissions of")
        # The script of the fixture is not executable either.
        terminal.expect(b"Fix y/n? ")
        terminal.type(b"n\n")
        terminal.expect(b"gmesh> ")
    finally:
        terminal.close()
    assert (net / "rsa_key.priv").stat().st_mode & 0o777 == 0o600
    assert not os.access(net / "hosts" / "foo-up", os.X_OK)


def test_get_is_light(net: Path) -> None:
    """No event loop, no keys, no server's settings for one line of one file."""
    heavy = ("gevent", "Crypto", "cryptography", "configobj", "gmesh.mesh", "gmesh.config.server", "gmesh.proto")
    code = (
        "import sys; from gmesh.cli.main import main\n"
        f"assert main(['-c', {str(net)!r}, 'get', 'Name']) == 0\n"
        f"assert not [name for name in sys.modules if name.startswith({heavy!r})]"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_get_takes_at_most_five_times_as_long_as_nothing(net: Path) -> None:
    """The best of several runs of both in turn, so that others' work on this machine does not count."""
    tool = Path(sys.executable).with_name("gmesh")
    if not tool.exists():
        pytest.skip("gmesh is not installed beside this Python")

    def seconds(command: list[str]) -> float:
        begin = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - begin

    nothing, get = [], []
    for _ in range(15):
        nothing.append(seconds([sys.executable, "-c", "pass"]))
        get.append(seconds([str(tool), "-c", str(net), "get", "Name"]))
    assert min(get) <= 5 * min(nothing)
