"""The sending decision case by case (data-legacy 6), on sockets that only remember."""

from __future__ import annotations

import errno
import os
import socket as std_socket
from collections import Counter

import pytest
from dataplane_lab import FakeSocket, make_key, neighbour, probe_frame

from gmesh.dataplane.contract import FrameForPeer, PlaneEvent
from gmesh.dataplane.endpoints import endpoint_of
from gmesh.dataplane.flows import FlowTable
from gmesh.dataplane.path_errors import PathErrors
from gmesh.dataplane.sender import Sender
from gmesh.dataplane.sockets import UdpSockets
from gmesh.dataplane.traffic_class import traffic_class
from gmesh.mesh.actions import SendProbe, SetPath
from gmesh.mesh.events import FlowCounters, KeyNeeded, TooBig
from gmesh.proto.packet import PacketOpener, PacketSealer
from gmesh.route.snapshot import RouteNode, RouteSettings, RouteSnapshot
from gmesh.values import MTU, OPTION_INDIRECT, OPTION_PMTU, OPTION_TCPONLY, Address

FRAME = bytes(12) + b"\x08\x00" + bytes(486)
BETA = Address("192.0.2.2", "655")
GAMMA = Address("192.0.2.3", "655")
NEAR = neighbour("beta")
FAR = RouteNode("gamma", True, via="gamma", next_hop="beta", options=OPTION_PMTU)
"""Not a neighbour, but reached directly by UDP."""
HIDDEN = RouteNode("gamma", True, via="beta", next_hop="beta", options=OPTION_PMTU | OPTION_INDIRECT)
"""Behind beta."""


class Bench:
    """A sender for alpha with everything around it."""

    def __init__(self, *nodes: RouteNode, options: int = OPTION_PMTU) -> None:
        self.socket = FakeSocket()
        self.flows = FlowTable()
        self.events: list[PlaneEvent] = []
        self.tally: Counter[str] = Counter()
        self.now = 100.0
        self.keys: dict[str, PacketOpener] = {}
        self.sender = Sender(
            name="alpha",
            flows=self.flows,
            sockets=UdpSockets([self.socket]),
            events=self.events,
            tally=self.tally,
            clock=lambda: self.now,
            errors=PathErrors(self.flows, self.events, self.tally, lambda: self.now),
        )
        self.sender.set_routes(RouteSnapshot("alpha", options, {node.name: node for node in nodes}))

    def ready(self, node: str, address: Address | None, min_mtu: int = MTU, udp: bool = True, key: bool = True) -> None:
        flow = self.flows.get_or_add(node)
        if key:
            packet_key = make_key()
            flow.sealer = PacketSealer(packet_key)
            self.keys[node] = PacketOpener(packet_key, 16)
        endpoint = endpoint_of(address) if address is not None else None
        self.flows.set_path(flow, SetPath(node, address, udp, min_mtu, MTU), self.socket, endpoint)

    def sent(self) -> list[tuple[str, bytes]]:
        """(host, frame) of what went out by UDP."""
        by_host = {"192.0.2.2": "beta", "192.0.2.3": "gamma"}
        return [(target[0], self.keys[by_host[target[0]]].open(datagram)) for datagram, target in self.socket.sent]

    def counters(self, node: str) -> FlowCounters:
        return self.flows.by_name[node].counters


def test_unreachable_and_unknown_nodes_get_nothing() -> None:
    bench = Bench(RouteNode("gamma", False))
    bench.ready("gamma", GAMMA)
    bench.sender.send("gamma", FRAME)
    bench.sender.send("nobody", FRAME)
    assert bench.events == []
    assert bench.socket.sent == []
    assert bench.tally["drop unreachable"] == 2
    assert "nobody" not in bench.flows.by_name


def test_directly_reachable_by_udp() -> None:
    bench = Bench(NEAR, FAR)
    bench.ready("gamma", GAMMA)
    bench.sender.send("gamma", FRAME)
    assert bench.sent() == [("192.0.2.3", FRAME)]
    assert bench.events == []
    counters = bench.counters("gamma")
    assert (counters.wanted, counters.udp_out, counters.packets_out, counters.bytes_out) == (1, 1, 1, 500)


def test_by_a_relay() -> None:
    bench = Bench(NEAR, HIDDEN)
    bench.ready("beta", BETA)
    bench.ready("gamma", GAMMA)
    bench.sender.send("gamma", FRAME)
    assert bench.sent() == [("192.0.2.2", FRAME)]
    assert (bench.counters("beta").wanted, bench.counters("gamma").wanted) == (1, 0)


def test_exact_addresses_the_node_itself() -> None:
    bench = Bench(NEAR, HIDDEN)
    bench.ready("beta", BETA)
    bench.ready("gamma", GAMMA)
    bench.sender.send("gamma", FRAME, exact=True)
    assert bench.sent() == [("192.0.2.3", FRAME)]


