"""Whatever arrives, the data plane neither raises nor does anything but count."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gmesh.dataplane.contract import PlaneEvent
from gmesh.dataplane.endpoints import endpoint_of
from gmesh.dataplane.flows import FlowTable, ReceiveKey
from gmesh.dataplane.receiver import Receiver
from gmesh.dataplane.slow import SlowDataPlane
from gmesh.device.dummy import DummyDevice
from gmesh.mesh.actions import SetPath
from gmesh.mesh.events import AddressSeen, ProbeReceived
from gmesh.proto.packet import PacketKey, PacketSealer
from gmesh.route.snapshot import RouteNode, RouteSnapshot
from gmesh.values import MTU, Address, Subnet

BETA = ("192.0.2.2", 655)
KEYS = (
    PacketKey(427, 672, 4, 0, os.urandom(48)),
    PacketKey(427, 672, 4, 6, os.urandom(48)),
    PacketKey(0, 0, 0, 0, b"k"),
)
sources = st.sampled_from(
    [BETA, ("192.0.2.2", 7), ("198.51.100.1", 1), ("::ffff:192.0.2.2", 655, 0, 0), ("fe80::1", 1, 0, 9)]
)


class Bench:
    """A receiver with one flow per key. The clock stands still, so that only what was saved up may be spent."""

    def __init__(self, key: PacketKey) -> None:
        self.flows = FlowTable()
        self.events: list[PlaneEvent] = []
        self.tally: Counter[str] = Counter()
        self.frames: list[bytes] = []
        flow = self.flows.get_or_add("beta")
        self.flows.add_receive_key(flow, ReceiveKey(key, 16), 0.0)
        self.flows.set_path(flow, SetPath("beta", Address("192.0.2.2", "655"), True, MTU, MTU), None, BETA)
        self.receiver = Receiver(
            self.flows, self.events, self.tally, lambda frame, node, now: self.frames.append(frame)
        )

    def receive(self, datagram: bytes, source: Any) -> None:
        self.receiver.receive(datagram, source, None, 1.0)


@given(st.lists(st.tuples(st.binary(max_size=2048), sources), max_size=8), st.sampled_from(KEYS[:2]))
def test_garbage_is_counted(datagrams: list[tuple[bytes, Any]], key: PacketKey) -> None:
    bench = Bench(key)
    for datagram, source in datagrams:
        bench.receive(datagram, source)
    assert bench.frames == []
    assert bench.events == []
    assert sum(count for reason, count in bench.tally.items() if reason.startswith("drop ")) == len(datagrams)


@given(st.lists(st.tuples(st.binary(max_size=2048), sources), max_size=8))
def test_garbage_for_a_key_that_cannot_tell_never_raises(datagrams: list[tuple[bytes, Any]]) -> None:
    """Cipher and digest none: anything with a new sequence number is a frame, but no address is followed."""
    bench = Bench(KEYS[2])
    for datagram, source in datagrams:
        bench.receive(datagram, source)
    assert not any(isinstance(event, AddressSeen) for event in bench.events)
    assert all(14 <= len(frame) <= MTU for frame in bench.frames)


@given(st.binary(max_size=1600), sources, st.sampled_from(KEYS))
def test_any_plaintext_of_a_member_is_a_frame_a_probe_or_dropped(plain: bytes, source: Any, key: PacketKey) -> None:
    bench = Bench(key)
    bench.receive(PacketSealer(key).seal(plain), source)
    probes = [event.frame for event in bench.events if isinstance(event, ProbeReceived)]
    drops = sum(count for reason, count in bench.tally.items() if reason.startswith("drop "))
    assert len(bench.frames) + len(probes) + drops == 1
    assert all(frame == plain for frame in bench.frames + probes)


@given(st.binary(min_size=14, max_size=1400), st.data())
def test_a_damaged_datagram_is_never_taken(frame: bytes, data: st.DataObject) -> None:
    bench = Bench(KEYS[0])
    datagram = bytearray(PacketSealer(KEYS[0]).seal(frame))
    index = data.draw(st.integers(0, len(datagram) - 1))
    datagram[index] ^= data.draw(st.integers(1, 255))
    bench.receive(bytes(datagram), BETA)
    bench.receive(bytes(datagram[:index]), BETA)
    assert bench.frames == []
    assert bench.events == []


texts = st.text(max_size=20) | st.sampled_from(["192.0.2.1", "::1", "fe80::1%1", "fe80::1%zz", "::ffff:1.2.3.4", "655"])


@given(texts, texts)
def test_any_announced_address_gives_an_endpoint_or_none(host: str, port: str) -> None:
    endpoint = endpoint_of(Address(host, port))
    assert endpoint is None or 0 < endpoint[1] < 65536


frames = st.binary(max_size=1600) | st.builds(
    lambda rest, target: bytes(12) + b"\x08\x00" + b"\x45" + rest[:15] + target + rest[15:],
    st.binary(min_size=15, max_size=200),
    st.sampled_from([b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02", b"\x0a\x00\x00\x03"]),
)


@given(st.lists(frames, max_size=8))
def test_any_frame_from_a_meta_connection_is_handled(received: list[bytes]) -> None:
    plane = SlowDataPlane(
        name="alpha",
        device=DummyDevice(),
        sockets=[],
        upcall=lambda events: None,
        clock=lambda: 1.0,
        replay_window=16,
        spawn=None,  # type: ignore[arg-type]
    )
    nodes = {
        "alpha": RouteNode("alpha", True, "alpha", "alpha"),
        "beta": RouteNode("beta", True, "beta", "beta", 12, True, True),
        "gamma": RouteNode("gamma", True, "beta", "beta", 13),
    }
    subnets = (
        (Subnet.parse("10.0.0.1"), "alpha"),
        (Subnet.parse("10.0.0.2"), "beta"),
        (Subnet.parse("10.0.0.3"), "gamma"),
    )
    plane.set_routes(RouteSnapshot("alpha", 12, nodes, subnets))
    for frame in received:
        plane.frame_from_peer("beta", frame)
    assert len(plane.totals()) < 40
