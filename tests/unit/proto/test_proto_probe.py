from __future__ import annotations

import pytest

from gmesh.proto import probe
from gmesh.proto.probe import Probe, ProbeKind
from tests.vectors.legacy import counting_entropy


@pytest.mark.parametrize("length", [14, 18, 64, 1518])
def test_request_and_reply(length: int) -> None:
    request = probe.make_request(length, counting_entropy(5))
    assert len(request) == length
    assert request[:14] == bytes(14)
    assert probe.is_probe(request)
    assert probe.parse(request) == Probe(ProbeKind.REQUEST, length)
    reply = probe.make_reply(request)
    assert (reply[0], reply[1:]) == (1, request[1:])
    assert probe.parse(reply) == Probe(ProbeKind.REPLY, length)


@pytest.mark.parametrize("length", [0, 13, 1519])
def test_lengths_that_are_no_frame(length: int) -> None:
    with pytest.raises(ValueError, match="no frame"):
        probe.make_request(length, counting_entropy())


def test_short_reply_names_the_length_of_the_request() -> None:
    frame = b"\x02" + (1451).to_bytes(2, "big") + bytes(15)
    assert probe.parse(frame) == Probe(ProbeKind.SHORT_REPLY, 1451)


@pytest.mark.parametrize("frame", [b"", bytes(13), bytes([3]) + bytes(20), bytes(12) + b"\x08\0" + bytes(30)])
def test_other_frames_are_no_probes(frame: bytes) -> None:
    assert probe.parse(frame) is None
