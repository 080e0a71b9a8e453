"""The dumps of 1.0 in the log, compared with what 1.0.36 wrote."""

from __future__ import annotations

from gmesh.daemon.legacy_dump import DeviceStatistics, dump_all, dump_connections
from gmesh.proto.control import ConnectionLine, ConnectionStatus, EdgeLine, NodeLine, NodeStatus, SubnetLine
from gmesh.values import Address, Subnet


def node(name: str, address: Address, status: NodeStatus, *, cipher: int, digest: int, mac: int, low: int) -> NodeLine:
    return NodeLine(
        name, address, cipher, digest, mac, 0, 0xC, status, name, name, 0, 1518, low, 1518, 0, -1, 0, 0, 0, 0
    )


def test_connections() -> None:
    rows = [
        ConnectionLine("beta", Address("127.0.0.1", "56619"), 0xC, 6, ConnectionStatus.MST),
        ConnectionLine("<control>", Address("localhost", "unix"), 0, 9, ConnectionStatus.CONTROL),
    ]
    assert list(dump_connections(rows)) == [
        "Connections:",
        " beta at 127.0.0.1 port 56619 options c socket 6 status 01c2 outbuf 0/0/0",
        "End of connections.",
    ]


def test_everything_else() -> None:
    visible = NodeStatus.VISITED | NodeStatus.REACHABLE
    here = node("alpha", Address("MYSELF", "7001"), visible | NodeStatus.HAS_ADDRESS, cipher=0, digest=0, mac=0, low=0)
    there = node(
        "beta", Address("127.0.0.1", "7002"), visible | NodeStatus.VALID_KEY, cipher=427, digest=672, mac=4, low=1453
    )
    unspecified = Address("unspec", "unspec")
    edges = [
        EdgeLine("alpha", "beta", Address("127.0.0.1", "7002"), unspecified, 0xC, 3),
        EdgeLine("beta", "alpha", Address("127.0.0.1", "7001"), unspecified, 0xC, 3),
    ]
    subnets = [
        SubnetLine(Subnet.parse("255.255.255.255"), ""),
        SubnetLine(Subnet.parse("10.1.1.1#7"), "alpha"),
        SubnetLine(Subnet.parse("10.1.0.0/24"), "alpha"),
        SubnetLine(Subnet.parse("fd00:2::/64"), "beta"),
    ]
    device = DeviceStatistics("dummy device", "dummy", 0, 0)
    assert "\n".join(dump_all(device, [here, there], edges, subnets)) == (
        "Statistics for dummy device dummy:\n"
        " total bytes in:           0\n"
        " total bytes out:          0\n"
        "Nodes:\n"
        " alpha at MYSELF cipher 0 digest 0 maclength 0 compression 0 options c status 0018 nexthop alpha via alpha "
        "pmtu 1518 (min 0 max 1518)\n"
        " beta at 127.0.0.1 port 7002 cipher 427 digest 672 maclength 4 compression 0 options c status 001a "
        "nexthop beta via beta pmtu 1518 (min 1453 max 1518)\n"
        "End of nodes.\n"
        "Edges:\n"
        " alpha to beta at 127.0.0.1 port 7002 options c weight 3\n"
        " beta to alpha at 127.0.0.1 port 7001 options c weight 3\n"
        "End of edges.\n"
        "Subnet list:\n"
        " 10.1.1.1/32#7 owner alpha\n"
        " 10.1.0.0/24#10 owner alpha\n"
        " fd00:2:0:0:0:0:0:0/64#10 owner beta\n"
        "End of subnet list."
    )
