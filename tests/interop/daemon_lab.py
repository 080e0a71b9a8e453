"""Real daemons on loopback: gmeshd and the tincd of either generation, with directories of their own and devices that
are none."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

TINCD = shutil.which("tincd", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
PEERS = Path(__file__).resolve().parents[2] / ".cache" / "peers" / "tinc-1.1" / "bin"
TINCD11 = Path(os.environ.get("TINCD11", PEERS / "tincd"))
TINC11 = Path(os.environ.get("TINC11", PEERS / "tinc"))
BIN = Path(sys.executable).parent
SECONDS = 20.0
"""The longest that anything may take on a busy machine."""


def wait_for(condition: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)


def free_port() -> int:
    """A port free for TCP and UDP on loopback."""
    for _ in range(50):
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


@dataclass
class Node:
    """One daemon's directory and process. ``kind`` is gmesh, tinc (1.0) or tinc11; ``keys`` are rsa and ed25519."""

    name: str
    kind: str
    base: Path
    run: Path
    number: int
    keys: tuple[str, ...] = ("rsa",)
    process: subprocess.Popen[bytes] | None = None
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        (self.base / "hosts").mkdir(parents=True)
        self.configure()
        self.host_file.write_text(f"Address = 127.0.0.1\nPort = {self.port}\nSubnet = 10.0.0.{self.number}\n")
        for key in self.keys:
            self.make_key(key)

    @property
    def host_file(self) -> Path:
        return self.base / "hosts" / self.name

    @property
    def log_file(self) -> Path:
        return self.run / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        return self.run / f"{self.name}.pid"

    def configure(self, *lines: str) -> None:
        head = [f"Name = {self.name}", "DeviceType = dummy", "AddressFamily = ipv4", "BindToAddress = 127.0.0.1"]
        (self.base / "tinc.conf").write_text("\n".join([*head, *lines]) + "\n")

    def make_key(self, key: str) -> None:
        """A key pair, its public half in the own host file."""
        if self.kind == "tinc":
            assert TINCD is not None
            command = [TINCD, "-c", str(self.base), "-K2048"]
        elif self.kind == "tinc11":
            size = ["2048"] if key == "rsa" else []
            command = [str(TINC11), "-b", "-c", str(self.base), f"generate-{key}-keys", *size]
        else:
            command = [str(BIN / "gmesh-keygen"), "-c", str(self.base), f"--{key}", "--batch"]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=120)

    @property
    def command(self) -> list[str]:
        programs = {"gmesh": BIN / "gmeshd", "tinc": TINCD, "tinc11": TINCD11}
        return [str(programs[self.kind]), "-c", str(self.base), f"--pidfile={self.pid_file}"]

    def start(self, *options: str) -> None:
        """In the foreground; returns once the daemon is ready."""
        ready = self.log.count("Ready")
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "-D", "-d2", *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for(lambda: self.log.count("Ready") > ready or not self.alive, f"{self.name} is ready")
        assert self.alive, self.log

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def said(self, pattern: str) -> int:
        return len(re.findall(pattern, self.log))

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self.process is not None
        if self.alive:
            self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def gmesh(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The control tool on this node's daemon."""
        command = [str(BIN / "gmesh"), "-c", str(self.base), f"--pidfile={self.pid_file}", *arguments]
        done = _run(command)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def tool(self, *arguments: str) -> str:
        """What its own generation's control tool says."""
        if self.kind == "gmesh":
            return self.gmesh(*arguments).stdout
        done = _run([str(TINC11), "-c", str(self.base), f"--pidfile={self.pid_file}", *arguments])
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def dump(self, what: str) -> list[str]:
        return self.tool("dump", what).splitlines()

    def run_in_foreground(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Start where the start is expected to fail."""
        return _run([*self.command, *options])


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)


class Mesh:
    """The nodes of one test."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.nodes: dict[str, Node] = {}
        (where / "run").mkdir()

    def node(self, name: str, kind: str = "gmesh", keys: tuple[str, ...] = ("rsa",)) -> Node:
        node = Node(name, kind, self.where / name, self.where / "run", len(self.nodes) + 1, keys)
        self.nodes[name] = node
        return node

    def introduce(self, one: Node, other: Node) -> None:
        """Give each the other's host file."""
        shutil.copy(one.host_file, other.base / "hosts" / one.name)
        shutil.copy(other.host_file, one.base / "hosts" / other.name)

    def wait_connected(self, one: Node, other: Node) -> None:
        for here, there in ((one, other), (other, one)):
            wait_for(partial(here.said, f"Connection with {there.name} .* activated"), f"{here.name} has {there.name}")

    def stop(self) -> None:
        for node in self.nodes.values():
            if node.process is not None and node.alive:
                node.end()
            if node.pid_file.exists():
                with_pid = node.pid_file.read_text().split()
                if with_pid and _is_ours(int(with_pid[0]), node):
                    os.kill(int(with_pid[0]), signal.SIGKILL)


def _is_ours(pid: int, node: Node) -> bool:
    try:
        return str(node.base).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
