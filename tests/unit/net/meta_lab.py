"""Two ends of a meta connection over real loopback sockets, with a hub that only takes notes."""

from __future__ import annotations

import functools
import hashlib
import os
import socket as std_socket
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.socket

from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.crypto.rsa import RsaPrivateKey
from gmesh.errors import PeerError
from gmesh.mesh.outbox import Outbox
from gmesh.net.peer import PeerConnection
from gmesh.proto.meta_base import PeerCredentials
from gmesh.proto.meta_events import Active, FrameReceived, Identified, MetaEvent, RequestReceived, Verified
from gmesh.proto.meta_start import MetaStart
from gmesh.values import Address


@functools.cache
def key_of(name: str) -> RsaPrivateKey:
    return RsaPrivateKey.generate(1024)


@functools.cache
def ed25519_key_of(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_seed(hashlib.sha256(name.encode()).digest())


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        gevent.sleep(0.002)


def connected_pair() -> tuple[Any, Any]:
    """A connecting and an accepting socket."""
    with gevent.socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        outgoing = gevent.socket.create_connection(listener.getsockname())
        return outgoing, listener.accept()[0]


class Notes:
    """Implements Hub. ``known`` are the names that have credentials; verified peers may proceed unless ``hold``."""

    def __init__(self, *known: str, hold: bool = False, knows_ed25519: bool = True) -> None:
        self.known = set(known)
        self.hold = hold
        self.knows_ed25519 = knows_ed25519
        self.open: list[PeerConnection] = []
        self.events: list[MetaEvent] = []
        self.ended: list[tuple[PeerConnection, str]] = []
        self.on_event: Callable[[PeerConnection, MetaEvent], None] = lambda peer, event: None

    def credentials(self, name: str) -> PeerCredentials:
        if name not in self.known:
            raise PeerError(f"unknown identity ({name})")
        public = ed25519_key_of(name).public if self.knows_ed25519 else None
        return PeerCredentials(key_of(name).public, 12, ed25519=public)

    def opened(self, peer: PeerConnection) -> None:
        self.open.append(peer)

    def event(self, peer: PeerConnection, event: MetaEvent) -> None:
        self.events.append(event)
        if isinstance(event, Identified):
            peer.name = event.name
        self.on_event(peer, event)
        if isinstance(event, Verified) and not self.hold:
            peer.proceed()

    def closed(self, peer: PeerConnection, reason: str) -> None:
        self.open.remove(peer)
        self.ended.append((peer, reason))

    @property
    def reasons(self) -> list[str]:
        return [reason for _peer, reason in self.ended]

    @property
    def lines(self) -> list[str]:
        return [event.line for event in self.events if isinstance(event, RequestReceived)]

    @property
    def frames(self) -> list[bytes]:
        return [event.frame for event in self.events if isinstance(event, FrameReceived)]

    @property
    def active(self) -> bool:
        return any(isinstance(event, Active) for event in self.events)


def spawn(name: str, function: Callable[..., object], *args: object, policy: str = "log") -> gevent.Greenlet:
    return gevent.spawn(function, *args)


def make_peer(
    me: str,
    hub: Any,
    sock: Any,
    *,
    outgoing: bool,
    peer: str = "",
    interval: float = 60.0,
    timeout: float = 5.0,
    max_bytes: int = 100_000,
    address: Address | None = None,
    sptps: bool = False,
) -> PeerConnection:
    meta = MetaStart(
        outgoing=outgoing,
        my_name=me,
        rsa_key=key_of(me),
        ed25519_key=ed25519_key_of(me) if sptps else None,
        expected_name=peer if outgoing else "",
        credentials=hub.credentials,
        entropy=os.urandom,
        now=time.monotonic(),
        ping_interval=interval,
        ping_timeout=timeout,
        port="655",
    )
    return PeerConnection(
        sock=sock,
        address=address or Address.from_sockaddr(sock.getpeername()),
        meta=meta,
        outbox=Outbox(max_bytes),
        hub=hub,
        clock=time.monotonic,
        spawn=spawn,
        outgoing=outgoing,
        name=peer if outgoing else "",
    )


class Link:
    """alpha has connected to beta; both ends run."""

    def __init__(self, *, buffer: int = 0, hold: bool = False, knows_ed25519: bool = True, **options: Any) -> None:
        here, there = connected_pair()
        if buffer:
            for sock in (here, there):
                sock.setsockopt(std_socket.SOL_SOCKET, std_socket.SO_SNDBUF, buffer)
                sock.setsockopt(std_socket.SOL_SOCKET, std_socket.SO_RCVBUF, buffer)
        self.alpha_hub = Notes("beta", knows_ed25519=knows_ed25519)
        self.beta_hub = Notes("alpha", hold=hold, knows_ed25519=knows_ed25519)
        self.alpha = make_peer("alpha", self.alpha_hub, here, outgoing=True, peer="beta", **options)
        self.beta = make_peer("beta", self.beta_hub, there, outgoing=False, **options)
        self.greenlets = [gevent.spawn(self.alpha.run), gevent.spawn(self.beta.run)]

    def wait_active(self) -> None:
        wait_for(lambda: self.alpha_hub.active and self.beta_hub.active)

    def wait_ended(self, seconds: float = 10.0) -> None:
        gevent.joinall(self.greenlets, timeout=seconds)
        assert all(greenlet.dead for greenlet in self.greenlets)

    def stop(self) -> None:
        gevent.killall(self.greenlets)