def test_via_myself_means_the_next_hop() -> None:
    bench = Bench(NEAR, RouteNode("gamma", True, via="alpha", next_hop="beta", options=OPTION_INDIRECT))
    bench.ready("beta", BETA)
    bench.sender.send("gamma", FRAME)
    assert bench.sent() == [("192.0.2.2", FRAME)]


def test_without_a_key_by_tcp_and_the_key_is_asked_for_once_a_second() -> None:
    bench = Bench(NEAR, FAR)
    bench.ready("beta", BETA)
    bench.ready("gamma", GAMMA, key=False)
    for now in (100.0, 100.5, 100.9, 101.0, 101.5):
        bench.now = now
        bench.sender.send("gamma", FRAME)
    assert bench.events.count(KeyNeeded("gamma")) == 2
    assert bench.events.count(FrameForPeer("beta", FRAME)) == 5
    assert bench.socket.sent == []
    assert (bench.counters("gamma").wanted, bench.counters("gamma").udp_out) == (5, 0)


@pytest.mark.parametrize("case", [{"min_mtu": 499}, {"udp": False}])
def test_what_udp_may_not_carry_goes_to_the_next_hop_which_may_use_udp(case: dict[str, int]) -> None:
    bench = Bench(NEAR, FAR)
    bench.ready("beta", BETA)
    bench.ready("gamma", GAMMA, **case)  # type: ignore[arg-type]
    bench.sender.send("gamma", FRAME)
    assert bench.sent() == [("192.0.2.2", FRAME)]
    assert bench.events == []
    # The wish for UDP to gamma is on record, so that the mesh goes on probing.
    assert bench.counters("gamma").wanted == 1


@pytest.mark.parametrize("case", [{"min_mtu": 499}, {"udp": False}, {"address": None}])
def test_what_udp_may_not_carry_to_a_neighbour_goes_by_tcp(case: dict[str, object]) -> None:
    bench = Bench(NEAR)
    bench.ready("beta", **{"address": BETA, **case})  # type: ignore[arg-type]
    bench.sender.send("beta", FRAME)
    assert bench.events == [FrameForPeer("beta", FRAME)]
    assert bench.socket.sent == []


def test_exactly_the_proved_size_still_goes_by_udp() -> None:
    bench = Bench(NEAR)
    bench.ready("beta", BETA, min_mtu=500)
    bench.sender.send("beta", FRAME)
    assert bench.sent() == [("192.0.2.2", FRAME)]


def test_without_the_pmtu_option_any_size_goes_by_udp() -> None:
    bench = Bench(neighbour("beta", options=0))
    bench.ready("beta", BETA, min_mtu=0)
    bench.sender.send("beta", FRAME)
    assert bench.sent() == [("192.0.2.2", FRAME)]


@pytest.mark.parametrize(("mine", "theirs"), [(OPTION_TCPONLY, 0), (0, OPTION_TCPONLY)])
def test_tcp_only_at_either_end(mine: int, theirs: int) -> None:
    bench = Bench(neighbour("beta", OPTION_PMTU | theirs), options=OPTION_PMTU | mine)
    bench.ready("beta", BETA)
    bench.sender.send("beta", FRAME)
    assert bench.events == [FrameForPeer("beta", FRAME)]
    assert bench.socket.sent == []


def test_tcp_only_without_a_connection_goes_to_the_next_hop() -> None:
    bench = Bench(NEAR, RouteNode("gamma", True, via="gamma", next_hop="beta", options=OPTION_TCPONLY))
    bench.ready("gamma", GAMMA)
    bench.sender.send("gamma", FRAME)
    assert bench.events == [FrameForPeer("beta", FRAME)]


def test_a_marked_frame_stays_on_tcp() -> None:
    bench = Bench(NEAR, FAR)
    bench.ready("beta", BETA)
    bench.ready("gamma", GAMMA)
    bench.sender.send("gamma", FRAME, tcp_only=True)
    assert bench.events == [FrameForPeer("beta", FRAME)]
    assert bench.socket.sent == []


def test_requirement_14_a_frame_that_the_kernel_refuses_as_too_big_goes_by_tcp() -> None:
    bench = Bench(NEAR)
    bench.ready("beta", BETA)
    bench.socket.error = OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
    bench.sender.send("beta", FRAME)
    bench.sender.send("beta", FRAME)
    assert bench.events == [TooBig("beta", 500), FrameForPeer("beta", FRAME), FrameForPeer("beta", FRAME)]
    bench.socket.error = None
    # Smaller ones still go by UDP.
    bench.sender.send("beta", FRAME[:-1])
    assert bench.sent() == [("192.0.2.2", FRAME[:-1])]


