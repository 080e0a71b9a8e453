"""Which way a sealed packet takes, case by case (data-sptps 5), on sockets that only remember."""

from __future__ import annotations

import errno
import os
import socket as std_socket
from collections import Counter
from typing import Any

import pytest
from dataplane_lab import FakeSocket, make_flows, make_key, neighbour, probe_frame, sealed

from gmesh.dataplane.contract import DatagramForPeer, FrameForPeer, PlaneEvent
from gmesh.dataplane.endpoints import endpoint_of
from gmesh.dataplane.flows import FlowTable
from gmesh.dataplane.path_errors import PathErrors
from gmesh.dataplane.sealed_sender import HELD_FRAMES, HELD_SECONDS, WAITING_FRAMES, WAITING_SECONDS
from gmesh.dataplane.sender import Sender
from gmesh.dataplane.sessions import PeerSession
from gmesh.dataplane.sockets import UdpSockets
from gmesh.mesh.actions import InstallSession, SendProbe, SetPath
from gmesh.mesh.events import KeyNeeded, PathWanted, ReceiveKeyWorn, TooBig
from gmesh.proto.packet import PacketSealer
from gmesh.proto.sptps_flow import LAST_NUMBER, OVERHEAD, WORN_NUMBER, DatagramFlow
from gmesh.proto.sptps_packet import NULL_ID, PROBE, node_id
from gmesh.route.snapshot import RouteNode, RouteSettings, RouteSnapshot
from gmesh.values import MTU, OPTION_INDIRECT, OPTION_PMTU, OPTION_TCPONLY, Address

PACKET = b"\x45\xb9" + bytes(484)
FRAME = bytes(12) + b"\x08\x00" + PACKET
ADDRESSES = {name: Address(f"192.0.2.{number}", "655") for number, name in enumerate(("beta", "gamma", "delta"), 2)}
NEAR = sealed("beta")
FAR = sealed("gamma", next_hop="beta")
"""Not a neighbour, but reached directly by UDP."""
HIDDEN = sealed("gamma", via="beta", next_hop="beta", options=OPTION_PMTU | OPTION_INDIRECT)
"""Behind the static relay beta."""
TO_GAMMA = node_id("gamma") + node_id("alpha")
STRAIGHT = NULL_ID + node_id("alpha")


class Bench:
    """A sender for alpha, with sessions and UDP to all nodes that the snapshot says are of the second generation."""

    def __init__(self, *nodes: RouteNode, options: int = OPTION_PMTU, **settings: Any) -> None:
        self.socket = FakeSocket()
        self.flows = FlowTable()
        self.events: list[PlaneEvent] = []
        self.tally: Counter[str] = Counter()
        self.now = 100.0
        self.peers: dict[str, DatagramFlow] = {}
        self.sender = Sender(
            name="alpha",
            flows=self.flows,
            sockets=UdpSockets([self.socket]),
            events=self.events,
            tally=self.tally,
            clock=lambda: self.now,
            errors=PathErrors(self.flows, self.events, self.tally, lambda: self.now),
        )
        self.routes(*nodes, options=options, **settings)
        for node in nodes:
            self.path(node.name)
            if node.sptps:
                self.session(node.name, with_header=settings.get("mode", "router") != "router")

    def routes(self, *nodes: RouteNode, options: int = OPTION_PMTU, **settings: Any) -> None:
        known = {node.name: node for node in nodes}
        self.sender.set_routes(RouteSnapshot("alpha", options, known, (), RouteSettings(**settings)))

    def path(self, name: str, min_mtu: int = MTU, udp: bool = True) -> None:
        address = ADDRESSES[name]
        path = SetPath(name, address, udp, min_mtu, MTU)
        self.flows.set_path(self.flows.get_or_add(name), path, self.socket, endpoint_of(address))

    def session(self, name: str, *, with_header: bool = False) -> None:
        flow = self.flows.get_or_add(name)
        mine, theirs = make_flows()
        flow.sessions.add(PeerSession(InstallSession(name, 1, mine), with_header=with_header))
        flow.sessions.sending = flow.sessions.all[0]
        self.peers[name] = DatagramFlow(theirs)

    def no_session(self, name: str) -> None:
        self.flows.by_name[name].sessions.clear()

    def sent(self, peer: str) -> list[tuple[str, bytes, int, bytes]]:
        """(to whom, ids, type, data) of what went out by UDP, all of it sealed for ``peer``."""
        names = {address.host: name for name, address in ADDRESSES.items()}
        return [
            (names[target[0]], datagram[:12], *self.peers[peer].take(datagram, 0.0, 12)[:2])
            for datagram, target in self.socket.sent
        ]

    def by_tcp(self, peer: str) -> list[tuple[str, str, str, int, bytes]]:
        """(neighbour, source, target, type, data) of the datagrams for meta connections."""
        return [
            (event.node, event.source, event.target, *self.peers[peer].take(event.datagram, 0.0)[:2])
            for event in self.events
            if isinstance(event, DatagramForPeer)
        ]

    def counted(self, name: str) -> tuple[int, int]:
        counters = self.flows.by_name[name].counters
        return counters.wanted, counters.udp_out


