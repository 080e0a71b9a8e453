"""Which node an id in a datagram stands for.

Two names may have the same id by somebody's hard work; the one that was known first keeps it. Not here: how an id is
made (`gmesh.proto.sptps_packet`).
"""

from __future__ import annotations

from collections.abc import Iterable

from gmesh.proto.sptps_packet import NULL_ID, node_id


class NodeIds:
    """``names`` by id, the own one included; ``own`` is the own id."""

    def __init__(self, name: str) -> None:
        self.own = node_id(name)
        self._name = name
        self.names: dict[bytes, str] = {self.own: name}
        self._known: set[str] = {name}

    def set_names(self, names: Iterable[str]) -> None:
        """The nodes that there are now."""
        now = {self._name, *names}
        gone = self._known - now
        come = now - self._known
        if not gone and not come:
            return
        self._known = now
        for name in gone:
            number = node_id(name)
            if self.names.get(number) == name:
                del self.names[number]
        # Whoever lost his id to one that is gone gets it back.
        for name in come if not gone else sorted(now):
            number = node_id(name)
            if number != NULL_ID:
                self.names.setdefault(number, name)
