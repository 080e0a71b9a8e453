"""Where everything meets: order, re-entrancy, faults, and who hears of what. A real mesh, no sockets."""

from __future__ import annotations

import contextlib
import logging
import time

import gevent
import pytest
from hub_lab import Lab

from gmesh.daemon import hub as module
from gmesh.daemon.logging_setup import DaemonLog
from gmesh.dataplane.contract import FrameForPeer
from gmesh.errors import PeerError
from gmesh.mesh.actions import (
    CloseConnection,
    ForgetFlow,
    Log,
    NodeUp,
    ProceedHandshake,
    RoutesChanged,
    SendLine,
    SetPath,
    SubnetUp,
)
from gmesh.mesh.events import KeyNeeded
from gmesh.proto.meta_events import (
    ControlRequested,
    FrameReceived,
    Identified,
    InvitationRequested,
    LineRejected,
    Verified,
)
from gmesh.values import Address, Subnet


@pytest.fixture
def lab(log_lines: list[str]) -> Lab:
    return Lab()


def test_actions_are_done_in_order_and_reach_whom_they_name(lab: Lab, log_lines: list[str]) -> None:
    peer = lab.open(1)
    lab.hub.perform(
        [
            SendLine(1, "10 1 me 10.0.0.1"),
            SendLine(99, "nobody has this connection"),
            NodeUp("b", Address("10.1.0.2", "655")),
            SubnetUp("b", Subnet.parse("10.0.0.2"), None),
            ForgetFlow("b"),
            SetPath("b", None, udp=False, min_mtu=0, mtu=1400),
            Log(logging.INFO, 0, "done"),
            CloseConnection(99, "nor this"),
            CloseConnection(1, "enough"),
        ]
    )
    assert peer.sent == ["10 1 me 10.0.0.1"]
    assert [type(event) for event in lab.scripts.events] == [NodeUp, SubnetUp]
    assert [name for name, _ in lab.plane.calls] == ["forget_flow", "set_path"]
    assert peer.closed == ["enough"]
    assert "done" in log_lines


def test_actions_that_arise_meanwhile_wait_for_those_before_them(lab: Lab) -> None:
    peer = lab.open(1)
    peer.on_proceed = lambda: lab.hub.perform([SendLine(1, "third")])
    lab.hub.perform([SendLine(1, "first"), ProceedHandshake(1), SendLine(1, "second")])
    assert peer.sent == ["first", "second", "third"]


def test_one_action_that_fails_stops_neither_the_others_nor_later_ones(lab: Lab, log_lines: list[str]) -> None:
    peer = lab.open(1)

    def fail() -> None:
        raise RuntimeError("a bug")

    peer.on_proceed = fail
    lab.hub.perform([ProceedHandshake(1), SendLine(1, "goes on")])
    lab.hub.perform([SendLine(1, "later")])
    assert peer.sent == ["goes on", "later"]
    assert any("Could not perform ProceedHandshake: RuntimeError: a bug" in line for line in log_lines)


