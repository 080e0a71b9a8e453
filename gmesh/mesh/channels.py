"""Data channels: keys and UDP path of every reachable node (contract 6).

The only place that chooses the kind of a node's channel. Not here: the key exchange itself (`legacy_channel.py`,
`sptps_channel.py`), the UDP machine (`udp.py`), lines that are for others (`relaying.py`), and the seen lines and
forwarding of KEY_CHANGED (gossip).
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from gmesh.errors import PeerError
from gmesh.mesh import minors
from gmesh.mesh.actions import Action, ForgetFlow, Log, RoutesChanged
from gmesh.mesh.candidates import Source
from gmesh.mesh.channel import Channel, ChannelStatus
from gmesh.mesh.edge_addresses import addresses_of, in_the_open
from gmesh.mesh.events import (
    AddressSeen,
    FlowReader,
    HandshakeOpened,
    HandshakeSealed,
    KeyNeeded,
    NodeEvent,
    PathWanted,
    ProbeReceived,
    ReceiveKeyWorn,
    RelayedDatagram,
    SessionConfirmed,
    SessionDoubted,
    TooBig,
)
from gmesh.mesh.health import Timing
from gmesh.mesh.identity import Identity, LegacyOnly
from gmesh.mesh.infos import Infos
from gmesh.mesh.legacy_channel import LegacyChannel
from gmesh.mesh.limits import TokenBucket
from gmesh.mesh.registry import Connection, Node, Registry
from gmesh.mesh.relaying import Relay, data_by_tcp, ignored
from gmesh.mesh.settings import MeshSettings
from gmesh.mesh.sptps_channel import SptpsChannel
from gmesh.mesh.udp import UdpPath
from gmesh.proto.requests import AnsKey, ReqKey
from gmesh.proto.requests_11 import MtuInfo, SessionData, StartSession, UdpInfo, sub_request
from gmesh.values import MTU, OPTION_PMTU, OPTION_TCPONLY, Address

NEVER = math.inf
NOBODY = LegacyOnly()
HEARSAY_BURST, HEARSAY_RATE = 1000, 200.0
"""As in `gmesh.mesh.udp`, for all nodes together."""
ANSWER_BURST, ANSWER_RATE = 200, 50.0
"""SPTPS sessions that others begin (and per second), all nodes together: each costs milliseconds."""
SHORTEST_INTERVAL = 0.2
"""Shorter ones cannot have been meant."""


@dataclass(slots=True)
class _Peer:
    node: Node
    channel: Channel
    path: UdpPath
    due: float = NEVER


class DataChannels:
    """All channels. Every method returns actions and never raises for what a peer did."""

    def __init__(
        self,
        registry: Registry,
        settings: MeshSettings,
        entropy: Callable[[int], bytes],
        flows: FlowReader,
        announce_new_keys: Callable[[], list[Action]],
        *,
        identity: Identity = NOBODY,
        now: float = 0.0,
        timing: Timing | None = None,
    ) -> None:
        """``announce_new_keys`` tells the whole mesh that all legacy keys that we made are void."""
        self._registry = registry
        self._settings = settings
        self._entropy = entropy
        self._flows = flows
        self._announce_new_keys = announce_new_keys
        self._identity = identity
        self._base_timing = timing or Timing()
        self._timing = _bounded(self._base_timing, settings)
        self._peers: dict[str, _Peer] = {}
        self._infos = Infos(registry, settings, self._path_of, now)
        self._relay = Relay(registry, self._path_of, takes_data=identity.private_key is not None)
        self._session_numbers = itertools.count(1)
        self._answers = TokenBucket(ANSWER_BURST, ANSWER_RATE, now)
        self._rollbacks: set[str] = set()
        self._queue: list[tuple[float, str]] = []
        self._expire_at = now + settings.key_expire
        self._hearsay = TokenBucket(HEARSAY_BURST, HEARSAY_RATE, now)

    # Which generation

    def speaks_sptps(self, node: Node) -> bool:
        """Whether packets for ``node`` itself are sealed in an SPTPS session: if it announces so, and always if its
        Ed25519 key is known (requirement 26). Relays of either generation leave the announcement as it is."""
        if self._identity.private_key is None:
            return False
        known = self._peers.get(node.name)
        channel = None if known is None else known.channel
        if isinstance(channel, SptpsChannel) and channel.valid_key_in and channel.key_learned:
            # What gossip says of the node does not end a session that works. A key that was on file ends with it.
            return True
        return node.minor >= minors.SPTPS or self._identity.public_key(node.name) is not None

    def _rollback(self, node: Node) -> list[Action]:
        """Said once for each node."""
        if node.name in self._rollbacks:
            return []
        self._rollbacks.add(node.name)
        text = (
            f"{node.name} is said to know only the old protocol of tinc 1.0, but its Ed25519 key is known: packets for "
            f"it stay in the new one, as somebody in between may have said so. If {node.name} really went back or has "
            f"ExperimentalProtocol = no, remove its Ed25519PublicKey from hosts/{node.name} and run: gmesh reload"
        )
        return [Log(logging.WARNING, 0, text)]

    # The graph

    def node_up(self, node: Node, now: float) -> list[Action]:
        """``node`` became reachable. A neighbour's channel begins at once, others when packets or keys ask for it:
        most nodes of a large mesh never talk to each other, and names are easily made up (requirement 12)."""
        if node is self._registry.me:
            return []
        actions = self.node_down(node, now)
        return actions if node.connection is None else [*actions, *self._begin(node, now)[1]]

    def _begin(self, node: Node, now: float) -> tuple[_Peer, list[Action]]:
        path = UdpPath(
            node.name,
            self._settings.name,
            self._entropy,
            self._flows,
            limit=self._mtu_limit(node.name),
            ping_interval=self._settings.ping_interval,
            timing=self._timing,
            hearsay=self._hearsay,
        )
        path.local_discovery = self._settings.local_discovery
        actions: list[Action] = []
        channel: Channel
        if self.speaks_sptps(node):
            if node.minor < minors.SPTPS:
                actions += self._rollback(node)
            channel = SptpsChannel(
                node,
                self._registry,
                self._settings,
                path,
                entropy=self._entropy,
                flows=self._flows,
                identity=self._identity,
                numbers=self._session_numbers,
                answers=self._answers,
            )
        else:
            channel = LegacyChannel(node, self._registry, self._settings, self._entropy, path)
        peer = _Peer(node, channel, path)
        self._peers[node.name] = peer
        actions += path.offer(node.path_address, Source.EDGE, now)
        actions += self._offer_addresses(peer, now)
        actions += self._set_policy(peer, now)
        actions += peer.channel.node_up(now)
        self._schedule(peer, now)
        return peer, actions

    def _find(self, name: str, now: float) -> tuple[_Peer | None, list[Action]]:
        """The channel to a reachable node, begun if it was not yet; None for ourselves and nodes out of reach."""
        peer = self._peers.get(name)
        if peer is not None:
            return peer, []
        node = self._registry.node(name)
        if node is None or node is self._registry.me or not node.reachable:
            return None, []
        return self._begin(node, now)

    def node_down(self, node: Node, now: float) -> list[Action]:
        """``node`` became unreachable: everything of its channel is forgotten."""
        peer = self._peers.pop(node.name, None)
        if peer is None:
            return []
        return [*peer.channel.node_down(), *peer.path.down(), ForgetFlow(node.name)]

    def routes_changed(self, now: float) -> list[Action]:
        """Paths or options of reachable nodes may have changed, or which keys are known. Call it after a graph run that
        changed anything."""
        actions: list[Action] = []
        for peer in list(self._peers.values()):
            if peer.channel.sptps != self.speaks_sptps(peer.node) or peer.channel.outdated:
                actions += self.node_down(peer.node, now)
                actions += [*self._begin(peer.node, now)[1], RoutesChanged()]
                continue
            if peer.channel.sptps and peer.node.minor < minors.SPTPS:
                actions += self._rollback(peer.node)
            actions += self._set_policy(peer, now)
            self._schedule(peer, now)
        return actions

    # Connections and requests

    def connection_active(self, node: Node, first: bool, now: float) -> list[Action]:
        """A neighbour's connection became active; ``first`` in the life of this daemon: third nodes may still hold
        keys that our predecessor made (requirement 24)."""
        known = self._peers.get(node.name)
        if known is None:
            actions = self._find(node.name, now)[1]
        else:
            actions = self._done(known, known.channel.neighbour_up(now), now)
        return [*actions, *self._announce_new_keys()] if first else actions

    def reconnected(self, node: Node, now: float) -> list[Action]:
        """A connection to ``node`` took the place of another that was active until now."""
        peer = self._peers.get(node.name)
        if peer is not None:
            actions = peer.channel.reconnected(now)
            if actions is not None:
                return self._done(peer, actions, now)
        return [*self.node_down(node, now), *self.node_up(node, now)]

    def req_key(self, connection: int, request: ReqKey, line: str, now: float) -> list[Action]:
        """REQ_KEY arrived over ``connection``: answer it, or pass it on byte for byte (data-legacy 3.1)."""
        if request.target != self._registry.me.name:
            return [] if self._settings.tunnel_server else self._relay.req_key(connection, request, line, now)
        peer, actions = self._find(request.source, now)
        if peer is None:
            return [ignored("REQ_KEY", request.source)]
        if not request.extra or not peer.channel.sptps:
            return self._done(peer, [*actions, *peer.channel.request_received(request, now)], now)
        try:
            content = sub_request(request)
        except PeerError as error:
            return [*actions, ignored(str(error), request.source)]
        if isinstance(content, SessionData):
            return [*actions, *data_by_tcp(self._registry, connection, request, content)]
        handshake = isinstance(content, StartSession)
        actions += self._infos.address_to(peer.node, now) if handshake else []
        actions += peer.channel.request_received(request, now)
        actions += self._infos.mtu_to(peer.node, now) if handshake else []
        return self._done(peer, actions, now)

    def ans_key(self, connection: int, request: AnsKey, line: str, now: float) -> list[Action]:
        """ANS_KEY arrived over ``connection``: use it, or pass it on with the creator's address (data-legacy 3.3)."""
        if request.target != self._registry.me.name:
            return [] if self._settings.tunnel_server else self._relay.ans_key(connection, request, line, now)
        peer, actions = self._find(request.source, now)
        if peer is None:
            return [ignored("ANS_KEY", request.source)]
        actions += self._offer_addresses(peer, now)
        actions += peer.channel.answer_received(request, now)
        if peer.channel.sptps:
            actions += self._infos.mtu_to(peer.node, now)
        return self._done(peer, actions, now)

    def info(self, connection: Connection, request: UdpInfo | MtuInfo, now: float) -> list[Action]:
        """UDP_INFO or MTU_INFO arrived over ``connection``."""
        if isinstance(request, UdpInfo):
            actions = self._infos.udp_info(connection, request, now)
        else:
            actions = self._infos.mtu_info(connection, request, now)
        peer = self._peers.get(request.source)
        return actions if peer is None else self._done(peer, actions, now)

    def key_changed(self, node: Node, now: float) -> list[Action]:
        """KEY_CHANGED of ``node``, which gossip took and forwarded."""
        peer = self._peers.get(node.name)
        return [] if peer is None else self._done(peer, peer.channel.key_changed(now), now)

    # The data plane

    def data_event(self, event: NodeEvent, now: float) -> list[Action]:
        peer, actions = self._find(event.node, now)
        if peer is None:
            return []
        match event:
            case KeyNeeded():
                actions += self._key_needed(peer, now)
            case ProbeReceived():
                # A peer that probes has our key; without its own we could not even answer.
                actions += [] if peer.channel.valid_key else peer.channel.key_needed(now)
                actions += peer.path.probe_received(event.frame, event.address, now)
            case AddressSeen():
                actions += peer.path.address_seen(event.address, now)
            case TooBig():
                actions += peer.path.too_big(event.size, now)
            case PathWanted():
                actions += peer.path.examine(now)
            case ReceiveKeyWorn():
                actions += peer.channel.worn(now)
            case RelayedDatagram():
                peer.path.woken(now)
                actions += self._relay_needed(peer, now)
                actions += self._infos.mtu_to(peer.node, now)
                actions += self._infos.address_to(peer.node, now)
            case HandshakeOpened() | HandshakeSealed() | SessionDoubted() | SessionConfirmed():
                actions += peer.channel.session_event(event, now)
        return self._done(peer, actions, now)

    # Time and settings

    def next_timeout(self) -> float:
        """When `on_timeout` is due."""
        queue = self._queue
        while queue:
            due, name = queue[0]
            peer = self._peers.get(name)
            if peer is not None and peer.due == due:
                return min(due, self._expire_at)
            heapq.heappop(queue)
        return self._expire_at

    def on_timeout(self, now: float) -> list[Action]:
        actions: list[Action] = []
        if now >= self._expire_at:
            actions += self._expire(now)
        due: list[_Peer] = []
        while self._queue and self._queue[0][0] <= now:
            when, name = heapq.heappop(self._queue)
            peer = self._peers.get(name)
            if peer is not None and peer.due == when:
                peer.due = NEVER
                due.append(peer)
        try:
            for peer in due:
                if peer.path.wants_help:
                    actions += self._offer_addresses(peer, now)
                actions += peer.channel.on_timeout(now)
                actions += self._done(peer, peer.path.on_timeout(now), now)
        finally:
            # A fault in one of them must not stop the clocks of the others.
            for peer in due:
                self._schedule(peer, now)
        return actions

    def set_settings(self, settings: MeshSettings, now: float) -> list[Action]:
        """A reload. Algorithms count for keys made from now on."""
        if settings.key_expire != self._settings.key_expire:
            self._expire_at = now + settings.key_expire
        self._settings = self._infos.settings = settings
        self._timing = _bounded(self._base_timing, settings)
        actions: list[Action] = []
        for peer in self._peers.values():
            peer.channel.settings = settings
            peer.path.local_discovery = settings.local_discovery
            peer.path.set_timing(self._timing)
            limit = self._mtu_limit(peer.node.name)
            actions += peer.path.set_limit(limit, settings.ping_interval, now)
        return [*actions, *self.routes_changed(now)]

    def retry(self, now: float) -> list[Action]:
        """The network may have come back: ask every path at once."""
        actions: list[Action] = []
        for peer in self._peers.values():
            actions += self._done(peer, peer.path.retry(now), now)
        return actions

    # Dumps

    def status(self, name: str) -> ChannelStatus:
        """The channel to the node of that name; defaults where there is none."""
        peer = self._peers.get(name)
        if peer is None:
            return ChannelStatus()
        key, path = peer.channel.send_key, peer.path
        return ChannelStatus(
            cipher=0 if key is None else key.cipher,
            digest=0 if key is None else key.digest,
            mac_length=0 if key is None else key.mac_length,
            compression=peer.channel.compression,
            valid_key=peer.channel.valid_key,
            waiting_for_key=peer.channel.waiting_for_key,
            valid_key_in=peer.channel.valid_key_in,
            udp_confirmed=path.confirmed,
            mtu=path.mtu.mtu,
            min_mtu=path.min_mtu,
            max_mtu=path.mtu.max,
            address=path.address,
            round_trip_us=-1 if path.round_trip is None else int(path.round_trip * 1e6),
            sptps=peer.channel.sptps,
        )

    def tried(self, name: str) -> list[tuple[Address, str, float]]:
        """Where UDP to that node may work: address, the source's name in lower case, and when it was probed last."""
        path = self._path_of(name)
        items = () if path is None else path.candidates.items()
        return [(address, candidate.source.name.lower(), candidate.probed_at) for address, candidate in items]

    # Helpers

    def _path_of(self, name: str) -> UdpPath | None:
        peer = self._peers.get(name)
        return None if peer is None else peer.path

    def _key_needed(self, peer: _Peer, now: float) -> list[Action]:
        return [*peer.channel.key_needed(now), *self._relay_needed(peer, now)]

    def _relay_needed(self, peer: _Peer, now: float) -> list[Action]:
        """The node by way of which UDP reaches ``peer``: without keys of its own nothing goes there by UDP."""
        actions: list[Action] = []
        relay = peer.node.via
        if peer.channel.sptps and relay is not None and relay is not peer.node and relay is not self._registry.me:
            other, more = self._find(relay.name, now)
            if other is not None:
                actions += self._done(other, [*more, *other.channel.key_needed(now)], now)
        return actions

    def _done(self, peer: _Peer, actions: list[Action], now: float) -> list[Action]:
        """Every way into a peer ends here: what its path did is told to its channel, and its timer is set."""
        if peer.path.wants_help and peer.path.last_wanted == now:
            peer.channel.help_wanted(now)
        self._schedule(peer, now)
        hop = peer.node.next_hop
        if peer.path.doubtful and hop is not None and hop is not peer.node and hop.name in self._peers:
            # Often both go the same way, and one after the other would take too long to find dead.
            relay = self._peers[hop.name]
            actions = [*actions, *relay.path.examine(now)]
            self._schedule(relay, now)
        return actions

    def _schedule(self, peer: _Peer, now: float) -> None:
        due = min(peer.channel.next_timeout(), peer.path.next_timeout())
        if due != peer.due:
            peer.due = due
            if due < NEVER:
                heapq.heappush(self._queue, (due, peer.node.name))
                if len(self._queue) > 64 + 4 * len(self._peers):
                    self._queue = [(each.due, each.node.name) for each in self._peers.values() if each.due < NEVER]
                    heapq.heapify(self._queue)

    def _mtu_limit(self, name: str) -> int:
        return min(self._settings.mtu_limit, self._settings.peer_mtu_limits.get(name, MTU), MTU)

    def _set_policy(self, peer: _Peer, now: float) -> list[Action]:
        node, me = peer.node, self._registry.me
        # IndirectData keeps others away, not neighbours: then via is ourselves, and the node is its own next hop.
        direct = node.via is node or (node.via is me and node.next_hop is node)
        tcp_only = (self._settings.options | node.options) & OPTION_TCPONLY
        sptps = peer.channel.sptps
        nats = (
            node.connection is None
            and not in_the_open(self._registry, node, me)
            and not in_the_open(self._registry, me, node)
        )
        return peer.path.set_policy(
            usable=node.reachable and direct and not tcp_only,
            pmtu=bool(node.options & OPTION_PMTU),
            neighbour=node.connection is not None,
            nats=nats,
            now=now,
            short_replies=sptps and node.minor >= minors.SHORT_REPLIES,
            discovery=not sptps or self._settings.udp_discovery,
        )

    def _offer_addresses(self, peer: _Peer, now: float) -> list[Action]:
        """Where edges say that the node is."""
        nearby = self._settings.local_discovery
        actions: list[Action] = []
        for address, source in addresses_of(self._registry, peer.node, nearby=nearby):
            actions += peer.path.offer(address, source, now)
        return actions

    def _expire(self, now: float) -> list[Action]:
        """KeyExpire: every key that we made is void (data-legacy 3.4)."""
        self._expire_at = now + self._settings.key_expire
        if not any(peer.channel.holds_our_key for peer in self._peers.values()):
            return []
        actions = [*self._announce_new_keys(), Log(logging.INFO, 2, "Renewing the keys for packets to us")]
        for peer in self._peers.values():
            actions += self._done(peer, peer.channel.renew(now), now)
        return actions


def _bounded(timing: Timing, settings: MeshSettings) -> Timing:
    """Our own timing is quicker than what the options usually say; they bound it from above."""
    interval = max(settings.udp_discovery_interval, SHORTEST_INTERVAL)
    timeout = max(settings.udp_discovery_timeout, SHORTEST_INTERVAL)
    return replace(
        timing,
        search_interval=interval,
        dead_interval=min(timing.dead_interval, interval),
        keepalive=min(timing.keepalive, max(settings.udp_discovery_keepalive, SHORTEST_INTERVAL)),
        patience_low=min(timing.patience_low, timeout),
        patience_high=min(timing.patience_high, timeout),
        one_way_patience=min(timing.one_way_patience, timeout),
    )
