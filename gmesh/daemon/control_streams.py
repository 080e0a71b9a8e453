"""What a control client gets without asking for each piece: log lines, captured frames (control 4).

A reader that is too slow costs bounded memory (requirement 29): of the log it must not miss a line without knowing, so
it is dropped; of a capture it misses frames, as with every capture. Not here: the client's socket (`control_client`).
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from gevent.event import Event

from gmesh.daemon.logging_setup import MAX_MESSAGE, stderr_line
from gmesh.proto.control import ConnectionStatus, ControlCode, stream_header

LOG_LIMIT = 256 * 1024
"""Bytes of log lines that may wait for one client."""

CAPTURE_LIMIT = 1024 * 1024
"""Bytes of captured frames that may wait for one client."""


class Closable(Protocol):
    """What feeds a stream until it is closed."""

    def close(self) -> None: ...


class Stream:
    """Blocks on their way to one client. ``feed`` is closed with it."""

    CODE: ControlCode
    LIMIT: int
    name: str

    def __init__(self) -> None:
        self.feed: Closable | None = None
        self.lost = 0
        """Blocks that found no room."""
        self.closed = False
        self.drained = Event()
        """Set while every block has been sent, or never will be."""
        self.drained.set()
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._arrived = Event()

    @property
    def status(self) -> ConnectionStatus:
        """How the client appears in a dump of connections."""
        raise NotImplementedError

    @property
    def failed(self) -> bool:
        """Whether the client has lost what it must not lose."""
        return False

    def replace_feed(self, feed: Closable) -> None:
        """Be fed by this from now on, and by nothing else."""
        if self.feed is not None:
            self.feed.close()
        self.feed = feed

    def put(self, block: bytes) -> None:
        """Add a block, if there is room for it."""
        if self._size + len(block) > self.LIMIT:
            self.lost += 1
        else:
            header = stream_header(self.CODE, len(block)).encode("ascii") + b"\n"
            self._waiting.append(header + block)
            self._size += len(header) + len(block)
            self.drained.clear()
        self._arrived.set()

    def close(self) -> None:
        """No more blocks, and nobody waits for those that there are. Harmless when repeated."""
        if self.feed is not None:
            self.feed.close()
        self.closed = True
        self.drained.set()
        self._arrived.set()

    def take(self) -> bytes:
        """Everything that waits, once something does; nothing at `close`. What was taken before counts as sent."""
        if not self._waiting:
            self.drained.set()
        self._arrived.wait()
        self._arrived.clear()
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        return data


class LogStream(Stream):
    """Log lines in the form of standard error."""

    CODE = ControlCode.LOG
    LIMIT = LOG_LIMIT
    name = "log"
    colour = False

    @property
    def status(self) -> ConnectionStatus:
        return ConnectionStatus.LOG | (ConnectionStatus.LOG_COLOR if self.colour else ConnectionStatus(0))

    @property
    def failed(self) -> bool:
        return self.lost > 0

    def receive(self, level: int, created: float, message: str) -> None:
        text = stderr_line(level, created, message, colour=self.colour).encode("utf-8", "backslashreplace")
        self.put(text[:MAX_MESSAGE])


class CaptureStream(Stream):
    """Frames, each cut to ``length`` bytes; 0 leaves them whole."""

    CODE = ControlCode.PCAP
    LIMIT = CAPTURE_LIMIT
    name = "capture"
    length = 0

    @property
    def status(self) -> ConnectionStatus:
        return ConnectionStatus.PCAP

    def receive(self, frame: bytes) -> None:
        self.put(frame[: self.length] if self.length else frame)
