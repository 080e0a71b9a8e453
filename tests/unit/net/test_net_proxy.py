"""Connections through proxies on the loopback interface, and through a command."""

from __future__ import annotations

import os
import shlex
import signal
import socket as std_socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest
from meta_lab import Notes, make_peer, spawn, wait_for

from gmesh.errors import GmeshError
from gmesh.net.backoff import Backoff
from gmesh.net.dialer import Dialer
from gmesh.net.listener import open_tcp
from gmesh.net.peer import PeerConnection
from gmesh.net.proxy import NOWHERE, ProxyConnector
from gmesh.net.resolver import Resolved, lookup
from gmesh.proto.proxy import ProxySettings
from gmesh.values import Address

RELAY = """
import os, select, socket, sys
target = socket.create_connection((os.environ["REMOTEADDRESS"], int(os.environ["REMOTEPORT"])))
open(sys.argv[1], "w").write("\\n".join(f"{k}={os.environ.get(k)}" for k in ("NODE", "NAME", "NETNAME", "SECRET")))
while True:
    for ready in select.select([0, target], [], [])[0]:
        data = os.read(0, 4096) if ready == 0 else target.recv(4096)
        if not data:
            sys.exit()
        if ready == 0:
            target.sendall(data)
        else:
            os.write(1, data)
"""


class Beta:
    """The target: a node that accepts meta connections."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.hub = Notes("alpha")
        self.sock = open_tcp(host, 0)
        self.sock.settimeout(None)
        self.port = int(self.sock.getsockname()[1])
        self.greenlets = [gevent.spawn(self._accept)]

    def _accept(self) -> None:
        while True:
            sock, _ = self.sock.accept()
            self.greenlets.append(gevent.spawn(make_peer("beta", self.hub, sock, outgoing=False).run))

    def stop(self) -> None:
        gevent.killall(self.greenlets)
        self.sock.close()


class FakeProxy:
    """A proxy that really relays. ``talk(read, write)`` has the conversation and returns the target, or None."""

    def __init__(self, talk: Callable[[Any], tuple[str, int] | None], *, dribble: bool = False) -> None:
        self.talk = talk
        self.dribble = dribble
        self.asked: list[tuple[str, int] | None] = []
        self.sock = open_tcp("127.0.0.1", 0)
        self.sock.settimeout(None)
        self.port = int(self.sock.getsockname()[1])
        self.greenlets = [gevent.spawn(self._accept)]

    def _accept(self) -> None:
        while True:
            sock, _ = self.sock.accept()
            self.greenlets.append(gevent.spawn(self._serve, sock))

    def _serve(self, sock: Any) -> None:
        with sock:
            target = self.talk(self.channel(sock))
            self.asked.append(target)
            if target is None:
                return
            with gevent.socket.create_connection(target) as onward:
                pipes = [gevent.spawn(pipe, sock, onward), gevent.spawn(pipe, onward, sock)]
                try:
                    gevent.joinall(pipes, count=1)
                finally:
                    gevent.killall(pipes)

    def channel(self, sock: Any) -> Channel:
        return Channel(sock, self.dribble)

    def stop(self) -> None:
        gevent.killall(self.greenlets)
        self.sock.close()


class Channel:
    """The proxy's end of the conversation."""

    def __init__(self, sock: Any, dribble: bool) -> None:
        self.sock = sock
        self.dribble = dribble

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            assert piece
            data += piece
        return data

    def read_until(self, end: bytes) -> bytes:
        data = b""
        while not data.endswith(end):
            data += self.read(1)
        return data

    def write(self, data: bytes) -> None:
        if not self.dribble:
            self.sock.sendall(data)
            return
        for index in range(len(data)):
            self.sock.sendall(data[index : index + 1])
            gevent.sleep(0.001)


def pipe(source: Any, sink: Any) -> None:
    while data := source.recv(4096):
        sink.sendall(data)


