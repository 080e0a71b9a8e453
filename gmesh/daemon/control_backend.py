"""What the control socket needs from the daemon. Only the interface; the daemon implements it, tests fake it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from gmesh.daemon.control_streams import Closable
from gmesh.proto.control import ConnectionLine, EdgeLine, NodeLine, SubnetLine, TrafficLine, TriedLine


class ControlBackend(Protocol):
    """Nothing here may yield except `reload`; the dumps are consistent when taken, in the order of control 3."""

    @property
    def name(self) -> str:
        """Our node's name."""

    @property
    def version(self) -> str:
        """Our meta protocol's version, like ``17.0``."""

    @property
    def debug(self) -> int:
        """The debug level."""

    @debug.setter
    def debug(self, level: int) -> None: ...

    def stop(self) -> None:
        """Begin an orderly stop, and return at once."""

    def reload(self) -> bool:
        """False when the configuration could not be read; then nothing has changed."""

    def reload_report(self) -> Sequence[str]:
        """What the last reload has changed, what needs a restart, or why it failed; a line each."""

    def retry(self) -> None: ...

    def purge(self) -> None: ...

    def connect(self, name: str) -> int:
        """0, or negative when no connection can be started to ``name`` (which is a node name)."""

    def disconnect(self, name: str) -> int:
        """0, or -2 when there is no connection to ``name``."""

    def nodes(self) -> Iterable[NodeLine]: ...

    def edges(self) -> Iterable[EdgeLine]: ...

    def subnets(self) -> Iterable[SubnetLine]: ...

    def connections(self) -> Iterable[ConnectionLine]:
        """The meta connections; the control socket adds its own clients."""

    def traffic(self) -> Iterable[TrafficLine]: ...

    def tried(self, name: str) -> Iterable[TriedLine]: ...

    def watch_frames(self, receive: Callable[[bytes], None]) -> Closable:
        """Call ``receive`` with every Ethernet frame that is routed, until what is returned is closed."""
