"""Where the edges of the mesh say that a node can be reached by UDP.

Not here: what is made of it (`candidates.py`, `udp.py`).
"""

from __future__ import annotations

from gmesh.mesh.candidates import Source
from gmesh.mesh.registry import Node, Registry
from gmesh.values import Address

MAX_PUBLIC = 4
MAX_LOCAL = 2


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
