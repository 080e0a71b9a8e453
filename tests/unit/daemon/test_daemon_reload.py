"""What a changed configuration leads to: exactly what changed (requirements 8 and 21)."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hub_lab import Lab

from gmesh.config.directory import Directory
from gmesh.config.server import Server
from gmesh.config.settings import Option, all_options
from gmesh.crypto.rsa import RsaPrivateKey
from gmesh.daemon.configuration import credentials, dial_candidates, mesh_settings, route_settings, socket_options
from gmesh.daemon.reload import Reloader
from gmesh.mesh.actions import SubnetDown, SubnetUp
from gmesh.values import Subnet


@functools.cache
def pem(name: str) -> str:
    return RsaPrivateKey.generate(1024).public.to_pem()


class Outgoing:
    def __init__(self) -> None:
        self.names: list[str] = []
        self.timeouts: tuple[float, float] = (0, 0)
        self.nudges = 0

    def keep(self, names: Any) -> tuple[list[str], list[str]]:
        added = [name for name in names if name not in self.names]
        removed = [name for name in self.names if name not in names]
        self.names = list(names)
        return added, removed

    def follow(self, server: Server) -> None:
        self.timeouts = (server.get_int("MinTimeout"), server.get_int("MaxTimeout"))

    def nudge(self) -> None:
        self.nudges += 1


class Desk:
    """A daemon named a with the neighbours b and c, whose files are in ``base``."""

    def __init__(self, base: Path) -> None:
        self.base = base
        (base / "hosts").mkdir()
        self.write("tinc.conf", "Name = a\nConnectTo = b\n")
        self.write("hosts/a", "Subnet = 10.0.0.1\n")
        for name in ("b", "c"):
            self.write(f"hosts/{name}", f"Address = 10.1.0.2\n{pem(name)}")
        server = Directory(base).server()
        self.lab = Lab()
        self.lab.hub.settings = mesh_settings(server, "655")
        self.lab.hub.perform(self.lab.hub.mesh.set_settings(self.lab.hub.settings, time.monotonic()))
        self.outgoing = Outgoing()
        self.outgoing.keep(server.connect_to)
        self.peers = {name: self.lab.active(number, name) for number, name in enumerate(("b", "c"))}
        for name, peer in self.peers.items():
            self.admit(peer, name)
            peer.sent.clear()
        self.lab.scripts.events.clear()
        self.reloader = Reloader(server, self.lab.hub, self.outgoing, time.monotonic)  # type: ignore[arg-type]

    def admit(self, peer: Any, name: str) -> None:
        server = Directory(self.base).server()
        peer.meta = SimpleNamespace(name=name, credentials=credentials(server, name), sptps=False)

    def write(self, name: str, text: str) -> None:
        (self.base / name).write_text(text)

    @property
    def closed(self) -> list[str]:
        return [name for name, peer in self.peers.items() if peer.closed]


@pytest.fixture
def desk(tmp_path: Path, log_lines: list[str]) -> Desk:
    return Desk(tmp_path)


def test_nothing_has_changed(desk: Desk, log_lines: list[str]) -> None:
    assert desk.reloader.reload()
    assert desk.closed == []
    assert all(not peer.sent for peer in desk.peers.values())
    assert desk.lab.scripts.events == []
    assert log_lines[-1] == "Configuration reloaded: no connection and no subnet has changed"


@pytest.mark.parametrize("mode", ["", "Mode = switch\n", "Mode = hub\n"])
def test_requirement_21_own_subnets_are_announced_in_every_mode(
    tmp_path: Path, log_lines: list[str], mode: str
) -> None:
    desk = Desk(tmp_path)
    desk.write("tinc.conf", f"Name = a\nConnectTo = b\n{mode}")
    desk.write("hosts/a", "Subnet = 10.0.0.2\n")
    assert desk.reloader.reload()
    for peer in desk.peers.values():
        kinds = [(line.split()[0], line.split()[-1]) for line in peer.sent]
        assert kinds == [("11", "10.0.0.1"), ("10", "10.0.0.2")]
    assert [(type(event), str(event.subnet)) for event in desk.lab.scripts.events] == [  # type: ignore[attr-defined]
        (SubnetDown, "10.0.0.1"),
        (SubnetUp, "10.0.0.2"),
    ]
    assert desk.closed == []
    assert (Subnet.parse("10.0.0.2"), "me") in desk.lab.plane.snapshots[-1].subnets
    assert "subnet 10.0.0.2 added; subnet 10.0.0.1 removed" in log_lines[-1]


def test_connections_are_added_and_removed(desk: Desk, log_lines: list[str]) -> None:
    desk.write("tinc.conf", "Name = a\nConnectTo = c\nConnectTo = d\nMinTimeout = 2\nMaxTimeout = 30\n")
    assert desk.reloader.reload()
    assert desk.outgoing.names == ["c", "d"]
    assert desk.outgoing.timeouts == (2, 30)
    assert desk.outgoing.nudges == 1
    assert "now connecting to c; now connecting to d; no longer connecting to b" in log_lines[-1]
    assert desk.closed == []


def change_key(desk: Desk) -> None:
    desk.write("hosts/b", pem("another"))


def remove_file(desk: Desk) -> None:
    (desk.base / "hosts/b").unlink()


def change_options(desk: Desk) -> None:
    desk.write("hosts/b", f"TCPOnly = yes\n{pem('b')}")


def spoil_key(desk: Desk) -> None:
    desk.write("hosts/b", "-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n")


@pytest.mark.parametrize("change", [change_key, remove_file, change_options, spoil_key])
def test_a_changed_host_file_closes_that_connection_only(desk: Desk, change: Callable[[Desk], None]) -> None:
    change(desk)
    assert desk.reloader.reload()
    assert desk.closed == ["b"]
    assert desk.peers["b"].closed == ["Host config file of b has been changed"]


def test_what_does_not_matter_to_a_connection_closes_none(desk: Desk) -> None:
    desk.write("hosts/b", f"Address = 10.9.0.9\nSubnet = 10.0.0.9\n# new\n{pem('b')}")
    assert desk.reloader.reload()
    assert desk.closed == []


def test_own_connection_options_are_exchanged_anew(desk: Desk) -> None:
    desk.write("tinc.conf", "Name = a\nConnectTo = b\nTCPOnly = yes\n")
    assert desk.reloader.reload()
    assert desk.closed == ["b", "c"]


def test_a_key_that_changed_closes_even_who_has_come_back_since(desk: Desk) -> None:
    """Another handshake with the new key, before the reload, does not make the old connection legitimate."""
    change_key(desk)
    newer = desk.lab.open(9)
    desk.admit(newer, "b")
    assert desk.reloader.reload()
    assert desk.closed == ["b"]
    assert newer.closed == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tinc.conf", "Name = a\nMode = sideways\nConnectTo = c\n"),
        ("tinc.conf", "Name = a\nCipher = rot13\nConnectTo = c\n"),
        ("tinc.conf", "Name = other\nConnectTo = c\n"),
        ("tinc.conf", "ConnectTo = c\n"),
        ("hosts/a", "Subnet = 300.1.1.1\n"),
    ],
)
def test_requirement_8_a_failed_reload_changes_nothing_and_says_why(
    desk: Desk, log_lines: list[str], name: str, text: str
) -> None:
    desk.write("hosts/a", "Subnet = 10.0.0.2\n")
    remove_file(desk)
    desk.write(name, text)
    before = desk.lab.hub.settings, desk.lab.hub.route_settings, desk.reloader.server
    assert not desk.reloader.reload()
    assert (desk.lab.hub.settings, desk.lab.hub.route_settings, desk.reloader.server) == before
    assert (desk.outgoing.names, desk.outgoing.nudges, desk.closed) == (["b"], 0, [])
    assert all(not peer.sent for peer in desk.peers.values())
    assert log_lines[-1] == "Unable to reread the configuration: the old one stays in force"
    assert len(log_lines) >= 2


def test_requirement_8_a_directory_that_is_gone(desk: Desk, log_lines: list[str]) -> None:
    (desk.base / "tinc.conf").unlink()
    assert not desk.reloader.reload()
    assert any("tinc.conf" in line for line in log_lines)


def test_what_needs_a_restart_is_said_and_does_not_happen(desk: Desk, log_lines: list[str]) -> None:
    old = desk.lab.hub.settings
    desk.write("tinc.conf", "Name = a\nConnectTo = b\nPingInterval = 7\nCipher = none\nKeyExpire = 77\n")
    assert desk.reloader.reload()
    now = desk.lab.hub.settings
    assert (now.ping_interval, now.algorithms, now.key_expire) == (old.ping_interval, old.algorithms, 77)
    for name in ("PingInterval", "Cipher"):
        assert f"{name} has changed: restart gmeshd to use the new value" in log_lines


OTHER_VALUES = {
    "Address": "10.1.0.9",
    "AddressFamily": "ipv6",
    "AutoConnect": "yes",
    "BindToAddress": "127.0.0.1 7001",
    "BindToInterface": "eth7",
    "Broadcast": "direct",
    "BroadcastSubnet": "10.255.0.0/16",
    "Cipher": "none",
    "ClampMSS": "no",
    "Compression": "1",
    "ConnectTo": "c",
    "DecrementTTL": "yes",
    "Device": "/dev/other",
    "DeviceStandby": "yes",
    "DeviceType": "dummy",
    "Digest": "sha1",
    "DirectOnly": "yes",
    "DisableBuggyPeers": "yes",
    "ExperimentalProtocol": "no",
    "FWMark": "7",
    "Forwarding": "kernel",
    "GraphDumpFile": "graph.dot",
    "IffOneQueue": "yes",
    "IndirectData": "yes",
    "InvitationExpire": "60",
    "Interface": "other",
    "KeyExpire": "77",
    "ListenAddress": "127.0.0.1 7002",
    "LocalDiscovery": "yes",
    "LogLevel": "3",
    "MACExpire": "77",
    "MACLength": "8",
    "MTUInfoInterval": "7",
    "MaxOutputBufferSize": "77777",
    "MaxTimeout": "77",
    "MinTimeout": "7",
    "Mode": "hub",
    "PMTU": "1400",
    "PMTUDiscovery": "no",
    "PingInterval": "77",
    "PingTimeout": "7",
    "Port": "7003",
    "PriorityInheritance": "yes",
    "ProcessPriority": "High",
    "Proxy": "socks5 10.1.0.3 1080",
    "ReplayWindow": "7",
    "ScriptsExtension": ".sh",
    "ScriptsInterpreter": "/bin/sh",
    "StrictSubnets": "yes",
    "Subnet": "10.0.0.7",
    "TCPOnly": "yes",
    "TrustOnFirstUse": "no",
    "TunnelServer": "yes",
    "UDPDiscovery": "no",
    "UDPDiscoveryInterval": "7",
    "UDPDiscoveryKeepaliveInterval": "7",
    "UDPDiscoveryTimeout": "7",
    "UDPInfoInterval": "7",
    "UDPRcvBuf": "77777",
    "UDPSndBuf": "77777",
    "Weight": "7",
}
ELSEWHERE = {
    "Name": "a reload refuses another one",
    "Sandbox": "can only be off",
    **dict.fromkeys(("PublicKey", "PublicKeyFile", "Ed25519PublicKey", "Ed25519PublicKeyFile"), "of peers, read anew"),
    **dict.fromkeys(("PrivateKey", "PrivateKeyFile", "Ed25519PrivateKeyFile"), "the daemon keeps the key itself"),
}


def value_of(server: Server, option: Option) -> object:
    if option.repeatable:
        return server.get_list(option.name)
    getters = {"bool": server.get_bool, "int": server.get_int}
    return getters.get(option.type, server.get_str)(option.name)


def in_force(server: Server, settings: object, routes: object) -> tuple[object, ...]:
    """All that the daemon makes of options while it runs."""
    return (
        settings,
        routes,
        socket_options(server),
        credentials(server, "b"),
        dial_candidates(server.directory, "b"),
        server.connect_to,
        values_of(server, reloadable=True),
    )


def values_of(server: Server, *, reloadable: bool) -> dict[str, object]:
    options = [option for option in all_options().values() if option.effective and option.reloadable is reloadable]
    return {option.name: value_of(server, option) for option in options}


def test_every_option_is_tried() -> None:
    assert {option.name for option in all_options().values() if option.effective} == {*OTHER_VALUES, *ELSEWHERE}


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_requirement_8_a_reload_does_what_the_registry_says(desk: Desk, log_lines: list[str], name: str) -> None:
    """An option that it flags as reloadable gets the value that a start would give it; others stay, with a warning."""

    def now() -> tuple[object, ...]:
        return in_force(desk.reloader.server, desk.lab.hub.settings, desk.lab.hub.route_settings)

    assert desk.reloader.reload()
    before, at_start = now(), values_of(desk.reloader.server, reloadable=False)
    line = f"{name} = {OTHER_VALUES[name]}\n"
    if name == "Address":
        desk.write("hosts/b", f"{line}{pem('b')}")
    elif name == "MACExpire":
        desk.write("tinc.conf", f"Name = a\nConnectTo = b\nMode = switch\n{line}")
    else:
        desk.write("tinc.conf", f"Name = a\nConnectTo = b\n{line}")
    for _ in range(2):
        log_lines.clear()
        assert desk.reloader.reload()
        assert values_of(desk.reloader.server, reloadable=False) == at_start
        warned = f"{name} has changed: restart gmeshd to use the new value" in log_lines
        if all_options()[name.lower()].reloadable:
            started = Directory(desk.base).server()
            assert now() == in_force(started, mesh_settings(started, "655"), route_settings(started, tap=False))
            assert now() != before
            assert not warned
        else:
            assert now() == before
            assert warned
    assert not [text for text in log_lines if "restart" in text and not text.startswith(f"{name} ")]


def test_what_is_as_it_was_at_the_start_needs_no_restart(desk: Desk, log_lines: list[str]) -> None:
    desk.write("tinc.conf", "Name = a\nConnectTo = b\nPingTimeout = 5\nMode = hub\n")
    assert desk.reloader.reload()
    assert not any("restart" in text for text in log_lines)
