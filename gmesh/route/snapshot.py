"""What routing reads: an immutable picture of reachability, next hops and subnets.

Not here: how it comes about. The daemon builds it from the mesh's registry whenever that changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gmesh.values import OPTION_VERSION_SHIFT, Subnet

OPTIONS_WITH_IDS = 4 << OPTION_VERSION_SHIFT
"""Options from which on a node of the second generation takes node ids in datagrams (data-sptps 2)."""


@dataclass(frozen=True, slots=True)
class RouteNode:
    """A node as routing sees it (topology 8). ``via`` and ``next_hop`` are names, empty where unreachable.

    ``options`` are the bits of the last edge on the path. ``neighbour`` says that an active connection to it exists,
    ``tree`` that this connection is on the minimum spanning tree, ``sptps`` that packets for the node itself are sealed
    end to end in an SPTPS session, whatever lies between.
    """

    name: str
    reachable: bool
    via: str = ""
    next_hop: str = ""
    options: int = 0
    neighbour: bool = False
    tree: bool = False
    sptps: bool = False

    @property
    def minor(self) -> int:
        """The node's minor protocol version, 0 for tinc 1.0 (meta-sptps 2)."""
        return self.options >> OPTION_VERSION_SHIFT

    @property
    def takes_ids(self) -> bool:
        """Whether its datagrams bear node ids, so that it can be a relay for sealed ones (data-sptps 2)."""
        return self.sptps and self.options >= OPTIONS_WITH_IDS


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """The options that shape what happens to a frame (topology 9, 10)."""

    mode: str = "router"
    forwarding: str = "internal"
    broadcast: str = "mst"
    direct_only: bool = False
    decrement_ttl: bool = False
    priority_inheritance: bool = False
    tunnel_server: bool = False
    broadcast_subnets: tuple[Subnet, ...] = ()
    """BroadcastSubnet: what goes there is for everybody, unless a smaller subnet of a node holds it."""
    tap: bool = False


@dataclass(frozen=True, slots=True)
class RouteSnapshot:
    """Everything a routing decision needs besides the frame and the MTUs. ``subnets`` are (subnet, owner) pairs."""

    name: str
    options: int
    nodes: Mapping[str, RouteNode] = field(default_factory=dict)
    subnets: tuple[tuple[Subnet, str], ...] = ()
    settings: RouteSettings = field(default_factory=RouteSettings)
