"""One dialer for each node that we keep a connection to: who they are, and what they may try."""

from __future__ import annotations

import socket as std_socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest
from hub_lab import Lab

from gmesh.config.address_cache import AddressCache
from gmesh.config.directory import Directory
from gmesh.daemon import outgoing as module
from gmesh.daemon.listening import SocketOptions, open_sockets
from gmesh.daemon.outgoing import Outgoing
from gmesh.daemon.supervisor import Supervisor
from gmesh.dataplane.udp_sockets import UdpOptions
from gmesh.errors import ConfigError, GmeshError
from gmesh.mesh.actions import Dial, SetPath, StopDialling
from gmesh.proto.meta_events import Active, Identified, Verified
from gmesh.values import Address


class Desk:
    def __init__(self, base: Path, *listen: str) -> None:
        (base / "hosts").mkdir()
        (base / "hosts" / "b").write_text("Address = one.example 700\nAddress = 10.1.0.2\n")
        (base / "hosts" / "c").write_text("")
        (base / "tinc.conf").write_text("Name = a\nMinTimeout = 500\nMaxTimeout = 900\nPingTimeout = 1\n")
        self.lab = Lab()
        self.fatal: list[str] = []
        self.supervisor = Supervisor(self.fatal.append)
        addresses = [(host, "0") for host in listen or ["127.0.0.1"]]
        self.pairs = open_sockets(SocketOptions(addresses, "0", int(std_socket.AF_UNSPEC), UdpOptions()))
        self.outgoing = Outgoing(
            Directory(base).server(),
            hub=self.lab.hub,
            pairs=self.pairs,
            connection=self.never,
            supervisor=self.supervisor,
            clock=time.monotonic,
        )

    def never(self, sock: Any, address: object, name: str) -> Any:
        raise AssertionError("nothing listens")

    @property
    def dialing(self) -> list[str]:
        return [name.partition(" ")[2] for name in self.supervisor.names if name.startswith("dialer ")]

    def close(self) -> None:
        self.supervisor.kill_all()
        for pair in self.pairs:
            pair.tcp.close()
            pair.udp.close()


@pytest.fixture
def desk(tmp_path: Path, log_lines: list[str]) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def settle(condition: Any) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        gevent.sleep(0.002)


def test_dialers_come_and_go_with_the_names(desk: Desk) -> None:
    assert desk.outgoing.keep(["b", "c", "b"]) == (["b", "c"], [])
    assert desk.dialing == ["b", "c"]
    assert desk.outgoing.keep(["c", "d"]) == (["d"], ["b"])
    settle(lambda: desk.dialing == ["c", "d"])
    assert desk.outgoing.keep([]) == ([], ["c", "d"])
    settle(lambda: desk.dialing == [])


def test_the_administrator_may_dial_whom_a_file_names(desk: Desk) -> None:
    assert desk.outgoing.dial("b")
    assert desk.outgoing.dial("b")
    assert not desk.outgoing.dial("nobody")
    assert not desk.outgoing.dial("../b")
    assert desk.dialing == ["b"]
    assert desk.outgoing.keep([]) == ([], ["b"])


