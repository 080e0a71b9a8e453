"""The picture of the registry that routing gets."""

from __future__ import annotations

import time

import pytest
from hub_lab import Lab

from gmesh.daemon.snapshot import build_snapshot
from gmesh.route.snapshot import RouteSettings
from gmesh.values import Subnet


@pytest.mark.usefixtures("log_lines")
def test_nodes_neighbours_and_subnets() -> None:
    lab = Lab()
    peer = lab.active(1, "b")
    lab.request(peer, "12 1 b me 10.1.0.1 655 c 1")
    lab.request(peer, "12 2 b c 10.3.0.2 655 c 5")
    lab.request(peer, "12 3 c b 10.2.0.2 655 c 5")
    lab.request(peer, "12 4 b island 10.4.0.2 655 c 5")
    lab.request(peer, "10 5 c 10.0.0.3")
    lab.hub.perform(lab.hub.mesh.settle(time.monotonic()))
    settings = RouteSettings(mode="switch")
    snapshot = build_snapshot(lab.hub.mesh.registry, 5, settings, lambda node: node.name == "c")
    assert (snapshot.name, snapshot.options, snapshot.settings) == ("me", 5, settings)
    b, c, island = (snapshot.nodes[name] for name in ("b", "c", "island"))
    assert (b.reachable, b.neighbour, b.tree, b.next_hop) == (True, True, True, "b")
    assert (c.reachable, c.neighbour, c.next_hop, c.via) == (True, False, "b", "c")
    assert (island.reachable, island.next_hop, island.via) == (False, "", "")
    assert [name for name, node in snapshot.nodes.items() if node.sptps] == ["c"]
    assert (Subnet.parse("10.0.0.3"), "c") in snapshot.subnets
    assert (Subnet.parse("10.0.0.1"), "me") in snapshot.subnets
