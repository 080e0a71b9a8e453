"""One TCP connection that speaks the meta protocol: a reader, a writer, and nothing that decides.

The reader feeds bytes to the protocol object and passes its events to the hub; the writer drains first what the
protocol object has to say, then the outbox. Two greenlets, because one alone dead-locks when both ends send their
whole databases. Not here: connecting (`dialer.py`), accepting (`listener.py`), gossip (`gmesh.mesh`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket as std_socket
from collections.abc import Callable, Hashable
from itertools import count
from typing import Any, Protocol

import gevent
import gevent.event
import gevent.socket

from gmesh.errors import PeerError
from gmesh.mesh.outbox import Outbox
from gmesh.net.contract import Hub
from gmesh.proto.meta import LegacyMeta
from gmesh.proto.meta_events import Active
from gmesh.values import Address

READ_SIZE = 65536
WRITE_SIZE = 16384
"""At most so many plain bytes are encrypted before the socket has taken the ones before (contract 4)."""

META_SEGMENT = 1160
"""TCP_MAXSEG of meta connections: small enough to survive a path whose MTU shrinks without a word (requirement 14)."""

LONGEST_NAP = 1.0
"""Seconds after which a reader looks at the clock again, since a PING may have been sent meanwhile by `ping_now`."""

TARPIT_SECONDS = 2.0
"""How long a stranger's connection stays open in silence after an error."""

IPTOS_LOWDELAY = 0x10
_next_id = count(1).__next__


class Spawn(Protocol):
    """The supervisor's spawn: every greenlet goes through it (contract 7)."""

    def __call__(self, name: str, function: Callable[..., object], *args: object) -> gevent.Greenlet: ...


def tune_meta_socket(sock: Any) -> None:
    """Set what every meta connection's socket has: no delay, low-delay TOS, small segments. Refusals do not matter."""
    settings = [
        (std_socket.IPPROTO_TCP, std_socket.TCP_NODELAY, 1),
        (std_socket.IPPROTO_TCP, std_socket.TCP_MAXSEG, META_SEGMENT),
        (std_socket.IPPROTO_IP, std_socket.IP_TOS, IPTOS_LOWDELAY),
    ]
    for level, option, value in settings:
        with contextlib.suppress(OSError):
            sock.setsockopt(level, option, value)


def reason_of(error: OSError) -> str:
    """The system's own words for an error, without its number."""
    return error.strerror or os.strerror(error.errno or errno.EIO)


class PeerConnection:
    """`run()` lives as long as the connection does; everything else is called from elsewhere and never yields.

    ``name`` is empty until an incoming peer has said it; ``address`` is the other end's TCP address.
    """

    def __init__(
        self,
        *,
        sock: Any,
        address: Address,
        meta: LegacyMeta,
        outbox: Outbox,
        hub: Hub,
        clock: Callable[[], float],
        spawn: Spawn,
        outgoing: bool,
        name: str = "",
    ) -> None:
        self.id = _next_id()
        self.sock = sock
        self.address = address
        self.outgoing = outgoing
        self.name = name
        self.active = False
        self.outbox = outbox
        self.meta = meta
        self._hub = hub
        self._clock = clock
        self._spawn = spawn
        self.on_active: Callable[[], None] | None = None
        self._wake = gevent.event.Event()
        self._ended = gevent.event.Event()
        self._close_reason: str | None = None

    def __str__(self) -> str:
        return f"{self.name or '<unknown>'} ({self.address})"

    @property
    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return int(self.sock.fileno())

    def send_line(self, line: str, fact: Hashable = None) -> None:
        """Queue a request line; a later one about the same ``fact`` replaces it while it waits."""
        self.outbox.put_line(line, fact)
        self._wake.set()

    def send_frame(self, frame: bytes) -> bool:
        """Queue a PACKET, subject to random early drop; False when it was dropped."""
        taken = self.outbox.put_frame(frame, random.random())
        if taken:
            self._wake.set()
        return taken

    def proceed(self) -> None:
        """Let a verified handshake finish. Raises PeerError."""
        for event in self.meta.proceed(self._clock()):
            self._handle(event)
        self._wake.set()

    def ping_now(self) -> None:
        """Ask the peer whether it is still there, without waiting for the interval."""
        self.meta.ping_now(self._clock())
        self._wake.set()

    def close(self, reason: str) -> None:
        """Close soon; `Hub.closed` is called from the connection's own greenlet."""
        if self._close_reason is not None:
            return
        self._close_reason = reason
        self._wake.set()
        self._ended.set()
        # The reader sleeps in recv; ending the stream is what wakes it.
        with contextlib.suppress(OSError):
            self.sock.shutdown(std_socket.SHUT_RDWR)

    def run(self) -> str:
        """Serve the connection until it ends; returns why it ended. The socket is closed on return."""
        self._hub.opened(self)
        writer = self._spawn(f"writer {self.id}", self._write)
        reason = "stopped"
        try:
            self._wake.set()
            reason = self._read()
        except PeerError as error:
            reason = str(error)
            self._keep_silent(writer)
        except OSError as error:
            reason = reason_of(error)
        finally:
            if self._close_reason is None:
                self._close_reason = reason
            writer.kill(block=False)
            self.sock.close()
            self._hub.closed(self, self._close_reason)
        return self._close_reason

    def _keep_silent(self, writer: gevent.Greenlet) -> None:
        # A stranger learns nothing from an error: the connection just stays open for a moment (meta-legacy 12).
        if not self.outgoing and not self.active:
            writer.kill(block=False)
            self._ended.wait(TARPIT_SECONDS)

    def _read(self) -> str:
        while self._close_reason is None:
            now = self._clock()
            self.sock.settimeout(min(max(self.meta.next_timeout() - now, 0.001), LONGEST_NAP))
            try:
                data = self.sock.recv(READ_SIZE)
            except TimeoutError:
                self._check_time()
                continue
            if not data:
                return "connection closed by peer"
            now = self._clock()
            for event in self.meta.receive(data, now):
                self._handle(event)
                if self._close_reason is not None:
                    break
            self._wake.set()
            self._check_time()
        return self._close_reason

    def _check_time(self) -> None:
        now = self._clock()
        if now >= self.meta.next_timeout():
            self.meta.on_timeout(now)
            self._wake.set()

    def _handle(self, event: Any) -> None:
        if isinstance(event, Active):
            self.active = True
            if self.on_active is not None:
                self.on_active()
        self._hub.event(self, event)

    def _write(self) -> None:
        while self._close_reason is None:
            data = self.meta.data_to_send()
            if not data and self.active:
                plain = self.outbox.take(WRITE_SIZE)
                if plain:
                    self.meta.send(plain)
                    continue
            if not data:
                self._wake.wait()
                self._wake.clear()
                continue
            try:
                self._send_all(data)
            except OSError as error:
                self.close(reason_of(error))
                return

    def _send_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                sent = self.sock.send(view)
            except TimeoutError:
                continue
            view = view[sent:]
