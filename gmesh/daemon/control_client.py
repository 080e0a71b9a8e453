"""One client of the control socket: greeting, requests in order, dumps in portions, log and capture streams.

Whatever a client does or does not do costs bounded memory and delays nobody (requirement 29). Not here: accepting
clients (`control_server`), what waits in a stream (`control_streams`), the text of the protocol (`proto.control`), what
requests do (`ControlBackend`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import gevent
from gevent.lock import RLock

from gmesh.daemon.control_streams import CaptureStream, LogStream, Stream
from gmesh.daemon.logging_setup import NOTICE, log
from gmesh.errors import PeerError
from gmesh.proto.control import (
    CONTROL_CLIENT,
    MAX_REQUEST,
    REPORT,
    UNSUPPORTED,
    ConnectionLine,
    ConnectionStatus,
    ControlCode,
    ControlRequest,
    end_of_dump,
    greeting_answer,
    parse_control_request,
    result,
)
from gmesh.values import Address, is_node_name

if TYPE_CHECKING:
    from gmesh.daemon.control_server import ControlServer

UNIX_ADDRESS = Address("localhost", "unix")
GREETING_LIMIT = 5.0
"""Seconds until a client must have shown the cookie."""

STALL_LIMIT = 5.0
"""Seconds for which a client may leave a full socket unread."""

PORTION = 256
"""Dump lines that are sent (and made) at a time, before others have their turn."""

MAX_REPORT, MAX_REPORT_LINE = 1000, 500
"""Lines in the report of a reload, and characters in each."""

_RELOAD_FAILED = 22
"""EINVAL."""


class DumpLine(Protocol):
    """Any line of a dump."""

    def format(self) -> str: ...


class _Dropped(Exception):
    """The client is to be dropped, for a reason that is the client's fault."""


