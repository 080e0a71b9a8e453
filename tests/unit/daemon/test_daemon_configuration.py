"""From files to what the rooms are given."""

from __future__ import annotations

import functools
import socket as std_socket
from pathlib import Path

import pytest

from gmesh.config.address_cache import AddressCache
from gmesh.config.directory import Directory
from gmesh.crypto.rsa import RsaPrivateKey
from gmesh.daemon.configuration import (
    credentials,
    dial_candidates,
    mesh_settings,
    option_bits,
    route_settings,
    socket_options,
)
from gmesh.errors import ConfigError, GmeshError, PeerError
from gmesh.mesh.settings import MeshSettings
from gmesh.values import MTU, OPTION_CLAMP_MSS, OPTION_INDIRECT, OPTION_PMTU, OPTION_TCPONLY, Address, Subnet


@functools.cache
def key() -> RsaPrivateKey:
    return RsaPrivateKey.generate(1024)


def directory(base: Path, tinc_conf: str = "", own: str = "", **hosts: str) -> Directory:
    (base / "hosts").mkdir(exist_ok=True)
    (base / "tinc.conf").write_text("Name = a\n" + tinc_conf)
    (base / "hosts" / "a").write_text(own)
    for name, text in hosts.items():
        (base / "hosts" / name).write_text(text)
    return Directory(base)


def test_defaults(tmp_path: Path) -> None:
    server = directory(tmp_path, own="Subnet = 10.0.0.1\n").server()
    settings = mesh_settings(server, "1234")
    assert (settings.name, settings.port, settings.subnets) == ("a", "1234", frozenset({Subnet.parse("10.0.0.1")}))
    assert (settings.ping_interval, settings.ping_timeout, settings.key_expire) == (60, 5, 3600)
    assert settings.options == OPTION_PMTU | OPTION_CLAMP_MSS
    assert settings.mtu_limit == MTU
    assert route_settings(server, tap=False).mode == "router"
    found = socket_options(server)
    assert (list(found.addresses), found.port, found.family) == ([], "655", std_socket.AF_UNSPEC)


def test_sockets(tmp_path: Path) -> None:
    text = "BindToAddress = 10.1.0.1\nBindToAddress = * 700\nListenAddress = fd00::1 701\nAddressFamily = ipv6\n"
    found = socket_options(directory(tmp_path, text, "Port = 7000\n").server())
    assert list(found.addresses) == [("10.1.0.1", None), ("*", "700")]
    assert list(found.listen_only) == [("fd00::1", "701")]
    assert (found.port, found.family) == ("7000", std_socket.AF_INET6)


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("", OPTION_PMTU | OPTION_CLAMP_MSS),
        ("IndirectData = yes\n", OPTION_INDIRECT | OPTION_PMTU | OPTION_CLAMP_MSS),
        ("ClampMSS = no\nPMTUDiscovery = no\n", 0),
    ],
)
def test_own_bits(tmp_path: Path, text: str, bits: int) -> None:
    assert option_bits(directory(tmp_path, text).server()) == bits


def test_tcp_only_is_indirect_and_has_no_path_to_measure(tmp_path: Path) -> None:
    where = directory(
        tmp_path, "", b="TCPOnly = yes\n" + key().public.to_pem(), c="ClampMSS = no\n" + key().public.to_pem()
    )
    found = credentials(where.server(), "b")
    assert found.options & (OPTION_TCPONLY | OPTION_INDIRECT) == OPTION_TCPONLY | OPTION_INDIRECT
    assert not found.options & OPTION_PMTU
    assert found.public_key == key().public
    assert not credentials(where.server(), "c").options & OPTION_CLAMP_MSS


def test_credentials_of_whom_we_cannot_know(tmp_path: Path) -> None:
    where = directory(tmp_path, b="", c="-----BEGIN RSA PUBLIC KEY-----\nnonsense\n-----END RSA PUBLIC KEY-----\n")
    for name in ("nobody", "../b", "b", "c"):
        with pytest.raises(PeerError):
            credentials(where.server(), name)


def test_credentials_differ_when_anything_that_matters_does(tmp_path: Path) -> None:
    pem = key().public.to_pem()
    where = directory(tmp_path, b=pem)
    before = credentials(where.server(), "b")
    directory(tmp_path, b="Subnet = 10.0.0.9\nAddress = 10.1.1.1\n# a comment\n" + pem)
    assert credentials(where.server(), "b") == before
    for line in ("IndirectData = yes", "TCPOnly = yes", "ClampMSS = no", "Weight = 7"):
        directory(tmp_path, b=f"{line}\n{pem}")
        assert credentials(where.server(), "b") != before, line
    directory(tmp_path, b=RsaPrivateKey.generate(1024).public.to_pem())
    assert credentials(where.server(), "b") != before