def socks4(channel: Channel) -> tuple[str, int]:
    head = channel.read(8)
    assert head[:2] == b"\x04\x01"
    assert channel.read_until(b"\0") == b"joe\0"
    host = std_socket.inet_ntoa(head[4:8])
    if host == "0.0.0.1":
        host = {"beta.example": "127.0.0.1"}[channel.read_until(b"\0")[:-1].decode()]
    channel.write(b"\0\x5a" + bytes(6))
    return host, int.from_bytes(head[2:4], "big")


def socks5(version: int) -> Callable[[Channel], tuple[str, int] | None]:
    """A proxy that wants joe's password and answers it with this version number."""

    def talk(channel: Channel) -> tuple[str, int] | None:
        assert channel.read(3) == b"\x05\x01\x02"
        channel.write(b"\x05\x02")
        user = channel.read(channel.read(2)[1])
        password = channel.read(channel.read(1)[0])
        if (user, password) != (b"joe", b"secret"):
            channel.write(bytes((version, 1)))
            return None
        channel.write(bytes((version, 0)))
        kind = channel.read(4)[3]
        if kind == 3:
            host = {"beta.example": "127.0.0.1"}[channel.read(channel.read(1)[0]).decode()]
        else:
            family, size = (std_socket.AF_INET, 4) if kind == 1 else (std_socket.AF_INET6, 16)
            host = std_socket.inet_ntop(family, channel.read(size))
        port = int.from_bytes(channel.read(2), "big")
        channel.write(b"\x05\0\0\x03\x05proxy\x12\x34")
        return host, port

    return talk


def http(channel: Channel) -> tuple[str, int]:
    head = channel.read_until(b"\r\n\r\n").decode()
    host, _, port = head.split()[1].rpartition(":")
    channel.write(b"HTTP/1.0 200 Connection established\r\nVia: 1.0 proxy\r\nX: y\r\n\r\n")
    return {"beta.example": "127.0.0.1"}.get(host, host.strip("[]")), int(port)


class Alpha:
    """Dials beta by a proxy. Implements DialerHost."""

    def __init__(self, text: str, *candidates: tuple[str, int]) -> None:
        self.hub = Notes("beta")
        self.spawn = spawn
        self.lines: list[str] = []
        self.looked_up: list[str] = []
        self._candidates = [(host, str(port)) for host, port in candidates]
        self.prepared = 0
        settings = ProxySettings.parse(text)
        assert settings is not None
        self.connector = ProxyConnector(
            settings, resolve=self.look_up, prepare=self.prepare, variables={"NAME": "alpha", "NETNAME": "net"}
        )
        dialer = Dialer(
            "beta",
            self,
            backoff=Backoff(0, 900),
            connect_timeout=1.0,
            clock=time.monotonic,
            proxy=lambda: self.connector,
        )
        self.greenlet = gevent.spawn(dialer.run)

    def look_up(self, host: str, port: str, family: int) -> Resolved:
        self.looked_up.append(host)
        if host.endswith(".example"):
            raise GmeshError(f"cannot resolve {host}")
        return lookup(host, port, family)

    def candidates(self, name: str) -> list[tuple[str, str]]:
        return self._candidates

    def resolve(self, host: str, port: str) -> Resolved:
        raise AssertionError("nothing is dialled directly")

    def connected(self, name: str) -> bool:
        return any(peer.active for peer in self.hub.open)

    def prepare(self, sock: Any, family: int) -> None:
        self.prepared += 1

    def connection(self, sock: Any, address: Address, name: str) -> PeerConnection:
        return make_peer("alpha", self.hub, sock, outgoing=True, peer=name, timeout=1.0, address=address)

    def log(self, debug: int, text: str, key: str = "") -> None:
        self.lines.append(text)

    def said(self, words: str) -> bool:
        return any(words in line for line in self.lines)

    def address(self) -> Address:
        """The one that the established connection has."""
        wait_for(lambda: self.connected("beta"))
        return next(peer.address for peer in self.hub.open if peer.active)


@pytest.fixture
def beta() -> Iterator[Beta]:
    beta = Beta()
    yield beta
    beta.stop()


@pytest.fixture
def use() -> Iterator[Callable[[Any], Any]]:
    """Registers what has to be stopped."""
    used: list[Any] = []

    def register(thing: Any) -> Any:
        used.append(thing)
        return thing

    yield register
    for thing in used:
        if isinstance(thing, Alpha):
            thing.greenlet.kill()
        else:
            thing.stop()