class ControlClient:
    """``socket`` is a gevent socket, which the client owns. ``rest`` is what was received from it already."""

    def __init__(
        self, server: ControlServer, socket: Any, address: Address, rest: bytes = b"", *, authenticated: bool = False
    ) -> None:
        self._server = server
        self._socket = socket
        self._address = address
        self._buffer = rest
        self._writing = RLock()
        self._log_stream: LogStream | None = None
        self._capture_stream: CaptureStream | None = None
        self.authenticated = authenticated
        self.waits_for_end = False
        self._actions: dict[int, Callable[[ControlRequest], None]] = {
            ControlCode.STOP: self._stop,
            ControlCode.RELOAD: self._reload,
            ControlCode.PURGE: lambda request: self._simple(request, server.backend.purge),
            ControlCode.RETRY: lambda request: self._simple(request, server.backend.retry),
            ControlCode.SET_DEBUG: self._set_debug,
            ControlCode.CONNECT: self._connect,
            ControlCode.DISCONNECT: self._disconnect,
            ControlCode.DUMP_NODES: lambda request: self._dump(request, server.backend.nodes),
            ControlCode.DUMP_EDGES: lambda request: self._dump(request, server.backend.edges),
            ControlCode.DUMP_SUBNETS: lambda request: self._dump(request, server.backend.subnets),
            ControlCode.DUMP_CONNECTIONS: lambda request: self._dump(request, server.connections),
            ControlCode.DUMP_TRAFFIC: lambda request: self._dump(request, server.backend.traffic),
            ControlCode.TRIED: self._tried,
            ControlCode.LOG: self._start_log,
            ControlCode.PCAP: self._start_capture,
        }

    @property
    def _streams(self) -> list[Stream]:
        return [stream for stream in (self._log_stream, self._capture_stream) if stream is not None]

    @property
    def expendable(self) -> bool:
        """Whether it may be closed to make room for another: nobody waits for anything from it."""
        return not self._streams and not self.waits_for_end

    @property
    def drained(self) -> bool:
        """Whether no log line waits for it."""
        return self._log_stream is None or self._log_stream.drained.is_set()

    def drain(self) -> None:
        """Wait until no log line waits for it."""
        if self._log_stream is not None:
            self._log_stream.drained.wait()

    def line(self) -> ConnectionLine:
        """How it appears in a dump of connections."""
        status = ConnectionStatus.CONTROL
        for stream in self._streams:
            status |= stream.status
        return ConnectionLine(CONTROL_CLIENT, self._address, 0, self._socket.fileno(), status)

    def close(self) -> None:
        """Close the socket; the client's greenlets end by that. Harmless when repeated."""
        for stream in self._streams:
            stream.close()
        self._socket.close()

    def run(self) -> None:
        """Serve until the client leaves, misbehaves, or `close`."""
        self._socket.settimeout(STALL_LIMIT)
        try:
            if not self.authenticated:
                self._greet()
            self._welcome()
            for line in self._lines():
                self._serve(parse_control_request(line))
        except (PeerError, _Dropped) as error:
            log(1, logging.WARNING, f"Dropping a control client: {error}", key="control client")
        except OSError as error:
            log(5, logging.DEBUG, f"A control client is gone: {error}", key="control client gone")
        finally:
            self.close()

    def _greet(self) -> None:
        with gevent.Timeout(GREETING_LIMIT, _Dropped("no greeting in time")):
            line = next(self._lines(), "")
        words = line.split()
        if len(words) < 2 or words[0] != "0" or not words[1].startswith("^"):
            raise _Dropped("no greeting")
        if not self._server.is_cookie(words[1][1:]):
            raise _Dropped("wrong cookie")
        self.authenticated = True

    def _welcome(self) -> None:
        backend = self._server.backend
        self._send_lines(greeting_answer(backend.name, backend.version, os.getpid()))

    def _lines(self) -> Iterator[str]:
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                yield line.decode("ascii", "replace").rstrip("\r")
                continue
            if len(self._buffer) > MAX_REQUEST:
                raise _Dropped("over-long line")
            try:
                data = self._socket.recv(4096)
            except TimeoutError:
                # The limit is for writing; a client may be silent for as long as it likes.
                continue
            if not data:
                return
            self._buffer += data

    def _serve(self, request: ControlRequest) -> None:
        action = self._actions.get(request.code)
        if action is None:
            self._send_lines([UNSUPPORTED])
        else:
            action(request)

    def _send_lines(self, lines: Iterable[str]) -> None:
        self._send("".join(f"{line}\n" for line in lines).encode("utf-8"))

    def _send(self, data: bytes) -> None:
        with self._writing:
            try:
                self._socket.sendall(data)
            except TimeoutError:
                raise _Dropped("it does not read what it asked for") from None
        # One client that is always ready must not keep the loop to itself.
        gevent.sleep(0)

    def _dump(self, request: ControlRequest, rows: Callable[[], Iterable[DumpLine]]) -> None:
        with self._server.dumping:
            waiting = iter(list(rows()))
            while portion := list(islice(waiting, PORTION)):
                self._send_lines(row.format() for row in portion)
            self._send_lines([end_of_dump(request.code)])

    def _tried(self, request: ControlRequest) -> None:
        name = request.arguments[0] if request.arguments else ""
        self._dump(request, lambda: self._server.backend.tried(name))

    def _simple(self, request: ControlRequest, function: Callable[[], None]) -> None:
        log(0, NOTICE, f"Got '{ControlCode(request.code).name.lower()}' command", key="control command")
        function()
        self._send_lines([result(request.code, 0)])

    def _stop(self, request: ControlRequest) -> None:
        log(0, NOTICE, "Got 'stop' command", key="control command")
        self.waits_for_end = True
        self._send_lines([result(request.code, 0)])
        self._server.backend.stop()

    def _reload(self, request: ControlRequest) -> None:
        log(0, NOTICE, "Got 'reload' command", key="control command")
        backend = self._server.backend
        answer = result(request.code, 0 if backend.reload() else _RELOAD_FAILED)
        if request.arguments != (REPORT,):
            self._send_lines([answer])
            return
        # Only who asks for it gets more than tinc's one line with its one number.
        lines = [" ".join(line.split())[:MAX_REPORT_LINE] for line in backend.reload_report()[:MAX_REPORT]]
        self._send_lines([f"{answer} {len(lines)}", *lines])

    def _set_debug(self, request: ControlRequest) -> None:
        level = request.integer(0)
        old = self._server.backend.debug
        if level >= 0:
            self._server.backend.debug = level
        self._send_lines([result(request.code, old)])

    def _connect(self, request: ControlRequest) -> None:
        name = request.arguments[0] if request.arguments else ""
        value = self._server.backend.connect(name) if is_node_name(name) else -1
        self._send_lines([result(request.code, value)])

    def _disconnect(self, request: ControlRequest) -> None:
        name = request.arguments[0] if request.arguments else ""
        if name == CONTROL_CLIENT:
            self._send_lines([result(request.code, 0)])
            self._server.close_clients()
            return
        value = self._server.backend.disconnect(name) if name else -1
        self._send_lines([result(request.code, value)])

    def _start_log(self, request: ControlRequest) -> None:
        level = request.integer(0)
        stream = self._log_stream
        if stream is None:
            stream = self._log_stream = LogStream()
            self._server.spawn("control log", self._pump, stream)
        stream.colour = len(request.arguments) > 1 and request.integer(1) != 0
        stream.replace_feed(self._server.log.subscribe(level, stream.receive))

    def _start_capture(self, request: ControlRequest) -> None:
        length = request.integer(0)
        stream = self._capture_stream
        if stream is None:
            stream = self._capture_stream = CaptureStream()
            self._server.spawn("control capture", self._pump, stream)
        stream.length = max(length, 0)
        stream.replace_feed(self._server.backend.watch_frames(stream.receive))

    def _pump(self, stream: Stream) -> None:
        """Send what waits in a stream; the client's own greenlet goes on reading requests meanwhile."""
        try:
            while not stream.failed and not stream.closed:
                data = stream.take()
                if data:
                    self._send(data)
            if stream.failed:
                raise _Dropped(f"it reads the {stream.name} too slowly")
        except _Dropped as error:
            log(1, logging.WARNING, f"Dropping a control client: {error}", key="control client")
        except OSError as error:
            log(5, logging.DEBUG, f"A reader of the {stream.name} is gone: {error}", key="control client gone")
        finally:
            if stream.lost and not stream.failed:
                log(1, logging.INFO, f"A reader of the {stream.name} has missed {stream.lost} frames", "control lost")
            self.close()
