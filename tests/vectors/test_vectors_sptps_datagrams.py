"""Recorded node ids and whole datagrams, made and opened by the data plane's own parts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from gmesh.dataplane.flows import FlowTable
from gmesh.dataplane.node_ids import NodeIds
from gmesh.dataplane.path_errors import PathErrors
from gmesh.dataplane.sealed_receiver import SealedReceiver
from gmesh.dataplane.sealed_sender import SealedSender
from gmesh.dataplane.sessions import PeerSession
from gmesh.dataplane.sockets import UdpSockets
from gmesh.dataplane.transmitter import Transmitter
from gmesh.mesh.actions import InstallSession
from gmesh.mesh.events import ProbeReceived
from gmesh.proto.sptps_flow import DEFAULT_REPLAY_WINDOW, DatagramFlow, FlowState, WindowState
from gmesh.proto.sptps_handshake import TINC_SUITE, TrafficKey
from gmesh.proto.sptps_packet import HEAD_SIZE, PROBE, WITH_HEADER, node_id
from gmesh.route.snapshot import RouteNode, RouteSnapshot
from tests.vectors.legacy import load

NODE_IDS: dict[str, Any] = load("sptps-nodeids")
MATERIAL = bytes.fromhex(NODE_IDS["key_material"])
TO_ALPHA, TO_BETA = (TrafficKey(TINC_SUITE, MATERIAL[start : start + 32]) for start in (0, 64))
WINDOW = WindowState(DEFAULT_REPLAY_WINDOW, 2, 0, 0)
HERE = ("192.0.2.1", 655)


@pytest.mark.parametrize("case", NODE_IDS["ids"], ids=lambda case: case["name"])
def test_node_ids(case: dict[str, str]) -> None:
    assert node_id(case["name"]).hex() == case["id"]
    ids = NodeIds("me")
    ids.set_names([case["name"]])
    assert ids.names[bytes.fromhex(case["id"])] == case["name"]


def test_datagrams_are_made_as_recorded() -> None:
    flow = DatagramFlow(FlowState(TO_BETA, 2, None, None, None, 0.0, WINDOW))
    for case in NODE_IDS["datagrams"]:
        expected = bytes.fromhex(case["datagram"])
        target = b"\0" * 6 if case["what"].endswith("direct") else node_id("beta")
        assert flow.next_number == case["number"]
        sealed = flow.seal(case["record_type"], bytes.fromhex(case["data"]), target + node_id("alpha"))
        assert sealed == expected


def test_datagrams_are_opened_as_recorded() -> None:
    flows, ids, events, tally = FlowTable(), NodeIds("beta"), [], Counter[str]()
    nodes = {"alpha": RouteNode("alpha", True, "alpha", "alpha", 7 << 24, True, True, True)}
    ids.set_names(nodes)
    sockets = UdpSockets([])
    sender = SealedSender(
        name="beta",
        flows=flows,
        sockets=sockets,
        events=events,
        tally=tally,
        clock=lambda: 1.0,
        transmitter=Transmitter(sockets, tally, PathErrors(flows, events, tally, lambda: 1.0)),
    )
    frames: list[bytes] = []
    receiver = SealedReceiver(
        name="beta",
        flows=flows,
        ids=ids,
        events=events,
        tally=tally,
        sender=sender,
        deliver=lambda frame, node, now: frames.append(frame),
    )
    receiver.set_routes(RouteSnapshot("beta", 0, nodes))
    state = FlowState(TO_ALPHA, 2, TO_BETA, None, None, 0.0, WINDOW)
    flows.get_or_add("alpha").sessions.add(PeerSession(InstallSession("alpha", 1, state), with_header=False))
    expected: list[bytes] = []
    probes: list[bytes] = []
    for case in NODE_IDS["datagrams"]:
        datagram, data = bytes.fromhex(case["datagram"]), bytes.fromhex(case["data"])
        name = ids.names[datagram[6:HEAD_SIZE]]
        receiver.receive(name, datagram, HERE, None, 1.0)
        if case["record_type"] == PROBE:
            probes += [data] * case["what"].endswith("direct")
        else:
            expected.append(data if case["record_type"] & WITH_HEADER else bytes(12) + b"\x08\x00" + data)
    assert frames == expected
    assert [event.frame for event in events if isinstance(event, ProbeReceived)] == probes
    assert len(expected) == 4
    assert len(probes) == 2
    assert dict(tally) == {"probes in": 2, "drop relayed probe": 2}