def test_straight_to_a_neighbour() -> None:
    bench = Bench(NEAR)
    bench.sender.send("beta", FRAME)
    assert bench.sent("beta") == [("beta", STRAIGHT, 0, PACKET)]
    counters = bench.flows.by_name["beta"].counters
    assert (counters.wanted, counters.udp_out, counters.packets_out, counters.bytes_out) == (1, 1, 1, 500)
    assert bench.events == []


def test_straight_to_a_node_that_is_no_neighbour() -> None:
    bench = Bench(NEAR, FAR)
    bench.sender.send("gamma", FRAME)
    assert bench.sent("gamma") == [("gamma", STRAIGHT, 0, PACKET)]
    assert bench.counted("beta") == (0, 0)


@pytest.mark.parametrize("case", [{"min_mtu": 485}, {"udp": False}])
def test_the_next_hop_relays_what_does_not_fit_or_is_not_confirmed(case: dict[str, Any]) -> None:
    bench = Bench(NEAR, FAR)
    bench.path("gamma", **case)
    bench.sender.send("gamma", FRAME)
    assert bench.sent("gamma") == [("beta", TO_GAMMA, 0, PACKET)]
    assert bench.counted("gamma") == (1, 0)
    assert bench.counted("beta") == (1, 1)


def test_the_length_of_the_data_decides_not_that_of_the_frame() -> None:
    bench = Bench(NEAR, FAR)
    bench.path("gamma", min_mtu=len(PACKET))
    bench.sender.send("gamma", FRAME)
    assert bench.sent("gamma")[0][0] == "gamma"


def test_a_static_relay_gets_everything() -> None:
    bench = Bench(NEAR, HIDDEN)
    bench.sender.send("gamma", FRAME)
    assert bench.sent("gamma") == [("beta", TO_GAMMA, 0, PACKET)]


def test_a_static_relay_behind_the_next_hop_and_the_next_hop_in_its_place() -> None:
    delta = sealed("delta", via="gamma", next_hop="beta")
    bench = Bench(NEAR, FAR, delta)
    bench.sender.send("delta", FRAME)
    bench.path("gamma", udp=False)
    bench.sender.send("delta", FRAME)
    assert [where for where, *_ in bench.sent("delta")] == ["gamma", "beta"]


@pytest.mark.parametrize(
    "relay",
    [
        neighbour("beta"),
        sealed("beta", minor=3),
        sealed("beta", options=OPTION_PMTU | OPTION_TCPONLY),
    ],
    ids=["legacy", "no ids", "TCP only"],
)
def test_a_relay_that_cannot_gets_it_by_tcp(relay: RouteNode) -> None:
    bench = Bench(relay, FAR)
    bench.path("gamma", udp=False)
    bench.sender.send("gamma", FRAME)
    assert bench.by_tcp("gamma") == [("beta", "alpha", "gamma", 0, PACKET)]
    assert bench.socket.sent == []
    assert bench.tally["TCP packets out"] == 1


