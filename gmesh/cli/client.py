"""The control tool's end of the control socket (control 1, control-cli 1). Plain blocking sockets, no gevent.

Not here: what is asked, and how answers are shown (`commands`).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from gmesh.cli.context import CommandError
from gmesh.config.paths import socket_of
from gmesh.daemon.pidfile import AlreadyRunningError, PidFile, is_alive, read_pidfile
from gmesh.errors import PeerError
from gmesh.proto.control import (
    CONTROL,
    REPORT,
    UNSUPPORTED,
    ControlCode,
    ControlRequest,
    end_of_dump,
    greeting_request,
    parse_greeting_answer,
)

REPLY_LIMIT = 5.0
"""Seconds to wait for each piece of an answer."""

Row = TypeVar("Row")


class NoSocketError(CommandError):
    """There is a pid file and a process, but no control socket that works; ``pid`` is the process."""

    def __init__(self, message: str, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


class ControlConnection:
    """An authenticated connection to a running daemon, whose process id is ``pid``."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""
        self.pid = 0

    @classmethod
    def open(cls, pid_path: str) -> ControlConnection:
        """Connect by the pid file. Raises CommandError, or NoSocketError where a signal may still help."""
        try:
            record = read_pidfile(pid_path)
        except FileNotFoundError as error:
            hint = "does the daemon run, and are -n and --pidfile the same as its own?"
            raise CommandError(f"Could not open pid file {pid_path}: {error.strerror}; {hint}") from None
        except OSError as error:
            raise CommandError(f"Could not open pid file {pid_path}: {error.strerror}") from None
        except ValueError as error:
            raise CommandError(f"Could not parse pid file {pid_path}: {error}") from None
        path = str(socket_of(Path(pid_path)))
        if not is_alive(record.pid):
            _remove_stale(pid_path, path)
            raise CommandError(f"Could not find tincd running at pid {record.pid}")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(REPLY_LIMIT)
        try:
            connection.connect(path)
        except OSError as error:
            connection.close()
            if error.strerror is None:
                raise NoSocketError(f"UNIX socket filename {path} is too long!", record.pid) from None
            raise NoSocketError(f"Cannot connect to UNIX socket {path}: {error.strerror}", record.pid) from None
        made = cls(connection)
        try:
            made._greet(record.cookie)
        except CommandError as error:
            made.close()
            raise NoSocketError(str(error), record.pid) from None
        return made

    def _greet(self, cookie: str) -> None:
        try:
            self._write(greeting_request(cookie))
            first = self._line()
            second = self._line()
        except (OSError, CommandError) as error:
            raise CommandError(f"Cannot read greeting from control socket: {error}") from None
        try:
            self.pid = parse_greeting_answer(first, second)[2]
        except PeerError:
            raise CommandError("Could not fully establish control socket connection") from None

    @property
    def alive(self) -> bool:
        """Whether the daemon still holds its end, as far as can be told without asking it."""
        try:
            self._socket.setblocking(False)
            return self._socket.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self._socket.settimeout(REPLY_LIMIT)

    def close(self) -> None:
        """Harmless when repeated."""
        self._socket.close()

    def send(self, code: ControlCode, *arguments: object) -> None:
        """Ask for something. Raises CommandError when the daemon has gone."""
        try:
            self._write(ControlRequest(code, tuple(map(str, arguments))).format())
        except OSError as error:
            raise CommandError(f"Lost connection to tincd: {error.strerror}") from None

    def ask(self, code: ControlCode, *arguments: object) -> int | None:
        """Send a request and return its result; None when the daemon does not support it. Raises CommandError."""
        self.send(code, *arguments)
        words = self._line().split()
        if words == [str(CONTROL), "-1"]:
            return None
        try:
            number, answered, value = map(int, words)
        except ValueError:
            raise CommandError("Unable to parse the answer from tincd.") from None
        if (number, answered) != (CONTROL, code):
            raise CommandError("Unable to parse the answer from tincd.")
        return value

    def reload(self) -> tuple[bool, list[str] | None]:
        """Have the configuration read again: whether that worked, and what gmeshd tells of it; tincd tells nothing.

        Raises CommandError.
        """
        self.send(ControlCode.RELOAD, REPORT)
        words = self._line().split()
        if len(words) not in (3, 4) or words[:2] != [str(CONTROL), "1"] or not "".join(words[3:] or "0").isdigit():
            raise CommandError("Unable to parse the answer from tincd.")
        return words[2] == "0", [self._line() for _ in range(int(words[3]))] if len(words) == 4 else None

    def dump(self, code: ControlCode, parse: Callable[[str], Row], what: str, *arguments: object) -> list[Row]:
        """All rows of a dump, none where it is not supported. Raises CommandError naming ``what`` (node, edge, ...)."""
        self.send(code, *arguments)
        ends = (end_of_dump(code), UNSUPPORTED)
        rows: list[Row] = []
        while (line := self._line()) not in ends:
            try:
                rows.append(parse(line))
            except PeerError:
                raise CommandError(f"Unable to parse {what} dump from tincd: {line}") from None
        return rows

    def stream(self, code: ControlCode) -> Iterator[bytes]:
        """The blocks of a stream that was asked for, until the daemon ends. There may be any time between two."""
        self._socket.settimeout(None)
        while True:
            try:
                words = self._line().split()
            except CommandError:
                return
            if len(words) != 3 or words[:2] != [str(CONTROL), str(int(code))] or not words[2].isdigit():
                raise CommandError("Unable to parse the answer from tincd.")
            size = int(words[2])
            while len(self._buffer) < size:
                if not self._fill():
                    return
            block, self._buffer = self._buffer[:size], self._buffer[size:]
            yield block

    def wait_for_end(self, limit: float) -> bool:
        """Read until the daemon closes the connection; False when it has not within ``limit`` seconds of silence."""
        self._socket.settimeout(limit)
        self._buffer = b""
        try:
            while self._fill():
                self._buffer = b""
        except TimeoutError:
            return False
        return True

    def _write(self, line: str) -> None:
        self._socket.sendall(line.encode("ascii") + b"\n")

    def _fill(self) -> bool:
        try:
            data = self._socket.recv(65536)
        except ConnectionError:
            data = b""
        self._buffer += data
        return bool(data)

    def _line(self) -> str:
        while b"\n" not in self._buffer:
            try:
                if not self._fill():
                    raise CommandError("the daemon closed the connection")
            except TimeoutError:
                raise CommandError("Timed out waiting for the server to reply.") from None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", "replace")


def _remove_stale(pid_path: str, socket_path: str) -> None:
    """Clean up after a daemon that died. Through the lock, so that one that starts at this moment keeps its files."""
    with contextlib.suppress(OSError, AlreadyRunningError):
        held = PidFile.acquire(pid_path)
        with contextlib.suppress(OSError):
            os.unlink(socket_path)
        held.remove()
