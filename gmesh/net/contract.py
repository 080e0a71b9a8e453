"""What the network room needs from whoever uses it. The daemon implements `Hub`; tests may too.

Not here: any decision. Every event goes to the hub, and the hub answers by calling methods of `Peer`.
"""

from __future__ import annotations

from typing import Protocol

from gmesh.proto.meta import PeerCredentials
from gmesh.proto.meta_events import MetaEvent
from gmesh.values import Address


class Peer(Protocol):
    """One TCP connection that speaks, or is about to speak, the meta protocol."""

    @property
    def id(self) -> int: ...

    @property
    def outgoing(self) -> bool: ...

    @property
    def name(self) -> str:
        """The peer's node name; empty until an incoming peer has said it."""

    @property
    def address(self) -> Address:
        """The other end's TCP address (of the real target behind a proxy)."""

    def send_line(self, line: str, fact: object = None) -> None:
        """Queue a line in the outbox and wake the writer. Never yields."""

    def send_frame(self, frame: bytes) -> bool:
        """Queue a PACKET, subject to random early drop; False when it was dropped. Never yields."""

    def proceed(self) -> None:
        """Let a verified handshake finish."""

    def close(self, reason: str) -> None:
        """Close soon. Never yields; `Hub.closed` is called from the connection's own greenlet."""


class Hub(Protocol):
    """What the network room calls. Nothing here may yield."""

    def credentials(self, name: str) -> PeerCredentials:
        """The key and options for a peer that claims ``name``. Raises PeerError with the reason."""

    def opened(self, peer: Peer) -> None: ...

    def event(self, peer: Peer, event: MetaEvent) -> None:
        """May raise PeerError: the connection is closed with that reason."""

    def closed(self, peer: Peer, reason: str) -> None:
        """Called exactly once for every peer that was opened."""
