"""Whole planes: fake devices, real routing and sealing, UDP over the loopback interface."""

from __future__ import annotations

import errno
import gc
import os
import time
from pathlib import Path

import gevent
import gevent.socket
import pytest
from dataplane_lab import (
    SUBNETS,
    Build,
    PlaneUnderTest,
    ipv4_frame,
    join,
    make_key,
    neighbour,
    probe_frame,
    settle,
    wait_until,
)

from gmesh.dataplane.contract import FrameForPeer
from gmesh.dataplane.slow import MAX_EVENTS
from gmesh.dataplane.strangers import CHECKS_PER_SECOND
from gmesh.errors import GmeshError
from gmesh.mesh.actions import SendProbe
from gmesh.mesh.events import AddressSeen, KeyNeeded, ProbeReceived, ReceiveKeyWorn
from gmesh.proto.packet import PacketSealer
from gmesh.route.snapshot import RouteNode
from gmesh.values import OPTION_INDIRECT, OPTION_PMTU, OPTION_TCPONLY, Address


@pytest.fixture
def pair(build: Build) -> tuple[PlaneUnderTest, PlaneUnderTest]:
    alpha, beta = build("alpha"), build("beta")
    alpha.routes(neighbour("beta"), subnets=SUBNETS[:2])
    beta.routes(neighbour("alpha"), subnets=SUBNETS[:2])
    join(alpha, beta)
    return alpha, beta


IP_RECVTTL = 12
"""Linux's number, which the socket module does not name."""

Pair = tuple[PlaneUnderTest, PlaneUnderTest]

A_TO_B = ipv4_frame("10.0.0.1", "10.0.0.2", b"there")
B_TO_A = ipv4_frame("10.0.0.2", "10.0.0.1", b"and back")


def test_frames_go_both_ways_unchanged(pair: Pair) -> None:
    alpha, beta = pair
    alpha.device.inject(A_TO_B)
    beta.device.inject(B_TO_A)
    wait_until(lambda: beta.device.written == [A_TO_B] and alpha.device.written == [B_TO_A])
    assert alpha.events == []
    assert beta.events == []
    counters = alpha.plane.counters("beta")
    assert counters is not None
    assert (counters.packets_out, counters.bytes_out) == (1, len(A_TO_B))
    assert (counters.packets_in, counters.bytes_in) == (1, len(B_TO_A))
    assert (counters.wanted, counters.udp_out) == (1, 1)
    assert time.monotonic() - counters.last_authentic < 5
    totals = alpha.plane.totals()
    assert totals["device packets in"] == totals["UDP packets out"] == totals["UDP packets in"] == 1
    assert totals["device bytes out"] == len(B_TO_A)


def test_ipv6_sockets(build: Build) -> None:
    alpha, beta = build("alpha", "::1"), build("beta", "::1")
    alpha.routes(neighbour("beta"), subnets=SUBNETS[:2])
    beta.routes(neighbour("alpha"), subnets=SUBNETS[:2])
    join(alpha, beta)
    alpha.device.inject(A_TO_B)
    wait_until(lambda: beta.device.written == [A_TO_B])
    assert beta.events == []


def test_a_relay_opens_routes_and_seals_again(build: Build) -> None:
    alpha, beta, gamma = build("alpha"), build("beta"), build("gamma")
    behind = RouteNode("gamma", True, via="beta", next_hop="beta", options=OPTION_PMTU | OPTION_INDIRECT)
    before = RouteNode("alpha", True, via="beta", next_hop="beta", options=OPTION_PMTU | OPTION_INDIRECT)
    alpha.routes(neighbour("beta"), behind, subnets=SUBNETS)
    beta.routes(neighbour("alpha"), neighbour("gamma"), subnets=SUBNETS)
    gamma.routes(neighbour("beta"), before, subnets=SUBNETS)
    join(alpha, beta)
    join(beta, gamma)
    frame = ipv4_frame("10.0.0.1", "10.0.0.3")
    alpha.device.inject(frame)
    wait_until(lambda: gamma.device.written == [frame])
    assert beta.device.written == []
    # Counted for the node it is meant for, while the datagram went to the relay.
    counters, relay = alpha.plane.counters("gamma"), alpha.plane.counters("beta")
    assert counters is not None
    assert relay is not None
    assert (counters.packets_out, counters.udp_out) == (1, 0)
    assert (relay.packets_out, relay.udp_out) == (0, 1)


