"""A picture of a mesh in switch or hub mode for the tests of routing."""

from __future__ import annotations

from dataclasses import replace

from gmesh.route.snapshot import RouteNode, RouteSnapshot
from gmesh.values import Subnet, SubnetKind
from tests.unit.route.route_frames import OPTIONS, snapshot

OWNERS = ["a", "b", "c", "d", "gone"]
MACS = {name: bytes((2, 0, 0, 0, 0, index)) for index, name in enumerate([*OWNERS, "nobody"], 1)}
"""A host behind each node, and one that nobody knows."""
EVERYBODY = b"\xff" * 6


def switched(
    *, mode: str = "switch", nodes: dict[str, RouteNode] | None = None, options: int = OPTIONS, **settings: object
) -> RouteSnapshot:
    """As `route_frames.snapshot`, where each node also serves the address in `MACS`."""
    picture = snapshot(nodes=nodes, options=options, mode=mode, **settings)
    hosts = tuple((Subnet(SubnetKind.MAC, MACS[name], 48), name) for name in OWNERS)
    return replace(picture, subnets=(*hosts, *picture.subnets))


def link(target: str | bytes, source: str = "a") -> bytes:
    """The two addresses at the head of a frame."""
    return (MACS[target] if isinstance(target, str) else target) + MACS[source]
