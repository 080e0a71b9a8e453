"""``gmesh path``: which way packets to a node go now, why, what was tried. Of tincd 1.1 it shows what that knows."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict

from gmesh.cli.commands.dump import edges, nodes
from gmesh.cli.context import CommandError, Context, expect, nearest
from gmesh.proto.control import ControlCode, EdgeLine, NodeLine, NodeStatus, TriedLine
from gmesh.values import OPTION_INDIRECT, OPTION_TCPONLY


def run(context: Context, arguments: list[str]) -> int:
    """``path NODE``."""
    expect(arguments, 1, 1, exact=True)
    name = arguments[0]
    connection = context.connect()
    known = nodes(connection)
    node = next((node for node in known if node.name == name), None)
    if node is None:
        raise CommandError(f"Unknown node {name}.{nearest(name, [node.name for node in known])}")
    me = next((node.name for node in known if node.address.host == "MYSELF"), "")
    way = hops(me, name, edges(connection)) if node.status & NodeStatus.REACHABLE else []
    tried = connection.dump(ControlCode.TRIED, TriedLine.parse, "path", name)
    if context.json:
        sys.stdout.write(json.dumps(as_json(node, way, tried)) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in describe(node, way, tried)))
    return 0


def explain(node: NodeLine) -> tuple[str, str]:
    """The kind of way, and the reason for it."""
    if node.address.host == "MYSELF":
        return "self", "this is the node itself"
    if not node.status & NodeStatus.REACHABLE:
        return "unreachable", "no chain of meta connections leads there"
    if node.via != node.name:
        why = (
            "it takes no direct connections (IndirectData)"
            if node.options & OPTION_INDIRECT
            else "nothing direct is open"
        )
        return "relay", f"{node.via} passes our packets on: {why}"
    if not node.status & NodeStatus.VALID_KEY:
        waiting = node.status & NodeStatus.WAITING_FOR_KEY
        return (
            "no key",
            "its key has been asked for" if waiting else "no packet was for it yet, so no key was asked for",
        )
    if node.options & OPTION_TCPONLY:
        return "tcp", "TCPOnly is set, here or there"
    if node.min_mtu > 0:
        return "udp", f"UDP probes of up to {node.min_mtu} bytes were answered"
    confirmed = node.status & NodeStatus.UDP_CONFIRMED
    why = "UDP works, but no size has been proved yet" if confirmed else "no UDP probe has been answered"
    return ("tcp", why) if node.next_hop == node.name else ("relay", f"{why}; {node.next_hop} passes our packets on")


def hops(source: str, target: str, all_edges: list[EdgeLine]) -> list[str]:
    """The shortest chain of edges, both ends included; empty where there is none."""
    neighbours: dict[str, list[str]] = {}
    for edge in all_edges:
        neighbours.setdefault(edge.source, []).append(edge.target)
    before = {source: ""}
    waiting = deque([source])
    while waiting and target not in before:
        here = waiting.popleft()
        for there in neighbours.get(here, ()):
            if there not in before:
                before[there] = here
                waiting.append(there)
    way: list[str] = []
    while target and target in before:
        way.append(target)
        target = before[target]
    return way[::-1]


def describe(node: NodeLine, way: list[str], tried: list[TriedLine]) -> Iterator[str]:
    """A line for each thing."""
    kind, reason = explain(node)
    yield f"Path to:  {node.name}"
    yield f"Kind:     {kind}, since {reason}" if kind != "self" else "Kind:     self"
    yield f"Way:      {' -> '.join(way) or 'none'}"
    yield f"Address:  {node.address}"
    if kind == "udp":
        yield f"PMTU:     {node.mtu} (proved {node.min_mtu}, at most {node.max_mtu})"
    if node.round_trip_us != -1:
        yield f"RTT:      {node.round_trip_us / 1000:.3f} ms"
    for row in tried:
        when = "not probed yet" if row.seconds < 0 else f"probed {row.seconds} s ago"
        yield f"Tried:    {row.address} ({row.source}), {when}"


def as_json(node: NodeLine, way: list[str], tried: list[TriedLine]) -> dict[str, object]:
    """The same, as ``docs/gmesh-json.md`` says."""
    kind, reason = explain(node)
    return {
        "node": node.name,
        "kind": kind,
        "reason": reason,
        "way": way,
        "via": node.via,
        "address": asdict(node.address),
        "mtu": node.mtu,
        "round_trip_us": node.round_trip_us,
        "tried": [asdict(row) for row in tried],
    }
