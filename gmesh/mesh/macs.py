"""Learned MAC addresses in switch mode: which of our subnets they are, and when they end (topology 6).

The data plane notes when each address of our own device was last seen and tells of new ones; here they become subnets
of ours, are withdrawn when they were silent for too long, and at once when another node claims them: a host moved.

Not here: seeing frames (`gmesh.dataplane`), and finding a destination (`gmesh.route`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from gmesh.mesh.actions import Action, ForgetMac
from gmesh.mesh.events import FlowReader
from gmesh.mesh.limits import TokenBucket
from gmesh.mesh.registry import Node, Registry
from gmesh.mesh.settings import MeshSettings
from gmesh.values import Subnet, SubnetKind

MAX_MACS = 1024
"""Addresses learned at a time; frames of and to any more go to everybody."""
CHECK_INTERVAL = 10.0
BURST = 500
RATE = 20.0
"""Announcements at once and per second: a loop in the network behind us must not become a storm in the whole mesh."""

ChangeSubnet = Callable[[Node, Subnet], list[Action]]


class LearnedMacs:
    """``add`` and ``drop`` change a subnet of ours and tell everyone. Times are the loop's seconds."""

    def __init__(
        self,
        registry: Registry,
        settings: MeshSettings,
        flows: FlowReader,
        *,
        add: ChangeSubnet,
        drop: ChangeSubnet,
        now: float,
    ) -> None:
        self._registry = registry
        self._flows = flows
        self._add = add
        self._drop = drop
        self._bucket = TokenBucket(BURST, RATE, now)
        self._known: dict[bytes, Subnet] = {}
        """What the data plane has seen and we act on, with the subnet that it is or will be."""
        self._waiting: dict[bytes, None] = {}
        """Those of them that wait to be announced."""
        self._next_check = now + CHECK_INTERVAL
        self._take(settings)

    def _take(self, settings: MeshSettings) -> None:
        self._expire = settings.mac_expire
        self._configured = frozenset(subnet.address for subnet in settings.subnets if subnet.kind is SubnetKind.MAC)

    def seen(self, mac: bytes, now: float) -> list[Action]:
        """A frame from the own device bears this address (6 bytes), for the first time as far as is known."""
        if self._expire is None or mac in self._known or len(self._known) >= MAX_MACS:
            return []
        self._known[mac] = Subnet(SubnetKind.MAC, mac, 48)
        self._waiting[mac] = None
        return self._announce(now)

    def claimed(self, owner: str, subnet: Subnet) -> list[Action]:
        """Another node announced ``subnet``: if that was believed and we have learned the address, it moved there."""
        if subnet.kind is not SubnetKind.MAC or subnet.address not in self._known:
            return []
        node = self._registry.node(owner)
        if node is None or subnet not in node.subnets:
            return []
        return [] if subnet.address in self._configured else self._forget(subnet.address)

    def set_settings(self, settings: MeshSettings, now: float) -> list[Action]:
        """A reload, after the configured subnets have been changed. Without a time to expire all is forgotten."""
        self._take(settings)
        actions: list[Action] = []
        for mac, subnet in list(self._known.items()):
            if self._expire is None:
                actions += self._forget(mac)
            elif mac not in self._configured:
                if subnet not in self._registry.me.subnets:
                    self._waiting[mac] = None
            elif subnet not in settings.subnets and subnet in self._registry.me.subnets:
                actions += self._drop(self._registry.me, subnet)
        return actions + self._announce(now)

    def next_timeout(self, now: float) -> float:
        if self._expire is None:
            return math.inf
        return min(self._next_check, self._bucket.available_at(now)) if self._waiting else self._next_check

    def on_timeout(self, now: float) -> list[Action]:
        """Announce what waits; from time to time, withdraw what was silent for too long."""
        if self._expire is None:
            return []
        actions = self._announce(now)
        if now >= self._next_check:
            self._next_check = now + CHECK_INTERVAL
            last_seen = self._flows.mac_ages()
            for mac in list(self._known):
                if now - last_seen.get(mac, -math.inf) >= self._expire:
                    actions += self._forget(mac)
            # Events get lost when there are far too many.
            for mac in [mac for mac, seen in last_seen.items() if mac not in self._known and now - seen < self._expire]:
                actions += self.seen(mac, now)
        return actions

    def _announce(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while self._waiting and self._bucket.take(now):
            mac = next(iter(self._waiting))
            del self._waiting[mac]
            subnet = self._known[mac]
            if mac not in self._configured and subnet not in self._registry.me.subnets:
                actions += self._add(self._registry.me, subnet)
        return actions

    def _forget(self, mac: bytes) -> list[Action]:
        """The next frame that bears the address teaches it anew."""
        subnet = self._known.pop(mac)
        self._waiting.pop(mac, None)
        actions: list[Action] = [ForgetMac(mac)]
        if mac not in self._configured and subnet in self._registry.me.subnets:
            actions += self._drop(self._registry.me, subnet)
        return actions
