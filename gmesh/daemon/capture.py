"""Shows the frames of the device to whoever wants to see them (control 4).

While nobody does, the data plane does not even know of it. Not here: how frames get to a client (`control_streams`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Receiver = Callable[[bytes], None]
"""Takes a whole Ethernet frame; must neither yield nor raise."""


class Source(Protocol):
    """Where frames are seen: the data plane."""

    def set_capture(self, capture: Receiver | None) -> None: ...


class Watch:
    """One receiver's part in a capture, until `close`."""

    def __init__(self, capture: Capture, receive: Receiver) -> None:
        self._capture = capture
        self.receive = receive

    def close(self) -> None:
        """Harmless when repeated."""
        self._capture.remove(self)


class Capture:
    """Hands each frame to all receivers."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._watches: tuple[Watch, ...] = ()

    def watch(self, receive: Receiver) -> Watch:
        """Call ``receive`` with each frame from now on."""
        made = Watch(self, receive)
        self._set((*self._watches, made))
        return made

    def remove(self, watch: Watch) -> None:
        if watch in self._watches:
            self._set(tuple(other for other in self._watches if other is not watch))

    def _set(self, watches: tuple[Watch, ...]) -> None:
        self._watches = watches
        self._source.set_capture(self._frame if watches else None)

    def _frame(self, frame: bytes) -> None:
        for watch in self._watches:
            watch.receive(frame)
