"""What compression and forged datagrams mean to sender and receiver."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from dataplane_lab import make_key
from test_dataplane_sender import BETA, FRAME, NEAR, Bench

from gmesh.dataplane.contract import FrameForPeer
from gmesh.dataplane.flows import FlowTable, ReceiveKey
from gmesh.dataplane.receiver import Receiver
from gmesh.mesh.actions import SetPath
from gmesh.proto.packet import PacketOpener, PacketSealer


@pytest.mark.parametrize("level", [0, 1, 9, 10, 12])
def test_requirement_11_compression_is_the_receivers_by_udp_and_none_by_tcp(level: int) -> None:
    pytest.importorskip("lzallright")
    pytest.importorskip("lz4")
    bench = Bench(NEAR)
    bench.ready("beta", BETA)
    key = make_key(compression=level)
    bench.flows.by_name["beta"].sealer = PacketSealer(key)
    bench.sender.send("beta", FRAME)
    ((datagram, _target),) = bench.socket.sent
    assert (len(datagram) < 200) is (level > 0)
    assert PacketOpener(key, 16).open(datagram) == FRAME
    bench.sender.send("beta", FRAME, tcp_only=True)
    assert bench.events == [FrameForPeer("beta", FRAME)]


def receiver_of(key: ReceiveKey, tally: Counter[str], frames: list[bytes]) -> Receiver:
    """A receiver that knows beta at BETA, and nobody else."""
    flows = FlowTable()
    flow = flows.get_or_add("beta")
    flows.add_receive_key(flow, key, 0.0)
    endpoint = BETA.endpoint
    flows.set_path(flow, SetPath("beta", BETA, True, 1400, 1400, ()), None, endpoint)
    return Receiver(flows, [], tally, lambda frame, node, now: frames.append(frame))


def test_requirement_28_garbage_from_a_spoofed_address_costs_one_mac() -> None:
    packet_key = make_key()
    key = ReceiveKey(packet_key, 16)
    macs = 0
    real: Any = key.opener._mac

    def counting(body: bytes) -> bytes:
        nonlocal macs
        macs += 1
        return bytes(real(body))

    key.opener._mac = counting
    tally: Counter[str] = Counter()
    frames: list[bytes] = []
    receiver = receiver_of(key, tally, frames)
    datagram = PacketSealer(packet_key).seal(FRAME)
    endpoint = BETA.endpoint
    assert endpoint is not None
    for _ in range(10):
        receiver.receive(datagram[:-1] + bytes([datagram[-1] ^ 1]), endpoint, None, 1.0)
    assert macs == 10
    assert tally["drop not authentic"] == 10
    receiver.receive(datagram, endpoint, None, 1.0)
    assert frames == [FRAME]
    receiver.receive(datagram, endpoint, None, 1.0)
    assert tally["drop replayed or far out of order"] == 1
    assert macs == 12
