"""AutoConnect: to which nodes connections are made that nobody has asked for (data-sptps 10).

A few connections to random nodes keep a mesh together, and a look at a random node now and then joins two halves that
have lost each other. What the configuration names is left alone, and so is what others opened. Pure: what is to be
dialled comes out as actions. Not here: how a node is dialled, and at which addresses (`gmesh.daemon.outgoing`).
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gmesh.mesh.actions import Action, Dial, Log, StopDialling
from gmesh.mesh.registry import Connection, Node, Registry
from gmesh.mesh.settings import MeshSettings
from gmesh.values import Address

WANTED = 3
"""Connections that are enough."""

INTERVAL = 5.0
SPREAD = 0.4
"""Share of the interval by which it varies, so that nodes which lost the same neighbour do not act at once."""

FIRST_LOOK = 1.5
"""Seconds after a start or a reload until the first look, at most: ConnectTo has had its chance by then."""

PATIENCE = 10.0
"""Seconds after which a node that cannot be reached makes room for another."""

SHORTEST_REST = 10.0
LONGEST_REST = 300.0
LONGEST_REST_ALONE = 60.0
"""For how long it is left in peace then: twice as long each time, but not too long while we have nobody at all."""

SETTLED = 30.0
"""A connection younger than so many seconds is not ended as superfluous."""

MAX_SEEN = 4
"""Addresses kept of each node."""


@dataclass(slots=True)
class _Call:
    """A node that is dialled because we said so. ``alone_since`` is when it had no connection from then on."""

    alone_since: float


@dataclass(slots=True)
class _Failure:
    count: int
    at: float


class AutoConnect:
    """Looks at the registry every few seconds. Times are the loop's seconds."""

    def __init__(self, registry: Registry, settings: MeshSettings, entropy: Callable[[int], bytes], now: float) -> None:
        self._registry = registry
        self._settings = settings
        self._entropy = entropy
        self._calls: dict[str, _Call] = {}
        self._failures: dict[str, _Failure] = {}
        self._seen: dict[str, tuple[Address, ...]] = {}
        self._next = self._soon(now) if settings.auto_connect else math.inf

    def addresses(self, name: str) -> Sequence[Address]:
        """Where the mesh last saw a node that we may call, even if everyone has forgotten it since."""
        return self._seen.get(name, ())

    def next_timeout(self) -> float:
        """When `on_timeout` wants to be called; never while it is switched off."""
        return self._next

    def on_timeout(self, now: float) -> list[Action]:
        """One look; at most one node is called each time, so that there is time to see what comes of it."""
        self._next = now + INTERVAL * (1 + SPREAD * (self._random() - 0.5))
        self._remember()
        neighbours = {each.name: each for each in self._registry.active_connections()}
        actions = self._give_up(neighbours, now)
        if len(neighbours) < WANTED:
            return actions + self._call_somebody(len(neighbours), now)
        actions += self._end_waits(neighbours)
        if len(neighbours) > WANTED:
            actions += self._end_one(neighbours, now)
        return actions + self._heal(now)

    def set_settings(self, settings: MeshSettings, now: float) -> list[Action]:
        """After a reload: what the configuration names now is not ours any more."""
        if settings.auto_connect != self._settings.auto_connect:
            self._next = self._soon(now) if settings.auto_connect else math.inf
        self._settings = settings
        for name in [name for name in self._calls if name in settings.connect_to]:
            del self._calls[name]
        allowed = settings.acquaintances if settings.auto_connect else {}
        for kept in (self._failures, self._seen):
            for name in [name for name in kept if name not in allowed]:
                del kept[name]
        gone = [name for name in self._calls if name not in allowed]
        return [action for name in gone for action in self._stop(name, "AutoConnect may not call {} any more")]

    # What is done in a look

    def _give_up(self, neighbours: dict[str, Connection], now: float) -> list[Action]:
        """Nodes that have been called in vain for long enough make room for others."""
        actions: list[Action] = []
        for name, call in list(self._calls.items()):
            if name in neighbours:
                call.alone_since = math.inf
                self._failures.pop(name, None)
            elif call.alone_since == math.inf:
                call.alone_since = now
            elif now - call.alone_since >= PATIENCE:
                actions += self._fail(name, now)
        return actions

    def _fail(self, name: str, now: float) -> list[Action]:
        before = self._failures.get(name)
        self._failures[name] = _Failure(1 if before is None else before.count + 1, now)
        return self._stop(name, "AutoConnect cannot reach {}, it may try another node")

    def _call_somebody(self, neighbours: int, now: float) -> list[Action]:
        waiting = sum(call.alone_since != math.inf for call in self._calls.values())
        if waiting >= WANTED - neighbours:
            return []
        longest = LONGEST_REST if neighbours else LONGEST_REST_ALONE
        names = [name for name in self._settings.acquaintances if self._may_call(name, longest, now)]
        return self._call(self._pick(names), now) if names else []

    def _end_waits(self, neighbours: dict[str, Connection]) -> list[Action]:
        """With connections enough, nobody else is waited for, nor stood by where the other end made the connection."""
        return [
            action
            for name in list(self._calls)
            if name not in neighbours or not neighbours[name].outgoing
            for action in self._stop(name, "AutoConnect has connections enough without dialling {}")
        ]

    def _end_one(self, neighbours: dict[str, Connection], now: float) -> list[Action]:
        """End a connection that we made and that neither of us needs."""
        superfluous = [
            name
            for name in self._calls
            if (connection := neighbours.get(name)) is not None
            and connection.outgoing
            and now - connection.active_since >= SETTLED
            and connection.node is not None
            # With fewer it would have to look for another one at once.
            and len(connection.node.edges) > WANTED
        ]
        if not superfluous:
            return []
        name = self._pick(superfluous)
        node = self._registry.node(name)
        if node is None or not self._reached_otherwise(node):
            return []
        return self._stop(name, "AutoConnect ends the connection with {}: there are more than needed")

    def _heal(self, now: float) -> list[Action]:
        """Look at one node among all that are known, and call it if it is out of reach.

        In a large mesh that has lost one node only few do, because all the others look at somebody else.
        """
        known = self._registry.nodes.keys() | self._settings.acquaintances.keys()
        name = self._pick(sorted(known))
        node = self._registry.node(name)
        if (node is not None and node.reachable) or not self._may_call(name, LONGEST_REST, now):
            return []
        # It has until the next look; where that is too short, it counts as tried.
        count = self._failures[name].count + 1 if name in self._failures else 1
        self._failures[name] = _Failure(count, now)
        return self._call(name, now)

    # What that is made of

    def _may_call(self, name: str, longest_rest: float, now: float) -> bool:
        """Whether there is a key, an address and no reason against it."""
        if name in self._calls or name in self._settings.connect_to or name == self._registry.me.name:
            return False
        has_address = self._settings.acquaintances.get(name)
        if has_address is None or not (has_address or self._seen.get(name)):
            return False
        node = self._registry.node(name)
        if node is not None and node.connection is not None:
            return False
        failure = self._failures.get(name)
        if failure is None:
            return True
        rest = min(SHORTEST_REST * 2.0 ** min(failure.count - 1, 10), longest_rest)
        return now - failure.at >= rest

    def _call(self, name: str, now: float) -> list[Action]:
        self._calls[name] = _Call(now)
        return [Dial(name), Log(logging.INFO, 1, f"AutoConnect calls {name}", f"autoconnect {name}")]

    def _stop(self, name: str, text: str) -> list[Action]:
        del self._calls[name]
        return [StopDialling(name), Log(logging.INFO, 1, text.format(name), f"autoconnect {name}")]

    def _remember(self) -> None:
        for name in self._settings.acquaintances:
            node = self._registry.node(name)
            if node is not None and node.reachable and node is not self._registry.me:
                edges = (edge.address for edge in self._registry.incoming(node) if edge.address.endpoint is not None)
                first = () if node.path_address is None else (node.path_address,)
                addresses = tuple(dict.fromkeys((*first, *edges)))[:MAX_SEEN]
                if addresses:
                    self._seen[name] = addresses

    def _reached_otherwise(self, node: Node) -> bool:
        """Whether the mesh would still connect us with a neighbour if our connection with it ended."""
        me = self._registry.me
        found, queue = {me}, deque([me])
        while queue:
            here = queue.popleft()
            for edge in here.edges.values():
                there = edge.target
                if there in found or edge.reverse is None or (here is me and there is node):
                    continue
                if there is node:
                    return True
                found.add(there)
                queue.append(there)
        return False

    def _soon(self, now: float) -> float:
        return now + FIRST_LOOK * (0.5 + self._random() / 2)

    def _pick(self, names: Sequence[str]) -> str:
        return names[int(self._random() * len(names))]

    def _random(self) -> float:
        return int.from_bytes(self._entropy(4), "big") / 2**32
