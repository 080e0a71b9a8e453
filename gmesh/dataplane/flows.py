"""What the data plane remembers per node, and the indexes by which a datagram finds its sender.

Not here: decisions. A flow is state; sender and receiver act on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gmesh.dataplane.endpoints import Endpoint, endpoint_of
from gmesh.dataplane.sessions import Sessions
from gmesh.mesh.actions import SetPath
from gmesh.mesh.events import FlowCounters
from gmesh.proto.packet import PacketKey, PacketOpener, PacketSealer
from gmesh.route.snapshot import RouteNode
from gmesh.values import MTU, OPTION_PMTU, Address

OLD_KEY_SECONDS = 10.0
"""How long the receive key before the newest one is still accepted, so that a renewal loses nothing in flight."""
MAX_OLD_KEYS = 2
"""A connect may renew keys twice in a row (data-legacy 3.2)."""
MAX_SOURCES = 4
"""Endpoints remembered per node, besides the path's, from which authentic datagrams came."""
MAX_CANDIDATES = 32
KEY_INTERVAL = 1.0
"""Seconds between two `KeyNeeded` for one node."""
LIVELY_SECONDS = 1.5
"""So recently something authentic has to have come by UDP from a node before UDP takes over to it what came by TCP: a
bit more than the mesh leaves between two proofs of a path in use."""
REFUSED_SECONDS = 15.0
"""How long frames that were too big are not tried again where nobody probes for it."""


class ReceiveKey:
    """A key by which a node's datagrams are opened, until the loop's second ``until``: never for the newest."""

    __slots__ = ("identifies", "opener", "until")

    def __init__(self, key: PacketKey, replay_window: int) -> None:
        self.identifies = key.has_mac
        """Whether a datagram that verifies can only be from the node: without a MAC anything does."""
        self.opener = PacketOpener(key, replay_window)
        self.until = float("inf")


class Held:
    """What waits for a change of keys: calls that send it, in order. From the second ``until`` on nothing waits."""

    __slots__ = ("calls", "until")

    def __init__(self, until: float) -> None:
        self.calls: list[Callable[[], None]] = []
        self.until = until


