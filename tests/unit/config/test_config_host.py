"""Other nodes' host files (config 4, 5, 10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmesh.config.directory import Directory
from gmesh.config.host import Host, HostAddress
from gmesh.config.lexer import parse_overrides
from gmesh.config.notices import Level
from gmesh.errors import ConfigError
from gmesh.values import Subnet
from tests.unit.config.net_directory import make


def host(base: Path, text: str | bytes, *overrides: str) -> Host:
    make(base, {"hosts/b": text})
    return Directory(base, None, parse_overrides(overrides)).host("b")


def test_an_empty_host_file(tmp_path: Path) -> None:
    peer = host(tmp_path, "")
    assert (peer.addresses, peer.subnets, peer.port) == ([], [], "655")
    assert (peer.weight, peer.pmtu, peer.tcp_only, peer.indirect_data) == (None, None, None, None)
    assert (peer.clamp_mss, peer.pmtu_discovery, peer.notices) == (None, None, [])


def test_everything_in_a_host_file(tmp_path: Path) -> None:
    peer = host(
        tmp_path,
        "Address = vpn.example.org\nAddress = 10.0.0.1  700\nAddress = fd00::1 tinc\nPort = 656\n"
        "Subnet = 10.0.0.0/8#3\nSubnet = fd00::/16\nSubnet = 2:0:0:0:0:1\n"
        "TCPOnly = no\nIndirectData = yes\nClampMSS = no\nPMTUDiscovery = yes\nWeight = -5\nPMTU = 1400\n",
    )
    assert peer.addresses == [
        HostAddress("vpn.example.org"),
        HostAddress("10.0.0.1", "700"),
        HostAddress("fd00::1", "tinc"),
    ]
    assert peer.subnets == [Subnet.parse(text) for text in ("10.0.0.0/8#3", "fd00::/16", "02:00:00:00:00:01")]
    assert (peer.port, peer.weight, peer.pmtu) == ("656", -5, 1400)
    assert (peer.tcp_only, peer.indirect_data, peer.clamp_mss, peer.pmtu_discovery) == (False, True, False, True)
    assert peer.notices == []


def test_overrides_for_that_node_come_first(tmp_path: Path) -> None:
    peer = host(
        tmp_path, "Address = one\nPort = 1\n", "b.Address=two 2", "b.Port=3", "c.Port=4", "B.Port=5", "Mode=hub"
    )
    assert peer.addresses == [HostAddress("two", "2"), HostAddress("one")]
    assert peer.port == "3"


def test_server_options_do_not_belong_there(tmp_path: Path) -> None:
    (notice,) = host(tmp_path, "Port = 1\nConnectTo = x\n").notices
    assert (notice.level, notice.line) == (Level.NOTICE, 2)


def test_it_is_read_anew_each_time(tmp_path: Path) -> None:
    directory = Directory(make(tmp_path, {"hosts/b": "Port = 1\n"}))
    assert directory.host("b").port == "1"
    (tmp_path / "hosts" / "b").write_text("Port = 2\n")
    assert directory.host("b").port == "2"


def test_missing_and_impossible_hosts(tmp_path: Path) -> None:
    directory = Directory(make(tmp_path, {}))
    with pytest.raises(ConfigError, match="Cannot open config file"):
        directory.host("b")
    with pytest.raises(ConfigError, match="no node name"):
        directory.host("../tinc.conf")


def test_host_names_skips_what_is_no_node(tmp_path: Path) -> None:
    files = dict.fromkeys(("hosts/b", "hosts/a", "hosts/a~", "hosts/a-up", "hosts/a.bak", "hosts/dir/x"), "")
    directory = Directory(make(tmp_path, files))
    assert directory.host_names() == ["a", "b"]
    assert directory.host_exists("a")
    assert not directory.host_exists("dir")
    assert not directory.host_exists("a-up")
    assert Directory(tmp_path / "nowhere").host_names() == []