def test_a_batch_is_handed_up_by_one_call_and_keeps_its_order(build: Build) -> None:
    alpha = build("alpha")
    calls: list[int] = []
    alpha.plane._upcall = lambda events: (calls.append(len(events)), alpha.events.extend(events))  # type: ignore[assignment, func-returns-value]
    alpha.routes(neighbour("beta"), subnets=SUBNETS)
    frames = [ipv4_frame("10.0.0.1", "10.0.0.2", bytes([number])) for number in range(20)]
    for frame in frames:
        alpha.device.inject(frame)
    wait_until(lambda: len(alpha.events) == 21)
    assert [event.frame for event in alpha.seen(FrameForPeer)] == frames
    assert alpha.seen(KeyNeeded) == [KeyNeeded("beta")]
    assert len(calls) < 5


def test_requirement_18_and_28_replays_and_garbage_change_nothing(pair: Pair) -> None:
    """A stranger repeats datagrams, from his own address and in alpha's name; only the first copy counts."""
    alpha, beta = pair
    key = make_key()
    beta.plane.install_receive_key("alpha", key)
    datagram = PacketSealer(key).seal(A_TO_B)
    alpha.socket.sendto(datagram, beta.socket.getsockname())
    wait_until(lambda: beta.device.written == [A_TO_B])
    stranger = gevent.socket.socket(gevent.socket.AF_INET, gevent.socket.SOCK_DGRAM)
    for _ in range(5):
        stranger.sendto(datagram, beta.socket.getsockname())
        alpha.socket.sendto(datagram, beta.socket.getsockname())
    wait_until(lambda: beta.plane.totals()["UDP packets in"] == 11)
    assert beta.device.written == [A_TO_B]
    assert beta.events == []
    assert sum(count for reason, count in beta.plane.totals().items() if reason.startswith("drop")) == 10


def test_renewal_of_a_key_in_mid_stream_loses_nothing(pair: Pair) -> None:
    alpha, beta = pair
    frames = [ipv4_frame("10.0.0.1", "10.0.0.2", number.to_bytes(2, "big")) for number in range(300)]
    for number, frame in enumerate(frames):
        alpha.device.inject(frame)
        if number % 100 == 50:
            key = make_key()
            beta.plane.install_receive_key("alpha", key)
        elif number % 100 == 60:
            # By now datagrams sealed with the old key are queued in front of those with the new one.
            alpha.plane.install_send_key("beta", key)
        if number % 7 == 0:
            gevent.sleep(0)
    wait_until(lambda: len(beta.device.written) == len(frames))
    assert beta.device.written == frames


def test_the_key_before_is_accepted_for_ten_seconds_with_its_own_window(pair: Pair) -> None:
    _, beta = pair
    old, new = make_key(), make_key()
    sealer = PacketSealer(old)
    beta.plane.install_receive_key("alpha", old)
    beta.plane.install_receive_key("alpha", new)
    receive = beta.plane._receiver.receive
    source, now = ("127.0.0.1", int(pair[0].address.port)), time.monotonic()
    first = sealer.seal(A_TO_B)
    for datagram in (first, first, PacketSealer(new).seal(A_TO_B)):
        receive(datagram, source, beta.socket, now)
    assert beta.device.written == [A_TO_B, A_TO_B]
    receive(sealer.seal(A_TO_B), source, beta.socket, now + 9)
    assert len(beta.device.written) == 3
    receive(sealer.seal(A_TO_B), source, beta.socket, now + 11)
    assert len(beta.device.written) == 3


