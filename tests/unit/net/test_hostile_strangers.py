"""Connections that are given up leave nothing behind: not in queues, not as garbage, not in memory (requirement 18)."""

from __future__ import annotations

import gc
import os
import time

import gevent
import gevent.socket
import pytest
from meta_lab import Notes, connected_pair, make_peer, spawn, wait_for

from gmesh.errors import GmeshError
from gmesh.net import peer as peer_module
from gmesh.net.listener import Listener, open_tcp
from gmesh.net.peer import MAX_WAITING_TEXT, PeerConnection
from gmesh.net.resolver import Resolver
from gmesh.net.strangers import Strangers
from gmesh.net.turnstile import Turnstile


def test_evicted_strangers_do_not_wait_for_their_turn() -> None:
    """A turn that never comes must not hold those who were evicted while they waited for it."""
    hub = Notes()
    turnstile = Turnstile(time.monotonic)
    strangers = Strangers(turnstile, 3)
    server = open_tcp("127.0.0.1", 0)
    listener = Listener(
        server,
        strangers=strangers,
        connection=lambda sock, address: make_peer("me", hub, sock, outgoing=False),
        spawn=spawn,
        log=lambda debug, text, key: None,
    )
    listener.start()
    clients = []
    with turnstile.turn("somebody"):
        for _ in range(10):
            client = gevent.socket.create_connection(server.getsockname())
            client.sendall(b"99\n")
            clients.append(client)
        wait_for(lambda: len(hub.ended) >= 7)
        assert len(strangers) == 3
        assert len(turnstile) <= 3
        assert set(hub.reasons) == {"too many unauthenticated connections"}
    listener.stop()
    for client in clients:
        client.close()
    server.close()


def test_a_connection_that_broke_the_protocol_is_no_garbage_for_the_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer_module, "TARPIT_SECONDS", 0.01)
    gc.collect()
    before = sum(isinstance(each, PeerConnection) for each in gc.get_objects())
    gc.disable()
    try:
        for _ in range(5):
            hub = Notes()
            client, sock = connected_pair()
            peer = make_peer("me", hub, sock, outgoing=False)
            greenlet = spawn("peer", peer.run)
            client.sendall(os.urandom(20) + b"\n")
            greenlet.join(5)
            assert greenlet.dead
            client.close()
            # The notes are this test's own cycle.
            assert len(hub.ended) == 1
            hub.ended.clear()
            hub.events.clear()
            del hub, client, sock, peer, greenlet
        gevent.sleep(0.01)
        left = sum(isinstance(each, PeerConnection) for each in gc.get_objects())
    finally:
        gc.enable()
    assert left - before <= 1


def test_requirement_12_who_does_not_read_is_let_go() -> None:
    hub = Notes()
    client, sock = connected_pair()
    peer = make_peer("me", hub, sock, outgoing=False)
    greenlet = spawn("peer", peer.run)
    wait_for(lambda: hub.open)
    for number in range(MAX_WAITING_TEXT // 100):
        peer.send_line("12 " + "x" * 120, ("edge", str(number), "y"))
    wait_for(lambda: hub.ended)
    assert "read" in hub.reasons[0]
    assert peer.outbox.bytes <= MAX_WAITING_TEXT + 200
    greenlet.join(5)
    client.close()


def test_a_name_that_does_not_resolve_writes_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def ask(host: str, port: str, family: int) -> list[tuple[int, tuple[object, ...]]]:
        raise GmeshError(f"cannot resolve {host}")

    with pytest.raises(GmeshError, match="cannot resolve some"):
        Resolver(ask).resolve("some.where", "655")
    gevent.sleep(0.05)
    assert "Traceback" not in capfd.readouterr().err
