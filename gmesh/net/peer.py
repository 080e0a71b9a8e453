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
from contextlib import AbstractContextManager
from itertools import count
from typing import Any, Literal, Protocol

import gevent
import gevent.event
import gevent.socket

from gmesh.errors import PeerError
from gmesh.mesh.actions import LaterLine
from gmesh.mesh.outbox import Outbox
from gmesh.net.contract import Hub
from gmesh.proto.meta_base import MetaConnection
from gmesh.proto.meta_events import Active, Identified, MetaEvent, PublicKeyReceived, Verified
from gmesh.values import Address

READ_SIZE = 4096
"""Small enough that what one call returns takes the loop for a few milliseconds only: a hundred requests or so."""

STRANGER_READ_SIZE = 2176
"""More than the longest line of a handshake is not read before it is a stranger's turn: hundreds of them may wait."""

WRITE_SIZE = 16384
"""At most so many plain bytes are encrypted before the socket has taken the ones before (contract 4)."""

BATCH_SECONDS = 0.002
"""A writer that has been busy for so long lets others have their turn (contract 9)."""

SHORTEST_SLEEP = 1e-6
"""Unlike a sleep of 0, which only lets callbacks run that are due already, this makes the loop poll its sockets."""

MAX_WAITING_TEXT = 2_000_000
"""Bytes of lines that may wait for a peer; one that reads is told all we know long before."""

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

    def __call__(
        self, name: str, function: Callable[..., object], *args: object, policy: Literal["log", "restart"] = "log"
    ) -> gevent.Greenlet: ...