def test_by_tcp_where_no_udp_reaches_anything() -> None:
    bench = Bench(NEAR, FAR)
    bench.path("gamma", udp=False)
    bench.path("beta", min_mtu=100)
    bench.sender.send("gamma", FRAME)
    assert bench.by_tcp("gamma") == [("beta", "alpha", "gamma", 0, PACKET)]


@pytest.mark.parametrize(("mine", "theirs"), [(OPTION_TCPONLY, 0), (0, OPTION_TCPONLY)])
def test_tcp_only_needs_no_session_with_a_neighbour_but_with_others(mine: int, theirs: int) -> None:
    near, far = sealed("beta", options=OPTION_PMTU | theirs), sealed("gamma", next_hop="beta", options=theirs)
    bench = Bench(near, far, options=OPTION_PMTU | mine)
    bench.no_session("beta")
    bench.sender.send("beta", FRAME)
    assert bench.events == [FrameForPeer("beta", FRAME)]
    bench.sender.send("gamma", FRAME)
    assert bench.by_tcp("gamma") == [("beta", "alpha", "gamma", 0, PACKET)]
    assert bench.socket.sent == []


@pytest.mark.parametrize("case", [{"min_mtu": 499}, {"udp": False}])
def test_a_neighbour_gets_a_packet_by_tcp_when_udp_cannot_carry_the_frame(case: dict[str, Any]) -> None:
    bench = Bench(NEAR)
    bench.path("beta", **case)
    bench.sender.send("beta", FRAME)
    assert bench.events == [FrameForPeer("beta", FRAME)]


def test_a_neighbour_without_a_session_gets_packets_while_one_is_asked_for() -> None:
    bench = Bench(NEAR)
    bench.no_session("beta")
    for now in (100.0, 100.5, 101.0):
        bench.now = now
        bench.sender.send("beta", FRAME)
    assert bench.events.count(FrameForPeer("beta", FRAME)) == 3
    assert bench.events.count(KeyNeeded("beta")) == 2


def frame(number: int) -> bytes:
    return FRAME[:-2] + number.to_bytes(2, "big")


def test_requirement_16_frames_wait_for_the_session_and_go_in_order() -> None:
    bench = Bench(NEAR, FAR)
    bench.no_session("gamma")
    for number in range(WAITING_FRAMES + 10):
        bench.sender.send("gamma", frame(number))
    assert bench.events == [KeyNeeded("gamma")]
    assert bench.tally["drop waiting for session"] == 10
    bench.session("gamma")
    bench.sender.sealed.send_waiting(bench.flows.by_name["gamma"])
    assert [data for *_, data in bench.sent("gamma")] == [frame(number)[14:] for number in range(WAITING_FRAMES)]
    bench.sender.sealed.send_waiting(bench.flows.by_name["gamma"])
    assert len(bench.socket.sent) == WAITING_FRAMES
    # Each was wanted once, however long it waited.
    assert bench.counted("gamma") == (WAITING_FRAMES + 10, WAITING_FRAMES)


def test_what_waited_too_long_is_not_sent() -> None:
    bench = Bench(NEAR, FAR)
    bench.no_session("gamma")
    bench.sender.send("gamma", frame(1))
    bench.now += WAITING_SECONDS - 1
    bench.sender.send("gamma", frame(2))
    bench.now += 1
    bench.session("gamma")
    bench.sender.sealed.send_waiting(bench.flows.by_name["gamma"])
    assert [data for *_, data in bench.sent("gamma")] == [frame(2)[14:]]


def test_frames_that_wait_are_bounded_in_all() -> None:
    nodes = [sealed(f"n{number}", next_hop="beta") for number in range(50)]
    bench = Bench()
    bench.routes(*nodes)
    for node in nodes:
        for number in range(WAITING_FRAMES):
            bench.sender.send(node.name, frame(number))
    assert len(bench.sender.sealed._waiting) == 2048
    assert bench.tally["drop waiting for session"] == 50 * WAITING_FRAMES - 2048
    # Those that are too old make room.
    bench.now += WAITING_SECONDS
    bench.sender.send("n49", FRAME)
    assert len(bench.sender.sealed._waiting) == 1


