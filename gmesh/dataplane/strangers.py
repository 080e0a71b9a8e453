"""Finding the sender of a datagram whose source address is unknown or does not fit (data-legacy 7).

Every attempt costs a MAC over the datagram, so attempts are rationed: anyone can send garbage. Nodes with an address
on the datagram's host are tried first, all others at most once a second per host. Each of the two has a budget of its
own, so that garbage from one member's forged address leaves the other way open to a node that has really moved.

Not here: datagrams from a known address, which cost one attempt each and are never refused one.
"""

from __future__ import annotations

from itertools import islice

from gmesh.dataplane.endpoints import Endpoint
from gmesh.dataplane.flows import Flow, FlowTable, ReceiveKey

CHECKS_PER_SECOND = 1000.0
"""MACs per second that each budget allows, about one per cent of a processor; as many may be saved up."""
MAX_AT_HOST = 16
"""Nodes tried for having an address on the same host, per datagram: behind one NAT there may be several."""
WALK_INTERVAL = 1.0
MAX_HOSTS = 1024
"""Hosts whose last walk is remembered; beyond, nobody gets another one in the same second."""


class Budget:
    """Attempts that may be made: so many per second, and as many saved up at most."""

    __slots__ = ("_filled_at", "left")

    def __init__(self) -> None:
        self.left = CHECKS_PER_SECOND
        self._filled_at = 0.0

    def fill(self, now: float) -> None:
        self.left = min(CHECKS_PER_SECOND, self.left + (now - self._filled_at) * CHECKS_PER_SECOND)
        self._filled_at = now

    def spend(self) -> bool:
        """Whether another attempt may be made now."""
        if self.left < 1:
            return False
        self.left -= 1
        return True


class StrangerSearch:
    """Tries keys on datagrams of unknown origin, within two budgets."""

    def __init__(self, flows: FlowTable) -> None:
        self.at_host = Budget()
        self.walks = Budget()
        self._flows = flows
        self._walked: set[str] = set()
        self._walked_since = float("-inf")
        self._next_walk_from = 0

    def find(self, datagram: bytes, source: Endpoint, now: float, tried: Flow | None) -> tuple[Flow, ReceiveKey] | None:
        """The node whose key verifies the datagram, and the key. ``tried`` need not be tried again."""
        host = source[0]
        self.at_host.fill(now)
        for flow in islice(self._flows.at_host(host), MAX_AT_HOST):
            if flow is not tried:
                found = self._try(flow, datagram, now, self.at_host)
                if found is not None:
                    return flow, found
        return self._walk(datagram, tried, now) if self._may_walk(host, now) else None

    def key_added(self) -> None:
        """There is a new key to try: who failed within this second may succeed now."""
        self._walked.clear()

    def _may_walk(self, host: str, now: float) -> bool:
        if now - self._walked_since >= WALK_INTERVAL:
            self._walked.clear()
            self._walked_since = now
        self.walks.fill(now)
        if host in self._walked or len(self._walked) >= MAX_HOSTS or self.walks.left < 1:
            return False
        self._walked.add(host)
        return True

    def _walk(self, datagram: bytes, tried: Flow | None, now: float) -> tuple[Flow, ReceiveKey] | None:
        """Try all nodes, going on where the last walk ran out of budget."""
        flows = list(self._flows.keyed)
        start = self._next_walk_from % max(len(flows), 1)
        for index, flow in enumerate(flows[start:] + flows[:start]):
            if self.walks.left < 1:
                self._next_walk_from = start + index
                return None
            if flow is not tried:
                found = self._try(flow, datagram, now, self.walks)
                if found is not None:
                    return flow, found
        return None

    @staticmethod
    def _try(flow: Flow, datagram: bytes, now: float, budget: Budget) -> ReceiveKey | None:
        for key in flow.receive_keys:
            if key.identifies and key.until > now:
                if not budget.spend():
                    return None
                if key.opener.verify(datagram):
                    return key
        return None
