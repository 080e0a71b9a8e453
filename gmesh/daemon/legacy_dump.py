"""What tinc 1.0 writes into its log on USR1 and USR2, from the same rows that the control socket gives (daemon-cli 3).

Pure text. Not here: the rows, and the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gmesh.proto.control import UNIDENTIFIED, ConnectionLine, ConnectionStatus, EdgeLine, NodeLine, SubnetLine

_NODE_BITS = 0x3E
"""valid key, waiting for key, visited, reachable, indirect: the bits that both generations have in the same place."""

_CONNECTION_BITS = ConnectionStatus.PINGED | ConnectionStatus.CONNECTING | ConnectionStatus.MST
_ENCRYPTED = ConnectionStatus.ENCRYPT_OUT | ConnectionStatus.DECRYPT_IN
_ACTIVE = 1 << 1


@dataclass(frozen=True, slots=True)
class DeviceStatistics:
    """``description`` is like ``Linux tun/tap device (tun mode)``, ``device`` like ``/dev/net/tun``."""

    description: str
    device: str
    bytes_in: int
    bytes_out: int


def _nothing_queued(connection: ConnectionLine) -> int:
    return 0


def dump_connections(
    connections: Iterable[ConnectionLine], queued: Callable[[ConnectionLine], int] = _nothing_queued
) -> Iterator[str]:
    """The lines of USR1. ``queued`` gives the bytes that wait for a connection's socket."""
    yield "Connections:"
    for row in connections:
        if row.status & ConnectionStatus.CONTROL:
            continue
        status = int(row.status & (_CONNECTION_BITS | _ENCRYPTED))
        if row.name and not row.status & ConnectionStatus.CONNECTING:
            status |= _ACTIVE | int(_ENCRYPTED)
        waiting = queued(row)
        yield (
            f" {row.name or UNIDENTIFIED} at {row.address} options {row.options:x} socket {row.socket} "
            f"status {status:04x} outbuf {waiting}/0/{waiting}"
        )
    yield "End of connections."


def dump_all(
    device: DeviceStatistics, nodes: Iterable[NodeLine], edges: Iterable[EdgeLine], subnets: Iterable[SubnetLine]
) -> Iterator[str]:
    """The lines of USR2."""
    yield f"Statistics for {device.description} {device.device}:"
    yield f" total bytes in:  {device.bytes_in:10d}"
    yield f" total bytes out: {device.bytes_out:10d}"
    yield "Nodes:"
    for node in nodes:
        where = node.address.host if node.address.host == "MYSELF" else str(node.address)
        yield (
            f" {node.name} at {where} cipher {node.cipher} digest {node.digest} maclength {node.mac_length} "
            f"compression {node.compression} options {node.options:x} status {int(node.status) & _NODE_BITS:04x} "
            f"nexthop {node.next_hop or '-'} via {node.via or '-'} "
            f"pmtu {node.mtu} (min {node.min_mtu} max {node.max_mtu})"
        )
    yield "End of nodes."
    yield "Edges:"
    for edge in edges:
        yield f" {edge.source} to {edge.target} at {edge.address} options {edge.options:x} weight {edge.weight}"
    yield "End of edges."
    yield "Subnet list:"
    for row in subnets:
        if row.owner:
            yield f" {row.subnet.format_long()} owner {row.owner}"
    yield "End of subnet list."