def test_one_event_that_fails_loses_none_of_those_behind_it(
    lab: Lab, log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def data_event(event: KeyNeeded, now: float) -> list[object]:
        seen.append(event.node)
        if event.node == "b":
            raise KeyError("some fault")
        return []

    monkeypatch.setattr(lab.hub.mesh, "data_event", data_event)
    lab.hub.data_events([KeyNeeded("b"), KeyNeeded("c")])
    assert seen == ["b", "c"]
    assert any("Internal error at KeyNeeded: KeyError: 'some fault'" in line for line in log_lines)


def test_a_handshake_that_fails_at_the_last_step_closes_its_connection(lab: Lab) -> None:
    peer = lab.open(1)

    def fail() -> None:
        raise PeerError("bad CHALLENGE")

    peer.on_proceed = fail
    lab.hub.perform([ProceedHandshake(1), ProceedHandshake(99)])
    assert peer.closed == ["bad CHALLENGE"]


def test_a_member_comes_and_goes(lab: Lab) -> None:
    proceeded: list[bool] = []
    peer = lab.open(7)
    peer.on_proceed = lambda: proceeded.append(True)
    lab.hub.event(peer, Identified("b", 0))
    lab.hub.event(peer, Verified())
    assert proceeded == [True]
    assert lab.hub.peer_of("b") is None
    peer = lab.active(8, "b")
    assert lab.hub.peer_of("b") is peer
    assert lab.hub.peer_of("nobody") is None
    assert any(line.startswith("12 ") for line in peer.sent)
    lab.hub.closed(peer, "connection closed by peer")
    assert lab.hub.peer_of("b") is None
    assert lab.lost == ["b"]
    lab.hub.closed(peer, "again")


def test_requirement_18_a_stranger_that_claims_a_name_makes_nobody_dial(lab: Lab) -> None:
    peer = lab.open(1)
    lab.hub.event(peer, Identified("b", 0))
    lab.hub.closed(peer, "bad METAKEY")
    assert lab.lost == []


def test_requirement_18_thousands_of_strangers_fill_no_log(lab: Lab, log_lines: list[str]) -> None:
    for number in range(5000):
        lab.hub.closed(lab.open(number), f"bad ID from port {number}")
    member = lab.active(5001, "b")
    for _ in range(5000):
        lab.hub.event(member, LineRejected("x" * 5000, "malformed"))
        lab.hub.closed(member, "flapping")
        lab.hub.opened(member)
    assert sum(map(len, log_lines)) < 20_000


def test_requests_and_frames_go_where_they_belong(lab: Lab) -> None:
    peer = lab.active(1, "b")
    lab.request(peer, "10 5 b 10.0.0.2")
    assert Subnet.parse("10.0.0.2") in lab.hub.mesh.registry.nodes["b"].subnets
    lab.hub.event(peer, FrameReceived(b"f" * 60))
    assert ("frame_from_peer", ("b", b"f" * 60)) in lab.plane.calls
    lab.hub.data_events([FrameForPeer("b", b"g" * 60), FrameForPeer("gone", b"h" * 60)])
    assert peer.frames == [b"g" * 60]


def test_requests_before_the_handshake_are_the_peers_fault(lab: Lab) -> None:
    peer = lab.open(1)
    with pytest.raises(PeerError):
        lab.request(peer, "10 5 b 10.0.0.2")


def test_who_may_not_control_gets_a_peers_error(lab: Lab) -> None:
    peer = lab.open(1)
    with pytest.raises(PeerError) as caught:
        lab.hub.event(peer, ControlRequested("secret"))
    assert "secret" not in str(caught.value)
    lab.hub.adopt = lambda adopted, cookie: adopted is peer and cookie == "secret"
    lab.hub.event(peer, ControlRequested("secret"))
    with pytest.raises(PeerError):
        lab.hub.event(peer, ControlRequested("other"))


def test_who_wants_to_join_by_invitation_is_refused(lab: Lab) -> None:
    with pytest.raises(PeerError, match="invitation"):
        lab.hub.event(lab.open(1), InvitationRequested("key"))


def test_the_text_of_a_request_is_made_only_if_somebody_reads_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = lab.active(1, "b")
    made: list[str] = []

    def without_key(request: object, line: str) -> str:
        made.append(line)
        return line

    monkeypatch.setattr(module, "_without_key", without_key)
    with contextlib.closing(DaemonLog("tinc", 3)) as daemon_log:
        lab.request(peer, "10 5 b 10.0.0.2")
        assert made == []
        daemon_log.debug = 4
        lab.request(peer, "10 6 b 10.0.0.3")
        assert made == ["10 6 b 10.0.0.3"]


def test_requirement_17_connections_from_an_address_that_is_gone_are_closed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_own_address", lambda host: host != "10.1.0.1")
    gone, stays, unknown = lab.active(1, "b"), lab.active(2, "c"), lab.open(3)
    gone.local_host, unknown.local_host = "10.1.0.1", ""
    lab.hub.addresses_changed()
    assert gone.closed == ["our address 10.1.0.1 is gone"]
    assert stays.closed == unknown.closed == []
    assert (gone.pings, stays.pings) == (0, 1)


def test_routes_follow_changes_and_a_storm_is_coalesced(lab: Lab) -> None:
    keeper = gevent.spawn(lab.hub.keep_routes)
    peer = lab.active(1, "b")
    for number in range(200):
        lab.request(peer, f"10 {number:x} b 10.7.0.{number}")
        lab.hub.perform([RoutesChanged()])
    end = time.monotonic() + 5
    while not lab.plane.snapshots or len(lab.plane.snapshots[-1].subnets) < 201:
        assert time.monotonic() < end
        gevent.sleep(0.001)
    assert len(lab.plane.snapshots) < 10
    snapshot = lab.plane.snapshots[-1]
    assert snapshot.nodes["b"].neighbour
    keeper.kill()


def test_timers_run_when_due_and_are_moved_forward(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[float] = []
    due = [time.monotonic() + 60]

    def on_timeout(now: float) -> list[object]:
        ran.append(now)
        due[0] = now + 60
        return []

    monkeypatch.setattr(lab.hub.mesh, "next_timeout", lambda: due[0])
    monkeypatch.setattr(lab.hub.mesh, "on_timeout", on_timeout)
    keeper = gevent.spawn(lab.hub.keep_time)
    gevent.sleep(0)
    due[0] = time.monotonic() + 0.05
    lab.hub.perform([])
    end = time.monotonic() + 5
    while not ran:
        assert time.monotonic() < end
        gevent.sleep(0.002)
    assert 0 <= ran[0] - (due[0] - 60) < 0.5
    keeper.kill()