def test_an_authentic_datagram_from_elsewhere_is_told_once(pair: Pair) -> None:
    alpha, beta = pair
    moved = gevent.socket.socket(gevent.socket.AF_INET, gevent.socket.SOCK_DGRAM)
    moved.bind(("127.0.0.1", 0))
    key = make_key()
    beta.plane.install_receive_key("alpha", key)
    sealer = PacketSealer(key)
    for _ in range(10):
        moved.sendto(sealer.seal(A_TO_B), beta.socket.getsockname())
    wait_until(lambda: len(beta.device.written) == 10)
    settle()
    new_address = Address.from_sockaddr(moved.getsockname())
    assert beta.events == [AddressSeen("alpha", new_address)]
    # The mesh follows; a straggler from the old address is taken, and told as the change that it is.
    beta.path("alpha", new_address)
    moved.sendto(sealer.seal(A_TO_B), beta.socket.getsockname())
    alpha.socket.sendto(sealer.seal(A_TO_B), beta.socket.getsockname())
    wait_until(lambda: len(beta.device.written) == 12)
    settle()
    assert beta.events[1:] == [AddressSeen("alpha", alpha.address)]


def test_of_two_nodes_announced_at_one_address_the_one_that_is_heard_has_it(build: Build) -> None:
    """Or else each of its datagrams would be searched for."""
    beta, gamma = build("beta"), build("gamma")
    beta.routes(neighbour("alpha"), neighbour("gamma"), subnets=SUBNETS)
    keys = {name: make_key() for name in ("alpha", "gamma")}
    for name, key in keys.items():
        beta.plane.install_receive_key(name, key)
        beta.path(name, gamma.address)
    sealer = PacketSealer(keys["gamma"])
    frame = ipv4_frame("10.0.0.3", "10.0.0.2")
    for _ in range(20):
        gamma.socket.sendto(sealer.seal(frame), beta.socket.getsockname())
    wait_until(lambda: len(beta.device.written) == 20)
    assert beta.events == []
    assert beta.plane._receiver.strangers.at_host.left >= CHECKS_PER_SECOND - 1


def test_events_that_nobody_takes_do_not_pile_up(build: Build) -> None:
    beta = build("beta")
    beta.routes(neighbour("alpha"), neighbour("gamma"), subnets=SUBNETS)
    beta.plane.stop()
    for number in range(MAX_EVENTS + 100):
        beta.plane.frame_from_peer("alpha", ipv4_frame("10.0.0.1", "10.0.0.3", number.to_bytes(4, "big")))
    assert beta.plane.totals()["drop events"] == 100
    beta.plane.start()
    wait_until(lambda: len(beta.events) == MAX_EVENTS)
    assert beta.events[-1].frame.endswith((MAX_EVENTS + 99).to_bytes(4, "big"))  # type: ignore[union-attr]


def test_a_device_that_is_gone_ends_its_reader_with_the_reason(pair: Pair) -> None:
    alpha, _ = pair

    def read() -> bytes | None:
        raise OSError(errno.EBADFD, "File descriptor in bad state")

    alpha.device.read = read  # type: ignore[method-assign]
    reader = alpha.plane._greenlets[1]
    alpha.device.inject(A_TO_B)
    wait_until(lambda: reader.dead)
    assert isinstance(reader.exception, GmeshError)
    assert str(reader.exception) == "Could not read from fake: File descriptor in bad state"


