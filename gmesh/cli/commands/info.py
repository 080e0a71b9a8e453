"""``gmesh info``: one node, or who serves an address or subnet (control-cli 6)."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator

from gmesh.cli.commands.dump import edges, nodes, plain, subnets
from gmesh.cli.context import CommandError, Context, nearest
from gmesh.proto.control import BROADCAST_OWNER, EdgeLine, NodeLine, NodeStatus, SubnetLine, node_id
from gmesh.values import (
    OPTION_CLAMP_MSS,
    OPTION_INDIRECT,
    OPTION_PMTU,
    OPTION_TCPONLY,
    OPTION_VERSION_SHIFT,
    Subnet,
    is_node_name,
)

_STATUS = {
    NodeStatus.VALID_KEY: "validkey",
    NodeStatus.VISITED: "visited",
    NodeStatus.REACHABLE: "reachable",
    NodeStatus.INDIRECT: "indirect",
    NodeStatus.SPTPS: "sptps",
    NodeStatus.UDP_CONFIRMED: "udp_confirmed",
}
_OPTIONS = {
    OPTION_INDIRECT: "indirect",
    OPTION_TCPONLY: "tcponly",
    OPTION_PMTU: "pmtu_discovery",
    OPTION_CLAMP_MSS: "clamp_mss",
}
_WITH_WEIGHT = re.compile(r"#-?[0-9]+\Z")


def run(context: Context, arguments: list[str]) -> int:
    """``info NODE|SUBNET|ADDRESS``."""
    if len(arguments) != 1:
        raise CommandError("Invalid number of arguments.\nUsage: gmesh info NODE, or gmesh info ADDRESS or SUBNET")
    item = arguments[0]
    if is_node_name(item):
        connection = context.connect()
        known = nodes(connection)
        node = next((node for node in known if node.name == item), None)
        if node is None:
            raise CommandError(f"Unknown node {item}.{nearest(item, [node.name for node in known])}")
        lines = list((as_json if context.json else describe)(node, edges(connection), subnets(connection)))
    elif "." in item or ":" in item:
        connection = context.connect()
        rows = owners(item, subnets(connection))
        lines = [json.dumps(plain(row)) for row in rows] if context.json else list(owner_lines(rows))
    else:
        raise CommandError("Argument is not a node name, subnet or address.")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def describe(node: NodeLine, all_edges: list[EdgeLine], all_subnets: list[SubnetLine]) -> Iterator[str]:
    """What is known about a node, a line for each kind of thing."""
    yield f"Node:         {node.name}"
    yield f"Node ID:      {node_id(node.name).hex()}"
    yield f"Address:      {node.address}"
    since = "Online since:" if node.status & NodeStatus.REACHABLE else "Last seen:   "
    yield f"{since} {_time(node.last_change)}"
    yield _list("Status:", (word for bit, word in _STATUS.items() if node.status & bit))
    yield _list("Options:", (word for bit, word in _OPTIONS.items() if node.options & bit))
    yield f"Protocol:     17.{node.options >> OPTION_VERSION_SHIFT}"
    way = reachability(node)
    yield f"Reachability: {way}"
    if way == "directly with UDP":
        yield f"PMTU:         {node.mtu}"
        if node.round_trip_us != -1:
            yield f"RTT:          {node.round_trip_us // 1000}.{node.round_trip_us % 1000:03d}"
    yield f"RX:           {node.packets_in} packets  {node.bytes_in} bytes"
    yield f"TX:           {node.packets_out} packets  {node.bytes_out} bytes"
    yield _list("Edges:", (edge.target for edge in all_edges if edge.source == node.name))
    yield _list("Subnets:", (str(row.subnet) for row in all_subnets if row.owner == node.name))


def reachability(node: NodeLine) -> str:
    """How our packets get to a node."""
    if node.address.host == "MYSELF":
        return "can reach itself"
    if not node.status & NodeStatus.REACHABLE:
        return "unreachable"
    if node.via != node.name:
        return f"indirectly via {node.via}"
    if not node.status & NodeStatus.VALID_KEY:
        return "unknown"
    if node.min_mtu > 0:
        return "directly with UDP"
    return "directly with TCP" if node.next_hop == node.name else f"none, forwarded via {node.next_hop}"


def as_json(node: NodeLine, all_edges: list[EdgeLine], all_subnets: list[SubnetLine]) -> Iterator[str]:
    """The same as one object, as ``docs/gmesh-json.md`` says."""
    yield json.dumps(
        {
            **plain(node),
            "status_words": [word for bit, word in _STATUS.items() if node.status & bit],
            "option_words": [word for bit, word in _OPTIONS.items() if node.options & bit],
            "protocol": f"17.{node.options >> OPTION_VERSION_SHIFT}",
            "reachability": reachability(node),
            "edges": [edge.target for edge in all_edges if edge.source == node.name],
            "subnets": [str(row.subnet) for row in all_subnets if row.owner == node.name],
        }
    )


def owners(item: str, all_subnets: list[SubnetLine]) -> list[SubnetLine]:
    """Who serves a subnet (exactly that one) or an address (the most specific subnets first). Raises CommandError."""
    try:
        wanted = Subnet.parse(item)
    except ValueError:
        raise CommandError(f"Could not parse subnet or address '{item}'.") from None
    exact = "/" in item
    found = [row for row in all_subnets if row.subnet.kind is wanted.kind and _fits(row.subnet, wanted, exact=exact)]
    if _WITH_WEIGHT.search(item):
        found = [row for row in found if row.subnet.weight == wanted.weight]
    if not found:
        raise CommandError(f"Unknown {'subnet' if exact else 'address'} {item}.")
    return sorted(found, key=lambda row: -row.subnet.prefix)


def owner_lines(rows: Iterable[SubnetLine]) -> Iterator[str]:
    """Two lines for each."""
    for row in rows:
        yield f"Subnet: {row.subnet}"
        yield f"Owner:  {row.owner or BROADCAST_OWNER}"


def _fits(subnet: Subnet, wanted: Subnet, *, exact: bool) -> bool:
    if exact:
        return (subnet.address, subnet.prefix) == (wanted.address, wanted.prefix)
    return subnet.matches(wanted.address)


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "never"


def _list(label: str, words: Iterable[str]) -> str:
    return f"{label:<13}" + "".join(f" {word}" for word in words)
