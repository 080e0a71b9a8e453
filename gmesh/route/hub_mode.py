"""Mode = hub: every frame goes to everyone (topology 9.1).

Not here: who everyone is, see `forwarder`.
"""

from __future__ import annotations

from gmesh.route import verdicts
from gmesh.route.forwarder import Forwarder, MtuOf
from gmesh.route.subnets import SubnetTable
from gmesh.route.verdicts import Drop, ToDevice, Verdict
from gmesh.values import ETHERNET_HEADER


class HubMode:
    """Looks at no address. One per snapshot."""

    def __init__(self, forwarder: Forwarder, _table: SubnetTable) -> None:
        self._forwarder = forwarder
        self._me = forwarder.me
        self._kernel_forwards = forwarder.settings.forwarding == "kernel"

    def decide(self, frame: bytes, source: str, _mtus: MtuOf, _now: float) -> list[Verdict]:
        """What happens to ``frame`` that came from the node ``source`` (the own name means the device)."""
        if len(frame) < ETHERNET_HEADER:
            return [Drop(verdicts.TOO_SHORT)]
        if self._kernel_forwards and source != self._me:
            return [ToDevice(frame)]
        return self._forwarder.broadcast(frame, source)
