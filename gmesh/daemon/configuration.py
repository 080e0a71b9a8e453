"""From the configuration directory to what the other rooms are given: mesh and route settings, sockets, credentials.

Not here: reading files (`gmesh.config`), and what a changed value leads to (`reload.py`).
"""

from __future__ import annotations

import contextlib
import socket as std_socket
from collections.abc import Mapping

from gmesh.config.address_cache import AddressCache
from gmesh.config.directory import Directory
from gmesh.config.host import Host, HostAddress
from gmesh.config.server import Server
from gmesh.crypto.nids import cipher_by_name, digest_by_name
from gmesh.daemon.known_keys import KnownKeys
from gmesh.daemon.listening import SocketOptions
from gmesh.dataplane.udp_sockets import UdpOptions
from gmesh.errors import ConfigError, GmeshError, KeyFileError, PeerError
from gmesh.mesh.settings import MeshSettings, PacketAlgorithms
from gmesh.proto.meta_base import PeerCredentials
from gmesh.proto.requests import MINOR
from gmesh.route.snapshot import RouteSettings
from gmesh.values import (
    MTU,
    OPTION_CLAMP_MSS,
    OPTION_INDIRECT,
    OPTION_PMTU,
    OPTION_TCPONLY,
    OPTION_VERSION_SHIFT,
    Subnet,
)

FAMILIES = {"any": std_socket.AF_UNSPEC, "ipv4": std_socket.AF_INET, "ipv6": std_socket.AF_INET6}


def option_bits(server: Server, *, sptps: bool = False) -> int:
    """Our own flags, and our minor version above them, whatever the protocol of a connection (meta-legacy 6)."""
    bits = MINOR << OPTION_VERSION_SHIFT if sptps else 0
    if server.get_bool("IndirectData"):
        bits |= OPTION_INDIRECT
    if server.get_bool("TCPOnly"):
        bits |= OPTION_TCPONLY | OPTION_INDIRECT
    if server.get_bool("PMTUDiscovery"):
        bits |= OPTION_PMTU
    if server.get_bool("ClampMSS"):
        bits |= OPTION_CLAMP_MSS
    return bits


def mesh_settings(server: Server, port: str, *, sptps: bool = False) -> MeshSettings:
    """``port`` is the one we really listen on; ``sptps`` says that we speak it.

    Raises ConfigError for algorithms that do not exist here.
    """
    # Reading a thousand host files takes a while: once for all that is in them.
    hosts = other_hosts(server)
    return MeshSettings(
        name=server.name,
        port=port,
        options=option_bits(server, sptps=sptps),
        subnets=frozenset(server.subnets),
        ping_interval=float(server.get_int("PingInterval")),
        ping_timeout=float(server.get_int("PingTimeout")),
        key_expire=float(server.get_int("KeyExpire")),
        algorithms=packet_algorithms(server),
        sptps_replay_window=server.get_int("ReplayWindow"),
        mtu_limit=min(server.get_int("PMTU") or MTU, MTU),
        peer_mtu_limits={name: host.pmtu for name, host in hosts.items() if host.pmtu is not None},
        tunnel_server=server.get_bool("TunnelServer"),
        host_subnets=host_subnets(hosts) if is_strict(server) else None,
        local_discovery=server.get_bool("LocalDiscovery"),
        trust_on_first_use=server.get_bool("TrustOnFirstUse"),
        udp_discovery=server.get_bool("UDPDiscovery"),
        udp_discovery_interval=float(server.get_int("UDPDiscoveryInterval")),
        udp_discovery_keepalive=float(server.get_int("UDPDiscoveryKeepaliveInterval")),
        udp_discovery_timeout=float(server.get_int("UDPDiscoveryTimeout")),
        udp_info_interval=float(server.get_int("UDPInfoInterval")),
        mtu_info_interval=float(server.get_int("MTUInfoInterval")),
        auto_connect=server.get_bool("AutoConnect"),
        connect_to=frozenset(server.connect_to),
        acquaintances=acquaintances(server.directory, hosts) if server.get_bool("AutoConnect") else {},
        mac_expire=float(server.get_int("MACExpire")) if server.get_str("Mode") == "switch" else None,
    )


def is_strict(server: Server) -> bool:
    """Whether nodes have the subnets that our host files give them and no others."""
    return server.get_bool("StrictSubnets") or server.get_bool("TunnelServer")


def other_hosts(server: Server) -> dict[str, Host]:
    """All host files but our own, as far as they can be read."""
    found = {}
    for name in server.directory.host_names():
        if name != server.name:
            with contextlib.suppress(ConfigError):
                found[name] = server.directory.host(name)
    return found


def host_subnets(hosts: Mapping[str, Host]) -> dict[str, frozenset[Subnet]]:
    """The subnets of all nodes that have any in their host files."""
    return {name: frozenset(host.subnets) for name, host in hosts.items() if host.subnets}


