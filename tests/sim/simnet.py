"""Many real meshes on a fake clock: real `Mesh`, `Outbox` and request parsing, links with latency and bandwidth.

The handshake is either the real one (`MetaStart` with a shared RSA key, and Ed25519 keys for nodes of tinc 1.1's kind)
or `PlainMeta`, which has its order of steps and its events but no cryptography. Not here: what one node does
(`simnode.py`).
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.crypto.rsa import RsaPrivateKey
from gmesh.mesh.settings import MeshSettings
from gmesh.proto.meta_base import PeerCredentials
from gmesh.proto.meta_start import MetaStart
from gmesh.values import Address, Subnet
from tests.sim.simmeta import MINOR, PlainMeta, options_of
from tests.sim.simnode import End, Meta, SimNode


@dataclass
class World:
    """The clock, the links, and who is cut off from whom."""

    seed: int = 1
    latency: tuple[float, float] = (0.005, 0.08)
    bytes_per_second: float = 1.25e6
    key: RsaPrivateKey | None = None
    now: float = 1000.0
    nodes: dict[str, SimNode] = field(default_factory=dict)
    lines: Counter[str] = field(default_factory=Counter)
    activations: int = 0
    cut: Callable[[str, str], bool] = lambda a, b: False
    is_sptps: Callable[[str], bool] = lambda name: False
    """Which nodes speak both generations, by name."""
    settings: dict[str, object] = field(default_factory=dict)
    """Fields of every node's MeshSettings that are not the defaults."""
    public_keys: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ids = itertools.count(1)

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._order), what))

    def after(self, delay: float, what: Callable[[], None]) -> None:
        self.at(self.now + delay, what)

    def run(self, seconds: float, until: Callable[[], bool] | None = None, every: float = 0.1) -> float:
        """Run for so many seconds, or until something holds, which is looked at now and then. Returns the time used."""
        began, end = self.now, self.now + seconds
        look = self.now + every
        while self._queue and self._queue[0][0] <= end:
            when, _, what = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            if until is not None and self.now >= look:
                if until():
                    heapq.heappush(self._queue, (when, next(self._order), what))
                    return self.now - began
                look = self.now + every
            what()
        self.now = end
        assert until is None or until(), "not within the time"
        return self.now - began

    def add(self, name: str, targets: list[str], subnets: list[str] | None = None, key: str = "") -> SimNode:
        """A new daemon; ``key`` names its place in the world where two use one name."""
        if subnets is None:
            number = len(self.nodes)
            subnets = [f"10.{number // 250}.{number % 250}.0/24", f"fd00:{number:x}::/64"]
        changes: dict[str, Any] = self.settings
        settings = MeshSettings(name=name, subnets=frozenset(map(Subnet.parse, subnets)), **changes)
        private = Ed25519PrivateKey.from_seed(self.random.randbytes(32)) if self.is_sptps(name) else None
        if private is not None:
            self.public_keys[name] = private.public
        node = self.nodes[key or name] = SimNode(self, name, settings, targets, private)
        return node

    def connect(self, node: SimNode, target: str) -> bool:
        """Open a connection, unless there is no way."""
        peer = self.nodes.get(target)
        if peer is None or peer.silent or self.cut(node.name, peer.name):
            return False
        ends = []
        latency = self.random.uniform(*self.latency)
        for owner, other, outgoing in ((node, peer, True), (peer, node, False)):
            end = End(owner, next(self._ids), self._meta(owner, other, outgoing), self.address(other.name))
            end.latency, end.bytes_per_second = latency, self.bytes_per_second
            owner.ends[end.id] = end
            ends.append(end)
        ends[0].other, ends[1].other = ends[1], ends[0]
        for end in ends:
            outgoing = end is ends[0]
            end.node.perform(end.node.mesh.connection_opened(end.id, peer.name if outgoing else "", outgoing, self.now))
        self.after(latency, ends[0].pump)
        return True

    def _meta(self, owner: SimNode, other: SimNode, outgoing: bool) -> Meta:
        minor = 0 if owner.private_key is None else MINOR
        if self.key is None:
            return PlainMeta(outgoing=outgoing, my_name=owner.name, weight=self.random.randrange(5, 400), minor=minor)
        credentials = PeerCredentials(self.key.public, options_of(minor), ed25519=self.public_keys.get(other.name))
        return MetaStart(
            outgoing=outgoing,
            my_name=owner.name,
            rsa_key=self.key,
            ed25519_key=owner.private_key,
            expected_name=other.name if outgoing else "",
            credentials=lambda name: credentials,
            entropy=self.random.randbytes,
            now=self.now,
            ping_interval=60.0,
            ping_timeout=5.0,
            port="655",
        )

    def sever(self) -> None:
        """End the connections across the cut, noticed at both ends after a time-out."""
        for node in self.nodes.values():
            for end in list(node.ends.values()):
                other = end.other
                if other is not None and self.cut(node.name, other.node.name):
                    # Nothing arrives any more, in either direction.
                    end.other = None
                    self.after(self.random.uniform(1.0, 10.0), end.lost)

    def agreed(self, names: list[str] | None = None) -> bool:
        """Whether these nodes have the same database and all reach each other."""
        nodes = [self.nodes[name] for name in (names or list(self.nodes)) if not self.nodes[name].silent]
        wanted = {node.name for node in nodes}
        first = nodes[0].mesh.registry
        # Nearly always the counts differ already, as long as anything does.
        for node in nodes:
            known = node.mesh.registry
            if (known.edge_count, known.subnet_count) != (first.edge_count, first.subnet_count):
                return False
        if any(node.reachable() != wanted for node in nodes):
            return False
        facts = nodes[0].facts()
        return all(node.facts() == facts for node in nodes)

    @staticmethod
    def address(name: str) -> Address:
        number = sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 2**24
        return Address(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "655")