def test_frames_do_not_wait_on_when_the_node_becomes_a_neighbour_or_is_gone() -> None:
    bench = Bench(NEAR, FAR)
    bench.no_session("gamma")
    bench.sender.send("gamma", FRAME)
    bench.events.clear()
    bench.routes(NEAR, sealed("gamma"))
    assert FrameForPeer("gamma", FRAME) in bench.events
    bench.routes(NEAR, FAR)
    bench.sender.send("gamma", FRAME)
    bench.routes(NEAR)
    assert len(bench.sender.sealed._waiting) == 0


def test_a_legacy_target_behind_a_node_with_a_session_is_sealed_for_that_one() -> None:
    behind = RouteNode("gamma", True, via="beta", next_hop="beta", options=OPTION_PMTU | OPTION_INDIRECT)
    bench = Bench(NEAR, behind)
    bench.sender.send("gamma", FRAME)
    assert bench.sent("beta") == [("beta", STRAIGHT, 0, PACKET)]
    assert bench.counted("beta") == (1, 1)
    assert bench.flows.by_name["gamma"].counters.packets_out == 1


def test_a_legacy_target_whose_udp_fails_goes_by_its_next_hops_session() -> None:
    bench = Bench(NEAR, RouteNode("gamma", True, via="gamma", next_hop="beta", options=OPTION_PMTU))
    bench.flows.by_name["gamma"].sealer = PacketSealer(make_key())
    bench.path("gamma", udp=False)
    bench.sender.send("gamma", FRAME)
    assert bench.sent("beta") == [("beta", STRAIGHT, 0, PACKET)]


def test_a_target_with_a_session_is_never_opened_by_a_legacy_relay() -> None:
    """Requirement 26's other half: whatever lies between, only the target can read it."""
    bench = Bench(neighbour("beta"), HIDDEN)
    bench.flows.by_name["beta"].sealer = PacketSealer(make_key())
    bench.sender.send("gamma", FRAME)
    assert bench.socket.sent == []
    assert bench.by_tcp("gamma") == [("beta", "alpha", "gamma", 0, PACKET)]


def test_switch_mode_keeps_the_header() -> None:
    bench = Bench(NEAR, mode="switch")
    bench.sender.send("beta", FRAME, exact=True)
    assert bench.sent("beta") == [("beta", STRAIGHT, 2, FRAME)]


def test_a_node_without_ids_gets_none() -> None:
    bench = Bench(sealed("beta", minor=3))
    bench.sender.send("beta", FRAME)
    ((datagram, _),) = bench.socket.sent
    assert bench.peers["beta"].take(datagram, 0.0)[1] == PACKET


def test_requirement_14_what_the_kernel_refuses_goes_by_tcp() -> None:
    bench = Bench(NEAR, FAR)
    bench.socket.error = OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
    bench.sender.send("beta", FRAME)
    assert bench.events == [TooBig("beta", len(PACKET)), FrameForPeer("beta", FRAME)]
    bench.events.clear()
    bench.sender.send("gamma", FRAME)
    assert bench.events[0] == TooBig("gamma", len(PACKET))
    assert bench.by_tcp("gamma") == [("beta", "alpha", "gamma", 0, PACKET)]
    # Known by now, so it goes by the relay, which refuses as well; then it is known of both.
    bench.events.clear()
    bench.path("beta")
    bench.sender.send("gamma", FRAME)
    assert bench.events[0] == TooBig("beta", len(PACKET))
    assert len(bench.by_tcp("gamma")) == 1
    bench.sender.send("gamma", FRAME)
    assert len(bench.events) == 3


def test_other_errors_are_counted_like_losses() -> None:
    bench = Bench(NEAR)
    bench.socket.error = OSError(errno.ENETUNREACH, "")
    bench.sender.send("beta", FRAME)
    assert bench.events == []
    assert bench.tally["drop UDP ENETUNREACH"] == 1
    assert bench.counted("beta") == (1, 0)


