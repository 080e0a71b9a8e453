"""What routers say about datagrams: error queues with bytes recorded from Linux 6.18, and real ones on loopback."""

from __future__ import annotations

import errno
import os
import time
from typing import Any

import gevent
import pytest
from dataplane_lab import (
    MSG_ERRQUEUE,
    SUBNETS,
    PlaneUnderTest,
    ipv4_frame,
    join,
    make_key,
    neighbour,
    sealed,
    wait_until,
)
from test_dataplane_sealed_sender import Bench as SealedBench
from test_dataplane_sender import BETA, FRAME, GAMMA, NEAR, Bench

from gmesh.dataplane.contract import DatagramForPeer, FrameForPeer
from gmesh.dataplane.flows import REFUSED_SECONDS
from gmesh.dataplane.path_errors import MAX_ERRORS, PathErrors, largest_datagram
from gmesh.dataplane.udp_sockets import UdpOptions, open_udp
from gmesh.mesh.actions import SendProbe
from gmesh.mesh.events import TooBig
from gmesh.mesh.legacy_channel import overhead_of
from gmesh.mesh.pmtu import FLOOR, PathMtu
from gmesh.proto.packet import PacketSealer
from gmesh.values import MTU, Address

# A path of 1300 bytes, by IPv4, by IPv6, and by IPv4 from a socket for both.
TOO_BIG_4 = (0, 11, bytes.fromhex("5a000000020304001405000000000000020000000a0100010000000000000000"))
TOO_BIG_6 = (
    *(41, 25),
    bytes.fromhex("5a0000000302000014050000000000000a00000000000000fd00000100000000000000000000000100000000"),
)
TOO_BIG_MAPPED = (
    *(41, 25),
    bytes.fromhex("5a0000000203040014050000000000000a0000000000000000000000000000000000ffff0a01000100000000"),
)
UNREACHABLE_4 = (0, 11, bytes.fromhex("6f000000020303000000000000000000020000000a0200020000000000000000"))
UNREACHABLE_6 = (
    *(41, 25),
    bytes.fromhex("6f0000000301040000000000000000000a00000000000000fd00000200000000000000000000000200000000"),
)
REFUSED_AT_HOME = (0, 11, bytes.fromhex("5a00000001000000dc0500000000000000000000000000000000000000000000"))


def too_big(mtu: int) -> tuple[int, int, bytes]:
    level, kind, data = TOO_BIG_4
    return level, kind, data[:8] + mtu.to_bytes(4, "little") + data[12:]


@pytest.mark.parametrize(
    ("ancillary", "size"),
    [
        ([TOO_BIG_4], 1272),
        ([TOO_BIG_6], 1252),
        ([TOO_BIG_MAPPED], 1272),
        ([(0, 8, b"\0\0\0\0"), TOO_BIG_4], 1272),
        ([UNREACHABLE_4], None),
        ([UNREACHABLE_6], None),
        ([REFUSED_AT_HOME], None),
        ([too_big(0)], None),
        ([too_big(28)], None),
        ([too_big(29)], 1),
        ([(0, 11, TOO_BIG_4[2][:15])], None),
        ([(1, 11, TOO_BIG_4[2])], None),
        ([], None),
    ],
)
def test_what_a_message_says(ancillary: list[tuple[int, int, bytes]], size: int | None) -> None:
    assert largest_datagram(ancillary) == size


def hearing(*messages: tuple[tuple[int, int, bytes], Any]) -> tuple[Bench, PathErrors]:
    bench = Bench(NEAR)
    bench.ready("beta", BETA)
    bench.socket.queue = [([message], target) for message, target in messages]
    return bench, PathErrors(bench.flows, bench.events, bench.tally, lambda: bench.now)