def test_a_refused_size_is_told_again_after_the_path_was_set_again() -> None:
    bench = Bench(neighbour("beta", options=0))
    bench.ready("beta", BETA)
    bench.socket.error = OSError(errno.EMSGSIZE, "")
    for _ in range(2):
        for _ in range(3):
            bench.sender.send("beta", FRAME)
        bench.ready("beta", BETA)
    assert bench.events.count(TooBig("beta", 500)) == 2
    assert bench.events.count(FrameForPeer("beta", FRAME)) == 6


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOBUFS, "drop UDP queue full"),
        (errno.EAGAIN, "drop UDP queue full"),
        (errno.ENETUNREACH, "drop UDP ENETUNREACH"),
        (errno.EPERM, "drop UDP EPERM"),
    ],
)
def test_other_errors_are_counted_like_losses(number: int, reason: str) -> None:
    bench = Bench(NEAR)
    bench.ready("beta", BETA)
    bench.socket.error = OSError(number, os.strerror(number))
    bench.sender.send("beta", FRAME)
    assert bench.events == []
    assert bench.tally[reason] == 1
    assert bench.counters("beta").udp_out == 0


def test_used_up_sequence_numbers_are_like_no_key() -> None:
    bench = Bench(NEAR)
    bench.ready("beta", BETA)
    sealer = bench.flows.by_name["beta"].sealer
    assert sealer is not None
    sealer.sequence = 2**32 - 1
    bench.sender.send("beta", FRAME)
    bench.sender.send("beta", FRAME)
    assert bench.events == [KeyNeeded("beta"), FrameForPeer("beta", FRAME), FrameForPeer("beta", FRAME)]


IPV4_EXPEDITED = bytes(12) + b"\x08\x00\x45\xb9" + bytes(40)
IPV6_EXPEDITED = bytes(12) + b"\x86\xdd\x6b\x90" + bytes(60)


@pytest.mark.parametrize(
    ("frame", "value"),
    [
        (IPV4_EXPEDITED, 0xB8),
        (IPV6_EXPEDITED, 0xB8),
        (bytes(12) + b"\x81\x00\x00\x05" + IPV4_EXPEDITED[12:], 0xB8),
        (bytes(12) + b"\x08\x06" + bytes(28), 0),
        (bytes(12) + b"\x08\x00\x65\xff", 0),
        (bytes(15), 0),
    ],
)
def test_traffic_class(frame: bytes, value: int) -> None:
    assert traffic_class(frame) == value


def test_requirement_19_priority_is_inherited_when_asked_for() -> None:
    bench = Bench(NEAR)
    bench.ready("beta", BETA)
    bench.sender.send("beta", IPV4_EXPEDITED)
    assert bench.socket.options == []
    settings = RouteSettings(priority_inheritance=True)
    bench.sender.set_routes(RouteSnapshot("alpha", OPTION_PMTU, {"beta": NEAR}, (), settings))
    for frame in (IPV4_EXPEDITED, IPV4_EXPEDITED, FRAME):
        bench.sender.send("beta", frame)
    level, option = std_socket.IPPROTO_IP, std_socket.IP_TOS
    assert bench.socket.options == [(level, option, 0xB8), (level, option, 0)]


def test_a_probe_is_sent_whatever_the_path_allows_and_never_by_tcp() -> None:
    bench = Bench(NEAR)
    bench.ready("beta", BETA, min_mtu=0, udp=False)
    frame = probe_frame(1400)
    bench.sender.send_probe(SendProbe("beta", frame))
    bench.sender.send_probe(SendProbe("beta", frame, GAMMA))
    assert [target for _, target in bench.socket.sent] == [("192.0.2.2", 655), ("192.0.2.3", 655)]
    assert bench.events == []
    assert bench.tally["probes out"] == 2
    bench.socket.error = OSError(errno.EMSGSIZE, "")
    for _ in range(2):
        bench.sender.send_probe(SendProbe("beta", frame))
    assert bench.events == [TooBig("beta", 1400)] * 2


def test_a_probe_without_key_or_address_is_counted() -> None:
    bench = Bench(NEAR)
    bench.sender.send_probe(SendProbe("beta", probe_frame()))
    bench.ready("beta", Address("2001:db8::2", "655"))
    bench.flows.by_name["beta"].socket = None
    for address in (None, Address("2001:db8::2", "655"), Address("a.name", "655"), Address("192.0.2.2", "0")):
        bench.sender.send_probe(SendProbe("beta", probe_frame(), address))
    assert bench.socket.sent == []
    assert bench.tally == {"drop probe without key": 1, "drop probe without address": 4}


def test_the_time_to_live_is_set_for_one_probe_only() -> None:
    bench = Bench(NEAR)
    bench.ready("beta", BETA)
    bench.sender.send_probe(SendProbe("beta", probe_frame(), None, 5))
    level, option = std_socket.IPPROTO_IP, std_socket.IP_TTL
    assert bench.socket.options == [(level, option, 5), (level, option, -1)]
    bench.socket.options.clear()
    bench.sender.send_probe(SendProbe("beta", probe_frame()))
    assert bench.socket.options == []