def acquaintances(directory: Directory, hosts: Mapping[str, Host]) -> dict[str, bool]:
    """The nodes whose keys we have, and whether an address of theirs is on file."""
    cached = AddressCache(directory)
    found = {}
    for name, host in hosts.items():
        with contextlib.suppress(KeyFileError):
            if host.ed25519_public_key() is None:
                host.rsa_public_key()
            found[name] = bool(host.addresses or cached.addresses(name))
    return found


def packet_algorithms(server: Server) -> PacketAlgorithms:
    """The algorithms for keys that we make. Raises ConfigError naming the option."""
    cipher = cipher_by_name(server.get_str("Cipher"))
    digest = digest_by_name(server.get_str("Digest"))
    if cipher is None:
        raise ConfigError("Unrecognized cipher type!", key="Cipher")
    if digest is None:
        raise ConfigError("Unrecognized digest type!", key="Digest")
    mac_length = min(server.get_int("MACLength"), digest.size)
    return PacketAlgorithms(cipher.nid, digest.nid, mac_length, server.get_int("Compression"))


def route_settings(server: Server, *, tap: bool) -> RouteSettings:
    """The options that shape what happens to a frame."""
    return RouteSettings(
        mode=server.get_str("Mode"),
        forwarding=server.get_str("Forwarding"),
        broadcast="mst" if server.get_str("Broadcast") == "yes" else server.get_str("Broadcast"),
        direct_only=server.get_bool("DirectOnly"),
        decrement_ttl=server.get_bool("DecrementTTL"),
        priority_inheritance=server.get_bool("PriorityInheritance"),
        tunnel_server=server.get_bool("TunnelServer"),
        broadcast_subnets=tuple(Subnet.parse(text) for text in server.get_list("BroadcastSubnet")),
        tap=tap,
    )


def socket_options(server: Server) -> SocketOptions:
    """What to listen on."""
    bound, listening = (
        [(address.host, address.port) for address in map(HostAddress.parse, server.get_list(name))]
        for name in ("BindToAddress", "ListenAddress")
    )
    port_entry = next(iter(server.entries("Port")), None)
    return SocketOptions(
        addresses=bound,
        port_place=("", 0) if port_entry is None else (port_entry.file, port_entry.line),
        listen_only=listening,
        port=server.get_str("Port") or "655",
        family=FAMILIES[server.get_str("AddressFamily")],
        udp=UdpOptions(
            receive_buffer=server.get_int("UDPRcvBuf"),
            send_buffer=server.get_int("UDPSndBuf"),
            mark=server.get_int("FWMark"),
            interface=server.get_str("BindToInterface"),
        ),
        asked_buffers=frozenset(name for name in ("UDPRcvBuf", "UDPSndBuf") if server.is_set(name)),
    )


def credentials(server: Server, name: str, known: KnownKeys | None = None) -> PeerCredentials:
    """What the handshake needs to know of a peer. Raises PeerError with the reason and what to do.

    Ed25519 keys count only where we have one: the host file's, else one that the peer has proved (``known``).
    """
    directory = server.directory
    if not directory.host_exists(name):
        raise PeerError(f"unknown identity ({name}): there is no host file for it in {directory.hosts}")
    sptps = known is not None and known.private_key is not None
    rsa_key, ed25519_key = None, None
    try:
        host = directory.host(name)
        if known is not None and sptps:
            ed25519_key = host.ed25519_public_key() or known.public_key(name)
        try:
            rsa_key = host.rsa_public_key()
        except KeyFileError:
            if ed25519_key is None:
                raise
    except (ConfigError, KeyFileError) as error:
        raise PeerError(f"{name} cannot be let in: {error}") from None
    return PeerCredentials(
        public_key=rsa_key,
        options=connection_options(host, option_bits(server, sptps=sptps)),
        weight=host.weight if host.weight is not None else server.given_int("Weight"),
        clamp_mss=host.clamp_mss,
        ed25519=ed25519_key,
        ed25519_file=host.file,
    )


def connection_options(host: Host, own: int) -> int:
    """The bits for the ACK to one peer (meta-legacy 6)."""
    options = own
    if host.indirect_data:
        options |= OPTION_INDIRECT
    if host.tcp_only:
        options |= OPTION_TCPONLY | OPTION_INDIRECT
    if options & OPTION_TCPONLY:
        options &= ~OPTION_PMTU
    if host.clamp_mss is not None:
        options = options | OPTION_CLAMP_MSS if host.clamp_mss else options & ~OPTION_CLAMP_MSS
    return options


def dial_candidates(directory: Directory, name: str) -> list[tuple[str, str]]:
    """(host, port) of the Address lines in file order (meta-legacy 10). Raises GmeshError where nothing can be read."""
    if not directory.host_exists(name):
        raise GmeshError(f"there is no host file {directory.host_file(name)}")
    host = directory.host(name)
    return [(address.host, address.port or host.port) for address in host.addresses]