def test_candidates_are_in_file_order_with_their_ports(tmp_path: Path) -> None:
    where = directory(tmp_path, b="Address = one.example\nPort = 700\nAddress = fd00::1 701\n")
    assert dial_candidates(where, "b") == [("one.example", "700"), ("fd00::1", "701")]
    with pytest.raises(GmeshError, match="no host file"):
        dial_candidates(where, "c")


def test_limits_of_peers(tmp_path: Path) -> None:
    server = directory(tmp_path, own="PMTU = 1200\n", b="PMTU = 1300\n", c="").server()
    assert mesh_settings(server, "655").peer_mtu_limits == {"b": 1300}


@pytest.mark.parametrize("line", ["Cipher = rot13", "Digest = crc32"])
def test_algorithms_that_do_not_exist(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match="Unrecognized"):
        mesh_settings(directory(tmp_path, line + "\n").server(), "655")


def test_weight_comes_from_the_host_file_and_then_from_our_own_files(tmp_path: Path) -> None:
    pem = key().public.to_pem()
    where = directory(tmp_path, "Weight = 9\n", b="Weight = 7\n" + pem, c=pem)
    server = where.server()
    assert (credentials(server, "b").weight, credentials(server, "c").weight) == (7, 9)


def test_strict_subnets_are_those_of_all_other_host_files(tmp_path: Path) -> None:
    files = {"b": "Subnet = 10.2.0.0/16\nSubnet = nonsense\n", "c": "", "d": "Subnet = fd00:4::/32#3\n"}
    expected = {
        "b": frozenset({Subnet.parse("10.2.0.0/16")}),
        "d": frozenset({Subnet.parse("fd00:4::/32#3")}),
    }
    for option, wanted in (
        ("StrictSubnets", expected),
        ("TunnelServer", expected),
        ("Broadcast = no\nDirectOnly", None),
    ):
        server = directory(tmp_path, f"{option} = yes\n", "Subnet = 10.1.0.0/16\n", **files).server()
        settings = mesh_settings(server, "655")
        assert settings.host_subnets == wanted
        assert settings.tunnel_server == (option == "TunnelServer")


@pytest.mark.parametrize(
    ("text", "key_file", "automatic"),
    [
        ("", False, False),
        ("", True, True),
        ("ExperimentalProtocol = no\n", True, False),
        ("ExperimentalProtocol = NO\n", True, False),
        ("ExperimentalProtocol = yes\n", True, True),
        ("AutoConnect = no\nLocalDiscovery = no\n", True, False),
        ("AutoConnect = yes\nLocalDiscovery = yes\n", False, True),
        ("ExperimentalProtocol = no\nAutoConnect = yes\nLocalDiscovery = yes\n", True, True),
    ],
)
def test_what_only_tinc_11_does_unasked_is_done_where_its_protocol_is_spoken(
    tmp_path: Path, text: str, key_file: bool, automatic: bool
) -> None:
    if key_file:
        (tmp_path / "ed25519_key.priv").write_text("")
    settings = mesh_settings(directory(tmp_path, text).server(), "655")
    assert (settings.auto_connect, settings.local_discovery) == (automatic, automatic)


def test_autoconnect_knows_the_nodes_whose_keys_we_have(tmp_path: Path) -> None:
    pem, short = key().public.to_pem(), f"Ed25519PublicKey = {'A' * 43}\n"
    base = directory(
        tmp_path,
        "AutoConnect = yes\nConnectTo = b\n",
        pem,
        b=f"Address = 10.0.0.1\n{pem}",
        c=pem,
        d=short,
        e="Port = 1\n",
    )
    settings = mesh_settings(base.server(), "655")
    assert settings.acquaintances == {"b": True, "c": False, "d": False}
    assert settings.connect_to == frozenset({"b"})
    AddressCache(base).add("c", Address("10.0.0.2", "655"))
    assert mesh_settings(base.server(), "655").acquaintances["c"] is True
    assert mesh_settings(directory(tmp_path, "AutoConnect = no\n").server(), "655").acquaintances == {}


def test_times_of_discovery(tmp_path: Path) -> None:
    text = (
        "UDPDiscovery = no\nUDPDiscoveryInterval = 3\nUDPDiscoveryKeepaliveInterval = 7\nUDPDiscoveryTimeout = 20\n"
        "UDPInfoInterval = 6\nMTUInfoInterval = 8\n"
    )
    settings = mesh_settings(directory(tmp_path, text).server(), "655")
    assert (settings.udp_discovery, settings.udp_discovery_interval, settings.udp_discovery_keepalive) == (False, 3, 7)
    assert (settings.udp_discovery_timeout, settings.udp_info_interval, settings.mtu_info_interval) == (20, 6, 8)
    before = MeshSettings("a")
    settings = mesh_settings(directory(tmp_path).server(), "655")
    for name in ("udp_discovery", "udp_discovery_interval", "udp_discovery_keepalive", "udp_discovery_timeout"):
        assert getattr(settings, name) == getattr(before, name)
    assert (settings.udp_info_interval, settings.mtu_info_interval) == (5, 5)
