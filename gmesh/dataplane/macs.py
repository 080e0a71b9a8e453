"""When each MAC address behind the own device was last seen, in switch mode (contract 5: MAC ages).

Not here: what follows, which is the mesh's (`gmesh.mesh.macs`). It is told of an address once, and reads the ages.
"""

from __future__ import annotations

from gmesh.dataplane.contract import PlaneEvent
from gmesh.mesh.events import MacSeen
from gmesh.mesh.macs import MAX_MACS


class MacAges:
    """``last_seen`` are the loop's seconds by address (6 bytes). ``events`` takes what has to be handed up."""

    def __init__(self, events: list[PlaneEvent]) -> None:
        self.last_seen: dict[bytes, float] = {}
        self.learning = False
        self._events = events

    def seen(self, frame: bytes, now: float) -> None:
        """A frame of the own device. Called for each, so it does next to nothing for an address that is known."""
        mac = frame[6:12]
        if mac in self.last_seen:
            self.last_seen[mac] = now
        elif len(mac) == 6 and not mac[0] & 1 and any(mac) and len(self.last_seen) < MAX_MACS:
            # No host has a group's address, or none at all.
            self.last_seen[mac] = now
            self._events.append(MacSeen(mac))

    def forget(self, mac: bytes) -> None:
        """The next frame that bears it makes an event again."""
        self.last_seen.pop(mac, None)
