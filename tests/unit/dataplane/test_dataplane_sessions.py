"""Whole planes with SPTPS sessions: UDP over the loopback interface, meta connections by hand."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import gevent
import gevent.socket
import pytest
from dataplane_lab import (
    SUBNETS,
    Build,
    PlaneUnderTest,
    ipv4_frame,
    join,
    join_session,
    make_flows,
    neighbour,
    probe_frame,
    sealed,
    settle,
    wait_until,
)

from gmesh.dataplane.contract import DatagramForPeer, FrameForPeer
from gmesh.dataplane.sealed_receiver import EARLY_DATAGRAMS, EARLY_SECONDS
from gmesh.dataplane.sessions import MAX_SESSIONS
from gmesh.mesh.actions import (
    DatagramByTcp,
    DropSession,
    InstallSession,
    OpenHandshake,
    SendProbe,
    SessionStep,
    SetPath,
    UseSession,
)
from gmesh.mesh.events import (
    AddressSeen,
    HandshakeOpened,
    HandshakeSealed,
    KeyNeeded,
    ProbeReceived,
    ReceiveKeyWorn,
    RelayedDatagram,
    SessionConfirmed,
    SessionDoubted,
)
from gmesh.proto.sptps_datagram import DatagramSession
from gmesh.proto.sptps_flow import HANDSHAKE_RECORD, WORN_NUMBER, DatagramFlow
from gmesh.proto.sptps_handshake import (
    TINC_SUITE,
    ConfirmReceiveKey,
    SendHandshake,
    StageReceiveKey,
    TrafficKey,
    UseSendKey,
)
from gmesh.proto.sptps_packet import NULL_ID, PROBE, node_id
from gmesh.route.snapshot import RouteNode
from gmesh.route.verdicts import ToNode
from gmesh.values import OPTION_INDIRECT, OPTION_PMTU, Address
from tests.vectors.sptps import arguments, exchange

Pair = tuple[PlaneUnderTest, PlaneUnderTest]

A_TO_B = ipv4_frame("10.0.0.1", "10.0.0.2", b"there")
B_TO_A = ipv4_frame("10.0.0.2", "10.0.0.1", b"and back")
STRAIGHT = NULL_ID + node_id("alpha")
"""Before the datagrams that alpha seals and sends itself."""


def numbered(number: int, source: str = "10.0.0.1", target: str = "10.0.0.2") -> bytes:
    return ipv4_frame(source, target, number.to_bytes(2, "big"))


def neighbours(alpha: PlaneUnderTest, beta: PlaneUnderTest, **settings: Any) -> None:
    for me, peer in ((alpha, beta), (beta, alpha)):
        me.routes(sealed(peer.name), subnets=SUBNETS[:2], **settings)
        me.path(peer.name, peer.address)


@pytest.fixture
def pair(build: Build) -> Pair:
    alpha, beta = build("alpha"), build("beta")
    neighbours(alpha, beta)
    join_session(alpha, beta)
    return alpha, beta


def test_frames_go_both_ways_unchanged(pair: Pair) -> None:
    alpha, beta = pair
    for _ in range(2):
        alpha.device.inject(A_TO_B)
        beta.device.inject(B_TO_A)
    wait_until(lambda: beta.device.written == [A_TO_B] * 2 and alpha.device.written == [B_TO_A] * 2)
    settle()
    assert alpha.events == [SessionConfirmed("beta", 1)]
    assert beta.events == [SessionConfirmed("alpha", 1)]
    counters = alpha.plane.counters("beta")
    assert counters is not None
    assert (counters.packets_out, counters.packets_in, counters.wanted, counters.udp_out) == (2, 2, 2, 2)
    assert (counters.bytes_out, counters.bytes_in) == (2 * len(A_TO_B), 2 * len(B_TO_A))
    assert counters.last_authentic == counters.last_opened > 0


def test_ipv6_packets_and_ipv6_sockets(build: Build) -> None:
    alpha, beta = build("alpha", "::1"), build("beta", "::1")
    for me, peer in ((alpha, beta), (beta, alpha)):
        me.routes(sealed(peer.name), subnets=(("fd00::1", "alpha"), ("fd00::2", "beta")))
        me.path(peer.name, peer.address)
    join_session(alpha, beta)
    addresses = [gevent.socket.inet_pton(gevent.socket.AF_INET6, text) for text in ("fd00::1", "fd00::2")]
    frame = bytes(12) + b"\x86\xdd\x60\0\0\0\0\x04\xfd\x40" + b"".join(addresses) + b"data"
    alpha.device.inject(frame)
    wait_until(lambda: beta.device.written == [frame])


@pytest.mark.parametrize("level", [0, 1, 9, 10, 11, 12])
def test_requirement_11_compression_is_what_the_receiver_announced(build: Build, level: int) -> None:
    pytest.importorskip("lzallright")
    pytest.importorskip("lz4")
    alpha, beta = build("alpha"), build("beta")
    neighbours(alpha, beta)
    join_session(alpha, beta, level=level)
    frames = [ipv4_frame("10.0.0.1", "10.0.0.2", bytes(1000)), ipv4_frame("10.0.0.1", "10.0.0.2", os.urandom(1000))]
    for frame in frames:
        alpha.device.inject(frame)
    wait_until(lambda: beta.device.written == frames)
    received = beta.plane.totals()["UDP bytes in"]
    assert (received < 1400) is (level > 0)


@pytest.mark.parametrize("mode", ["switch", "hub"])
def test_other_modes_keep_the_ethernet_header(build: Build, mode: str) -> None:
    alpha, beta = build("alpha"), build("beta")
    neighbours(alpha, beta, mode=mode)
    join_session(alpha, beta)
    frame = b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x08\x06" + bytes(28)
    alpha.device.inject(frame)
    wait_until(lambda: beta.device.written == [frame])


def test_a_broadcast_reaches_each_node_once_along_the_tree(build: Build) -> None:
    """Switch mode, alpha - beta - gamma: beta opens its copy and seals another one for gamma."""
    alpha, beta, gamma = line(build, mode="switch")
    frame = b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x08\x06" + bytes(28)
    alpha.device.inject(frame)
    wait_until(lambda: gamma.device.written == [frame] and beta.device.written == [frame])
    settle()
    assert alpha.device.written == []
    assert beta.device.written == gamma.device.written == [frame]


def line(build: Build, **settings: Any) -> tuple[PlaneUnderTest, PlaneUnderTest, PlaneUnderTest]:
    """Alpha - beta - gamma, all with sessions; beta is the next hop, and the ends do not reach each other by UDP."""
    alpha, beta, gamma = build("alpha"), build("beta"), build("gamma")
    alpha.routes(sealed("beta"), sealed("gamma", next_hop="beta"), subnets=SUBNETS, **settings)
    beta.routes(sealed("alpha"), sealed("gamma"), subnets=SUBNETS, **settings)
    gamma.routes(sealed("beta"), sealed("alpha", next_hop="beta"), subnets=SUBNETS, **settings)
    for me, peer in ((alpha, beta), (beta, alpha), (beta, gamma), (gamma, beta)):
        me.path(peer.name, peer.address)
    join_session(alpha, beta)
    join_session(beta, gamma)
    join_session(alpha, gamma)
    return alpha, beta, gamma


def test_a_relay_passes_on_what_it_cannot_open(build: Build) -> None:
    alpha, beta, gamma = line(build)
    beta.plane.drop_session(DropSession("alpha", 1))
    beta.plane.drop_session(DropSession("gamma", 1))
    frames = [numbered(number, target="10.0.0.3") for number in range(5)]
    for frame in frames:
        alpha.device.inject(frame)
    wait_until(lambda: gamma.device.written == frames)
    settle()
    assert beta.device.written == []
    assert beta.plane.totals()["relayed"] == 5
    # It came from beta's address, which says nothing about where alpha is; once a second it is told that it did.
    assert gamma.events == [SessionConfirmed("alpha", 1), RelayedDatagram("alpha", by_tcp=False)]
    counters = gamma.plane.counters("alpha")
    assert counters is not None
    assert counters.last_authentic == 0
    assert counters.last_opened > 0


def test_requirement_28_only_nodes_at_their_confirmed_address_are_relayed_for(build: Build) -> None:
    alpha, beta, gamma = line(build)
    stranger = gevent.socket.socket(gevent.socket.AF_INET, gevent.socket.SOCK_DGRAM)
    stranger.bind(("127.0.0.9", 0))
    record = node_id("gamma") + node_id("alpha") + os.urandom(100)
    stranger.sendto(record, beta.socket.getsockname())
    wait_until(lambda: beta.plane.totals().get("drop relayed from stranger") == 1)
    beta.path("alpha", alpha.address, udp=False)
    alpha.socket.sendto(record, beta.socket.getsockname())
    wait_until(lambda: beta.plane.totals().get("drop relayed from stranger") == 2)
    beta.path("alpha", alpha.address)
    alpha.socket.sendto(record, beta.socket.getsockname())
    wait_until(lambda: gamma.plane.totals().get("drop not authentic") == 1)


def test_by_tcp_from_end_to_end(build: Build) -> None:
    """Both ways that a meta connection can carry a datagram, relayed by beta, which may use UDP for its part."""
    alpha, beta, gamma = line(build)
    alpha.path("beta", beta.address, udp=False)
    beta.path("gamma", gamma.address, udp=False)
    frames = [numbered(number, target="10.0.0.3") for number in range(3)]
    for frame in frames:
        alpha.device.inject(frame)
    wait_until(lambda: len(alpha.seen(DatagramForPeer)) == 3)
    first, second, third = alpha.seen(DatagramForPeer)
    assert (first.node, first.source, first.target) == ("beta", "alpha", "gamma")
    beta.plane.datagram_from_peer("alpha", node_id("gamma"), node_id("alpha"), first.datagram)
    beta.plane.datagram_by_tcp(DatagramByTcp("alpha", "alpha", "gamma", second.datagram))
    wait_until(lambda: len(beta.seen(DatagramForPeer)) == 2)
    onward = beta.seen(DatagramForPeer)
    assert [(event.node, event.source, event.target) for event in onward] == [("gamma", "alpha", "gamma")] * 2
    assert [event.datagram for event in onward] == [first.datagram, second.datagram]
    gamma.plane.datagram_from_peer("beta", node_id("gamma"), node_id("alpha"), first.datagram)
    gamma.plane.datagram_by_tcp(DatagramByTcp("beta", "alpha", "gamma", second.datagram))
    assert gamma.device.written == frames[:2]
    settle()
    assert gamma.events == [SessionConfirmed("alpha", 1), RelayedDatagram("alpha", by_tcp=True)]
    beta.path("gamma", gamma.address)
    # UDP takes over where something shows that it works.
    counters = beta.plane.counters("gamma")
    assert counters is not None
    counters.last_authentic = time.monotonic() + 60.0
    beta.plane.datagram_from_peer("alpha", node_id("gamma"), node_id("alpha"), third.datagram)
    wait_until(lambda: gamma.device.written == frames)


def test_what_comes_by_tcp_is_checked(build: Build) -> None:
    _, beta, _ = line(build)
    for destination, source, size, reason in (
        ("gamma", "nobody", 100, "unknown id"),
        ("nobody", "alpha", 100, "unknown id"),
        ("gamma", "beta", 100, "loop"),
        ("alpha", "gamma", 100, "loop"),
        ("gamma", "alpha", 20, "truncated"),
        ("beta", "alpha", 100, "not authentic"),
        ("beta", "alpha", 0, "not authentic"),
    ):
        before = beta.plane.totals().get(f"drop {reason}", 0)
        beta.plane.datagram_from_peer("alpha", node_id(destination), node_id(source), os.urandom(size))
        assert beta.plane.totals()[f"drop {reason}"] == before + 1
    settle()
    assert beta.events == [SessionDoubted("alpha")]


def test_requirement_16_what_waits_is_sent_first_when_the_session_is_used(build: Build) -> None:
    alpha, beta = build("alpha"), build("beta")
    for me, peer in ((alpha, beta), (beta, alpha)):
        me.routes(sealed("relay"), sealed(peer.name, next_hop="relay"), subnets=SUBNETS[:2])
        me.path(peer.name, peer.address)
    frames = [numbered(number) for number in range(20)]
    for frame in frames[:10]:
        alpha.device.inject(frame)
    wait_until(lambda: alpha.events == [KeyNeeded("beta")])
    wait_until(lambda: len(alpha.plane._sender.sealed._waiting) == 10)
    join_session(alpha, beta)
    for frame in frames[10:]:
        alpha.device.inject(frame)
    wait_until(lambda: beta.device.written == frames)


def test_requirement_2_what_is_held_while_keys_change_goes_under_the_new_key(pair: Pair) -> None:
    alpha, beta = pair
    key = TrafficKey(TINC_SUITE, os.urandom(TINC_SUITE.key_size))
    frames = [numbered(number) for number in range(3)]
    alpha.plane.hold_frames("beta")
    alpha.plane.hold_frames("nobody")
    for frame in frames:
        alpha.device.inject(frame)
    wait_until(lambda: alpha.device.statistics.packets_in == len(frames))
    settle()
    assert beta.device.written == []
    for step in (StageReceiveKey(key), ConfirmReceiveKey()):
        beta.plane.session_step(SessionStep("alpha", 1, step))
    beta.plane._flows.by_name["alpha"].sessions.all[0].flow._previous = None
    alpha.plane.session_step(SessionStep("beta", 1, UseSendKey(key)))
    wait_until(lambda: beta.device.written == frames)


@pytest.mark.parametrize("end", ["use", "drop", "forget"])
def test_a_hold_ends_with_its_session(pair: Pair, end: str) -> None:
    alpha, _beta = pair
    flow = alpha.plane._flows.by_name["beta"]
    alpha.plane.hold_frames("beta")
    match end:
        case "use":
            alpha.plane.use_session(UseSession("beta", 1))
        case "drop":
            alpha.plane.drop_session(DropSession("beta", 1))
        case "forget":
            alpha.plane.forget_flow("beta")
    assert flow.held is None


def test_requirement_2_datagrams_that_overtake_the_end_of_the_handshake_are_not_lost(build: Build) -> None:
    alpha, beta = build("alpha"), build("beta")
    neighbours(alpha, beta)
    mine, theirs = make_flows()
    alpha.plane.install_session(InstallSession("beta", 1, mine))
    alpha.plane.use_session(UseSession("beta", 1))
    frames = [numbered(number) for number in range(EARLY_DATAGRAMS + 5)]
    for frame in frames:
        alpha.device.inject(frame)
    wait_until(lambda: beta.plane.totals().get("early") == len(frames))
    beta.plane.install_session(InstallSession("alpha", 7, theirs))
    assert beta.device.written == frames[:EARLY_DATAGRAMS]
    settle()
    assert beta.events == [KeyNeeded("alpha"), SessionConfirmed("alpha", 7)]
    # Once only, even if it is installed again.
    beta.plane.install_session(InstallSession("alpha", 8, theirs))
    assert len(beta.device.written) == EARLY_DATAGRAMS


def test_early_datagrams_get_old(build: Build) -> None:
    alpha, beta = build("alpha"), build("beta")
    neighbours(alpha, beta)
    mine, theirs = make_flows()
    alpha.plane.install_session(InstallSession("beta", 1, mine))
    alpha.plane.use_session(UseSession("beta", 1))
    alpha.device.inject(A_TO_B)
    wait_until(lambda: beta.plane.totals().get("early") == 1)
    beta.shift = EARLY_SECONDS
    beta.plane.install_session(InstallSession("alpha", 1, theirs))
    assert beta.device.written == []


def test_requirement_1_a_new_session_begun_by_a_restarted_peer_leaves_the_old_one_in_use(pair: Pair) -> None:
    """What arrives in the new one before it is installed waits; the old one goes on both ways until it is replaced."""
    alpha, beta = pair
    mine, theirs = make_flows()
    old = beta.flow_of("alpha")
    new = DatagramFlow(mine)
    early = STRAIGHT + new.seal(0, A_TO_B[14:])
    alpha.socket.sendto(early, beta.socket.getsockname())
    wait_until(lambda: beta.seen(SessionDoubted) == [SessionDoubted("alpha")])
    alpha.device.inject(A_TO_B)
    beta.device.inject(B_TO_A)
    wait_until(lambda: beta.device.written == [A_TO_B] and alpha.device.written == [B_TO_A])
    beta.plane.install_session(InstallSession("alpha", 2, theirs))
    assert beta.device.written == [A_TO_B] * 2
    # Both are opened, and only the one that is named seals.
    alpha.device.inject(A_TO_B)
    wait_until(lambda: len(beta.device.written) == 3)
    beta.device.inject(B_TO_A)
    wait_until(lambda: len(alpha.device.written) == 2)
    beta.plane.use_session(UseSession("alpha", 2))
    beta.device.inject(B_TO_A)
    wait_until(lambda: bool(alpha.seen(SessionDoubted)))
    assert old.next_number == 2
    beta.plane.drop_session(DropSession("alpha", 1))
    alpha.device.inject(A_TO_B)
    settle()
    assert len(beta.device.written) == 3


def test_requirement_28_garbage_replays_and_spoofed_datagrams_cost_not_one_packet(pair: Pair) -> None:
    """A stranger and a spoofer flood both the open session and its beginning: every frame arrives once, in order; the
    mesh hears of it at most once a second, and the counters stay few."""
    alpha, beta = pair
    stranger = gevent.socket.socket(gevent.socket.AF_INET, gevent.socket.SOCK_DGRAM)
    stranger.bind(("127.0.0.9", 0))
    target = beta.socket.getsockname()
    flow = alpha.flow_of("beta")
    repeated = STRAIGHT + flow.seal(0, A_TO_B[14:])
    alpha.socket.sendto(repeated, target)
    wait_until(lambda: beta.device.written == [A_TO_B])
    alpha.plane._flows.by_name["beta"].sessions.all[0].flow.next_number = flow.next_number
    heads = (STRAIGHT, node_id("beta") + node_id("alpha"), node_id("alpha") + node_id("beta"))
    frames = [numbered(number) for number in range(150)]
    sent = 1
    for number, frame in enumerate(frames):
        damaged = bytearray(repeated)
        damaged[12 + number % (len(damaged) - 12)] ^= 1 + number
        for datagram in (repeated, bytes(damaged), heads[number % 3] + os.urandom(number), STRAIGHT[: number % 13]):
            for sock in (stranger, alpha.socket):
                sock.sendto(datagram, target)
        sent += 9
        alpha.device.inject(frame)
        wait_until(lambda count=number + 2: len(beta.device.written) == count)  # type: ignore[misc]
    wait_until(lambda: beta.plane.totals()["UDP packets in"] == sent)
    assert beta.device.written == [A_TO_B, *frames]
    assert len(beta.seen(SessionDoubted)) <= 3
    assert {type(event) for event in beta.events} == {SessionConfirmed, SessionDoubted}
    assert len(beta.plane.totals()) < 30


def test_requirement_28_one_tag_per_session_is_all_that_garbage_costs(pair: Pair) -> None:
    _, beta = pair
    beta.plane.install_session(InstallSession("alpha", 2, make_flows()[0]))
    opened = 0

    def count(number: int, text: bytes) -> None:
        nonlocal opened
        opened += 1

    for session in beta.plane._flows.by_name["alpha"].sessions.all:
        session.flow._receive.open = count  # type: ignore[union-attr, assignment]
    for number in range(50):
        source = ("127.0.0.1", 1 + number)
        beta.plane._receiver.receive(STRAIGHT + os.urandom(100), source, beta.socket, float(number))
    assert opened == 100


def test_sessions_of_a_node_are_bounded_and_the_one_in_use_stays(pair: Pair) -> None:
    _, beta = pair
    for number in range(2, 20):
        beta.plane.install_session(InstallSession("alpha", number, make_flows()[0]))
    sessions = beta.plane._flows.by_name["alpha"].sessions
    assert len(sessions.all) == MAX_SESSIONS
    assert sessions.sending is not None
    assert sessions.sending.number == 1
    assert sessions.all[-1].number == 19


def test_an_authentic_datagram_from_elsewhere_is_told_once(pair: Pair) -> None:
    alpha, beta = pair
    moved = gevent.socket.socket(gevent.socket.AF_INET, gevent.socket.SOCK_DGRAM)
    moved.bind(("127.0.0.1", 0))
    flow = alpha.flow_of("beta")
    for _ in range(5):
        moved.sendto(STRAIGHT + flow.seal(0, A_TO_B[14:]), beta.socket.getsockname())
    wait_until(lambda: len(beta.device.written) == 5)
    settle()
    assert beta.events == [
        AddressSeen("alpha", Address.from_sockaddr(moved.getsockname())),
        SessionConfirmed("alpha", 1),
    ]


def test_probes_prove_only_the_path_that_they_came_along(build: Build) -> None:
    alpha, beta, gamma = line(build)
    probe = probe_frame(700)
    alpha.plane.send_probe(SendProbe("beta", probe))
    wait_until(lambda: bool(beta.seen(ProbeReceived)))
    assert beta.seen(ProbeReceived) == [ProbeReceived("alpha", probe, alpha.address)]
    flow = alpha.flow_of("gamma")
    alpha.socket.sendto(node_id("gamma") + node_id("alpha") + flow.seal(PROBE, probe), beta.socket.getsockname())
    wait_until(lambda: gamma.plane.totals().get("drop relayed probe") == 1)
    gamma.plane.datagram_from_peer("beta", node_id("gamma"), node_id("alpha"), flow.seal(PROBE, probe))
    assert gamma.plane.totals()["drop relayed probe"] == 2
    assert gamma.seen(ProbeReceived) == []
    assert gamma.device.written == []


def test_what_a_member_puts_into_records_is_checked(pair: Pair) -> None:
    alpha, beta = pair
    flow = alpha.flow_of("beta")
    for kind, data, reason in (
        (0, b"", "no IP packet"),
        (0, b"\x55" + bytes(40), "no IP packet"),
        (0, b"\x45" + bytes(1504), "frame length"),
        (1, b"\x45" + bytes(40), "compressed, though not announced"),
        (2, bytes(13), "frame length"),
        (2, bytes(60), "probe as a frame"),
        (3, bytes(60), "compressed, though not announced"),
        (PROBE, bytes(13), "frame length"),
        (PROBE, bytes(1519), "frame length"),
        (5, A_TO_B, "record type"),
        (127, A_TO_B, "record type"),
        (HANDSHAKE_RECORD, bytes(65), "record type"),
        (255, b"", "record type"),
    ):
        before = beta.plane.totals().get(f"drop {reason}", 0)
        alpha.socket.sendto(STRAIGHT + flow.seal(kind, data), beta.socket.getsockname())
        wait_until(lambda: beta.plane.totals().get(f"drop {reason}", 0) == before + 1)  # noqa: B023
    # A header is taken in router mode, too.
    alpha.socket.sendto(STRAIGHT + flow.seal(2, A_TO_B), beta.socket.getsockname())
    wait_until(lambda: beta.device.written == [A_TO_B])


def test_a_node_without_ids_is_known_by_its_address(build: Build) -> None:
    alpha, beta = build("alpha"), build("beta")
    for me, peer in ((alpha, beta), (beta, alpha)):
        me.routes(sealed(peer.name, minor=3), subnets=SUBNETS[:2])
        me.path(peer.name, peer.address)
    join_session(alpha, beta)
    alpha.device.inject(A_TO_B)
    wait_until(lambda: beta.device.written == [A_TO_B])
    assert beta.plane.totals()["UDP bytes in"] == len(A_TO_B) - 14 + 21


def test_both_generations_at_one_node(build: Build) -> None:
    """Legacy alpha - beta - gamma with sessions: beta opens, routes and seals again in either direction."""
    alpha, beta, gamma = build("alpha"), build("beta"), build("gamma")
    hidden = OPTION_PMTU | OPTION_INDIRECT
    alpha.routes(neighbour("beta"), RouteNode("gamma", True, "beta", "beta", hidden), subnets=SUBNETS)
    beta.routes(neighbour("alpha"), sealed("gamma"), subnets=SUBNETS)
    gamma.routes(sealed("beta"), RouteNode("alpha", True, "beta", "beta", hidden), subnets=SUBNETS)
    join(alpha, beta)
    join_session(beta, gamma)
    for me, peer in ((beta, gamma), (gamma, beta)):
        me.path(peer.name, peer.address)
    there, back = numbered(1, target="10.0.0.3"), numbered(2, "10.0.0.3", "10.0.0.1")
    alpha.device.inject(there)
    gamma.device.inject(back)
    wait_until(lambda: gamma.device.written == [there] and alpha.device.written == [back])
    assert beta.device.written == []


def test_a_packet_of_tinc_that_was_compressed_by_mistake_is_a_frame_again(build: Build) -> None:
    alpha, beta = build("alpha"), build("beta")
    neighbours(alpha, beta)
    join_session(alpha, beta, level=6)
    compress = alpha.plane._flows.by_name["beta"].sessions.all[0].codec._compress
    assert compress is not None
    frame = ipv4_frame("10.0.0.1", "10.0.0.2", bytes(400))
    for nonsense in (os.urandom(14), bytes(14)):
        beta.plane.frame_from_peer("alpha", nonsense + compress(frame[14:]))
    beta.plane.frame_from_peer("alpha", frame)
    assert beta.device.written == [frame] * 3


# Handshakes


def real_sessions(alpha: PlaneUnderTest, beta: PlaneUnderTest) -> tuple[DatagramSession, DatagramSession]:
    """The sessions of both ends, whose flows are with the planes."""
    pair = (
        DatagramSession(**arguments("alpha", "beta", True, now=1.0, entropy=os.urandom)),
        DatagramSession(**arguments("beta", "alpha", False, now=1.0, entropy=os.urandom)),
    )
    exchange(*pair, now=1.0)
    for me, peer, session in ((alpha, "beta", pair[0]), (beta, "alpha", pair[1])):
        me.plane.install_session(InstallSession(peer, 1, session.export_flow()))
        me.plane.use_session(UseSession(peer, 1))
    return pair


class Handshaker:
    """What the mesh does for a renewal: carries handshake records between the planes, slower than UDP is."""

    def __init__(self, alpha: PlaneUnderTest, beta: PlaneUnderTest) -> None:
        self.sessions = dict(zip(("alpha", "beta"), real_sessions(alpha, beta), strict=True))
        self.planes = {"alpha": alpha, "beta": beta}
        self.seen = {"alpha": 0, "beta": 0}

    def steps(self, name: str, peer: str) -> None:
        for step in self.sessions[name].take_steps():
            self.planes[name].plane.session_step(SessionStep(peer, 1, step))

    def turned(self) -> bool:
        """Handle an event of either plane; whether the renewal has come to its end."""
        self.turn("alpha", "beta")
        self.turn("beta", "alpha")
        return not any(session.renewing for session in self.sessions.values())

    def turn(self, name: str, peer: str) -> None:
        """Handle one more event of a plane."""
        events = self.planes[name].events
        if self.seen[name] == len(events):
            return
        event = events[self.seen[name]]
        self.seen[name] += 1
        if isinstance(event, HandshakeSealed):
            self.planes[peer].plane.open_handshake(OpenHandshake(name, event.datagram))
        elif isinstance(event, HandshakeOpened):
            self.sessions[name].receive_handshake(event.data, 1.0)
            self.steps(name, peer)


@pytest.mark.parametrize("starters", [("alpha",), ("beta",), ("alpha", "beta")])
def test_requirement_2_a_renewal_under_traffic_loses_nothing(build: Build, starters: tuple[str, ...]) -> None:
    alpha, beta = build("alpha"), build("beta")
    neighbours(alpha, beta)
    mesh = Handshaker(alpha, beta)
    before = alpha.plane.session_state("beta", 1)
    frames = [numbered(number) for number in range(200)]
    answers = [numbered(number, "10.0.0.2", "10.0.0.1") for number in range(200)]
    for number, (frame, answer) in enumerate(zip(frames, answers, strict=True)):
        alpha.device.inject(frame)
        beta.device.inject(answer)
        if number % 50 == 10:
            for name in starters:
                mesh.sessions[name].renew(1.0)
                mesh.steps(name, "beta" if name == "alpha" else "alpha")
        if number % 3 == 0:
            gevent.sleep(0.001)
            mesh.turned()
    wait_until(mesh.turned)
    wait_until(lambda: len(beta.device.written) == 200 and len(alpha.device.written) == 200)
    # Those that overtook the handshake come behind some that did not.
    assert sorted(beta.device.written) == sorted(frames)
    assert sorted(alpha.device.written) == sorted(answers)
    after = alpha.plane.session_state("beta", 1)
    assert before is not None
    assert after is not None
    assert after.send != before.send
    assert (after.staged, after.receive) != (before.staged, before.receive)


def test_handshake_records_that_fit_nowhere_are_counted(build: Build) -> None:
    alpha, beta = build("alpha"), build("beta")
    neighbours(alpha, beta)
    mesh = Handshaker(alpha, beta)
    mesh.sessions["alpha"].renew(1.0)
    mesh.steps("alpha", "beta")
    wait_until(lambda: bool(alpha.events))
    (event,) = alpha.events
    assert isinstance(event, HandshakeSealed)
    for _ in range(2):
        beta.plane.open_handshake(OpenHandshake("alpha", event.datagram))
    for datagram in (b"", os.urandom(86), event.datagram[:-1] + bytes([event.datagram[-1] ^ 1])):
        beta.plane.open_handshake(OpenHandshake("alpha", datagram))
    beta.plane.open_handshake(OpenHandshake("nobody", event.datagram))
    settle()
    kinds = [type(event) for event in beta.events]
    assert kinds == [SessionConfirmed, HandshakeOpened, SessionDoubted]
    totals = beta.plane.totals()
    assert (totals["drop replayed or far out of order"], totals["drop handshake"]) == (1, 4)
    # Data has no place there, and a step for a session that is gone is nobody's.
    flow = alpha.flow_of("beta")
    beta.plane.open_handshake(OpenHandshake("alpha", flow.seal(0, A_TO_B[14:])))
    assert beta.device.written == []
    assert beta.plane.totals()["drop record type"] == 1
    mesh.sessions["beta"].receive_handshake(beta.events[1].data, 1.0)  # type: ignore[union-attr]
    beta.plane.drop_session(DropSession("alpha", 1))
    for step in mesh.sessions["beta"].take_steps():
        beta.plane.session_step(SessionStep("alpha", 1, step))
    beta.plane.use_session(UseSession("alpha", 1))
    assert beta.plane.totals()["unknown session"] >= 2


def test_a_flow_goes_on_in_another_plane(build: Build) -> None:
    """Another engine takes keys, numbers and window over, and gives them back."""
    alpha, beta, other = build("alpha"), build("beta"), build("beta")
    neighbours(alpha, beta)
    join_session(alpha, beta)
    alpha.device.inject(A_TO_B)
    wait_until(lambda: beta.device.written == [A_TO_B])
    state = beta.plane.session_state("alpha", 1)
    assert state is not None
    beta.plane.drop_session(DropSession("alpha", 1))
    other.routes(sealed("alpha"), subnets=SUBNETS[:2])
    other.path("alpha", alpha.address)
    other.plane.install_session(InstallSession("alpha", 1, state))
    other.plane.use_session(UseSession("alpha", 1))
    alpha.path("beta", other.address)
    alpha.device.inject(A_TO_B)
    other.device.inject(B_TO_A)
    wait_until(lambda: other.device.written == [A_TO_B] and alpha.device.written == [B_TO_A])
    assert other.plane.session_state("alpha", 2) is None


def test_requirement_3_a_worn_session_is_told_once(pair: Pair) -> None:
    alpha, beta = pair
    alpha.plane._flows.by_name["beta"].sessions.all[0].flow.next_number = WORN_NUMBER + 1
    beta.plane._flows.by_name["alpha"].sessions.all[0].flow.window.expected = WORN_NUMBER + 1
    for _ in range(3):
        alpha.device.inject(A_TO_B)
    wait_until(lambda: len(beta.device.written) == 3)
    settle()
    assert beta.events == [SessionConfirmed("alpha", 1), ReceiveKeyWorn("alpha")]
    assert alpha.events == [ReceiveKeyWorn("beta")]


def test_a_forgotten_flow_has_no_sessions_and_nothing_waits_for_it(pair: Pair) -> None:
    alpha, beta = pair
    alpha.device.inject(A_TO_B)
    wait_until(lambda: beta.device.written == [A_TO_B])
    beta.plane.forget_flow("alpha")
    alpha.device.inject(A_TO_B)
    wait_until(lambda: beta.plane.totals().get("early") == 1)
    beta.plane.forget_flow("alpha")
    assert len(beta.plane._sealed._early) == 0
    beta.device.inject(B_TO_A)
    wait_until(lambda: beta.seen(FrameForPeer) == [FrameForPeer("alpha", B_TO_A)])


def test_ids_follow_the_nodes_that_there_are(pair: Pair) -> None:
    alpha, _ = pair
    names = alpha.plane._ids.names
    assert names == {node_id("alpha"): "alpha", node_id("beta"): "beta"}
    alpha.routes(sealed("gamma"))
    assert names == {node_id("alpha"): "alpha", node_id("gamma"): "gamma"}


@pytest.mark.parametrize("second_generation", [True, False])
def test_fragments_are_for_whoever_opens_them(build: Build, second_generation: bool) -> None:
    """Behind a static relay that is the owner itself, if it has a session: the relay must not read them."""
    alpha = build("alpha")
    behind = RouteNode("gamma", True, "beta", "beta", OPTION_PMTU | OPTION_INDIRECT, sptps=second_generation)
    alpha.routes(sealed("beta"), behind, subnets=SUBNETS)
    alpha.plane.set_path(SetPath("beta", Address("127.0.0.1", "9"), True, 1000, 1000))
    frame = bytearray(ipv4_frame("10.0.0.1", "10.0.0.3", bytes(1200)))
    frame[20] = 0
    verdicts = alpha.plane._router.decide(bytes(frame), "alpha", alpha.plane._mtu_of, 1.0)
    assert [verdict.node for verdict in verdicts if isinstance(verdict, ToNode)] == [
        "gamma" if second_generation else "beta"
    ] * 2


def test_a_renewal_for_which_no_number_is_left_is_no_fault(build: Build) -> None:
    alpha, beta = build("alpha"), build("beta")
    neighbours(alpha, beta)
    mine, _theirs = make_flows()
    alpha.plane.install_session(InstallSession("beta", 1, replace(mine, next_number=1 << 32)))
    alpha.plane.session_step(SessionStep("beta", 1, SendHandshake(bytes(65))))
    assert alpha.plane.totals()["drop worn session"] == 1
