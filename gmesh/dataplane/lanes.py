"""Short cuts for the mass of packets: what is the same for all frames to one address is found once per snapshot.

A lane says nothing that routing and the sender would not say; a frame that is in any way remarkable is refused, and
then takes the whole way. So a lane may be missing at any time, but never be wrong.

Not here: frames that are relayed, broadcast, or no IP, and modes other than router.
"""

from __future__ import annotations

from gmesh.dataplane.flows import Flow, FlowTable
from gmesh.route.ethernet import IPV4, IPV6
from gmesh.route.mss import may_carry_mss
from gmesh.route.router import Router
from gmesh.route.snapshot import RouteNode, RouteSnapshot
from gmesh.values import OPTION_PMTU, OPTION_TCPONLY

MAX_LANES = 4096
"""When full, all are forgotten: a scan must not cost memory."""
_ICMPV6 = b"\x3a"
_IPV6_HEADERS = 54


class Lane:
    """Where frames to one address go. Without ``via`` and not ``mine``, every frame has to be looked at."""

    __slots__ = ("clamp", "mine", "owner", "via")

    def __init__(
        self, owner: str = "", via: RouteNode | None = None, *, mine: bool = False, clamp: bool = False
    ) -> None:
        self.owner = owner
        self.via = via
        """The node to seal for, which takes UDP."""
        self.mine = mine
        self.clamp = clamp


_NO_LANE = Lane()


class Lanes:
    """The lanes of one snapshot."""

    def __init__(self, snapshot: RouteSnapshot, router: Router, flows: FlowTable) -> None:
        self._snapshot = snapshot
        self._straight = router.straight
        self._flows = flows.by_name
        self._lanes: dict[bytes, Lane] = {}

    def own(self, frame: bytes) -> bool:
        """Whether a frame of another node simply goes to the own device."""
        lane = self._lane(frame)
        return lane.mine and not (lane.clamp and may_carry_mss(frame))

    def way(self, frame: bytes) -> tuple[Flow, RouteNode] | None:
        """Where a frame of the own device simply goes, by UDP; it is counted as sent there. None: look closer."""
        lane = self._lane(frame)
        via = lane.via
        if via is None:
            return None
        flow = self._flows.get(via.name)
        length = len(frame)
        if (
            flow is None
            or (flow.sessions.sending if via.sptps else flow.sealer) is None
            or not flow.udp
            or length > flow.min_mtu  # which is never more than its mtu
            or (lane.clamp and may_carry_mss(frame))
        ):
            return None
        owner = flow if lane.owner == via.name else self._flows.get(lane.owner)
        if owner is None:
            return None
        flow.counters.wanted += 1
        counters = owner.counters
        counters.packets_out += 1
        counters.bytes_out += length
        return flow, via

    def _lane(self, frame: bytes) -> Lane:
        kind = frame[12:14]
        if kind == IPV4:
            address = frame[30:34]
        elif kind == IPV6 and len(frame) >= _IPV6_HEADERS and frame[20:21] != _ICMPV6:  # which may be a solicitation
            address = frame[38:54]
        else:
            return _NO_LANE
        lane = self._lanes.get(address)
        return self._find(address) if lane is None else lane

    def _find(self, address: bytes) -> Lane:
        if len(self._lanes) >= MAX_LANES:
            self._lanes.clear()
        lane = self._lanes[address] = self._make(address)
        return lane

    def _make(self, address: bytes) -> Lane:
        path = self._straight(address)
        if path is None:
            return _NO_LANE
        if path.mine:
            return Lane(path.owner, mine=True, clamp=path.clamp)
        via = self._snapshot.nodes.get(path.via)
        if via is None or not via.options & OPTION_PMTU or (self._snapshot.options | via.options) & OPTION_TCPONLY:
            return _NO_LANE
        owner = self._snapshot.nodes.get(path.owner)
        if owner is None or (owner.sptps and via is not owner):
            # Sealed for the owner, and relayed: the sender weighs more than one way.
            return _NO_LANE
        return Lane(path.owner, via, clamp=path.clamp)
