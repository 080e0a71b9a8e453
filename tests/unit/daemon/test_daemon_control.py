"""The control socket against a fake daemon, over a real unix socket."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gevent
import pytest
from gevent import socket

from gmesh.daemon import control_client, control_server, control_streams
from gmesh.daemon.control_server import ControlServer
from gmesh.daemon.logging_setup import NOTICE, DaemonLog, log
from gmesh.daemon.supervisor import Supervisor
from gmesh.errors import GmeshError
from gmesh.proto.control import ConnectionStatus
from gmesh.values import Address
from tests.unit.daemon.fake_backend import COOKIE, Backend, node


class Client:
    """A careful reader of lines."""

    def __init__(self, path: Path, cookie: str | None = COOKIE) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb")
        if cookie is not None:
            self.send(f"0 ^{cookie} 0")

    def send(self, line: str) -> None:
        self.socket.sendall(line.encode() + b"\n")

    def line(self) -> str:
        try:
            return self.file.readline().decode().removesuffix("\n")
        except ConnectionResetError:
            # What a close looks like when some of what we sent was never read.
            return ""

    def ask(self, line: str) -> str:
        self.send(line)
        return self.line()

    def dump(self, line: str) -> list[str]:
        self.send(line)
        lines = [self.line()]
        while lines[-1] != line:
            assert lines[-1]
            lines.append(self.line())
        return lines

    def greet(self) -> Client:
        assert self.line() == "0 foo 17.0"
        assert self.line() == f"4 0 {os.getpid()}"
        return self


class Setup:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "tinc.socket"
        self.log = DaemonLog("tinc", 1)
        self.lines: list[str] = []
        self.log.subscribe(-1, lambda level, created, text: self.lines.append(text))
        self.backend = Backend()
        self.supervisor = Supervisor(lambda reason: None)
        self.server = ControlServer(self.backend, self.supervisor, self.log, COOKIE)
        self.server.listen(str(self.path))

    def client(self) -> Client:
        return Client(self.path).greet()


@dataclass
class TcpPeer:
    """What is used of a connection that came by TCP."""

    address: Address
    socket: socket.socket
    rest: bytes

    def give_up_socket(self) -> tuple[socket.socket, bytes]:
        return self.socket, self.rest


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    made = Setup(tmp_path)
    yield made
    made.server.close()
    made.supervisor.kill_all()
    assert not made.supervisor.failures
    made.log.close()


def test_mode_and_removal(setup: Setup) -> None:
    status = setup.path.stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o700
    setup.server.close()
    assert not setup.path.exists()


def test_left_over_socket_is_replaced_but_a_living_one_is_not(setup: Setup, tmp_path: Path) -> None:
    other = ControlServer(setup.backend, setup.supervisor, setup.log, COOKIE)
    with pytest.raises(GmeshError, match="is still in use"):
        other.listen(str(setup.path))
    setup.client()
    stale = tmp_path / "stale.socket"
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(stale))
    left.close()
    other.listen(str(stale))
    Client(stale).greet()
    other.close()


def test_too_long_path(setup: Setup) -> None:
    with pytest.raises(GmeshError, match="is too long!"):
        ControlServer(setup.backend, setup.supervisor, setup.log, COOKIE).listen("/tmp/" + "x" * 120)


def test_requests_and_answers_byte_for_byte(setup: Setup) -> None:
    client = setup.client()
    assert client.dump("18 3") == [
        "18 3 bar d82c4eb5261c 127.0.0.1 port 7102 427 672 4 0 c 18 bar bar 1 1518 0 1518 0 -1 1 2 3 4",
        "18 3",
    ]
    assert client.dump("18 4") == ["18 4 bar foo 127.0.0.1 port 7101 unspec port unspec 700000c 0", "18 4"]
    assert client.dump("18 5") == ["18 5 ff:ff:ff:ff:ff:ff (broadcast)", "18 5 fd00:1::/64#5 foo", "18 5"]
    lines = client.dump("18 6")
    assert lines[0] == "18 6 bar 127.0.0.1 port 48998 c 15 100"
    assert re.fullmatch(r"18 6 <control> localhost port unix 0 \d+ 200", lines[1])
    assert len(lines) == 3
    assert client.dump("18 13") == ["18 13 bar 1 2 3 4", "18 13"]
    assert client.ask("18 1") == "18 1 0"
    setup.backend.reload_works = False
    assert client.ask("18 1") == "18 1 22"
    assert client.ask("18 8") == "18 8 0"
    assert client.ask("18 10") == "18 10 0"
    assert client.ask("18 9 5") == "18 9 0"
    assert client.ask("18 9 -1") == "18 9 5"
    assert client.ask("18 11 bar") == "18 11 0"
    assert client.ask("18 11 b/ar") == "18 11 -1"
    assert client.ask("18 12 bar") == "18 12 0"
    assert client.ask("18 12 other") == "18 12 -2"
    assert client.ask("18 12") == "18 12 -1"
    for unsupported in ("18 2", "18 7", "18 99", "18 -5"):
        assert client.ask(unsupported) == "18 -1"
    assert setup.backend.calls == ["reload", "reload", "purge", "retry", "connect bar"]
    assert "Got 'reload' command" in setup.lines


def test_several_requests_at_once_and_arguments_of_info(setup: Setup) -> None:
    client = setup.client()
    client.send("18 9 -1\n18 3 bar\n18 9 -1")
    assert client.line() == "18 9 0"
    assert client.line().startswith("18 3 bar ")
    assert client.line() == "18 3"
    assert client.line() == "18 9 0"


@pytest.mark.parametrize("bad", ["18 9", "18 9 x", "0 again 17", "nonsense", "", "19 3", "18"])
def test_malformed_requests_close(setup: Setup, bad: str) -> None:
    client = setup.client()
    assert client.ask(bad) == ""


@pytest.mark.parametrize("first", [f"0 ^{'CD' * 32} 0", "0 ^ 0", "0 bar 17", "18 3", "GET / HTTP/1.1", "x" * 5000])
def test_without_the_cookie_the_socket_is_closed_unanswered(setup: Setup, first: str) -> None:
    client = Client(setup.path, cookie=None)
    assert client.ask(first) == ""


def test_requirement_9_the_cookie_is_never_logged(setup: Setup) -> None:
    setup.log.debug = 10
    setup.client()
    client = Client(setup.path, cookie="EF" * 32)
    assert client.line() == ""
    assert not [line for line in setup.lines if COOKIE in line or "EFEF" in line]


def test_silent_strangers_are_dropped(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_client, "GREETING_LIMIT", 0.05)
    assert Client(setup.path, cookie=None).line() == ""


def test_other_users_are_refused(setup: Setup) -> None:
    setup.server._users = {12345}
    client = Client(setup.path, cookie=None)
    assert client.line() == ""
    assert any("may not control" in line for line in setup.lines)


def test_stop_is_answered_and_the_connection_closed_last(setup: Setup) -> None:
    client = setup.client()
    assert client.ask("18 0") == "18 0 0"
    assert client.ask("18 9 -1") == "18 9 0"
    assert setup.backend.calls == ["stop"]
    setup.supervisor.kill_all(keep=["control"])
    assert client.ask("18 9 -1") == "18 9 0"
    setup.server.close()
    assert client.line() == ""


def test_log_stream(setup: Setup) -> None:
    client = setup.client()
    client.send("18 15 5 0")
    with gevent.Timeout(5):
        while not setup.log.wants(5):
            gevent.sleep(0.01)
    log(5, 10, "traffic")
    log(0, NOTICE, "Ready")
    for expected in (r"[\d-]{10} [\d:]{8} DEBUG   traffic", r"[\d-]{10} [\d:]{8} NOTICE  Ready"):
        header = client.line().split()
        assert header[:2] == ["18", "15"]
        assert re.fullmatch(expected, client.file.read(int(header[2])).decode())
    client.send("18 6")
    assert client.line().startswith("18 6 bar")
    assert client.line().endswith(" a00")
    client.socket.close()
    client.file.close()
    with gevent.Timeout(5):
        while setup.log.wants(5):
            gevent.sleep(0.01)


def test_log_stream_in_colours_ends_with_the_last_line(setup: Setup) -> None:
    client = setup.client()
    client.send("18 15 -1 1")
    while not client.dump("18 6")[-2].endswith(" 1a00"):
        gevent.sleep(0.01)
    log(0, NOTICE, "Terminating")
    setup.server.close()
    length = int(client.line().split()[2])
    text = client.file.read(length).decode()
    assert text.endswith("\x1b[36;1mNOTICE \x1b[0m Terminating")
    assert client.line() == ""


def test_a_log_reader_that_leaves_leaves_nothing(setup: Setup) -> None:
    client = setup.client()
    client.send("18 15 5 0")
    with gevent.Timeout(5):
        while not setup.log.wants(5):
            gevent.sleep(0.01)
        client.file.close()
        client.socket.close()
        while setup.supervisor.names != ["control listener"]:
            gevent.sleep(0.01)
    assert not setup.log.wants(5)


def test_requirement_29_a_client_that_does_not_read_is_dropped_and_delays_nobody(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_client, "STALL_LIMIT", 0.3)
    setup.backend.rows = [node(f"node{number}") for number in range(20_000)]
    slow = [setup.client() for _ in range(control_server.DUMPS_AT_ONCE)]
    for client in slow:
        client.send("18 3\n" * 50)
    longest = 0.0

    def watch() -> None:
        nonlocal longest
        while True:
            # Of this process's own time, whatever else the machine does.
            began = time.process_time()
            gevent.sleep(0.005)
            longest = max(longest, time.process_time() - began)

    watcher = gevent.spawn(watch)
    other = setup.client()
    assert other.ask("18 9 -1") == "18 9 0"
    assert len(other.dump("18 3")) == 20_001
    watcher.kill()
    assert longest < 0.25
    with gevent.Timeout(10):
        while len(setup.server) > 1:
            gevent.sleep(0.01)
    assert any("does not read" in line for line in setup.lines)


def test_requirement_29_a_log_reader_that_sleeps_is_dropped_with_bounded_memory(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_client, "STALL_LIMIT", 30.0)
    client = setup.client()
    client.send("18 15 5 0")
    with gevent.Timeout(10):
        while not setup.log.wants(5):
            gevent.sleep(0.01)
        for _ in range(20):
            for _ in range(200):
                log(5, 10, "x" * 1000)
            gevent.sleep(0)
    served = next(iter(setup.server._clients))
    assert served._log_stream is not None
    assert served._log_stream.failed
    assert served._log_stream._size <= control_streams.LOG_LIMIT
    served.close()


def test_a_reload_tells_more_to_who_asks_for_it(setup: Setup) -> None:
    client = setup.client()
    assert client.ask("18 1 report") == "18 1 0 2"
    assert client.line() == "subnet 10.0.0.0/24 added"
    assert client.line() == "two lines"
    assert client.ask("18 1") == "18 1 0"
    assert client.ask("18 9 -1") == "18 9 0"


def test_captured_frames_cut_and_counted(setup: Setup) -> None:
    client = setup.client()
    client.send("18 14 20")
    with gevent.Timeout(10):
        while not setup.backend.watches:
            gevent.sleep(0.01)
    frame = bytes(range(60))
    for each in (frame, frame[:14]):
        setup.backend.watches[0].receive(each)
    assert client.line() == "18 14 20"
    assert client.file.read(20) == frame[:20]
    assert client.line() == "18 14 14"
    assert client.file.read(14) == frame[:14]
    status = int(client.dump("18 6")[-2].split()[-1], 16)
    assert status == ConnectionStatus.CONTROL | ConnectionStatus.PCAP
    client.socket.close()
    client.file.close()
    with gevent.Timeout(10):
        while not setup.backend.watches[0].closed:
            gevent.sleep(0.01)


def test_requirement_29_a_capture_that_is_not_read_misses_frames_and_keeps_no_more_memory(setup: Setup) -> None:
    client = setup.client()
    client.send("18 14 0")
    with gevent.Timeout(10):
        while not setup.backend.watches:
            gevent.sleep(0.01)
    for _ in range(2000):
        setup.backend.watches[0].receive(bytes(1500))
    stream = next(iter(setup.server._clients))._capture_stream
    assert stream is not None
    assert stream.lost > 0
    assert stream._size <= control_streams.CAPTURE_LIMIT
    assert client.line() == "18 14 1500"


def test_requirement_29_a_hundred_clients_and_more(setup: Setup) -> None:
    clients = [setup.client() for _ in range(100)]
    assert [client.ask("18 9 -1") for client in clients] == ["18 9 0"] * 100
    more = [setup.client() for _ in range(100)]
    assert [client.ask("18 9 -1") for client in more] == ["18 9 0"] * 100
    assert len(setup.server) == control_server.MAX_CLIENTS
    assert clients[0].line() == ""


def test_a_waiting_stop_is_not_pushed_out_by_others(setup: Setup) -> None:
    waiting = setup.client()
    assert waiting.ask("18 0") == "18 0 0"
    others = [setup.client() for _ in range(control_server.MAX_CLIENTS + 10)]
    assert waiting.ask("18 9 -1") == "18 9 0"
    assert others[0].line() == ""


def test_adopting_a_tcp_connection(setup: Setup) -> None:
    ours, theirs = socket.socketpair()
    local = TcpPeer(Address("127.0.0.1", "4711"), ours, b"18 6\n")
    assert not setup.server.adopt(local, "wrong")  # type: ignore[arg-type]
    assert not setup.server.adopt(TcpPeer(Address("192.0.2.1", "4711"), ours, b""), COOKIE)  # type: ignore[arg-type]
    assert setup.server.adopt(local, COOKIE)  # type: ignore[arg-type]
    file = theirs.makefile("rb")
    assert file.readline() == b"0 foo 17.0\n"
    assert file.readline().startswith(b"4 0 ")
    assert file.readline().startswith(b"18 6 bar")
    assert file.readline().startswith(b"18 6 <control> 127.0.0.1 port 4711 0 ")
    assert file.readline() == b"18 6\n"
