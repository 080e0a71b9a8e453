"""Where the edges of the mesh say that a node can be reached by UDP, and whether a NAT is before it.

Not here: what is made of it (`candidates.py`, `udp.py`).
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from itertools import islice

from gmesh.mesh.candidates import Source
from gmesh.mesh.registry import Node, Registry
from gmesh.values import Address

MAX_PUBLIC = 4
MAX_LOCAL = 2
MAX_SIGHTS = 8


def addresses_of(registry: Registry, node: Node, *, nearby: bool) -> list[tuple[Address, Source]]:
    """Where its neighbours see it; with ``nearby`` (LocalDiscovery) also its local addresses, if it seems to be behind
    the same NAT as we are."""
    public: list[Address] = []
    for edge in registry.incoming(node):
        if edge.address not in public and len(public) < MAX_PUBLIC:
            public.append(edge.address)
    local: list[Address] = []
    if nearby:
        ours = {edge.address.host for edge in registry.incoming(registry.me)}
        if any(address.host in ours for address in public):
            for edge in node.edges.values():
                if edge.local is not None and edge.local not in local and len(local) < MAX_LOCAL:
                    local.append(edge.local)
    return [(address, Source.EDGE) for address in public] + [(address, Source.LOCAL) for address in local]


def in_the_open(registry: Registry, node: Node, other: Node) -> bool:
    """Whether ``node`` surely has no NAT towards ``other``: everybody who tells sees it where it says that it is. That
    a neighbour in its own private network does so, says nothing to who is in the Internet."""
    outside = any(_is_global(edge.address.host) for edge in islice(registry.incoming(other), MAX_SIGHTS))
    sights = 0
    for edge in islice(node.edges.values(), MAX_SIGHTS):
        back = edge.reverse
        if edge.local is None or back is None:
            continue
        host = back.address.host
        if edge.local.host != host or (outside and not _is_global(host)):
            return False
        sights += 1
    return sights > 0


@lru_cache(4096)
def _is_global(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return False
