"""What the mesh needs to know of the configuration. Built by the daemon; replaced as a whole by a reload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gmesh.crypto.nids import AES_256_CBC, SHA256
from gmesh.proto.sptps_flow import DEFAULT_REPLAY_WINDOW
from gmesh.values import MTU, OPTION_CLAMP_MSS, OPTION_PMTU, Subnet


@dataclass(frozen=True, slots=True)
class PacketAlgorithms:
    """Cipher and digest (NIDs), MAC length (bytes) and compression level for the keys that we make (data-legacy 4)."""

    cipher: int = AES_256_CBC
    digest: int = SHA256
    mac_length: int = 4
    compression: int = 0


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """Times are seconds, sizes bytes. Option bits are those of `gmesh.values`."""

    name: str
    port: str = "655"
    options: int = OPTION_PMTU | OPTION_CLAMP_MSS
    subnets: frozenset[Subnet] = frozenset()
    ping_interval: float = 60.0
    ping_timeout: float = 5.0
    key_expire: float = 3600.0
    algorithms: PacketAlgorithms = field(default_factory=PacketAlgorithms)
    sptps_replay_window: int = DEFAULT_REPLAY_WINDOW
    """Bytes, 8 datagrams each; 0 for no replay window."""
    mtu_limit: int = MTU
    peer_mtu_limits: Mapping[str, int] = field(default_factory=dict)
    tunnel_server: bool = False
    """Tell neighbours of nothing but ourselves, and believe them only what concerns them or us (topology 10)."""
    host_subnets: Mapping[str, frozenset[Subnet]] | None = None
    """StrictSubnets: the subnets of other nodes are these, by name, whatever is announced. None: what is announced."""
    udp_discovery: bool = True
    """No: UDP is assumed to work with SPTPS nodes, and nothing is probed (data-sptps 4.1)."""
    udp_discovery_interval: float = 2.0
    udp_discovery_keepalive: float = 10.0
    udp_discovery_timeout: float = 30.0
    """These three bound from above what our own machine does sooner by itself."""
    udp_info_interval: float = 5.0
    mtu_info_interval: float = 5.0
    auto_connect: bool = False
    connect_to: frozenset[str] = frozenset()
    """The nodes that the configuration names: AutoConnect leaves them alone."""
    acquaintances: Mapping[str, bool] = field(default_factory=dict)
    """The nodes whose keys we have, and whether an address of theirs is on file: AutoConnect calls no others. Empty
    where that is off."""
    local_discovery: bool = False
    """Look for nodes in our own network: at the local addresses that they announce, and by broadcast."""
    mac_expire: float | None = None
    """How long a learned MAC address may be silent; None where none are learned."""
    trust_on_first_use: bool = True
    """Believe a node whose Ed25519 key is not known what it tells of it by way of other nodes (requirement 4)."""
    max_nodes: int = 3000
    """This and the others: what members may make us remember, ten megabytes in all (requirement 12). Each kind may take
    most of ``max_database``, so that a mesh may have many nodes or many subnets."""
    max_edges: int = 10_000
    max_subnets: int = 12_000
    max_database: int = 4_900_000
    """Bytes of nodes, edges and subnets together, by the costs in `registry`."""
    max_seen: int = 5000
