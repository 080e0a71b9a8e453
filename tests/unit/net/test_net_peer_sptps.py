"""Connections with SPTPS over real sockets: what is queued arrives in its order, and exchanges of keys end well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from meta_lab import Link, ed25519_key_of, wait_for

from gmesh.net.peer import TARPIT_SECONDS
from gmesh.proto.meta_events import DatagramReceived, FrameReceived, PublicKeyReceived, RequestReceived
from gmesh.proto.requests_11 import SessionData, as_req_key

IDS = b"target", b"source"


@pytest.fixture
def link() -> Iterator[Callable[..., Link]]:
    links: list[Link] = []

    def make(**options: Any) -> Link:
        links.append(Link(sptps=True, **options))
        return links[-1]

    yield make
    for made in links:
        made.stop()


def test_lines_frames_and_datagrams_arrive_in_their_order(link: Callable[..., Link]) -> None:
    both = link()
    both.wait_active()
    assert both.alpha.meta.sptps
    for here, there in ((both.alpha, both.beta_hub), (both.beta, both.alpha_hub)):
        for number in range(50):
            here.send_line(f"14 {number:x} a{number}")
            assert here.send_frame(bytes([number]) * (60 + number))
            assert here.send_datagram(*IDS, bytes([number]) * (5 + number))
        wait_for(lambda: sum(isinstance(event, DatagramReceived) for event in there.events) == 50)  # noqa: B023
        got = [e for e in there.events if isinstance(e, RequestReceived | FrameReceived | DatagramReceived)]
        for number in range(50):
            line, frame, datagram = got[3 * number : 3 * number + 3]
            assert isinstance(line, RequestReceived)
            assert line.line == f"14 {number:x} a{number}"
            assert frame == FrameReceived(bytes([number]) * (60 + number))
            assert datagram == DatagramReceived(*IDS, bytes([number]) * (5 + number))


def test_datagrams_are_dropped_early_whatever_form_they_have(link: Callable[..., Link]) -> None:
    """MaxOutputBufferSize bounds what waits for a peer that reads slowly."""
    both = link(max_bytes=20_000)
    both.wait_active()
    line = as_req_key("a", "b", SessionData(bytes(1400))).format()
    both.alpha._wake_writer = lambda: None  # type: ignore[method-assign]
    taken = [both.alpha.send_datagram(*IDS, bytes(1400)) for _ in range(100)]
    taken += [both.alpha.send_datagram_line(line) for _ in range(100)]
    assert taken[:5] == [True] * 5
    assert both.alpha.outbox.bytes <= 20_000 + len(line) + 1
    assert both.alpha.outbox.dropped_frames == taken.count(False) > 150


def test_an_exchange_of_keys_refuses_nobody_and_keeps_no_socket(link: Callable[..., Link]) -> None:
    began = time.monotonic()
    both = link(knows_ed25519=False)
    both.wait_ended()
    assert time.monotonic() - began < TARPIT_SECONDS
    for hub, name, peer in ((both.alpha_hub, "beta", both.alpha), (both.beta_hub, "alpha", both.beta)):
        assert [event for event in hub.events if isinstance(event, PublicKeyReceived)] == [
            PublicKeyReceived(name, ed25519_key_of(name).public, known=False)
        ]
        assert peer.upgraded
        assert not peer.refused
        assert not hub.active
