"""Requirement 18: what strangers may hold, in which order they are heard, and what they cost."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent.server import StreamServer
from meta_lab import Notes, connected_pair, key_of, make_peer, spawn, wait_for

from gmesh.net import listener as listener_module
from gmesh.net import peer as peer_module
from gmesh.net.listener import Listener, open_tcp
from gmesh.net.strangers import Strangers, source_of
from gmesh.net.turnstile import Turnstile


def table(limit: int) -> Strangers:
    return Strangers(Turnstile(time.monotonic), limit)


# The table


def test_sources() -> None:
    assert source_of("10.0.0.1") != source_of("10.0.0.2")
    assert source_of("fd00:1::1") == source_of("fd00:1::ffff:2") == source_of("fd00:1::3%eth0")
    assert source_of("fd00:1::1") != source_of("fd00:1:0:1::1")
    assert source_of("no address") == "no address"


def test_the_greediest_source_makes_room() -> None:
    evicted: list[str] = []
    strangers = table(4)
    for number in range(3):
        strangers.admit("greedy", lambda number=number: evicted.append(f"greedy {number}"))
    strangers.admit("modest", lambda: evicted.append("modest"))
    strangers.admit("new", lambda: evicted.append("new"))
    assert evicted == ["greedy 0"]
    assert len(strangers) == 4


def test_who_got_further_goes_later() -> None:
    evicted: list[int] = []
    strangers = table(3)
    places = [strangers.admit("same", lambda number=number: evicted.append(number)) for number in range(3)]
    places[0].progress()
    strangers.admit("same", lambda: evicted.append(3))
    strangers.admit("same", lambda: evicted.append(4))
    assert evicted == [1, 2]


def test_leaving_twice_and_after_an_eviction_is_harmless() -> None:
    strangers = table(1)
    first = strangers.admit("a", lambda: None)
    second = strangers.admit("a", lambda: None)
    first.leave()
    first.progress()
    assert len(strangers) == 1
    second.leave()
    second.leave()
    assert len(strangers) == 0
    strangers.evict_one()


# The turnstile


def passing(turnstile: Turnstile, source: str, passed: list[str], name: str) -> gevent.Greenlet:
    def work() -> None:
        with turnstile.turn(source):
            passed.append(name)

    return gevent.spawn(work)


def test_sources_take_turns_and_keep_their_order() -> None:
    turnstile = Turnstile(time.monotonic)
    passed: list[str] = []
    with turnstile.turn("busy"):
        waiting = [passing(turnstile, "busy", passed, f"busy {number}") for number in range(3)]
        waiting.append(passing(turnstile, "other", passed, "other"))
        gevent.sleep(0)
        assert len(turnstile) == 4
        assert passed == []
    gevent.joinall(waiting, timeout=5)
    assert passed == ["busy 0", "other", "busy 1", "busy 2"]


def test_steps_that_fail_rest_as_well() -> None:
    now = [0.0]
    turnstile = Turnstile(lambda: now[0])
    began = time.monotonic()
    with pytest.raises(ValueError, match="bogus"), turnstile.turn("a"):  # noqa: PT012
        now[0] += 0.2
        raise ValueError("bogus")
    assert time.monotonic() - began >= 0.2
    with turnstile.turn("a"):
        pass


@pytest.mark.parametrize("called", [False, True])
def test_one_that_is_killed_while_it_waits_blocks_nobody(called: bool) -> None:
    turnstile = Turnstile(time.monotonic)
    passed: list[str] = []
    with turnstile.turn("a"):
        doomed = passing(turnstile, "b", passed, "doomed")
        next_one = passing(turnstile, "c", passed, "next")
        gevent.sleep(0)
        if not called:
            doomed.kill()
    if called:
        doomed.kill()
    next_one.join(5)
    assert "next" in passed
    assert len(turnstile) == 0


# The listener, over real sockets


class Server:
    """beta listens on loopback."""

    def __init__(self, limit: int = 256) -> None:
        self.hub = Notes("alpha")
        self.lines: list[str] = []
        self.sock = open_tcp("127.0.0.1", 0)
        self.port = self.sock.getsockname()[1]
        self.strangers = table(limit)
        self.greenlets: list[gevent.Greenlet] = []
        self.listener = Listener(
            self.sock,
            strangers=self.strangers,
            connection=lambda sock, address: make_peer("beta", self.hub, sock, outgoing=False),
            spawn=self.spawn,
            log=lambda debug, text, key: self.lines.append(text),
        )
        self.listener.start()

    def spawn(self, name: str, *work: Any, **options: Any) -> gevent.Greenlet:
        greenlet = spawn(name, *work)
        self.greenlets.append(greenlet)
        return greenlet

    def connect(self) -> Any:
        return gevent.socket.create_connection(("127.0.0.1", self.port))

    def admit_alpha(self) -> float:
        """Seconds until a legitimate peer was let in."""
        began = time.monotonic()
        hub = Notes("beta")
        sock = self.connect()
        peer = make_peer("alpha", hub, sock, outgoing=True, peer="beta")
        greenlet = gevent.spawn(peer.run)
        wait_for(lambda: hub.active or hub.ended)
        assert hub.active, hub.reasons
        greenlet.kill()
        return time.monotonic() - began

    def stop(self) -> None:
        self.listener.stop()
        gevent.killall(self.greenlets)
        self.sock.close()


@pytest.fixture
def server() -> Iterator[Server]:
    key_of("alpha"), key_of("beta")
    server = Server()
    yield server
    server.stop()


def test_requirement_18_two_hundred_idle_connections_delay_nobody(server: Server) -> None:
    idle = [server.connect() for _ in range(200)]
    wait_for(lambda: len(server.strangers) == 200)
    assert server.admit_alpha() < 1.0
    assert server.hub.reasons == []
    wait_for(lambda: server.hub.reasons == ["connection closed by peer"])
    assert len(server.strangers) == len(idle)


def test_requirement_18_a_flood_from_the_same_address_evicts_its_own() -> None:
    server = Server(limit=20)
    server.admit_alpha()
    idle = [server.connect() for _ in range(50)]
    wait_for(lambda: len(server.hub.open) == 20)
    assert server.admit_alpha() < 1.0
    assert len(server.strangers) <= 20
    assert set(server.hub.reasons) == {"too many unauthenticated connections", "connection closed by peer"}
    # The evicted sockets are really closed.
    assert idle[0].recv(1) == b""
    server.stop()


def test_requirement_18_bogus_meta_keys_leave_the_loop_to_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_module, "TARPIT_SECONDS", 0.0)
    bogus = b"0 alpha 17\n1 427 672 0 0 00" + os.urandom(127).hex().upper().encode() + b"\n2 zz\n"

    def attack() -> None:
        while True:
            with server.connect() as sock:
                sock.sendall(bogus)
                sock.recv(4096)
                sock.recv(4096)

    attackers = [gevent.spawn(attack) for _ in range(30)]
    wait_for(lambda: len(server.hub.ended) > 30)
    longest, end = 0.0, time.monotonic() + 0.5
    while time.monotonic() < end:
        # Of this process's own time, whatever else the machine does.
        began = time.process_time()
        gevent.sleep(0.001)
        longest = max(longest, time.process_time() - began)
    assert longest < 0.2
    assert server.admit_alpha() < 1.0
    gevent.killall(attackers)


def test_an_accept_that_fails_makes_room_and_goes_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "ACCEPT_PAUSE", 0.01)
    errors = [errno.EMFILE, errno.ECONNABORTED, errno.ENFILE]
    accept = StreamServer.do_read

    def fail_at_first(self: StreamServer) -> Any:
        if errors:
            number = errors.pop(0)
            raise OSError(number, os.strerror(number))
        return accept(self)

    monkeypatch.setattr(StreamServer, "do_read", fail_at_first)
    evicted: list[bool] = []
    server.strangers.admit("somebody", lambda: evicted.append(True))
    server.admit_alpha()
    assert evicted == [True]
    assert sum("Too many open files" in line for line in server.lines) == 2


def test_stop_accepts_no_more_but_keeps_connections(server: Server) -> None:
    sock = server.connect()
    wait_for(lambda: len(server.hub.open) == 1)
    server.listener.stop()
    server.sock.close()
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    assert len(server.hub.open) == 1
    sock.close()
    wait_for(lambda: server.hub.ended)


def test_a_socket_is_closed_when_no_peer_can_be_made(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(sock: object, address: object) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(server.listener, "_connection", refuse)
    with server.connect() as sock:
        sock.settimeout(5)
        assert sock.recv(1) == b""


def test_open_tcp_leaves_no_socket_behind() -> None:
    here, there = connected_pair()
    with pytest.raises(OSError, match="in use"):
        open_tcp("127.0.0.1", there.getsockname()[1])
    here.close()
    there.close()
