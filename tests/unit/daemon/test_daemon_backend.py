"""Rows for dumps that parse back, and commands that end where they should."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hub_lab import Lab

from gmesh.daemon.backend import MYSELF, Backend
from gmesh.daemon.logging_setup import DaemonLog
from gmesh.proto.control import (
    ConnectionLine,
    ConnectionStatus,
    EdgeLine,
    NodeLine,
    NodeStatus,
    SubnetLine,
    TrafficLine,
)
from gmesh.values import Address, Subnet


class Outgoing:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def nudge(self) -> None:
        self.calls.append("nudge")

    def dial(self, name: str) -> bool:
        self.calls.append(name)
        return name == "known"


class Desk:
    """A backend on a mesh with the neighbour b, behind which c is."""

    def __init__(self, daemon_log: DaemonLog) -> None:
        self.lab = Lab()
        self.outgoing = Outgoing()
        self.done: list[str] = []
        self.backend = Backend(
            hub=self.lab.hub,
            outgoing=self.outgoing,  # type: ignore[arg-type]
            daemon_log=daemon_log,
            clock=time.monotonic,
            stop=lambda: self.done.append("stop"),
            reload=lambda: self.done.append("reload") or False,  # type: ignore[func-returns-value]
        )
        self.b = self.lab.active(1, "b")
        self.b.fileno, self.b.outbox = 7, type("Box", (), {"bytes": 42})()
        self.stranger = self.lab.open(2)
        self.stranger.fileno, self.stranger.outbox = 8, type("Box", (), {"bytes": 0})()
        for line in (
            "12 1 b me 10.1.0.1 655 700000c 1",
            "12 2 b c 10.3.0.2 655 c 5",
            "12 3 c b 10.2.0.2 655 c 5",
            "10 4 c fd00::/64",
            "10 5 b 10.0.0.2#5",
        ):
            self.lab.request(self.b, line)
        self.lab.hub.perform(self.lab.hub.mesh.settle(time.monotonic()))


@pytest.fixture
def desk() -> Iterator[Desk]:
    daemon_log = DaemonLog("tinc", 1)
    yield Desk(daemon_log)
    daemon_log.close()


def test_nodes(desk: Desk) -> None:
    rows = list(desk.backend.nodes())
    assert [row.name for row in rows] == ["b", "c", "me"]
    assert [NodeLine.parse(row.format()) for row in rows] == rows
    b, c, me = rows
    assert me.address == Address(MYSELF, "655")
    assert all(row.status & NodeStatus.REACHABLE for row in rows)
    assert (b.next_hop, b.distance) == ("b", 1)
    assert (c.next_hop, c.distance, c.address) == ("b", 2, Address("10.3.0.2", "655"))
    assert abs(b.last_change - time.time()) < 60
    assert b.round_trip_us == -1


def test_edges_and_subnets(desk: Desk) -> None:
    edges = list(desk.backend.edges())
    assert [(row.source, row.target) for row in edges] == [("b", "c"), ("b", "me"), ("c", "b"), ("me", "b")]
    assert [EdgeLine.parse(row.format()) for row in edges] == edges
    subnets = list(desk.backend.subnets())
    assert [SubnetLine.parse(row.format()) for row in subnets] == subnets
    named = {(str(row.subnet), row.owner) for row in subnets if row.owner}
    assert named == {("fd00::/64", "c"), ("10.0.0.2#5", "b"), ("10.0.0.1", "me")}
    assert subnets == sorted(subnets, key=lambda row: (row.subnet.sort_key(), row.owner))
    assert any(row.subnet == Subnet.parse("224.0.0.0/4") and not row.owner for row in subnets)


def test_connections(desk: Desk) -> None:
    rows = list(desk.backend.connections())
    assert [ConnectionLine.parse(row.format()) for row in rows] == rows
    b, stranger = rows
    assert (b.name, b.socket, b.options & 0xF) == ("b", 7, 12)
    assert not b.status & ConnectionStatus.CONNECTING
    assert b.status & ConnectionStatus.MST
    assert (stranger.name, stranger.options) == ("", 0)
    assert stranger.status & ConnectionStatus.CONNECTING
    assert desk.backend.queued(b) == 42


def test_traffic(desk: Desk) -> None:
    rows = list(desk.backend.traffic())
    assert [TrafficLine.parse(row.format()) for row in rows] == rows
    assert (rows[2].packets_in, rows[2].bytes_in, rows[2].packets_out) == (3, 300, 0)


def test_commands(desk: Desk) -> None:
    backend = desk.backend
    assert backend.connect("known") == 0
    assert backend.connect("unknown") < 0
    assert backend.disconnect("b") == 0
    assert desk.b.closed == ["disconnected by the administrator"]
    assert backend.disconnect("nobody") == -2
    backend.retry()
    assert desk.outgoing.calls == ["known", "unknown", "nudge"]
    assert desk.b.pings == 1
    backend.stop()
    assert backend.reload() is False
    assert desk.done == ["stop", "reload"]
    backend.debug = 3
    assert backend.debug == 3
    assert backend.name == "me"


def test_purge_forgets_what_is_unreachable(desk: Desk) -> None:
    desk.lab.request(desk.b, "13 6 b c")
    desk.backend.purge()
    assert [row.name for row in desk.backend.nodes()] == ["b", "me"]
