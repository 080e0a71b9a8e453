"""The life of meta connections as the mesh sees them, and which of two handshakes with one node goes first.

tinc lets the last of several connections win and has no tie break (meta-legacy 8), so that two daemons which connect to
each other at once may each close what the other keeps. Here a verified handshake waits for a rival in the opposite
direction whose initiator has the smaller name. Stock peers need not know of it: they see a handshake that takes a
little longer. Not here: edges and gossip (`mesh.py`).
"""

from __future__ import annotations

import logging
import math

from gmesh.errors import GmeshError
from gmesh.mesh.actions import Action, CloseConnection, Log, ProceedHandshake
from gmesh.mesh.registry import Connection, ConnectionState, Registry
from gmesh.mesh.twins import Twins

_MOVES: dict[ConnectionState, frozenset[ConnectionState]] = {
    ConnectionState.OPENED: frozenset({ConnectionState.IDENTIFIED}),
    ConnectionState.IDENTIFIED: frozenset({ConnectionState.WAITING, ConnectionState.PROCEEDING}),
    ConnectionState.WAITING: frozenset({ConnectionState.PROCEEDING}),
    ConnectionState.PROCEEDING: frozenset({ConnectionState.ACTIVE}),
    ConnectionState.ACTIVE: frozenset(),
}

PATIENCE = 1.0
"""Seconds that a handshake waits for a rival that has not proved its name yet: a stranger may claim it for ever."""


def move(connection: Connection, state: ConnectionState) -> None:
    """Change the state. Raises GmeshError for a step that the protocol objects should have made impossible."""
    if state not in _MOVES[connection.state]:
        raise GmeshError(f"connection {connection.id} cannot go from {connection.state.name} to {state.name}")
    connection.state = state


class Handshakes:
    """Decides at Verified. All methods return actions; a closed connection is forgotten at once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._waiting_until: dict[int, float] = {}
        self._twins = Twins()
        self._held: set[int] = set()
        """Those of the waiting that are to replace an active connection, which happens too often."""

    def verified(self, connection: Connection, now: float) -> list[Action]:
        """Proceed, wait for a rival, or close because the node got connected meanwhile."""
        node = self._registry.node(connection.name)
        current = None if node is None else self._registry.connection_to(node)
        if current is not None and connection.opened_at < current.active_since:
            return [self.close(connection, f"{connection.name} is already connected")]
        if connection.id in self._held and now < self._waiting_until.get(connection.id, now):
            return []
        first = [rival for rival in self._rivals(connection) if self._goes_first(rival, connection)]
        if connection.state is ConnectionState.WAITING and now >= self._waiting_until.get(connection.id, now):
            first = [rival for rival in first if rival.outgoing or rival.state is not ConnectionState.IDENTIFIED]
        if first:
            if connection.state is not ConnectionState.WAITING:
                move(connection, ConnectionState.WAITING)
                self._waiting_until[connection.id] = now + PATIENCE
            return []
        if current is not None and connection.id not in self._held:
            hold = self._twins.hold(connection.name, now)
            if hold:
                return self._hold(connection, current, now + hold)
        self._forget_wait(connection)
        move(connection, ConnectionState.PROCEEDING)
        return [ProceedHandshake(connection.id)]

    def _hold(self, connection: Connection, current: Connection, until: float) -> list[Action]:
        """Let a connection wait that replaces ``current``, as others have done all the time."""
        if connection.state is not ConnectionState.WAITING:
            move(connection, ConnectionState.WAITING)
        self._waiting_until[connection.id] = until
        self._held.add(connection.id)
        where = f" (one is at {current.address})" if current.address is not None else ""
        text = (
            f"Connections of {connection.name} replace each other all the time: two nodes seem to use that name{where}"
        )
        return [Log(logging.ERROR, 0, text, f"twins {connection.name}")]

    def _forget_wait(self, connection: Connection) -> None:
        self._waiting_until.pop(connection.id, None)
        self._held.discard(connection.id)

    def activated(self, connection: Connection) -> list[Action]:
        """``connection`` became active: nobody has to wait for it any longer, nor to go on."""
        return [
            self.close(rival, f"{connection.name} is already connected")
            for rival in self._rivals(connection)
            if rival.state is ConnectionState.WAITING
        ]

    def next_timeout(self) -> float:
        """When somebody's patience ends."""
        return min(self._waiting_until.values(), default=math.inf)

    def on_timeout(self, now: float) -> list[Action]:
        """Decide anew on those that have waited long enough; a rival that has proved its name still goes first."""
        actions: list[Action] = []
        for number in [number for number, until in self._waiting_until.items() if now >= until]:
            connection = self._registry.connections.get(number)
            if connection is not None and connection.state is ConnectionState.WAITING:
                actions += self.verified(connection, now)
            if self._waiting_until.get(number, math.inf) <= now:
                del self._waiting_until[number]
        return actions

    def ended(self, connection: Connection, now: float) -> list[Action]:
        """``connection`` was closed: those that waited for it are decided anew."""
        actions: list[Action] = []
        self._forget_wait(connection)
        heirs = [
            other
            for other in self._registry.connections.values()
            if connection.active and other.name == connection.name and other.id in self._held
        ]
        for heir in heirs:
            # There is nothing left to be replaced.
            self._waiting_until[heir.id] = now
        for rival in dict.fromkeys([*self._rivals(connection), *heirs]):
            if rival.state is ConnectionState.WAITING:
                actions += self.verified(rival, now)
        return actions

    def close(self, connection: Connection, reason: str) -> CloseConnection:
        self._registry.connections.pop(connection.id, None)
        self._forget_wait(connection)
        return CloseConnection(connection.id, reason)

    def _rivals(self, connection: Connection) -> list[Connection]:
        """Unfinished handshakes with the same node in the opposite direction, except those that have no answer yet."""
        return [
            other
            for other in self._registry.connections.values()
            if other.name == connection.name
            and other.outgoing != connection.outgoing
            and other.state not in {ConnectionState.OPENED, ConnectionState.ACTIVE}
        ]

    def _goes_first(self, rival: Connection, connection: Connection) -> bool:
        return self._initiator(rival) < self._initiator(connection)

    def _initiator(self, connection: Connection) -> str:
        return self._registry.me.name if connection.outgoing else connection.name