def test_requirement_3_numbers_never_wrap_and_a_new_session_is_asked_for_in_time() -> None:
    bench = Bench(NEAR, FAR)
    session = bench.flows.by_name["gamma"].sessions.all[0]
    session.flow.next_number = WORN_NUMBER
    for _ in range(3):
        bench.sender.send("gamma", FRAME)
    assert bench.events == [ReceiveKeyWorn("gamma")]
    session.flow.next_number = LAST_NUMBER
    bench.sender.send("gamma", FRAME)
    bench.sender.send("gamma", FRAME)
    assert len(bench.socket.sent) == 4
    assert bench.events[1:] == [KeyNeeded("gamma")]
    assert len(bench.sender.sealed._waiting) == 1


def test_requirement_19_priority_is_inherited_by_the_first_hop_and_not_by_what_is_relayed() -> None:
    bench = Bench(NEAR, FAR, priority_inheritance=True)
    bench.path("gamma", udp=False)
    bench.sender.send("gamma", FRAME)
    bench.sender.sealed.relay("delta", "gamma", bytes(100), "delta", by_tcp=False)
    level, option = std_socket.IPPROTO_IP, std_socket.IP_TOS
    assert bench.socket.options == [(level, option, 0xB8), (level, option, 0)]
    assert len(bench.socket.sent) == 2


@pytest.mark.parametrize("settings", [{"forwarding": "off"}, {"tunnel_server": True}])
def test_requirement_19_forwarding_off_stops_relaying(settings: dict[str, Any]) -> None:
    bench = Bench(NEAR, FAR, **settings)
    bench.sender.sealed.relay("beta", "gamma", bytes(100), "beta", by_tcp=False)
    assert bench.socket.sent == []
    assert bench.events == []
    assert bench.tally["drop prohibited"] == 1


def test_a_relayed_datagram_goes_on_as_it_is() -> None:
    bench = Bench(NEAR, sealed("gamma"))
    record = os.urandom(120)
    bench.sender.sealed.relay("beta", "gamma", record, "beta", by_tcp=False)
    assert bench.socket.sent == [(node_id("gamma") + node_id("beta") + record, ("192.0.2.3", 655))]
    assert bench.counted("gamma") == (1, 1)
    bench.path("gamma", min_mtu=len(record) - OVERHEAD - 1)
    bench.sender.sealed.relay("beta", "gamma", record, "beta", by_tcp=False)
    assert bench.events == [DatagramForPeer("gamma", "beta", "gamma", record)]


def test_requirement_13_what_came_by_tcp_goes_on_so_until_udp_shows_that_it_lives() -> None:
    """The source gave up UDP, perhaps because all of it died: our own path onwards may be as dead, and not know it."""
    bench = Bench(NEAR, sealed("gamma"))
    counters = bench.flows.by_name["gamma"].counters
    counters.last_authentic = bench.now - 0.1  # before the source gave up
    record = os.urandom(120)

    def relay(after: float) -> tuple[int, list[PlaneEvent]]:
        bench.now += after
        bench.socket.sent.clear()
        bench.events.clear()
        bench.sender.sealed.relay("beta", "gamma", record, "beta", by_tcp=True)
        return len(bench.socket.sent), list(bench.events)

    onwards = DatagramForPeer("gamma", "beta", "gamma", record)
    assert relay(0.0) == (0, [PathWanted("gamma"), onwards])
    assert relay(0.2) == (0, [onwards])
    assert relay(0.8) == (0, [PathWanted("gamma"), onwards])
    counters.last_authentic = bench.now + 0.1  # an answer
    assert relay(0.2) == (1, [])
    assert relay(1.3) == (1, [])
    assert relay(0.2) == (0, [PathWanted("gamma"), onwards])
    # After a pause what was proved before it says nothing.
    counters.last_authentic = bench.now + 2.0
    assert relay(2.1) == (0, [PathWanted("gamma"), onwards])
    # What comes by UDP is another matter.
    bench.socket.sent.clear()
    bench.sender.sealed.relay("beta", "gamma", record, "beta", by_tcp=False)
    assert len(bench.socket.sent) == 1