def test_a_node_that_moved_to_another_host_is_found_among_all(build: Build) -> None:
    """Its new address is on no host that anybody was known at, so all keys are tried."""
    beta = build("beta")
    beta.routes(neighbour("alpha"), neighbour("gamma"), subnets=SUBNETS)
    keys = {name: make_key() for name in ("alpha", "gamma")}
    for name, key in keys.items():
        beta.plane.install_receive_key(name, key)
        beta.path(name, Address("192.0.2.1", "655"))
    moved = gevent.socket.socket(gevent.socket.AF_INET, gevent.socket.SOCK_DGRAM)
    moved.bind(("127.0.0.2", 0))
    moved.sendto(PacketSealer(keys["gamma"]).seal(probe_frame()), beta.socket.getsockname())
    wait_until(lambda: len(beta.events) == 2)
    address = Address.from_sockaddr(moved.getsockname())
    assert beta.events[0] == AddressSeen("gamma", address)
    assert isinstance(beta.events[1], ProbeReceived)
    assert beta.events[1].address == address


def test_probes_are_handed_up_not_routed(pair: Pair) -> None:
    alpha, beta = pair
    frame = probe_frame(200)
    alpha.plane.send_probe(SendProbe("beta", frame))
    wait_until(lambda: bool(beta.events))
    assert beta.events == [ProbeReceived("alpha", frame, alpha.address)]
    assert beta.device.written == []
    counters = alpha.plane.counters("beta")
    assert counters is not None
    assert counters.wanted == 0
    assert counters.udp_out == 0


