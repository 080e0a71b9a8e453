"""What an administrator asks of the running daemon, by control socket or signal: rows for dumps, and commands.

Implements `ControlBackend`. Not here: the control protocol (`control_server.py`), text forms of dumps (`proto.control`,
`legacy_dump.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

from gmesh.daemon.capture import Capture, Watch
from gmesh.daemon.hub import Hub
from gmesh.daemon.logging_setup import NOTICE, DaemonLog, log
from gmesh.daemon.outgoing import Outgoing
from gmesh.mesh.registry import Node
from gmesh.net.peer import PeerConnection
from gmesh.proto.control import (
    UNSPECIFIED_ADDRESS,
    ConnectionLine,
    ConnectionStatus,
    EdgeLine,
    NodeLine,
    NodeStatus,
    SubnetLine,
    TrafficLine,
    TriedLine,
)
from gmesh.proto.requests import LEGACY_VERSION, PROTOCOL_VERSION
from gmesh.values import BROADCAST_SUBNETS, UNKNOWN_ADDRESS, Address

MYSELF = "MYSELF"


class Backend:
    """Reads the mesh's registry and channels; every command ends in the hub."""

    def __init__(
        self,
        *,
        hub: Hub,
        outgoing: Outgoing,
        daemon_log: DaemonLog,
        clock: Callable[[], float],
        stop: Callable[[], None],
        reload: Callable[[], bool],
        reload_report: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._hub = hub
        self._outgoing = outgoing
        self._log = daemon_log
        self._clock = clock
        self._stop = stop
        self._reload = reload
        self._reload_report = reload_report
        self._capture = Capture(hub.plane)

    @property
    def name(self) -> str:
        return self._hub.settings.name

    @property
    def version(self) -> str:
        return PROTOCOL_VERSION if self._hub.keys.private_key is not None else LEGACY_VERSION

    @property
    def debug(self) -> int:
        return self._log.debug

    @debug.setter
    def debug(self, level: int) -> None:
        self._log.debug = level

    # Commands

    def stop(self) -> None:
        self._stop()

    def reload(self) -> bool:
        return self._reload()

    def reload_report(self) -> Sequence[str]:
        return self._reload_report()

    def retry(self) -> None:
        """Dial now, ask every neighbour whether it is there, and let the mesh try again what it waits for."""
        log(1, NOTICE, "Trying all waiting connections now")
        self._outgoing.nudge()
        for peer in list(self._hub.peers.values()):
            peer.ping_now()
        self._hub.perform(self._hub.mesh.retry(self._clock()))

    def purge(self) -> None:
        self._hub.perform(self._hub.mesh.purge(self._clock()))

    def connect(self, name: str) -> int:
        return 0 if self._outgoing.dial(name) else -1

    def disconnect(self, name: str) -> int:
        found = [peer for peer in self._hub.peers.values() if peer.name == name]
        for peer in found:
            peer.close("disconnected by the administrator")
        return 0 if found else -2

    def watch_frames(self, receive: Callable[[bytes], None]) -> Watch:
        return self._capture.watch(receive)

    # Dumps

    def nodes(self) -> Iterator[NodeLine]:
        for name in sorted(self._hub.mesh.registry.nodes):
            yield self._node_line(self._hub.mesh.registry.nodes[name])

    def edges(self) -> Iterator[EdgeLine]:
        nodes = self._hub.mesh.registry.nodes
        for source in sorted(nodes):
            edges = nodes[source].edges
            for target in sorted(edges):
                edge = edges[target]
                local = edge.local or UNSPECIFIED_ADDRESS
                yield EdgeLine(source, target, edge.address, local, edge.options, edge.weight)

    def subnets(self) -> Iterator[SubnetLine]:
        rows = [(subnet, "") for subnet in (*BROADCAST_SUBNETS, *self._hub.route_settings.broadcast_subnets)]
        rows += self._hub.mesh.registry.subnet_table()
        rows.sort(key=lambda row: (row[0].sort_key(), row[1]))
        return (SubnetLine(subnet, owner) for subnet, owner in rows)

    def connections(self) -> Iterator[ConnectionLine]:
        for peer in self._hub.peers.values():
            yield self._connection_line(peer)

    def tried(self, name: str) -> Iterator[TriedLine]:
        now = self._clock()
        for address, source, probed_at in self._hub.mesh.channels.tried(name):
            yield TriedLine(address, source, int(now - probed_at) if math.isfinite(probed_at) else -1)

    def traffic(self) -> Iterator[TrafficLine]:
        for row in self.nodes():
            yield TrafficLine(row.name, row.packets_in, row.bytes_in, row.packets_out, row.bytes_out)

    def queued(self, row: ConnectionLine) -> int:
        """Bytes that wait for a connection's socket."""
        return sum(peer.outbox.bytes for peer in self._hub.peers.values() if peer.fileno == row.socket)

    def _node_line(self, node: Node) -> NodeLine:
        registry = self._hub.mesh.registry
        channel = self._hub.mesh.channels.status(node.name)
        me = node is registry.me
        sptps = self._hub.mesh.channels.speaks_sptps(node)
        counters = self._device_counters() if me else self._flow_counters(node.name)
        address = Address(MYSELF, self._hub.settings.port) if me else channel.address or node.path_address
        flags = (
            (NodeStatus.VALID_KEY, channel.valid_key),
            (NodeStatus.WAITING_FOR_KEY, channel.waiting_for_key),
            (NodeStatus.VISITED, node.reachable),
            (NodeStatus.REACHABLE, node.reachable),
            (NodeStatus.INDIRECT, node.indirect),
            (NodeStatus.SPTPS, sptps),
            (NodeStatus.UDP_CONFIRMED, channel.udp_confirmed),
            (NodeStatus.VALID_KEY_IN, channel.valid_key_in and not sptps),
            (NodeStatus.HAS_ADDRESS, address is not None and not me),
        )
        status = NodeStatus(0)
        for flag, is_set in flags:
            if is_set:
                status |= flag
        return NodeLine(
            name=node.name,
            address=address or UNKNOWN_ADDRESS,
            cipher=channel.cipher,
            digest=channel.digest,
            mac_length=channel.mac_length,
            compression=channel.compression,
            options=node.options,
            status=status,
            next_hop=node.next_hop.name if node.next_hop is not None else "",
            via=node.via.name if node.via is not None else "",
            distance=node.distance,
            mtu=channel.mtu,
            min_mtu=channel.min_mtu,
            max_mtu=channel.max_mtu,
            last_change=int(time.time() - (self._clock() - node.last_change)),
            round_trip_us=channel.round_trip_us,
            packets_in=counters[0],
            bytes_in=counters[1],
            packets_out=counters[2],
            bytes_out=counters[3],
        )

    def _flow_counters(self, name: str) -> tuple[int, int, int, int]:
        flow = self._hub.plane.counters(name)
        return (0, 0, 0, 0) if flow is None else (flow.packets_in, flow.bytes_in, flow.packets_out, flow.bytes_out)

    def _device_counters(self) -> tuple[int, int, int, int]:
        totals = self._hub.plane.totals()
        kinds = ("packets in", "bytes in", "packets out", "bytes out")
        packets_in, bytes_in, packets_out, bytes_out = (totals.get(f"device {kind}", 0) for kind in kinds)
        return packets_in, bytes_in, packets_out, bytes_out

    def _connection_line(self, peer: PeerConnection) -> ConnectionLine:
        registry = self._hub.mesh.registry
        known = registry.connections.get(peer.id)
        edge = registry.edge(registry.me.name, peer.name)
        status = ConnectionStatus(0)
        if not peer.active:
            status |= ConnectionStatus.CONNECTING
        elif not peer.meta.sptps:
            status |= ConnectionStatus.ENCRYPT_OUT | ConnectionStatus.DECRYPT_IN
        if known is not None and known.tree:
            status |= ConnectionStatus.MST
        options = edge.options if edge is not None and peer.active else 0
        return ConnectionLine(peer.name, peer.address, options, peer.fileno, status)
