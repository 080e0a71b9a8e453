"""``gmesh path``: the way a packet takes, told from the daemon's answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gmesh.cli.commands.path import as_json, describe, explain, hops
from gmesh.errors import PeerError
from gmesh.proto.control import EdgeLine, NodeStatus, TriedLine
from gmesh.values import OPTION_TCPONLY, Address
from tests.unit.daemon.fake_backend import node

NOWHERE = Address("unspec", "unspec")
UP = NodeStatus.REACHABLE | NodeStatus.VALID_KEY
BAR = replace(node("bar"), status=UP)


@pytest.mark.parametrize(
    ("row", "kind", "words"),
    [
        (replace(BAR, address=Address("MYSELF", "655")), "self", "itself"),
        (replace(BAR, status=NodeStatus(0)), "unreachable", "no chain"),
        (replace(BAR, via="mid"), "relay", "mid passes"),
        (replace(BAR, status=NodeStatus.REACHABLE), "no key", "no packet"),
        (replace(BAR, status=NodeStatus.REACHABLE | NodeStatus.WAITING_FOR_KEY), "no key", "asked for"),
        (replace(BAR, options=OPTION_TCPONLY), "tcp", "TCPOnly"),
        (replace(BAR, min_mtu=1400), "udp", "1400"),
        (BAR, "tcp", "no UDP probe"),
        (replace(BAR, status=UP | NodeStatus.UDP_CONFIRMED), "tcp", "no size"),
        (replace(BAR, next_hop="mid"), "relay", "mid passes"),
    ],
)
def test_kinds_and_reasons(row, kind: str, words: str) -> None:  # type: ignore[no-untyped-def]
    found, reason = explain(row)
    assert found == kind
    assert words in reason


def test_the_shortest_chain_of_edges() -> None:
    pairs = ["ab", "ba", "bc", "cd", "ad", "xy"]
    rows = [EdgeLine(*pair, NOWHERE, NOWHERE, 0, 1) for pair in pairs]
    assert hops("a", "c", rows) == ["a", "b", "c"]
    assert hops("a", "d", rows) == ["a", "d"]
    assert hops("a", "a", rows) == ["a"]
    assert hops("a", "y", rows) == []


def test_what_was_tried_is_shown() -> None:
    row = TriedLine(Address("192.0.2.1", "655"), "edge", 3)
    assert TriedLine.parse(row.format()) == row
    with pytest.raises(PeerError):
        TriedLine.parse("18 100 192.0.2.1 port")
    rows = [row, replace(row, seconds=-1)]
    lines = list(describe(replace(BAR, min_mtu=1400, round_trip_us=1500), ["foo", "bar"], rows))
    assert "Way:      foo -> bar" in lines
    assert "RTT:      1.500 ms" in lines
    assert lines[-2:] == [
        "Tried:    192.0.2.1 port 655 (edge), probed 3 s ago",
        "Tried:    192.0.2.1 port 655 (edge), not probed yet",
    ]
    assert as_json(BAR, [], [row])["tried"] == [
        {"address": {"host": "192.0.2.1", "port": "655"}, "source": "edge", "seconds": 3}
    ]
