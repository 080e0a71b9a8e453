"""The mesh facade: everything that happens goes in here, and what is to be done comes out as actions (contract 2).

Pure: no method yields, sends, or looks at a clock. Graph runs are coalesced: an event marks the results stale, and
`settle` brings them up to date before they are read, or when `next_timeout` says so, which is at once unless the
last run was a moment ago. Not here: the rules themselves (`gossip.py`, `graph.py`, `connections.py`, `channels.py`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

from gmesh.errors import PeerError
from gmesh.mesh import graph
from gmesh.mesh.actions import (
    Action,
    Log,
    NodeDown,
    NodeUp,
    RoutesChanged,
    SubnetDown,
    SubnetUp,
)
from gmesh.mesh.autoconnect import AutoConnect
from gmesh.mesh.changes import Changes, SubnetChange
from gmesh.mesh.channels import NOBODY, DataChannels
from gmesh.mesh.connections import Handshakes, move
from gmesh.mesh.corrections import Corrections
from gmesh.mesh.events import DataEvent, FlowReader, MacSeen
from gmesh.mesh.gossip import Gossip
from gmesh.mesh.identity import Identity
from gmesh.mesh.limits import TokenBucket
from gmesh.mesh.macs import LearnedMacs
from gmesh.mesh.own_edge import combined_options, edge_address, edge_weight, local_address
from gmesh.mesh.registry import Bounds, Connection, ConnectionState, Node, Registry
from gmesh.mesh.settings import MeshSettings
from gmesh.proto.meta_events import Active
from gmesh.proto.requests import AddEdge, AddSubnet, AnsKey, DelEdge, DelSubnet, KeyChanged, ReqKey, Request
from gmesh.proto.requests_11 import MtuInfo, UdpInfo
from gmesh.values import UNKNOWN_ADDRESS, Address, Subnet

RUN_INTERVAL_PER_EDGE = 20e-6
"""Seconds between graph runs per edge: several times what a run costs, so that a storm leaves time for the rest."""
SHORTEST_RUN_INTERVAL = 0.02
LONGEST_RUN_INTERVAL = 2.0
EARLY_RUNS = 20
"""Graph runs that may come earlier because their results are needed, refilled at the pace of the others."""
HostSubnets = Mapping[str, frozenset[Subnet]]


class Mesh:
    """See gmesh.daemon for the wiring. Times are the loop's monotonic seconds."""

    def __init__(
        self,
        settings: MeshSettings,
        now: float,
        entropy: Callable[[int], bytes],
        flows: FlowReader,
        identity: Identity = NOBODY,
    ) -> None:
        """Without an ``identity`` the node speaks only the legacy protocol."""
        self.settings = settings
        self.registry = Registry(settings.name, _bounds(settings), now)
        self.registry.me.options = settings.options
        self._changes = Changes()
        self._corrections = Corrections(now)
        self._handshakes = Handshakes(self.registry)
        self._gossip = Gossip(self.registry, settings, entropy, self._changes, self._corrections)
        self._macs = LearnedMacs(
            self.registry, settings, flows, add=self._gossip.add_subnet, drop=self._gossip.drop_subnet, now=now
        )
        self.channels = DataChannels(
            self.registry, settings, entropy, flows, self._gossip.new_keys, identity=identity, now=now
        )
        self.autoconnect = AutoConnect(self.registry, settings, entropy, now)
        self._now = now
        self._last_run = -math.inf
        self._early_runs = TokenBucket(EARLY_RUNS, 1.0, now)
        self._next_sweep = now + settings.ping_timeout
        self._was_connected = False
        for subnet in settings.subnets:
            self.registry.add_subnet(self.registry.me, subnet)
        for name, subnets in (settings.host_subnets or {}).items():
            for subnet in subnets:
                self.registry.add_subnet(self.registry.ensure_node(name, now), subnet)

    def start(self, now: float) -> list[Action]:
        """subnet-up for our own subnets, to be run right after tinc-up (scripts 1)."""
        self._begin(now)
        return [RoutesChanged(), *self._own_subnets(SubnetUp)]

    # Connections

    def connection_opened(self, connection: int, name: str, outgoing: bool, now: float) -> list[Action]:
        self._begin(now)
        self.registry.connections[connection] = Connection(connection, name, outgoing, now)
        return []

    def peer_identified(self, connection: int, name: str, now: float) -> list[Action]:
        self._begin(now)
        known = self.registry.connections.get(connection)
        if known is not None:
            known.name = name
            move(known, ConnectionState.IDENTIFIED)
        return []

    def peer_verified(self, connection: int, now: float) -> list[Action]:
        self._begin(now)
        known = self.registry.connections.get(connection)
        return [] if known is None else self._handshakes.verified(known, now)

    def peer_active(
        self, connection: int, ack: Active, address: Address, now: float, local_host: str = ""
    ) -> list[Action]:
        """Both ACKs are there (meta-legacy 4.5). ``address`` is the TCP peer's, with its TCP port; ``local_host`` our
        own end's, empty where it has none.

        A connection to the same node that was active until now is closed without a DEL_EDGE, and the keys start
        afresh, because its process may be a new one. Scripts run only if it was really unreachable in between.
        """
        self._begin(now)
        new = self.registry.connections.get(connection)
        if new is None:
            return []
        move(new, ConnectionState.ACTIVE)
        node = self.registry.ensure_node(ack.name, now)
        old = self.registry.connection_to(node)
        actions: list[Action] = []
        if old is not None:
            actions.append(self._handshakes.close(old, "replaced by a newer connection"))
            self._corrections.connection_lost(old.id)
        new.name, new.node, new.active_since, new.address = ack.name, node, now, address
        node.connection = connection
        actions += self._handshakes.activated(new)
        text = f"Connection with {new.name} ({address}) activated"
        actions.append(Log(logging.INFO, 1, text))
        actions += self._gossip.everything(new)
        weight = edge_weight(ack)
        actions += self._gossip.put_own_edge(
            node,
            edge_address(address, ack.port),
            combined_options(ack),
            weight,
            local_address(local_host, self.settings.port),
        )
        self._changes.neighbours = True
        last_change = node.last_change
        actions += self.settle(now)
        if old is not None and node.reachable and node.last_change == last_change:
            actions += self.channels.reconnected(node, now)
        first, self._was_connected = not self._was_connected, True
        actions += self.channels.connection_active(node, first, now)
        return actions

    def connection_closed(self, connection: int, now: float) -> list[Action]:
        self._begin(now)
        lost = self.registry.connections.pop(connection, None)
        if lost is None:
            return []
        actions: list[Action] = []
        if lost.active and lost.node is not None:
            lost.node.connection = None
            self._changes.neighbours = True
            edge = self.registry.edge(self.registry.me, lost.node)
            if edge is not None:
                actions += self._gossip.drop_edge(edge)
            self._corrections.connection_lost(connection)
            if next(self.registry.active_connections(), None) is None:
                # Nobody is left to hear of it, and what we know would only be stale when somebody is (topology 3.3).
                actions += self._run_and_apply(now)
                actions += self._purge(now)
                self._changes.routes = True
            actions += self.settle(now)
        return actions + self._handshakes.ended(lost, now)

    # Requests and events

    def request_received(self, connection: int, request: Request, line: str, now: float) -> list[Action]:
        """A request on an active connection, with its line as it came. Raises PeerError where it may not be sent."""
        self._begin(now)
        known = self.registry.connections.get(connection)
        if known is None:
            return []
        if not known.active:
            raise PeerError(f"{type(request).__name__} before the handshake was done")
        match request:
            case AddSubnet() | DelSubnet() | AddEdge() | DelEdge():
                acted, actions = self._gossip.handle(known, request, line)
                if acted and isinstance(request, AddSubnet):
                    actions += self._macs.claimed(request.owner, request.subnet)
            case KeyChanged():
                acted, actions = self._gossip.handle(known, request, line)
                node = self.registry.node(request.node)
                if acted and node is not None:
                    actions += self.channels.key_changed(node, now)
            case ReqKey():
                actions = self.settle(now)
                actions += self.channels.req_key(connection, request, line, now)
            case AnsKey():
                actions = self.settle(now)
                actions += self.channels.ans_key(connection, request, line, now)
            case _:
                raise PeerError(f"{type(request).__name__} on an active connection")
        return actions + self._gossip.corrections_due()

    def info_received(self, connection: int, request: UdpInfo | MtuInfo, line: str, now: float) -> list[Action]:
        """A hint of a neighbour about addresses or sizes. Raises PeerError where it may not be sent."""
        self._begin(now)
        known = self.registry.connections.get(connection)
        if known is None:
            return []
        if not known.active:
            raise PeerError(f"{type(request).__name__} before the handshake was done")
        actions = self.settle(now)
        return actions + self.channels.info(known, request, now)

    def keys_changed(self, now: float) -> list[Action]:
        """Other Ed25519 keys are known than before: some nodes may have to be spoken to in another protocol."""
        self._begin(now)
        actions = self.channels.routes_changed(now)
        self._changes.routes = True
        return actions + self.settle(now)

    def data_event(self, event: DataEvent, now: float) -> list[Action]:
        self._begin(now)
        if isinstance(event, MacSeen):
            return self._macs.seen(event.mac, now)
        actions = self.settle(now)
        return actions + self.channels.data_event(event, now)

    # Time

    def next_timeout(self) -> float:
        """When `on_timeout` wants to be called next; in the past where that is as soon as possible."""
        due = min(
            self._next_sweep,
            self._corrections.next_timeout(self._now),
            self._macs.next_timeout(self._now),
            self.channels.next_timeout(),
            self._handshakes.next_timeout(),
            self.autoconnect.next_timeout(),
        )
        return min(due, self._run_due()) if self._changes.any else due

    def on_timeout(self, now: float) -> list[Action]:
        self._begin(now)
        actions: list[Action] = []
        if self._changes.any and now >= self._run_due():
            actions += self._run_and_apply(now)
        if now >= self._next_sweep:
            self._next_sweep = now + self.settings.ping_timeout
            self._gossip.seen.expire(now)
            self._gossip.touched.expire(now)
            if self._gossip.full:
                # What a member made up, and left, must not keep out what others have to say.
                self._gossip.full = False
                actions += self._purge(now, before=now - self.settings.ping_timeout)
            hold = self._corrections.check(now, self.settings.ping_timeout)
            if hold:
                text = (
                    f"Another node seems to use our name {self.settings.name}: not correcting it for {hold:g} seconds"
                )
                actions.append(Log(logging.ERROR, 0, text))
        actions += self._gossip.corrections_due()
        if now >= self._macs.next_timeout(now):
            actions += self._macs.on_timeout(now)
        if now >= self.channels.next_timeout():
            actions += self.channels.on_timeout(now)
        if now >= self._handshakes.next_timeout():
            actions += self._handshakes.on_timeout(now)
        if now >= self.autoconnect.next_timeout():
            actions += self.settle(now)
            actions += self.autoconnect.on_timeout(now)
        return actions

    # What the administrator does

    def set_settings(self, settings: MeshSettings, now: float) -> list[Action]:
        """A reload: our subnets are announced or withdrawn (requirement 21); options hold for connections to come."""
        self._begin(now)
        old, self.settings = self.settings, settings
        self.registry.bounds = _bounds(settings)
        self.registry.me.options = settings.options
        self._gossip.seen.limit, self._gossip.seen.lifetime = settings.max_seen, settings.ping_interval
        self._next_sweep = min(self._next_sweep, now + settings.ping_timeout)
        actions: list[Action] = []
        for subnet in sorted(old.subnets - settings.subnets, key=Subnet.sort_key):
            actions += self._gossip.drop_subnet(self.registry.me, subnet)
        for subnet in sorted(settings.subnets - old.subnets, key=Subnet.sort_key):
            if subnet not in self.registry.me.subnets:
                actions += self._gossip.add_subnet(self.registry.me, subnet)
        actions += self._set_host_subnets(old.host_subnets or {}, settings.host_subnets or {}, now)
        actions += self._macs.set_settings(settings, now)
        if settings.options != old.options:
            self._changes.routes = True
        actions += self.channels.set_settings(settings, now)
        actions += self.autoconnect.set_settings(settings, now)
        return actions + self._run_and_apply(now)

    def _set_host_subnets(self, old: HostSubnets, new: HostSubnets, now: float) -> list[Action]:
        """StrictSubnets: what the host files no longer say, and what they say now."""
        actions: list[Action] = []
        nothing: frozenset[Subnet] = frozenset()
        for name in sorted({*old, *new}):
            node = self.registry.ensure_node(name, now)
            before, after = old.get(name, nothing), new.get(name, nothing)
            for subnet in sorted(before - after, key=Subnet.sort_key):
                actions += self._gossip.drop_subnet(node, subnet)
            for subnet in sorted(after - before, key=Subnet.sort_key):
                actions += self._gossip.add_subnet(node, subnet)
        return actions

    def purge(self, now: float) -> list[Action]:
        """Forget what is unreachable, and tell everyone (topology 3.3)."""
        self._begin(now)
        actions = self._run_and_apply(now)
        actions += self._purge(now)
        return actions + self._run_and_apply(now)

    def retry(self, now: float) -> list[Action]:
        self._begin(now)
        return self.channels.retry(now)

    def stop(self, now: float) -> list[Action]:
        """Close everything: the down scripts of each node, then of our own subnets (scripts 1)."""
        self._begin(now)
        actions: list[Action] = []
        for connection in list(self.registry.connections.values()):
            actions.append(self._handshakes.close(connection, "stopping"))
            if connection.node is not None:
                connection.node.connection = None
                edge = self.registry.edge(self.registry.me, connection.node)
                if edge is not None:
                    self.registry.remove_edge(edge)
        self._changes.graph = True
        actions += self._run_and_apply(now)
        return actions + self._own_subnets(SubnetDown)

    # Graph runs and what follows

    def settle(self, now: float) -> list[Action]:
        """Bring graph results up to date before they are read, unless a storm has used up the runs for that."""
        self._begin(now)
        if not self._changes.any:
            return []
        if self._changes.graph and now < self._run_due() and not self._early_runs.take(now):
            return []
        return self._run_and_apply(now)

    def _run_due(self) -> float:
        return self._last_run + self._run_interval() if self._changes.graph else -math.inf

    def _run_interval(self) -> float:
        return min(LONGEST_RUN_INTERVAL, SHORTEST_RUN_INTERVAL + RUN_INTERVAL_PER_EDGE * self.registry.edge_count)

    def _run_and_apply(self, now: float) -> list[Action]:
        """Run the graph if edges changed; then scripts, channels and the data plane hear what is different."""
        actions: list[Action] = []
        change = graph.GraphChange()
        if self._changes.graph:
            self._changes.graph = False
            self._last_run = now
            self._early_runs.rate = 1 / self._run_interval()
            change = graph.run(self.registry, now)
        subnets = self._changes.take_subnets()
        for node in change.down:
            actions += self._node_down(node, subnets)
        for node in change.up:
            actions += self._node_up(node)
        if change.moved or self._changes.neighbours:
            actions += self.channels.routes_changed(now)
        moved = {node.name for node in change.up} | {node.name for node in change.down}
        for present in (False, True):
            for entry in subnets:
                if entry.present_before != present and entry.owner.reachable and entry.owner.name not in moved:
                    kind = SubnetUp if present else SubnetDown
                    actions.append(kind(entry.owner.name, entry.subnet, self._script_address(entry.owner)))
        if change.changed or self._changes.neighbours or self._changes.routes:
            actions.append(RoutesChanged())
        self._changes.neighbours = self._changes.routes = False
        for node in change.down:
            # We are not connected to it, so its edge to us is void; nobody else may be left to say so (topology 2.3).
            void = self.registry.edge(node, self.registry.me)
            if void is not None:
                actions += self._gossip.drop_edge(void)
                # An edge without its reverse changes no result.
                self._changes.graph = False
        return actions

    def _node_up(self, node: Node) -> list[Action]:
        actions = self.channels.node_up(node, self._now)
        address = self._address(node)
        actions.append(Log(logging.INFO, 2, f"Node {node.name} ({address}) became reachable", f"reachable {node.name}"))
        actions.append(NodeUp(node.name, address))
        actions += [SubnetUp(node.name, subnet, address) for subnet in sorted(node.subnets, key=Subnet.sort_key)]
        return actions

    def _node_down(self, node: Node, changes: list[SubnetChange]) -> list[Action]:
        address = self._address(node)
        announced = set(node.subnets)
        for entry in changes:
            if entry.owner is node:
                (announced.add if entry.present_before else announced.discard)(entry.subnet)
        actions = self.channels.node_down(node, self._now)
        actions.append(
            Log(logging.INFO, 2, f"Node {node.name} ({address}) became unreachable", f"reachable {node.name}")
        )
        actions.append(NodeDown(node.name, address))
        actions += [SubnetDown(node.name, subnet, address) for subnet in sorted(announced, key=Subnet.sort_key)]
        return actions

    def _purge(self, now: float, before: float = math.inf) -> list[Action]:
        """Delete the facts of nodes that have been unreachable since ``before``."""
        actions: list[Action] = []
        for name in sorted(self.registry.nodes):
            node = self.registry.nodes[name]
            if node.reachable or node.last_change > before:
                continue
            if self.settings.host_subnets is None:
                for subnet in sorted(node.subnets, key=Subnet.sort_key):
                    actions += self._gossip.drop_subnet(node, subnet)
            for target in sorted(node.edges):
                actions += self._gossip.drop_edge(node.edges[target])
        self._gossip.forget_bare_nodes()
        return actions

    def _own_subnets(self, kind: type[SubnetUp] | type[SubnetDown]) -> list[Action]:
        me = self.registry.me
        return [kind(me.name, subnet, None) for subnet in sorted(me.subnets, key=Subnet.sort_key)]

    def _script_address(self, node: Node) -> Address | None:
        return None if node is self.registry.me else self._address(node)

    def _address(self, node: Node) -> Address:
        """The node's UDP address as known now, for scripts and the log."""
        return self.channels.status(node.name).address or node.path_address or UNKNOWN_ADDRESS

    def _begin(self, now: float) -> None:
        self._now = self._gossip.now = now


def _bounds(settings: MeshSettings) -> Bounds:
    return Bounds(settings.max_nodes, settings.max_edges, settings.max_subnets, settings.max_database)