def test_requirement_14_a_router_that_cannot_pass_a_frame_is_heard_at_once() -> None:
    bench, errors = hearing((TOO_BIG_4, ("192.0.2.2", 655)), (TOO_BIG_4, ("192.0.2.2", 655)))
    errors.read(bench.socket)
    flow = bench.flows.by_name["beta"]
    assert flow.sealer is not None
    assert bench.events == [TooBig("beta", flow.min_mtu + 1)]
    # The mesh, told so, ends at the same size, whose datagrams are the largest that fit.
    overhead = overhead_of(flow.sealer.key)
    found = PathMtu(MTU)
    found.overhead = overhead
    found.proved(1451)
    found.too_big(flow.min_mtu + 1)
    assert found.max == flow.min_mtu
    assert overhead.datagram(found.max) <= 1300 - 28 < overhead.datagram(found.max + 1)
    # Frames behind it go by TCP if they are larger, by UDP if not.
    bench.events.clear()
    large = FRAME + bytes(flow.min_mtu + 1 - len(FRAME))
    bench.sender.send("beta", large)
    bench.sender.send("beta", large[:-1])
    assert bench.events == [FrameForPeer("beta", large)]
    assert bench.sent() == [("192.0.2.2", large[:-1])]


@pytest.mark.parametrize(
    "message",
    [
        (TOO_BIG_4, ("192.0.2.3", 655)),
        (TOO_BIG_4, ("192.0.2.2", 656)),
        (TOO_BIG_6, ("2001:db8::2", 655, 0, 0)),
        (TOO_BIG_4, None),
        (UNREACHABLE_4, ("192.0.2.2", 655)),
        (REFUSED_AT_HOME, ("192.0.2.2", 655)),
        (too_big(0), ("192.0.2.2", 655)),
    ],
)
def test_other_messages_change_nothing(message: tuple[tuple[int, int, bytes], Any]) -> None:
    bench, errors = hearing(message)
    errors.read(bench.socket)
    assert bench.events == []
    assert bench.flows.by_name["beta"].min_mtu == MTU
    assert bench.tally == {"UDP errors heard": 1}


def test_an_address_that_a_node_had_before_is_none_of_its_path() -> None:
    bench, errors = hearing((TOO_BIG_4, ("192.0.2.2", 655)))
    bench.flows.heard(bench.flows.by_name["beta"], ("192.0.2.2", 655), bench.socket)
    bench.ready("beta", GAMMA, key=False)
    assert bench.flows.by_source[("192.0.2.2", 655)].name == "beta"
    errors.read(bench.socket)
    assert bench.events == []


def test_requirement_28_a_forged_size_stays_above_the_floor() -> None:
    bench, errors = hearing((too_big(68), ("192.0.2.2", 655)))
    errors.read(bench.socket)
    assert bench.events == [TooBig("beta", FLOOR + 1)]
    assert bench.flows.by_name["beta"].min_mtu == FLOOR


def test_an_ipv4_address_is_recognised_on_a_socket_for_both_families() -> None:
    bench, errors = hearing((TOO_BIG_MAPPED, ("::ffff:192.0.2.2", 655, 0, 0)))
    errors.read(bench.socket)
    assert [type(event) for event in bench.events] == [TooBig]


def test_reading_is_bounded() -> None:
    bench, errors = hearing(*[(UNREACHABLE_4, ("192.0.2.2", 655))] * 100)
    errors.read(bench.socket)
    assert len(bench.socket.queue) == 100 - MAX_ERRORS


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EMSGSIZE])
def test_a_datagram_is_sent_even_if_the_call_reports_an_earlier_one(number: int) -> None:
    bench = Bench(NEAR)
    bench.ready("beta", BETA)
    bench.socket.reported = [OSError(number, "")]
    bench.sender.send("beta", FRAME)
    bench.socket.reported = [OSError(number, "")]
    bench.sender.send_probe(SendProbe("beta", bytes(64), BETA))
    assert len(bench.socket.sent) == 2
    assert bench.events == []
    assert bench.tally == {"probes out": 1}


def test_a_size_that_is_reported_by_a_call_holds_for_the_frames_behind_it() -> None:
    bench, _ = hearing((TOO_BIG_4, ("192.0.2.2", 655)))
    bench.socket.reported = [OSError(errno.EMSGSIZE, "")]
    large = FRAME + bytes(900)
    bench.sender.send("beta", large)
    bench.sender.send("beta", large)
    assert len(bench.socket.sent) == 1
    assert [type(event) for event in bench.events] == [TooBig, FrameForPeer]