def test_a_probe_goes_where_it_is_told_with_the_time_to_live_it_is_told(pair: Pair) -> None:
    alpha, _ = pair
    listener = gevent.socket.socket(gevent.socket.AF_INET, gevent.socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    listener.setsockopt(gevent.socket.IPPROTO_IP, IP_RECVTTL, 1)
    listener.settimeout(5)
    where = Address.from_sockaddr(listener.getsockname())
    lives = []
    for ttl in (3, 0):
        alpha.plane.send_probe(SendProbe("beta", probe_frame(), where, ttl))
        _, ancillary, _, _ = listener.recvmsg(2048, 64)
        lives.append(int.from_bytes(ancillary[0][2], "little"))
    assert lives == [3, int(Path("/proc/sys/net/ipv4/ip_default_ttl").read_text())]


def test_a_worn_receive_key_is_told_once(pair: Pair) -> None:
    alpha, beta = pair
    flow = beta.plane._flows.by_name["alpha"]
    flow.receive_keys[0].opener.window.last = 2**30
    sealer = alpha.plane._flows.by_name["beta"].sealer
    assert sealer is not None
    sealer.sequence = 2**30
    for _ in range(3):
        alpha.device.inject(A_TO_B)
    wait_until(lambda: len(beta.device.written) == 3)
    settle()
    assert beta.events == [ReceiveKeyWorn("alpha")]


def test_frames_from_a_meta_connection(build: Build) -> None:
    beta = build("beta")
    beta.routes(neighbour("alpha"), neighbour("gamma"), subnets=SUBNETS)
    key = make_key()
    beta.plane.install_send_key("gamma", key)
    beta.path("gamma", Address("127.0.0.1", "9"))
    beta.plane.frame_from_peer("alpha", A_TO_B)
    assert beta.device.written == [A_TO_B]
    # Relayed frames stay on TCP although UDP would do, unless the connection that they came by is TCP-only.
    relayed = ipv4_frame("10.0.0.1", "10.0.0.3")
    beta.plane.frame_from_peer("alpha", relayed)
    wait_until(lambda: beta.events == [FrameForPeer("gamma", relayed)])
    beta.routes(neighbour("alpha", OPTION_TCPONLY | OPTION_INDIRECT), neighbour("gamma"), subnets=SUBNETS)
    beta.plane.frame_from_peer("alpha", relayed)
    counters = beta.plane.counters("gamma")
    assert counters is not None
    assert counters.udp_out == 1
    # Probe replies of a peer without a key, and what is no frame at all.
    for frame in (probe_frame(), b"", bytes(13), bytes(1519)):
        beta.plane.frame_from_peer("alpha", frame)
    beta.plane.frame_from_peer("nobody", A_TO_B)
    settle()
    assert len(beta.events) == 1
    assert beta.device.written == [A_TO_B]
    assert beta.plane.totals()["drop TCP frame"] == 4


def test_a_forgotten_flow_starts_afresh(pair: Pair) -> None:
    alpha, beta = pair
    alpha.device.inject(A_TO_B)
    wait_until(lambda: beta.device.written == [A_TO_B])
    counters = beta.plane.counters("alpha")
    beta.plane.forget_flow("alpha")
    alpha.device.inject(A_TO_B)
    wait_until(lambda: beta.plane.totals().get("drop stranger", 0) == 1)
    assert beta.plane.counters("alpha") is counters
    assert counters is not None
    assert counters.last_authentic == 0
    key = make_key()
    beta.plane.install_receive_key("alpha", key)
    alpha.plane.install_send_key("beta", key)
    alpha.device.inject(A_TO_B)
    wait_until(lambda: len(beta.device.written) == 2)


def test_flows_of_nodes_that_are_gone_are_dropped(pair: Pair) -> None:
    alpha, _ = pair
    alpha.routes(subnets=SUBNETS)
    assert alpha.plane.counters("beta") is not None
    alpha.plane.forget_flow("beta")
    assert alpha.plane.counters("beta") is None
    assert not alpha.plane._flows.by_source
    assert not alpha.plane._flows._by_host
    assert not alpha.plane._flows.keyed


def test_stop_ends_every_reader_and_start_begins_again(pair: Pair) -> None:
    alpha, beta = pair
    beta.plane.stop()
    alpha.device.inject(A_TO_B)
    settle()
    assert beta.device.written == []
    gc.collect()
    beta.plane.start()
    wait_until(lambda: beta.device.written == [A_TO_B])


def test_requirement_18_a_garbage_flood_costs_bounded_work_and_leaves_the_flow_alive(pair: Pair) -> None:
    """Floods from a foreign host and in the peer's own name, while frames go on: none of those is lost, hardly any MACs
    are computed for strangers, nothing is handed up."""
    alpha, beta = pair
    for number in range(200):
        beta.plane.install_receive_key(f"member{number}", make_key())
    stranger = gevent.socket.socket(gevent.socket.AF_INET, gevent.socket.SOCK_DGRAM)
    stranger.bind(("127.0.0.9", 0))
    search = beta.plane._receiver.strangers
    budget = search.walks.left
    began = time.monotonic()
    target = beta.socket.getsockname()
    for number in range(100):
        for _ in range(10):
            stranger.sendto(os.urandom(120), target)
            alpha.socket.sendto(os.urandom(120), target)
        frame = ipv4_frame("10.0.0.1", "10.0.0.2", bytes([number]))
        alpha.device.inject(frame)
        wait_until(lambda frame=frame: beta.device.written[-1:] == [frame])  # type: ignore[misc]
    wait_until(lambda: beta.plane.totals()["UDP packets in"] == 2100)
    seconds = time.monotonic() - began
    spent = budget - search.walks.left + seconds * CHECKS_PER_SECOND
    assert beta.events == []
    assert len(beta.device.written) == 100
    # One walk per second and host over 202 keys.
    assert spent <= (int(seconds) + 2) * 2 * 202 + seconds * CHECKS_PER_SECOND
    assert len(beta.plane.totals()) < 30


def test_a_full_descriptor_does_not_keep_others_waiting(pair: Pair) -> None:
    """A reader with much to read yields between its batches."""
    alpha, beta = pair
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    frames = [ipv4_frame("10.0.0.1", "10.0.0.2", number.to_bytes(2, "big") + bytes(100)) for number in range(128)]
    for frame in frames:
        alpha.device.inject(frame)
    counter = gevent.spawn(count)
    wait_until(lambda: len(beta.device.written) == len(frames))
    counter.kill()
    assert turns > 2
