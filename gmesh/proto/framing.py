"""Cuts the byte stream of a meta connection into lines and bodies, before and after encryption begins (meta-legacy 1).

Not here: what a line means; the caller says when a body follows and when the stream becomes encrypted.
"""

from __future__ import annotations

from collections.abc import Callable

from gmesh.errors import PeerError
from gmesh.proto.requests import MAX_LINE


class LineFraming:
    """A buffer of received bytes. What it returns depends on the stream alone, never on how it was cut in pieces."""

    __slots__ = ("_buffer", "_decrypt", "_start")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start = 0
        self._decrypt: Callable[[bytes], bytes] | None = None

    def __len__(self) -> int:
        """Bytes that were received and not yet taken."""
        return len(self._buffer) - self._start

    def feed(self, data: bytes) -> None:
        """Store bytes as they came from the socket."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data if self._decrypt is None else self._decrypt(data)

    def switch(self, decrypt: Callable[[bytes], bytes]) -> None:
        """From the next byte on the stream is encrypted, also what is already here."""
        rest = decrypt(self.take_rest())
        self._buffer += rest
        self._decrypt = decrypt

    def take_line(self) -> str | None:
        """The next line without its newline, bytes as Latin-1; None while it is incomplete.

        Raises PeerError where no newline comes within the longest line that a peer may send.
        """
        end = self._buffer.find(b"\n", self._start, self._start + MAX_LINE)
        if end < 0:
            if len(self) >= MAX_LINE:
                raise PeerError(f"a line is longer than {MAX_LINE} bytes")
            return None
        line = self._buffer[self._start : end].decode("latin-1")
        self._start = end + 1
        return line

    def take_body(self, length: int) -> bytes | None:
        """The next ``length`` bytes, None while some are missing."""
        if len(self) < length:
            return None
        body = bytes(self._buffer[self._start : self._start + length])
        self._start += length
        return body

    def take_rest(self) -> bytes:
        """Everything that is left."""
        rest = bytes(self._buffer[self._start :])
        self._buffer.clear()
        self._start = 0
        return rest
