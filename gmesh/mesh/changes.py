"""What changed in the registry and has not been acted on yet, so that graph runs and scripts are coalesced.

Not here: acting on it (`mesh.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gmesh.mesh.registry import Node
from gmesh.values import Subnet


@dataclass(slots=True)
class SubnetChange:
    """A subnet whose presence at ``owner`` differs from the last time changes were acted on."""

    owner: Node
    subnet: Subnet
    present_before: bool

    def sort_key(self) -> tuple[tuple[int, int, bytes, int], str]:
        return (self.subnet.sort_key(), self.owner.name)


@dataclass(slots=True)
class Changes:
    """``graph``: edges changed. ``neighbours``: active connections did. ``routes``: a route snapshot would differ."""

    graph: bool = False
    neighbours: bool = False
    routes: bool = False
    _subnets: dict[tuple[str, Subnet], SubnetChange] = field(default_factory=dict)

    @property
    def any(self) -> bool:
        return self.graph or self.neighbours or self.routes or bool(self._subnets)

    def subnet(self, owner: Node, subnet: Subnet, *, present: bool) -> None:
        """Note that ``subnet`` was just added or removed. Going back to what it was leaves nothing to do."""
        self.routes = True
        key = (owner.name, subnet)
        known = self._subnets.pop(key, None)
        before = not present if known is None else known.present_before
        if before != present:
            self._subnets[key] = SubnetChange(owner, subnet, before)

    def take_subnets(self) -> list[SubnetChange]:
        """All changes so far, in the order of tables; forgets them."""
        taken = sorted(self._subnets.values(), key=SubnetChange.sort_key)
        self._subnets.clear()
        return taken
