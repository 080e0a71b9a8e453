"""``gmesh dump``: what the daemon knows, one line each, in the form of tinc 1.1 or as JSON (control-cli 6)."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from gmesh.cli.client import ControlConnection
from gmesh.cli.context import CommandError, Context
from gmesh.proto.control import (
    BROADCAST_OWNER,
    UNIDENTIFIED,
    ConnectionLine,
    ControlCode,
    EdgeLine,
    NodeLine,
    NodeStatus,
    SubnetLine,
    node_id,
)
from gmesh.values import Subnet

TYPES = "nodes, reachable nodes, edges, subnets, connections, graph, digraph, invitations"


def run(context: Context, arguments: list[str]) -> int:
    """``dump [reachable] TYPE``."""
    words = [word.lower() for word in arguments]
    if not words or len(words) > 2 or (len(words) == 2 and words[0] != "reachable"):
        raise CommandError(f"Invalid number of arguments.\nTo be dumped: one of {TYPES}.", usage=True)
    if words == ["invitations"]:
        return _invitations(context)
    connection = context.connect()
    if len(words) == 2 and words[1] != "nodes":
        raise CommandError("`reachable' only supported for nodes.", usage=True)
    rows, text = _DUMPS.get(words[-1], (None, None))
    if rows is not None and text is not None:
        wanted = [row for row in rows(connection) if len(words) == 1 or row.status & NodeStatus.REACHABLE]
        return _print((json.dumps(plain(row)) for row in wanted) if context.json else map(text, wanted))
    if words[0] in ("graph", "digraph"):
        from gmesh.cli.commands.graph import draw

        return _print(draw(nodes(connection), edges(connection), directed=words[0] == "digraph"))
    raise CommandError(f"Unknown dump type '{arguments[0]}'.\nTo be dumped: one of {TYPES}.", usage=True)


def nodes(connection: ControlConnection) -> list[NodeLine]:
    return connection.dump(ControlCode.DUMP_NODES, NodeLine.parse, "node")


def edges(connection: ControlConnection) -> list[EdgeLine]:
    return connection.dump(ControlCode.DUMP_EDGES, EdgeLine.parse, "edge")


def subnets(connection: ControlConnection) -> list[SubnetLine]:
    return connection.dump(ControlCode.DUMP_SUBNETS, SubnetLine.parse, "subnet")


def connections(connection: ControlConnection) -> list[ConnectionLine]:
    return connection.dump(ControlCode.DUMP_CONNECTIONS, ConnectionLine.parse, "connection")


def node_text(node: NodeLine) -> str:
    """A node as tinc 1.1's tool shows it."""
    text = (
        f"{node.name} id {node_id(node.name).hex()} at {node.address} cipher {node.cipher} digest {node.digest} "
        f"maclength {node.mac_length} compression {node.compression} options {node.options:x} "
        f"status {int(node.status):04x} nexthop {node.next_hop or '-'} via {node.via or '-'} "
        f"distance {node.distance} pmtu {node.mtu} (min {node.min_mtu} max {node.max_mtu}) "
        f"rx {node.packets_in} {node.bytes_in} tx {node.packets_out} {node.bytes_out}"
    )
    if node.round_trip_us != -1:
        text += f" rtt {node.round_trip_us // 1000}.{node.round_trip_us % 1000:03d}"
    return text


def edge_text(edge: EdgeLine) -> str:
    return (
        f"{edge.source} to {edge.target} at {edge.address} local {edge.local} options {edge.options:x} "
        f"weight {edge.weight}"
    )


def subnet_text(row: SubnetLine) -> str:
    return f"{row.subnet} owner {row.owner or BROADCAST_OWNER}"


def connection_text(row: ConnectionLine) -> str:
    return (
        f"{row.name or UNIDENTIFIED} at {row.address} options {row.options:x} socket {row.socket} "
        f"status {int(row.status):x}"
    )


_DUMPS: dict[str, tuple[Callable[[ControlConnection], list[Any]], Callable[[Any], str]]] = {
    "nodes": (nodes, node_text),
    "edges": (edges, edge_text),
    "subnets": (subnets, subnet_text),
    "connections": (connections, connection_text),
}


def plain(row: Any) -> dict[str, Any]:
    """A row for JSON, with the names in ``docs/gmesh-json.md``: those of the dataclass, and a few more for nodes."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if isinstance(value, Subnet):
            value = str(value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        found[field.name] = value
    if isinstance(row, NodeLine):
        found["id"] = node_id(row.name).hex()
        found["reachable"] = bool(row.status & NodeStatus.REACHABLE)
    return found


def _print(lines: Iterable[str]) -> int:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    return 0


def _invitations(context: Context) -> int:
    from gmesh.cli.commands.invite import as_json, lifetime
    from gmesh.config.invitations import InvitationFiles

    files = InvitationFiles(context.directory)
    try:
        listed = files.all()
    except OSError as error:
        raise CommandError(f"Cannot open {error.filename or files.path}: {error.strerror}") from None
    valid = [one for one in listed if one.node]
    for one in listed:
        if not one.node:
            sys.stderr.write(f"Invalid invitation file {one.path}\n")
    if context.json:
        now, seconds = time.time(), lifetime(context)
        return _print(as_json(one, now, seconds) for one in valid)
    if not valid:
        sys.stderr.write("No outstanding invitations.\n")
    return _print(f"{one.name} {one.node}" for one in valid)