class Flow:
    """One node's state. The receive keys are newest first."""

    __slots__ = (
        "asked_at",
        "by_tcp_at",
        "by_tcp_since",
        "counters",
        "doubted_at",
        "endpoint",
        "examined_at",
        "held",
        "hosts",
        "min_mtu",
        "mtu",
        "name",
        "path",
        "receive_keys",
        "refused",
        "refused_at",
        "relayed_at",
        "reported",
        "sealer",
        "sessions",
        "socket",
        "sources",
        "udp",
        "worn",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.counters = FlowCounters()
        self.hosts: frozenset[str] = frozenset()
        self.sources: dict[Endpoint, Any] = {}
        self.sessions = Sessions()
        self.reset()

    def reset(self) -> None:
        """Forget keys, path and replay state. Counters go on, as they count for the node's whole life here."""
        self.sealer: PacketSealer | None = None
        self.receive_keys: tuple[ReceiveKey, ...] = ()
        self.path: SetPath | None = None
        self.endpoint: Endpoint | None = None
        """Where datagrams go."""
        self.socket: Any = None
        """The socket by which they go there, None where none fits."""
        self.udp = False
        self.min_mtu = 0
        self.mtu = MTU
        self.refused = MTU + 1
        """The smallest frame known to be too big since the path was set, from the kernel or by ICMP."""
        self.refused_at = float("-inf")
        self.reported: Endpoint | None = None
        """The last endpoint that was told to the mesh as a new one."""
        self.asked_at = float("-inf")
        """When a key was last asked for."""
        self.worn = False
        """Whether it was told that the newest receive key is worn."""
        self.doubted_at = self.relayed_at = float("-inf")
        """When it was last told that a datagram opens in no session, and that one was relayed."""
        self.by_tcp_since = self.by_tcp_at = self.examined_at = float("-inf")
        """Since when, and when last, what came by TCP was to go on to the node; and when the mesh was told so."""
        self.held: Held | None = None
        """There while nothing may be sealed in a session."""
        self.sessions.clear()
        self.sources.clear()
        self.counters.last_authentic = self.counters.last_opened = 0.0

    def fits(self, length: int, node: RouteNode, clock: Callable[[], float]) -> bool:
        """Whether a frame may go to the node by UDP. If it does no PMTU discovery only refusals count, for a while."""
        if not self.udp:
            return False
        if node.options & OPTION_PMTU:
            return length <= self.min_mtu
        if length >= self.refused and clock() - self.refused_at >= REFUSED_SECONDS:
            self.refused = MTU + 1
        return length < self.refused

    def is_lively(self, now: float) -> bool:
        """Whether UDP to the node may take over what came by TCP: something authentic came from it not long ago, and
        since packets began to come so. Whoever gave up UDP may have done it because all of it died just now."""
        if now - self.by_tcp_at > LIVELY_SECONDS:
            self.by_tcp_since = now
        self.by_tcp_at = now
        authentic = self.counters.last_authentic
        return authentic > self.by_tcp_since and now - authentic <= LIVELY_SECONDS

    def wants_key(self, now: float) -> bool:
        """Whether a key or session may be asked for now; if so, it counts as done."""
        if now - self.asked_at < KEY_INTERVAL:
            return False
        self.asked_at = now
        return True

    def refuse(self, size: int, now: float) -> bool:
        """A frame of ``size`` bytes is too big: those behind it need not try. Returns whether that is news."""
        self.min_mtu = min(self.min_mtu, size - 1)
        if size >= self.refused:
            return False
        self.refused = size
        self.refused_at = now
        return True

    @property
    def is_idle(self) -> bool:
        """Whether nothing but counters would be lost with this flow."""
        return self.sealer is None and not self.receive_keys and not self.sessions.all and self.path is None


class FlowTable:
    """All flows, by name, by the endpoints that they send from, and by host."""

    def __init__(self) -> None:
        self.by_name: dict[str, Flow] = {}
        self.by_source: dict[Endpoint, Flow] = {}
        self.keyed: dict[Flow, None] = {}
        """The flows that have a receive key."""
        self._by_host: dict[str, dict[Flow, None]] = {}

    def __iter__(self) -> Iterator[Flow]:
        return iter(self.by_name.values())

    def __len__(self) -> int:
        return len(self.by_name)

    def get_or_add(self, name: str) -> Flow:
        flow = self.by_name.get(name)
        if flow is None:
            flow = self.by_name[name] = Flow(name)
        return flow

    def at_host(self, host: str) -> Mapping[Flow, None]:
        """The flows that have an address with this host, whatever the port, in the order in which they got it."""
        return self._by_host.get(host, {})

    def set_path(self, flow: Flow, path: SetPath, socket: Any, endpoint: Endpoint | None) -> None:
        """Where the node is reached from now on; ``socket`` is used unless it was heard from there on another."""
        before = flow.path
        moved = before is None or before.address != path.address or before.udp != path.udp
        rehosted = before is None or before.address != path.address or before.candidates != path.candidates
        flow.path = path
        flow.udp = path.udp
        flow.min_mtu = path.min_mtu
        flow.mtu = path.mtu
        flow.refused = MTU + 1
        if moved:
            old = flow.endpoint
            if old is not None and old != endpoint and old not in flow.sources and self.by_source.get(old) is flow:
                # What is on its way from the old address is still recognised.
                self._remember_source(flow, old, flow.socket)
            if endpoint != old or flow.socket is None:
                flow.socket = flow.sources.get(endpoint, socket) if endpoint is not None else None
            flow.endpoint = endpoint
            # Told again if it still differs: what the mesh refused then it may want now.
            flow.reported = None
            if endpoint is not None:
                # An endpoint from which another node was heard stays that one's: this is hearsay until proved.
                self.by_source.setdefault(endpoint, flow)
        if rehosted:
            self._index_hosts(flow)

    def heard(self, flow: Flow, source: Endpoint, socket: Any) -> None:
        """An authentic datagram of the node came from ``source``."""
        self._remember_source(flow, source, socket)
        if source == flow.endpoint:
            flow.socket = socket
        self._index_hosts(flow)

    def add_receive_key(self, flow: Flow, key: ReceiveKey, now: float) -> None:
        """Make ``key`` the newest; those before are accepted for a while, each with its own replay window."""
        before = flow.receive_keys
        if before:
            before[0].until = now + OLD_KEY_SECONDS
        living = [old for old in before if old.until > now][:MAX_OLD_KEYS]
        flow.receive_keys = (key, *living)
        flow.worn = False
        self.keyed[flow] = None

    def forget(self, flow: Flow) -> None:
        """Reset the flow and take it out of the indexes by address."""
        for endpoint in (*flow.sources, flow.endpoint):
            if endpoint is not None and self.by_source.get(endpoint) is flow:
                del self.by_source[endpoint]
        flow.reset()
        self.keyed.pop(flow, None)
        self._index_hosts(flow)

    def remove(self, flow: Flow) -> None:
        self.forget(flow)
        del self.by_name[flow.name]

    def _remember_source(self, flow: Flow, source: Endpoint, socket: Any) -> None:
        sources = flow.sources
        sources.pop(source, None)
        sources[source] = socket
        self.by_source[source] = flow
        while len(sources) > MAX_SOURCES:
            oldest = next(iter(sources))
            del sources[oldest]
            if oldest != flow.endpoint and self.by_source.get(oldest) is flow:
                del self.by_source[oldest]

    def _index_hosts(self, flow: Flow) -> None:
        hosts = {endpoint[0] for endpoint in flow.sources}
        if flow.endpoint is not None:
            hosts.add(flow.endpoint[0])
        if flow.path is not None:
            hosts.update(_hosts(flow.path.candidates[:MAX_CANDIDATES]))
        for host in flow.hosts - hosts:
            flows = self._by_host[host]
            del flows[flow]
            if not flows:
                del self._by_host[host]
        for host in hosts - flow.hosts:
            self._by_host.setdefault(host, {})[flow] = None
        flow.hosts = frozenset(hosts)


def _hosts(addresses: tuple[Address, ...]) -> Iterator[str]:
    for address in addresses:
        endpoint = endpoint_of(address)
        if endpoint is not None:
            yield endpoint[0]