def test_addresses_of_the_file_come_first_then_what_the_mesh_has_seen(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desk.outgoing.candidates("b") == [("one.example", "700"), ("10.1.0.2", "655")]
    peer = desk.lab.active(1, "x")
    desk.lab.request(peer, "12 1 x b 10.5.0.2 701 c 1")
    desk.lab.request(peer, "12 2 y b 10.1.0.2 655 c 1")
    desk.lab.request(peer, "12 3 z b 10.6.0.2 0 c 1")
    assert desk.outgoing.candidates("b") == [("one.example", "700"), ("10.1.0.2", "655"), ("10.5.0.2", "701")]
    monkeypatch.setattr(module, "MAX_EDGE_ADDRESSES", 0)
    assert len(desk.outgoing.candidates("b")) == 2
    # The file is read anew each time.
    (desk.outgoing.directory.hosts / "b").write_text("Address = 10.7.0.2\n")
    assert desk.outgoing.candidates("b") == [("10.7.0.2", "655")]


def test_link_local_addresses_are_dialled_only_with_a_scope(desk: Desk) -> None:
    peer = desk.lab.active(1, "x")
    desk.lab.request(peer, "12 1 x b fe80::5 701 c 1")
    assert desk.outgoing.candidates("b") == [("one.example", "700"), ("10.1.0.2", "655")]
    (desk.outgoing.directory.hosts / "b").write_text("Address = fe80::1%lo\nAddress = fe80::2\n")
    assert desk.outgoing.candidates("b") == [("fe80::1%lo", "655")]
    (desk.outgoing.directory.hosts / "b").write_text("Address = fe80::2\n")
    with pytest.raises(GmeshError, match="needs its interface, as in fe80::1%eth0; add an Address line"):
        desk.outgoing.candidates("b")


def test_where_a_node_was_reached_comes_first_and_survives_a_restart(desk: Desk, tmp_path: Path) -> None:
    desk.outgoing.remember("b", Address("10.8.0.2", "655"))
    desk.outgoing.remember("b", Address("10.1.0.2", "655"))
    first = [("10.1.0.2", "655"), ("10.8.0.2", "655"), ("one.example", "700")]
    assert desk.outgoing.candidates("b") == first
    assert AddressCache(Directory(tmp_path)).addresses("b")[0] == Address("10.1.0.2", "655")
    # It is enough for a node without any Address.
    desk.outgoing.remember("c", Address("10.9.0.2", "655"))
    assert desk.outgoing.candidates("c") == [("10.9.0.2", "655")]
    # A broken file is none.
    (tmp_path / "cache" / "b").write_bytes(b"\0" * 264)
    assert desk.outgoing.candidates("b") == [("one.example", "700"), ("10.1.0.2", "655")]


def test_the_hub_says_where_neighbours_were_reached(desk: Desk) -> None:
    peer = desk.lab.open(1, "b", outgoing=True)
    desk.lab.hub.event(peer, Identified("b", 0))
    desk.lab.hub.event(peer, Verified())
    desk.lab.hub.event(peer, Active("b", "655", 1, 1, 12, 12))
    assert desk.outgoing.candidates("b")[0] == (peer.address.host, peer.address.port)
    confirmed = SetPath("b", Address("10.1.0.77", "655"), True, 1400, 1400)
    for path in (
        replace(confirmed, address=Address("10.1.0.78", "655"), min_mtu=0),
        replace(confirmed, address=Address("10.1.0.79", "40001")),
        replace(confirmed, node="stranger"),
        confirmed,
    ):
        desk.lab.hub.perform([path])
    assert desk.outgoing.candidates("b")[:2] == [("10.1.0.77", "655"), (peer.address.host, peer.address.port)]


def test_an_address_that_cannot_be_written_is_no_error(desk: Desk, tmp_path: Path, log_lines: list[str]) -> None:
    (tmp_path / "cache").write_text("no directory")
    desk.outgoing.remember("b", Address("10.8.0.2", "655"))
    assert desk.outgoing.candidates("b")[0] == ("10.8.0.2", "655")
    assert [line for line in log_lines if "Could not write" in line and "cache/b" in line]


def test_autoconnect_ends_only_what_it_began(desk: Desk) -> None:
    desk.outgoing.keep(["c"])
    for name in ("b", "c", "nobody"):
        desk.outgoing.follow_policy(Dial(name))
    assert desk.dialing == ["c", "b"]
    desk.outgoing.follow_policy(StopDialling("c"))
    assert desk.dialing == ["c", "b"]
    # A reload of the same configuration leaves its calls alone; one that names the node takes it over.
    assert desk.outgoing.keep(["c"]) == ([], [])
    assert desk.outgoing.keep(["b", "c"]) == ([], [])
    desk.outgoing.follow_policy(StopDialling("b"))
    assert sorted(desk.dialing) == ["b", "c"]
    assert desk.outgoing.keep(["c"]) == ([], ["b"])
    desk.outgoing.follow_policy(Dial("b"))
    desk.outgoing.follow_policy(StopDialling("b"))
    settle(lambda: desk.dialing == ["c"])


def test_whom_the_administrator_dials_is_his(desk: Desk) -> None:
    desk.outgoing.follow_policy(Dial("b"))
    assert desk.outgoing.dial("b")
    desk.outgoing.follow_policy(StopDialling("b"))
    assert desk.dialing == ["b"]


def test_the_end_ends_all(desk: Desk) -> None:
    desk.outgoing.keep(["c"])
    desk.outgoing.follow_policy(Dial("b"))
    desk.outgoing.end("stopping")
    settle(lambda: desk.dialing == [])


def test_nowhere_to_dial(desk: Desk) -> None:
    with pytest.raises(GmeshError, match="add an Address line"):
        desk.outgoing.candidates("c")
    with pytest.raises(GmeshError, match="no host file"):
        desk.outgoing.candidates("d")


def test_a_single_address_is_the_source_of_outgoing_connections(tmp_path: Path, log_lines: list[str]) -> None:
    for number, (listen, source) in enumerate(
        [
            (["127.0.0.5"], "127.0.0.5"),
            (["127.0.0.5", "127.0.0.6"], "0.0.0.0"),
            (["*"], "0.0.0.0"),
            (["::1"], "0.0.0.0"),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        desk = Desk(tmp_path / str(number), *listen)
        with std_socket.socket() as sock:
            desk.outgoing.prepare(sock, std_socket.AF_INET)
            assert sock.getsockname()[0] == source
        desk.close()


def test_an_address_to_listen_on_only_is_no_source(desk: Desk) -> None:
    (pair,) = desk.pairs
    desk.outgoing._pairs = [replace(pair, listen_only=True)]
    with std_socket.socket() as sock:
        desk.outgoing.prepare(sock, std_socket.AF_INET)
        assert sock.getsockname()[0] == "0.0.0.0"


def test_connected_means_active(desk: Desk) -> None:
    desk.lab.open(1, "b", outgoing=True)
    assert not desk.outgoing.connected("b")
    desk.lab.active(2, "b")
    assert desk.outgoing.connected("b")


def test_new_time_outs_reach_dialers_that_wait(desk: Desk, tmp_path: Path) -> None:
    desk.outgoing.keep(["c"])
    (tmp_path / "tinc.conf").write_text("Name = a\nMinTimeout = 3\nMaxTimeout = 30\n")
    desk.outgoing.follow(Directory(tmp_path).server())
    dialer = desk.outgoing._dialers["c"][0]
    assert (dialer.backoff.minimum, dialer.backoff.maximum) == (3.0, 30.0)
    desk.outgoing.keep(["c", "d"])
    assert desk.outgoing._dialers["d"][0].backoff.maximum == 30.0


def test_a_reload_changes_family_and_interface_of_new_connections(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "tinc.conf").write_text("Name = a\nAddressFamily = ipv6\nBindToInterface = nowhere0\n")
    assert [family for family, _ in desk.outgoing.resolve("127.0.0.1", "655")] == [std_socket.AF_INET]
    desk.outgoing.follow(Directory(tmp_path).server())
    with pytest.raises(GmeshError):
        desk.outgoing.resolve("127.0.0.1", "655")
    with std_socket.socket() as sock, pytest.raises(ConfigError, match="nowhere0"):
        desk.outgoing.prepare(sock, std_socket.AF_INET)


def test_nudges_reach_whom_they_mean(desk: Desk, log_lines: list[str]) -> None:
    desk.outgoing.keep(["c", "d"])
    settle(lambda: sum("re-establish" in line for line in log_lines) == 2)
    log_lines.clear()
    desk.outgoing.nudge("c")
    settle(lambda: any("re-establish outgoing connection to c" in line for line in log_lines))
    desk.outgoing.lost("nobody")
    desk.outgoing.nudge()
    settle(lambda: any("re-establish outgoing connection to d" in line for line in log_lines))
