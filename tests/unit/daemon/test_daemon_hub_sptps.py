"""What SPTPS and Ed25519 keys add to the hub: sessions, datagrams by TCP, hints, exchanges of keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_lab import Lab

from gmesh.crypto import base64
from gmesh.crypto.ed25519 import Ed25519PrivateKey, public_to_text
from gmesh.daemon.logging_setup import DaemonLog
from gmesh.dataplane.contract import DatagramForPeer
from gmesh.mesh.actions import (
    DatagramByTcp,
    Dial,
    DropSession,
    HoldFrames,
    InstallSession,
    OpenHandshake,
    SessionStep,
    StopDialling,
    StorePublicKey,
    UseSession,
)
from gmesh.proto.control import node_id
from gmesh.proto.meta_events import (
    Active,
    DatagramReceived,
    Identified,
    InfoReceived,
    KeyUnknownThere,
    PublicKeyReceived,
    Verified,
)
from gmesh.proto.requests_11 import MtuInfo, UdpInfo
from gmesh.values import Address

OURS = Ed25519PrivateKey.from_seed(b"u" * 32)
THEIRS = Ed25519PrivateKey.from_seed(b"t" * 32).public
DATAGRAM = b"datagram of c"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "hosts").mkdir()
    for name in ("b", "c"):
        (tmp_path / "hosts" / name).write_text(f"Ed25519PublicKey = {public_to_text(THEIRS)}\n")
    return Lab(OURS, tmp_path)


def neighbour(lab: Lab, name: str, *, sptps: bool, minor: int) -> Any:
    peer = lab.open(1)
    peer.meta = type("Meta", (), {"sptps": sptps})()
    lab.hub.event(peer, Identified(name, minor))
    lab.hub.event(peer, Verified())
    peer.active = True
    lab.hub.event(peer, Active(name, "655", 1, 1, minor << 24 | 12, 7 << 24 | 12))
    peer.sent.clear()
    return peer


def test_sessions_are_the_data_planes(lab: Lab) -> None:
    actions = [
        InstallSession("b", 1, None),  # type: ignore[arg-type]
        UseSession("b", 1),
        SessionStep("b", 1, None),  # type: ignore[arg-type]
        OpenHandshake("b", DATAGRAM),
        DatagramByTcp("b", "c", "me", DATAGRAM),
        DropSession("b", 1),
    ]
    lab.plane.calls.clear()
    lab.hub.perform(actions)
    names = ("install_session", "use_session", "session_step", "open_handshake", "datagram_by_tcp", "drop_session")
    assert lab.plane.calls == [(name, (action,)) for name, action in zip(names, actions, strict=True)]


def test_what_is_held_while_keys_change_is_the_data_planes(lab: Lab) -> None:
    lab.plane.calls.clear()
    lab.hub.perform([HoldFrames("b")])
    assert lab.plane.calls == [("hold_frames", ("b",))]


def test_datagrams_go_raw_to_who_takes_them_so(lab: Lab) -> None:
    peer = neighbour(lab, "b", sptps=True, minor=7)
    lab.hub.data_events([DatagramForPeer("b", "me", "c", DATAGRAM), DatagramForPeer("gone", "me", "c", DATAGRAM)])
    assert peer.datagrams == [(node_id("c"), node_id("me"), DATAGRAM)]
    assert peer.sent == []


@pytest.mark.parametrize(("sptps", "minor"), [(True, 6), (True, 2), (False, 7), (False, 0)])
def test_datagrams_go_within_a_line_to_all_others(lab: Lab, sptps: bool, minor: int) -> None:
    """On a connection of the legacy protocol nothing may go raw, whatever the peer can do."""
    peer = neighbour(lab, "b", sptps=sptps, minor=minor)
    lab.hub.data_events([DatagramForPeer("b", "me", "c", DATAGRAM)])
    assert peer.datagrams == []
    assert peer.sent == [f"15 me c 21 {base64.encode(DATAGRAM)}"]


def test_datagrams_and_hints_of_a_peer_go_where_they_belong(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = neighbour(lab, "b", sptps=True, minor=7)
    lab.hub.event(peer, DatagramReceived(b"1" * 6, b"2" * 6, DATAGRAM))
    assert ("datagram_from_peer", ("b", b"1" * 6, b"2" * 6, DATAGRAM)) in lab.plane.calls
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(lab.hub.mesh, "info_received", lambda *args: told.append(args[:3]) or [])
    infos = [UdpInfo("c", "me", Address("10.1.0.3", "655")), MtuInfo("c", "me", 1400)]
    for info in infos:
        lab.hub.event(peer, InfoReceived(info, info.format()))
    assert told == [(peer.id, info, info.format()) for info in infos]


def test_a_key_that_an_upgrade_brought_is_kept_and_the_node_dialled_at_once(lab: Lab) -> None:
    peer = lab.open(1)
    lab.hub.event(peer, PublicKeyReceived("d", THEIRS, known=False))
    assert lab.hub.keys.public_key("d") == THEIRS
    assert lab.redialled == ["d"]


@pytest.mark.parametrize("event", [KeyUnknownThere("b"), PublicKeyReceived("b", THEIRS, known=True)])
def test_requirement_17_a_node_that_never_keeps_our_key_is_not_dialled_in_a_loop(lab: Lab, event: Any) -> None:
    for number in range(10):
        lab.hub.event(lab.open(number), event)
    assert lab.redialled == ["b"]


def test_whom_we_have_to_tell_our_key_is_remembered(lab: Lab) -> None:
    lab.hub.event(lab.open(1), KeyUnknownThere("b"))
    assert lab.hub.to_exchange == {"b"}


def test_keys_that_the_mesh_learned_are_to_be_stored(lab: Lab, tmp_path: Path) -> None:
    lab.hub.perform([StorePublicKey("e", THEIRS, proved=False), StorePublicKey("f", THEIRS, proved=True)])
    assert [lab.hub.keys.public_key(name) for name in "ef"] == [None, THEIRS]


def test_routes_follow_the_keys(lab: Lab, tmp_path: Path) -> None:
    neighbour(lab, "d", sptps=True, minor=0)
    lab.hub.install_routes()
    assert not lab.plane.snapshots[-1].nodes["d"].sptps
    (tmp_path / "hosts" / "d").write_text(f"Ed25519PublicKey = {public_to_text(THEIRS)}\n")
    assert lab.hub.keys.refresh() == ["d"]
    lab.hub.keys_changed()
    lab.hub.install_routes()
    assert lab.plane.snapshots[-1].nodes["d"].sptps


def test_what_autoconnect_wants_is_passed_on(lab: Lab) -> None:
    lab.hub.perform([Dial("x"), StopDialling("x")])
    assert lab.dialled == [Dial("x"), StopDialling("x")]


@pytest.fixture
def loud() -> Iterator[list[str]]:
    daemon_log = DaemonLog("tinc", 5)
    lines: list[str] = []
    daemon_log.subscribe(-1, lambda level, created, text: lines.append(text))
    yield lines
    daemon_log.close()


def test_requirement_9_no_key_or_packet_is_logged(lab: Lab, loud: list[str]) -> None:
    peer = neighbour(lab, "b", sptps=True, minor=7)
    secret = base64.encode(bytes(range(70)))
    for line in (f"15 c me 15 {secret}", f"15 c me 21 {secret}", f"16 c me {secret} -1 -1 -1 0"):
        lab.request(peer, line)
    assert any("Got ReqKey" in line for line in loud)
    assert not [line for line in loud if secret[:20] in line]
