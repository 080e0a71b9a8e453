"""DeviceStandby: tinc-up runs when the first other node becomes reachable, tinc-down after the last one has gone.

Not here: the scripts of every event, which are passed on as they come.
"""

from __future__ import annotations

from gmesh.daemon.scripts import ScriptQueue
from gmesh.mesh.actions import NodeDown, NodeUp, SubnetDown, SubnetUp


class Standby:
    """Stands between the hub and the queue of scripts."""

    def __init__(self, scripts: ScriptQueue) -> None:
        self._scripts = scripts
        self._present: set[str] = set()
        self._up = False

    def mesh_event(self, event: NodeUp | NodeDown | SubnetUp | SubnetDown) -> None:
        if isinstance(event, NodeUp):
            self._present.add(event.node)
            if not self._up:
                self._up = True
                self._scripts.tinc(up=True)
        elif isinstance(event, NodeDown):
            self._present.discard(event.node)
        self._scripts.mesh_event(event)

    def settle(self) -> None:
        """All scripts of a change are queued: was the last node among those that went?"""
        if self._up and not self._present:
            self._up = False
            self._scripts.tinc(up=False)

    def end(self) -> None:
        """The daemon stops."""
        self._present.clear()
        self.settle()