def test_a_node_without_discovery_is_tried_again_after_a_while() -> None:
    bench = Bench(neighbour("beta", options=0))
    bench.ready("beta", BETA, min_mtu=0)
    bench.socket.queue = [([too_big(500)], ("192.0.2.2", 655))]
    large = FRAME + bytes(100)
    bench.socket.reported = [OSError(errno.EMSGSIZE, "")]
    bench.sender.send("beta", large)
    bench.sender.send("beta", large)
    bench.sender.send("beta", FRAME)
    assert bench.events == [TooBig("beta", FLOOR + 1), FrameForPeer("beta", large)]
    assert len(bench.socket.sent) == 2
    bench.now += REFUSED_SECONDS
    bench.sender.send("beta", large)
    assert len(bench.socket.sent) == 3


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_real_errors_wake_the_reader_once_and_cost_no_datagram(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha, beta = PlaneUnderTest("alpha", host), PlaneUnderTest("beta", host)
    batches = 0
    one_batch = alpha.plane._socket_batch

    def counting(sock: Any) -> None:
        nonlocal batches
        batches += 1
        one_batch(sock)

    monkeypatch.setattr(alpha.plane, "_socket_batch", counting)
    closed = open_udp(Address(host, "0"), UdpOptions())
    nobody = Address.from_sockaddr(closed.getsockname())
    closed.close()
    try:
        alpha.routes(neighbour("beta"), subnets=SUBNETS)
        beta.routes(neighbour("alpha"), subnets=SUBNETS)
        join(alpha, beta)
        # "Port unreachable" comes back before the call returns, so every second probe finds one waiting.
        for number in range(10):
            alpha.plane.send_probe(SendProbe("beta", bytes(64), nobody))
            alpha.plane.send_probe(SendProbe("beta", bytes(14) + os.urandom(50), beta.address))
            assert alpha.plane.totals()["probes out"] == 2 * (number + 1)
        wait_until(lambda: alpha.plane.totals().get("UDP errors heard", 0) == 10)
        wait_until(lambda: beta.plane.totals().get("probes in", 0) == 10)
        frame = ipv4_frame("10.0.0.1", "10.0.0.2", b"after all that")
        alpha.device.inject(frame)
        wait_until(lambda: beta.device.written == [frame])
        # More than any datagram can be, which our own system refuses: no call reports what it queues then.
        alpha.socket.setblocking(False)
        with pytest.raises(OSError, match="too long"):
            alpha.socket.sendto(bytes(65_530), beta.socket.getsockname())
        before = batches
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            gevent.sleep(0)
        assert batches - before <= 3
        with pytest.raises(BlockingIOError):
            alpha.socket.recvmsg(0, 256, MSG_ERRQUEUE)
        assert not any(name.startswith("drop UDP") for name in alpha.plane.totals())
    finally:
        alpha.close()
        beta.close()


def test_sockets_ask_for_errors_and_ignore_what_the_kernel_remembers() -> None:
    for host, options in (("127.0.0.1", ((0, 10, 3), (0, 11, 1))), ("::1", ((41, 23, 3), (41, 25, 1), (0, 10, 3)))):
        with open_udp(Address(host, "0"), UdpOptions()) as sock:
            assert [sock.getsockopt(level, option) for level, option, _ in options] == [value for *_, value in options]


def test_the_size_depends_on_the_key() -> None:
    bench, errors = hearing((TOO_BIG_4, ("192.0.2.2", 655)))
    key = make_key(mac_length=32)
    bench.flows.by_name["beta"].sealer = PacketSealer(key)
    errors.read(bench.socket)
    assert bench.events == [TooBig("beta", overhead_of(key).largest_frame(1272) + 1)]


@pytest.mark.parametrize("with_session", [True, False])
def test_requirement_14_of_a_path_of_sealed_datagrams_too(with_session: bool) -> None:
    """Whether their ends are at the relay or, without a session with itself, behind it."""
    bench = SealedBench(sealed("beta"), sealed("gamma", via="beta", next_hop="beta"))
    if not with_session:
        bench.no_session("beta")
    bench.socket.queue = [([TOO_BIG_4], ("192.0.2.2", 655))]
    PathErrors(bench.flows, bench.events, bench.tally, lambda: bench.now).read(bench.socket)
    largest = 1300 - 28 - 33
    assert bench.events == [TooBig("beta", largest + 1)]
    packet = b"\x45" + bytes(largest - 1)
    for data in (packet, packet + b"x"):
        bench.sender.send("gamma", bytes(12) + b"\x08\x00" + data)
    assert [len(datagram) for datagram, _ in bench.socket.sent] == [1300 - 28]
    assert isinstance(bench.events[-1], DatagramForPeer)