class Gate(Protocol):
    """What an incoming connection has to pass until it is active (`strangers.py`)."""

    def turn(self) -> AbstractContextManager[None]:
        """Waits until the handshake may take its next step, which must not yield."""

    def progress(self) -> None:
        """The peer got a step further."""

    def leave(self) -> None:
        """The peer is no stranger any more."""


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

    ``name`` is empty until an incoming peer has said it; ``address`` is the other end's TCP address, ``local_host`` the
    address of ours. The socket belongs to this object; it has no time-out, as both greenlets use it.
    """

    def __init__(
        self,
        *,
        sock: Any,
        address: Address,
        meta: MetaConnection,
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
        self.refused = False
        """Whether the connection ended before it was active because one of its ends did not accept the other."""
        self.upgraded = False
        """Whether it was only there to exchange Ed25519 keys, and has done so."""
        self.outbox = outbox
        self.meta = meta
        self.gate: Gate | None = None
        self.local_host = ""
        # A proxy command's socket pair has no address.
        with contextlib.suppress(OSError, IndexError):
            self.local_host = Address.from_sockaddr(sock.getsockname()).host
        self._hub = hub
        self._clock = clock
        self._spawn = spawn
        self._wake = gevent.event.Event()
        self._writer: gevent.Greenlet | None = None
        self._ended = gevent.event.Event()
        self._close_reason: str | None = None
        sock.settimeout(None)

    def __str__(self) -> str:
        return f"{self.name or '<unknown>'} ({self.address})"

    @property
    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return int(self.sock.fileno())

    def send_line(self, line: str | LaterLine, fact: Hashable = None) -> None:
        """Queue a request line; a later one about the same ``fact`` replaces it while it waits."""
        if self._close_reason is not None:
            return
        self.outbox.put_line(line, fact)
        if self.outbox.bytes > MAX_WAITING_TEXT:
            self.close("it does not read what we tell it")
        self._wake_writer()

    def send_frame(self, frame: bytes) -> bool:
        """Queue a PACKET, subject to random early drop; False when it was dropped."""
        taken = self.outbox.put_frame(frame, random.random())
        if taken:
            self._wake_writer()
        return taken

    def send_datagram(self, destination: bytes, source: bytes, datagram: bytes) -> bool:
        """Queue an SPTPS_PACKET between two node ids of 6 bytes, subject to random early drop likewise."""
        taken = self.outbox.put_datagram(destination, source, datagram, random.random())
        if taken:
            self._wake_writer()
        return taken

    def send_datagram_line(self, line: str) -> bool:
        """Queue a REQ_KEY that carries a datagram, for a peer that knows no SPTPS_PACKET; dropped likewise."""
        taken = self.outbox.has_room(random.random())
        if taken:
            self.send_line(line)
        return taken

    def proceed(self) -> None:
        """Let a verified handshake finish. Raises PeerError."""
        for event in self.meta.proceed(self._clock()):
            self._handle(event)
        self._wake_writer()

    def ping_now(self) -> None:
        """Ask the peer whether it is still there, without waiting for the interval."""
        self.meta.ping_now(self._clock())
        self._wake_writer()

    def close(self, reason: str) -> None:
        """Close soon; `Hub.closed` is called from the connection's own greenlet. The first reason counts.

        What the kernel has not taken yet is not sent any more: nobody may depend on last words.
        """
        if self._close_reason is None:
            self._close_reason = reason
        self._wake.set()
        self._ended.set()
        # The reader sleeps in recv; ending the stream is what wakes it.
        with contextlib.suppress(OSError):
            self.sock.shutdown(std_socket.SHUT_RDWR)

    def give_up_socket(self) -> tuple[Any, bytes]:
        """The socket for who takes it over at `ControlRequested`, and what came on it since.

        `run` ends, as by `close`.
        """
        sock = gevent.socket.socket(fileno=self.sock.detach())
        self.close("it has become a control connection")
        return sock, self.meta.take_remaining()

    def run(self) -> str:
        """Serve the connection until it ends; returns why it ended. The socket is closed on return."""
        try:
            broke_protocol = self._serve()
            if broke_protocol and not self.outgoing and self.refused:
                # A stranger learns nothing from an error: the connection stays open for a moment (meta-legacy 12).
                self._ended.wait(TARPIT_SECONDS)
        finally:
            self.sock.close()
        return self._close_reason or ""

    def _serve(self) -> bool:
        """Returns whether the end was a PeerError."""
        reason = "stopped"
        broke_protocol = False
        try:
            self._hub.opened(self)
            self._wake_writer()
            reason = self._read()
        except PeerError as error:
            reason, broke_protocol = str(error), True
            self.refused = not self.active and not self.upgraded
            # The protocol object keeps the error, and so the frames that hold the object: garbage that would pile up.
            error.__traceback__ = None
        except OSError as error:
            reason = reason_of(error)
        except Exception:
            reason = "internal error"
            raise
        finally:
            if self._close_reason is None:
                self._close_reason = reason
            if self._writer is not None:
                self._writer.kill(block=False)
            self._hub.closed(self, self._close_reason)
        return broke_protocol

    # Reader

    def _read(self) -> str:
        # Waiting for the loop every time, as the socket of a busy peer is always ready to be read.
        with contextlib.closing(gevent.get_hub().loop.io(self.sock.fileno(), 1)) as readable:
            return self._read_when(readable)

    def _read_when(self, readable: Any) -> str:
        while self._close_reason is None:
            data = self._receive(readable)
            if data == b"":
                return "connection closed by peer"
            if data is not None:
                for event in self._parse(data):
                    if self._close_reason is None:
                        self._handle(event)
                self._wake_writer()
            self._check_time()
        return self._close_reason

    def _receive(self, readable: Any) -> bytes | None:
        """What the peer sent; None when it is time to look at the clock."""
        nap = min(max(self.meta.next_timeout() - self._clock(), 0.0), LONGEST_NAP)
        with gevent.Timeout(nap, False):
            gevent.get_hub().wait(readable)
            return bytes(self.sock.recv(READ_SIZE if self.gate is None else STRANGER_READ_SIZE))
        return None

    def _parse(self, data: bytes) -> list[MetaEvent]:
        if self.gate is None:
            return self.meta.receive(data, self._clock())
        with self.gate.turn():
            if self._close_reason is not None:
                return []
            return self.meta.receive(data, self._clock())

    def _check_time(self) -> None:
        now = self._clock()
        if self._close_reason is None and now >= self.meta.next_timeout():
            self.meta.on_timeout(now)
            self._wake_writer()

    def _handle(self, event: MetaEvent) -> None:
        if self.gate is not None and isinstance(event, Identified | Verified):
            self.gate.progress()
        if isinstance(event, PublicKeyReceived):
            self.upgraded = True
        if isinstance(event, Active):
            self.active = True
            if self.gate is not None:
                self.gate.leave()
                self.gate = None
        self._hub.event(self, event)

    # Writer

    def _wake_writer(self) -> None:
        """There may be something to write. A stranger who has not said who he is gets no writer: he is told nothing."""
        self._wake.set()
        if self._writer is None and self._close_reason is None and self.meta.pending:
            self._writer = self._spawn(f"writer {self.id}", self._write)

    def _write(self) -> None:
        try:
            since = self._clock()
            while self._close_reason is None:
                data = self._next_output()
                if data:
                    self.sock.sendall(data)
                    if self._clock() - since < BATCH_SECONDS:
                        continue
                    gevent.sleep(SHORTEST_SLEEP)
                else:
                    self._wake.wait()
                    self._wake.clear()
                since = self._clock()
        except OSError as error:
            self.close(reason_of(error))
        except PeerError as error:
            self.close(str(error))
        except Exception:
            self.close("internal error")
            raise

    def _next_output(self) -> bytes:
        """The protocol's own words first; the outbox only when they are gone, so that PINGs overtake."""
        if self.active and self.meta.active and not self.meta.pending:
            plain = self.outbox.take(WRITE_SIZE)
            if plain:
                self.meta.send(plain)
        return self.meta.data_to_send()
