"""Lanes say nothing that the whole way would not say: any frame, any snapshot, compared with router and sender."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from dataplane_lab import FakeSocket, make_flows, make_key
from hypothesis import given
from hypothesis import strategies as st

from gmesh.dataplane.endpoints import endpoint_of
from gmesh.dataplane.flows import Flow, FlowTable
from gmesh.dataplane.lanes import MAX_LANES, Lanes
from gmesh.dataplane.path_errors import PathErrors
from gmesh.dataplane.sender import Sender
from gmesh.dataplane.sessions import PeerSession
from gmesh.dataplane.sockets import UdpSockets
from gmesh.mesh.actions import InstallSession, SetPath
from gmesh.proto.packet import PacketSealer
from gmesh.route.router import Router, ToDevice, ToNode
from gmesh.route.snapshot import RouteNode, RouteSnapshot
from gmesh.values import MTU, OPTION_CLAMP_MSS, OPTION_PMTU, OPTION_TCPONLY, OPTION_VERSION_SHIFT, Address
from tests.unit.route.route_frames import OPTIONS, ipv4, ipv6, snapshot, tcp

LARGE_MSS = b"\x02\x04\x05\xb4"


class Bench:
    """Flows, a sender and lanes for one snapshot; ``key`` and ``min_mtu`` are those of every node."""

    def __init__(self, picture: RouteSnapshot, *, key: bool = True, udp: bool = True, min_mtu: int = MTU) -> None:
        self.flows = FlowTable()
        self.socket = FakeSocket()
        sockets = UdpSockets([self.socket])
        for number, name in enumerate(picture.nodes):
            flow = self.flows.get_or_add(name)
            if key and picture.nodes[name].sptps:
                flow.sessions.add(PeerSession(InstallSession(name, 1, make_flows()[0]), with_header=False))
                flow.sessions.sending = flow.sessions.all[0]
            flow.sealer = PacketSealer(make_key()) if key else None
            address = Address(f"192.0.2.{number + 1}", "655")
            path = SetPath(name, address, udp, min_mtu, MTU)
            self.flows.set_path(flow, path, self.socket, endpoint_of(address))
        self.router = Router(picture)
        errors = PathErrors(self.flows, [], Counter(), lambda: 0.0)
        self.sender = Sender(
            name="a",
            flows=self.flows,
            sockets=sockets,
            events=[],
            tally=Counter(),
            clock=lambda: 0.0,
            errors=errors,
        )
        self.sender.set_routes(picture)
        self.lanes = Lanes(picture, self.router, self.flows)

    def mtu(self, node: str) -> int:
        return self.flows.by_name[node].mtu

    def counted(self) -> dict[str, tuple[int, int, int, int]]:
        return {flow.name: _counted(flow) for flow in self.flows}


def _counted(flow: Flow) -> tuple[int, int, int, int]:
    counters = flow.counters
    return counters.packets_out, counters.bytes_out, counters.wanted, counters.udp_out


IPV4 = ("10.0.1.1", "10.0.2.2", "10.0.3.3", "10.0.4.4", "10.0.9.9", "10.9.9.9", "224.0.0.5", "255.255.255.255")
IPV6 = ("fd00:1::1", "fd00:2::2", "fd00:3::3", "fd00:4::4", "fd00:9::9", "ff02::1", "2001:db8::1")
addresses = st.sampled_from((*IPV4, *IPV6))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    target = draw(addresses)
    payload = bytes(draw(st.sampled_from((0, 8, 500, 1300, 1400, 1484))))
    protocol = draw(st.sampled_from((6, 17, 58)))
    tag = draw(st.sampled_from((b"", b"", b"\x81\x00\x00\x05")))
    if protocol == 6:
        sides = ("fd00:5::1", target) if ":" in target else ("10.0.5.1", target)
        payload = tcp(*sides, draw(st.sampled_from((b"", LARGE_MSS))), payload[:1400])
    if ":" in target:
        whole = ipv6("fd00:5::1", target, payload, following=protocol, tag=tag)
    else:
        whole = ipv4("10.0.5.1", target, payload, protocol=protocol, tag=tag, flags=0x4000)
    whole = whole[:MTU]
    return whole[: draw(st.sampled_from((len(whole), len(whole), 14, 20, 33, 42, 53)))]


@st.composite
def pictures(draw: st.DrawFn) -> RouteSnapshot:
    options = draw(st.sampled_from((OPTIONS, OPTIONS, OPTION_PMTU, OPTION_CLAMP_MSS, OPTIONS | OPTION_TCPONLY)))
    nodes = {
        "d": draw(st.sampled_from((RouteNode("d", True, "c", "c", OPTIONS), RouteNode("d", True, "a", "c", OPTIONS)))),
        "c": RouteNode("c", True, "c", "c", options, True, True),
    }
    picture = snapshot(
        nodes=nodes,
        options=draw(st.sampled_from((OPTIONS, OPTIONS, OPTION_PMTU, OPTIONS | OPTION_TCPONLY))),
        mode=draw(st.sampled_from(("router", "router", "router", "switch", "hub"))),
        forwarding=draw(st.sampled_from(("internal", "internal", "off", "kernel"))),
        direct_only=draw(st.booleans()),
        decrement_ttl=draw(st.booleans()),
        broadcast=draw(st.sampled_from(("mst", "no"))),
    )
    second = draw(st.sets(st.sampled_from(sorted(picture.nodes))))
    return replace(
        picture,
        nodes={
            name: replace(node, sptps=True, options=node.options | 7 << OPTION_VERSION_SHIFT)
            if name in second
            else node
            for name, node in picture.nodes.items()
        },
    )


@given(pictures(), frames(), st.booleans(), st.booleans(), st.sampled_from((0, 600, 1400, MTU)))
def test_a_lane_sends_as_the_whole_way_does(
    picture: RouteSnapshot, frame: bytes, key: bool, udp: bool, min_mtu: int
) -> None:
    short, whole = (Bench(picture, key=key, udp=udp, min_mtu=min_mtu) for _ in range(2))
    found = short.lanes.way(frame)
    if found is None:
        assert not any(any(counters) for counters in short.counted().values())
        return
    flow, via = found
    (short.sender.sealed.by_udp if via.sptps else short.sender.by_udp)(flow, via, frame)
    (verdict,) = Router(picture).decide(frame, "a", whole.mtu, 0.0)
    assert isinstance(verdict, ToNode)
    assert verdict.frame == frame
    whole.sender.send(verdict.node, verdict.frame, exact=verdict.exact)
    assert short.counted() == whole.counted()
    assert [where for _, where in short.socket.sent] == [where for _, where in whole.socket.sent]


@given(pictures(), frames(), st.sampled_from("bcd"))
def test_a_lane_delivers_as_the_whole_way_does(picture: RouteSnapshot, frame: bytes, source: str) -> None:
    bench = Bench(picture)
    if bench.lanes.own(frame):
        assert Router(picture).decide(frame, source, bench.mtu, 0.0) == [ToDevice(frame)]


@pytest.mark.parametrize("target", ["10.0.2.2", "10.0.4.4", "fd00:2::2"])
def test_ordinary_packets_have_lanes(target: str) -> None:
    bench = Bench(snapshot())
    build = ipv6 if ":" in target else ipv4
    found = bench.lanes.way(build(destination=target, payload=bytes(1400)))
    assert found is not None
    assert found[0].name == found[1].name == ("c" if target == "10.0.4.4" else "b")
    assert bench.lanes.own(build(destination="fd00:1::1" if ":" in target else "10.0.1.1", payload=bytes(1400)))


def test_what_may_need_a_smaller_mss_has_none() -> None:
    bench = Bench(snapshot())
    frame = ipv4(payload=tcp("10.0.1.1", "10.0.2.2", LARGE_MSS), protocol=6)
    assert bench.lanes.way(frame) is None
    assert not bench.lanes.own(ipv4("10.0.2.2", "10.0.1.1", frame[34:], protocol=6))


def test_lanes_are_bounded() -> None:
    bench = Bench(snapshot())
    for number in range(MAX_LANES + 10):
        bench.lanes.own(ipv4(destination=f"10.0.{number >> 8}.{number & 255}"))
    assert len(bench.lanes._lanes) == 10


def test_a_forgotten_flow_has_no_lane() -> None:
    bench = Bench(snapshot())
    assert bench.lanes.way(ipv4()) is not None
    bench.flows.remove(bench.flows.by_name["b"])
    assert bench.lanes.way(ipv4()) is None