PROXIES = [
    ("socks4 127.0.0.1 {port} joe", socks4),
    ("socks4a 127.0.0.1 {port} joe", socks4),
    ("socks5 127.0.0.1 {port} joe secret", socks5(1)),
    ("socks5 127.0.0.1 {port} joe secret", socks5(5)),
    ("http 127.0.0.1 {port}", http),
]


@pytest.mark.parametrize("dribble", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(("text", "talk"), PROXIES)
def test_requirement_22_a_meta_connection_through_each_kind_of_proxy(
    text: str, talk: Any, dribble: bool, beta: Beta, use: Any
) -> None:
    proxy = use(FakeProxy(talk, dribble=dribble))
    alpha = use(Alpha(text.format(port=proxy.port), ("127.0.0.1", beta.port)))
    assert alpha.address() == Address("127.0.0.1", str(beta.port))
    wait_for(lambda: beta.hub.active)
    assert proxy.asked == [("127.0.0.1", beta.port)]
    assert alpha.prepared == 1


@pytest.mark.parametrize(("text", "talk"), PROXIES[1:])
def test_names_that_only_the_proxy_knows(text: str, talk: Any, beta: Beta, use: Any) -> None:
    proxy = use(FakeProxy(talk))
    alpha = use(Alpha(text.format(port=proxy.port), ("beta.example", beta.port)))
    assert alpha.address() == Address(NOWHERE, str(beta.port))
    assert proxy.asked == [("127.0.0.1", beta.port)]


def test_a_name_goes_to_the_proxy_though_we_can_look_it_up_for_the_edge(beta: Beta, use: Any) -> None:
    asked: list[bytes] = []

    def talk(channel: Channel) -> tuple[str, int]:
        asked.append(channel.read_until(b"\r\n\r\n"))
        channel.write(b"HTTP/1.1 200 OK\r\n\r\n")
        return "127.0.0.1", beta.port

    proxy = use(FakeProxy(talk))
    alpha = use(Alpha(f"http 127.0.0.1 {proxy.port}", ("localhost", beta.port)))
    assert alpha.address().host in {"127.0.0.1", "::1"}
    assert asked[0].startswith(b"CONNECT localhost:")


def test_an_ipv6_target_by_an_ipv4_proxy(use: Any) -> None:
    beta = use(Beta("::1"))
    proxy = use(FakeProxy(http))
    alpha = use(Alpha(f"http 127.0.0.1 {proxy.port}", ("::1", beta.port)))
    assert alpha.address() == Address("::1", str(beta.port))


def test_what_the_target_says_right_behind_the_answer_is_not_lost(use: Any) -> None:
    lines: list[bytes] = []

    def talk(channel: Channel) -> None:
        channel.read_until(b"\r\n\r\n")
        channel.write(b"HTTP/1.1 200 OK\r\n\r\n0 beta 17\nmore")
        lines.append(channel.read_until(b"\n"))

    proxy = use(FakeProxy(talk))
    settings = ProxySettings.parse(f"http 127.0.0.1 {proxy.port}")
    assert settings is not None
    connector = ProxyConnector(settings, resolve=lookup, prepare=lambda sock, family: None, variables={})
    sock, _ = connector.open("beta", ("10.0.0.1", 655), 2.0)
    with sock:
        assert sock.recv(100) == b"0 beta 17\nmore"
        sock.sendall(b"0 alpha 17\n")
        wait_for(lambda: lines == [b"0 alpha 17\n"])


def refuse(channel: Channel) -> None:
    channel.read_until(b"\r\n\r\n")
    channel.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")


def hang_up(channel: Channel) -> None:
    channel.read_until(b"\r\n\r\n")


def hang(channel: Channel) -> None:
    channel.read_until(b"never")


@pytest.mark.parametrize(
    ("talk", "words"), [(refuse, "403 Forbidden"), (hang_up, "closed the connection"), (hang, "Timeout while")]
)
def test_a_proxy_that_does_not_help_is_reported(talk: Any, words: str, beta: Beta, use: Any) -> None:
    proxy = use(FakeProxy(talk))
    alpha = use(Alpha(f"http 127.0.0.1 {proxy.port}", ("127.0.0.1", beta.port)))
    wait_for(lambda: alpha.said(words))
    assert not alpha.hub.open


def test_a_wrong_password_is_reported_and_not_shown(beta: Beta, use: Any) -> None:
    proxy = use(FakeProxy(socks5(1)))
    alpha = use(Alpha(f"socks5 127.0.0.1 {proxy.port} joe wrongsecret", ("127.0.0.1", beta.port)))
    wait_for(lambda: alpha.said("does not accept the user name and the password"))
    assert not alpha.said("wrongsecret")


def test_a_proxy_that_is_not_there(beta: Beta, use: Any) -> None:
    with std_socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        alpha = use(Alpha(f"socks4 127.0.0.1 {port} joe", ("127.0.0.1", beta.port)))
        wait_for(lambda: alpha.said(f"proxy 127.0.0.1 port {port}: "))


def test_addresses_are_tried_one_after_the_other(beta: Beta, use: Any) -> None:
    def talk(channel: Channel) -> tuple[str, int] | None:
        head = channel.read_until(b"\r\n\r\n")
        if b"10.9.9.9" in head:
            channel.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return None
        channel.write(b"HTTP/1.1 200 OK\r\n\r\n")
        return "127.0.0.1", beta.port

    proxy = use(FakeProxy(talk))
    alpha = use(Alpha(f"http 127.0.0.1 {proxy.port}", ("10.9.9.9", 655), ("127.0.0.1", beta.port)))
    assert alpha.address().host == "127.0.0.1"
    assert proxy.asked == [None, ("127.0.0.1", beta.port)]


def test_a_command_relays_and_knows_where_to(
    beta: Beta, use: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE", "somebody else")
    monkeypatch.setenv("TINC_UMBILICAL", "1 x")
    script, seen = tmp_path / "relay.py", tmp_path / "seen"
    script.write_text(RELAY)
    command = shlex.join([sys.executable, str(script), str(seen)])
    alpha = use(Alpha(f"exec {command}", ("127.0.0.1", beta.port)))
    assert alpha.address() == Address("127.0.0.1", str(beta.port))
    wait_for(lambda: beta.hub.active)
    assert seen.read_text().splitlines() == ["NODE=beta", "NAME=alpha", "NETNAME=net", "SECRET=None"]


def test_a_command_that_ends_at_once_is_a_failed_attempt_and_leaves_no_zombie(beta: Beta, use: Any) -> None:
    alpha = use(Alpha("exec exit 3", ("127.0.0.1", beta.port)))
    wait_for(lambda: bool(alpha.hub.ended))
    assert not beta.hub.active
    wait_for(lambda: not zombies())


def test_a_command_is_given_a_name_that_only_it_knows(use: Any, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    use(Alpha(f'exec echo "$REMOTEADDRESS $REMOTEPORT" > {seen}', ("beta.example", 655)))
    wait_for(lambda: seen.exists() and seen.read_text() == "beta.example 655\n")


def test_a_command_begins_with_ordinary_signals_and_few_descriptors(use: Any, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    inheritable = [os.dup(0) for _ in range(20)]
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        for number in inheritable:
            os.set_inheritable(number, True)
        use(
            Alpha(
                f"exec (grep SigIgn /proc/self/status; ls /proc/self/fd) > {seen}.new; mv {seen}.new {seen}", ("::1", 1)
            )
        )
        wait_for(seen.exists)
    finally:
        signal.signal(signal.SIGPIPE, before)
        for number in inheritable:
            os.close(number)
    # The shell has some of its own.
    inheritable = inheritable[10:]
    ignored, *descriptors = seen.read_text().split()[1:]
    assert int(ignored, 16) & 1 << (signal.SIGPIPE - 1) == 0
    assert not {str(number) for number in inheritable} & set(descriptors)


def zombies() -> list[str]:
    """Children of ours that have ended and were not waited for."""
    found = []
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state == "Z" and int(parent) == os.getpid():
                found.append(pid)
    return found
