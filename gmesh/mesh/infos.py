"""UDP_INFO and MTU_INFO: what nodes tell each other of addresses and sizes through relays (meta-sptps 7.4, 7.5).

Whoever gets packets through a relay says so to their source, and each relay on the way puts in what it knows better:
where it sees the node, and what its own paths carry. Nothing of it is proved, so it is only tried. Not here: what
follows from an address or a size (`udp.py`, `pmtu.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from gmesh.mesh import minors
from gmesh.mesh.actions import Action, SendLine
from gmesh.mesh.candidates import Source, is_probeable
from gmesh.mesh.limits import TokenBucket
from gmesh.mesh.own_edge import UNROUTABLE
from gmesh.mesh.registry import Connection, Node, Registry
from gmesh.mesh.settings import MeshSettings
from gmesh.mesh.udp import UdpPath
from gmesh.proto.requests_11 import MtuInfo, UdpInfo
from gmesh.values import MTU, OPTION_TCPONLY, Address

RELAY_BURST, RELAY_RATE = 1000, 200.0
"""So many of others' hints are passed on at once, and per second."""
LOOKING_SECONDS = 15.0
"""How long after the last packet for a node it is worth while to be found by it."""
MAX_TOLD = 4096
"""Nodes that were told something and may not be told again at once."""


class Infos:
    """Sends, takes and passes on hints. ``path_of`` gives the UDP path of a node that has one."""

    def __init__(
        self, registry: Registry, settings: MeshSettings, path_of: Callable[[str], UdpPath | None], now: float
    ) -> None:
        self.settings = settings
        self._registry = registry
        self._path_of = path_of
        self._relayed = TokenBucket(RELAY_BURST, RELAY_RATE, now)
        self._told: dict[tuple[type[UdpInfo] | type[MtuInfo], str], float] = {}

    # What we tell

    def address_to(self, node: Node, now: float) -> list[Action]:
        """Packets of ``node`` come by way of others: help it to reach us by UDP."""
        me = self._registry.me
        target = self._static_relay(node)
        if target is None or target is me or target.connection is not None:
            return []
        if not self._may_tell(UdpInfo, target, self.settings.udp_info_interval, now):
            return []
        return self._udp_info(me, target, None, now)

    def mtu_to(self, node: Node, now: float) -> list[Action]:
        """Packets of ``node`` come by way of others: tell it what size passes that way."""
        if node.connection is not None or not self._may_tell(MtuInfo, node, self.settings.mtu_info_interval, now):
            return []
        return self._mtu_info(self._registry.me, node, MTU, now)

    # What others tell

    def udp_info(self, connection: Connection, request: UdpInfo, now: float) -> list[Action]:
        """Try the address if we know no better, and pass it on, or better what we know ourselves."""
        source, target = self._registry.node(request.source), self._registry.node(request.target)
        if source is None or source is self._registry.me or not source.reachable or source.via is not source:
            return []
        actions: list[Action] = []
        path = self._path_of(source.name)
        hearsay = source.connection is None and (path is None or not path.confirmed)
        if hearsay and path is not None and is_probeable(request.address):
            actions += path.offer(request.address, Source.REFLEXIVE, now)
        if target is self._registry.me:
            if path is not None and path.wants_help and path.recent_traffic(now, LOOKING_SECONDS):
                # Both have to look for each other, and what we send may need no answer that would tell it of us.
                actions += self.address_to(source, now)
            return actions
        if target is None or not self._may_relay(now):
            return actions
        relay = self._static_relay(target)
        if relay is None or relay is self._registry.me or not self._leads_on(connection, relay):
            return actions
        return [*actions, *self._udp_info(source, relay, request.address if hearsay else None, now)]

    def mtu_info(self, connection: Connection, request: MtuInfo, now: float) -> list[Action]:
        """Believe the size until it is measured, and pass on what our own paths leave of it."""
        registry = self._registry
        source, target = registry.node(request.source), registry.node(request.target)
        if source is None or source is registry.me or not source.reachable:
            return []
        path = self._path_of(source.name)
        actions = [] if path is None else path.told_mtu(request.mtu)
        if target is None or target is registry.me or not self._may_relay(now):
            return actions
        if not self._leads_on(connection, target):
            return actions
        return [*actions, *self._mtu_info(source, target, request.mtu, now)]

    # Lines

    def _udp_info(self, source: Node, target: Node, heard: Address | None, now: float) -> list[Action]:
        """``heard`` is an address that is not better known here."""
        registry = self._registry
        tcp_only = self.settings.options | target.options | (0 if source is registry.me else source.options)
        if not target.reachable or tcp_only & OPTION_TCPONLY or _minor(target.next_hop) < minors.UDP_INFO:
            return []
        next_connection = registry.next_connection(target)
        address = self._own_address(next_connection) if source is registry.me else heard or self._seen_at(source)
        if next_connection is None or address is None or address.endpoint is None or "%" in address.host:
            return []
        return [SendLine(next_connection.id, UdpInfo(source.name, target.name, address).format())]

    def _mtu_info(self, source: Node, target: Node, mtu: int, now: float) -> list[Action]:
        if not target.reachable or _minor(target.next_hop) < minors.MTU_INFO:
            return []
        next_connection = self._registry.next_connection(target)
        if next_connection is None:
            return []
        if source is not self._registry.me:
            mtu = self._passes(source, mtu)
        return [SendLine(next_connection.id, MtuInfo(source.name, target.name, mtu).format())]

    def _passes(self, source: Node, mtu: int) -> int:
        """What of ``mtu`` our own paths towards ``source`` leave, as far as they are measured."""
        me = self._registry.me
        own = self._measured(source)
        if own is not None and source.via is me:
            return own
        relay = source.next_hop if source.via is me else source.via
        for node in (relay, None if relay is None else relay.next_hop):
            size = None if node is None else self._measured(node)
            if size is not None:
                return min(mtu, size)
        return mtu

    def _measured(self, node: Node) -> int | None:
        path = self._path_of(node.name)
        return path.min_mtu if path is not None and path.confirmed and path.mtu.measured else None

    def _seen_at(self, node: Node) -> Address | None:
        path = self._path_of(node.name)
        return node.path_address if path is None or path.address is None else path.address

    def _own_address(self, connection: Connection | None) -> Address | None:
        """The next node knows better what to put here."""
        if connection is None or connection.node is None:
            return None
        edge = self._registry.edge(self._registry.me, connection.node)
        known = None if edge is None else edge.local
        return known if known is not None else Address(UNROUTABLE, self.settings.port)

    # Helpers

    def _static_relay(self, node: Node) -> Node | None:
        """The last node towards ``node`` that UDP may reach directly."""
        return node.next_hop if node.via is self._registry.me else node.via

    def _leads_on(self, connection: Connection, target: Node) -> bool:
        """Whether the way to ``target`` is not the one that the hint came by."""
        onwards = self._registry.next_connection(target)
        return onwards is not None and onwards.id != connection.id

    def _may_relay(self, now: float) -> bool:
        """A tunnel server passes nothing on."""
        return not self.settings.tunnel_server and self._relayed.take(now)

    def _may_tell(self, kind: type[UdpInfo] | type[MtuInfo], node: Node, interval: float, now: float) -> bool:
        key = (kind, node.name)
        if now - self._told.get(key, -math.inf) < interval:
            return False
        self._told.pop(key, None)
        while len(self._told) >= MAX_TOLD:
            del self._told[next(iter(self._told))]
        self._told[key] = now
        return True


def _minor(node: Node | None) -> int:
    return 0 if node is None else node.minor