def test_requirement_13_a_frame_that_came_by_tcp_goes_on_so_until_udp_shows_that_it_lives() -> None:
    bench = Bench(NEAR, FAR)
    for _ in range(2):
        bench.sender.send("beta", FRAME, tcp_only=True)
        bench.sender.send("gamma", FRAME, tcp_only=True)
    assert bench.socket.sent == []
    assert bench.events.count(FrameForPeer("beta", FRAME)) == 2
    assert len(bench.by_tcp("gamma")) == 2
    for name in ("beta", "gamma"):
        bench.flows.by_name[name].counters.last_authentic = bench.now + 0.1
    bench.now += 0.2
    bench.events.clear()
    bench.sender.send("beta", FRAME, tcp_only=True)
    bench.sender.send("gamma", FRAME, tcp_only=True)
    assert len(bench.socket.sent) == 2
    assert bench.events == []


def test_a_datagram_is_not_relayed_to_where_it_came_from() -> None:
    bench = Bench(NEAR, HIDDEN)
    bench.sender.sealed.relay("delta", "gamma", bytes(100), "beta", by_tcp=False)
    assert bench.socket.sent == []
    assert bench.events == []
    assert bench.tally["drop loop"] == 1


def test_requirement_2_nothing_is_sealed_while_keys_change_and_nothing_is_lost_to_it() -> None:
    bench = Bench(NEAR, FAR)
    flow = bench.flows.by_name["gamma"]
    bench.sender.sealed.hold(flow)
    probe = probe_frame(600)
    bench.sender.send("gamma", frame(1))
    bench.sender.sealed.by_udp(flow, FAR, frame(2))
    bench.sender.send_probe(SendProbe("gamma", probe))
    bench.sender.send("gamma", frame(3))
    bench.sender.send("beta", FRAME)
    assert [where for _, (where, _) in bench.socket.sent] == [ADDRESSES["beta"].host]
    bench.socket.sent.clear()
    bench.sender.sealed.release(flow)
    assert [data for *_, data in bench.sent("gamma")] == [frame(1)[14:], frame(2)[14:], probe, frame(3)[14:]]
    assert bench.events == []


@pytest.mark.parametrize("full", [True, False])
def test_what_waits_for_a_change_of_keys_is_bounded(full: bool) -> None:
    bench = Bench(NEAR)
    flow = bench.flows.by_name["beta"]
    bench.sender.sealed.hold(flow)
    count = HELD_FRAMES if full else 3
    for number in range(count):
        bench.sender.send("beta", frame(number))
    assert bench.socket.sent == []
    if not full:
        bench.now += HELD_SECONDS
    bench.sender.send("beta", frame(count))
    assert [data for *_, data in bench.sent("beta")] == [frame(number)[14:] for number in range(count + 1)]
    bench.sender.send("beta", FRAME)
    assert len(bench.socket.sent) == count + 2


def test_what_goes_by_tcp_to_a_neighbour_does_not_wait_for_keys() -> None:
    bench = Bench(NEAR)
    bench.path("beta", udp=False)
    bench.sender.sealed.hold(bench.flows.by_name["beta"])
    bench.sender.send("beta", FRAME)
    assert bench.events == [FrameForPeer("beta", FRAME)]


def test_probes_are_records_of_their_own_and_never_go_by_tcp() -> None:
    bench = Bench(NEAR, FAR)
    bench.path("gamma", udp=False, min_mtu=0)
    probe = probe_frame(600)
    bench.sender.send_probe(SendProbe("gamma", probe))
    bench.sender.send_probe(SendProbe("gamma", probe, ADDRESSES["delta"]))
    assert bench.sent("gamma") == [("gamma", STRAIGHT, PROBE, probe), ("delta", STRAIGHT, PROBE, probe)]
    assert bench.counted("gamma") == (0, 0)
    bench.no_session("gamma")
    bench.sender.send_probe(SendProbe("gamma", probe))
    assert bench.tally["drop probe without key"] == 1
    assert bench.events == []
