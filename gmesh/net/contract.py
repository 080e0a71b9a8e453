"""What the network room needs from whoever uses it. The daemon implements `Hub`; tests may too.

Not here: any decision. Every event goes to the hub, and the hub answers by calling the peer's methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gmesh.proto.meta_base import PeerCredentials
from gmesh.proto.meta_events import MetaEvent

if TYPE_CHECKING:
    from gmesh.net.peer import PeerConnection


class Hub(Protocol):
    """What the network room calls. Nothing here may yield."""

    def credentials(self, name: str) -> PeerCredentials:
        """The key and options for a peer that claims ``name``. Raises PeerError with the reason."""

    def opened(self, peer: PeerConnection) -> None: ...

    def event(self, peer: PeerConnection, event: MetaEvent) -> None:
        """May raise PeerError: the connection is closed with that reason."""

    def closed(self, peer: PeerConnection, reason: str) -> None:
        """Called exactly once for every peer that was opened."""
