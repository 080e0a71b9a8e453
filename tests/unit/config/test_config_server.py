"""Our own settings: merging, precedence, dependent values (config 3, 4, 10)."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gmesh.config.notices import ConfigErrors, Level
from gmesh.errors import ConfigError
from gmesh.values import Subnet
from tests.unit.config.net_directory import loud, make, server


def test_defaults(tmp_path: Path) -> None:
    ours = server(tmp_path)
    assert ours.name == "a"
    assert (ours.get_int("PingInterval"), ours.get_int("PingTimeout")) == (60, 5)
    assert (ours.get_str("Port"), ours.get_str("Mode"), ours.get_str("DeviceType")) == ("655", "router", "tun")
    assert (ours.get_str("Cipher"), ours.get_str("Digest"), ours.get_int("MACLength")) == ("aes-256-cbc", "sha256", 4)
    assert ours.get_bool("PMTUDiscovery")
    assert ours.get_int("ReplayWindow") == 32
    assert ours.get_int("UDPRcvBuf") == 1048576
    assert not ours.is_set("UDPRcvBuf")
    assert (ours.subnets, ours.connect_to, ours.get_str("Interface")) == ([], [], "")
    assert loud(ours) == []


def test_lexical_rules_of_tinc(tmp_path: Path) -> None:
    ours = server(
        tmp_path, "nAmE = a\nPINGINTERVAL = 10x\nFWMark = 0x10\nDirectOnly = YES\nBroadcast = Yes\nMode=ROUTER\n"
    )
    assert ours.get_int("PingInterval") == 10
    assert ours.get_int("FWMark") == 0
    assert ours.get_bool("DirectOnly")
    assert (ours.get_str("Broadcast"), ours.get_str("Mode")) == ("mst", "router")


def test_tinc_conf_wins_over_conf_d_over_host_file(tmp_path: Path) -> None:
    ours = server(
        tmp_path,
        "Name = a\n\n\nPingInterval = 1\n",
        "PingInterval = 4\nPort = 4\nPMTU = 4\n",
        files={
            "conf.d/20.conf": "Port = 3\n",
            "conf.d/10.conf": "PingInterval = 2\nPort = 2\n",
            "conf.d/.conf": "Port = 9\n",
            "conf.d/x.CONF": "Port = 9\n",
            "conf.d/5.conf~": "Port = 9\n",
        },
    )
    assert (ours.get_int("PingInterval"), ours.get_str("Port"), ours.get_int("PMTU")) == (1, "2", 4)
    duplicates = [str(n) for n in ours.notices if "already set" in n.text]
    assert len(duplicates) == 4
    assert f"{tmp_path}/hosts/a line 1: PingInterval is already set by {tmp_path}/tinc.conf line 4" in duplicates[1]


def test_first_occurrence_wins_within_a_file(tmp_path: Path) -> None:
    ours = server(tmp_path, "Name = a\nPingInterval = 7\nPingInterval = 8\n")
    assert ours.get_int("PingInterval") == 7
    assert loud(ours) == [
        f"{tmp_path}/tinc.conf line 3: PingInterval is already set by {tmp_path}/tinc.conf line 2: this one is ignored"
    ]


def test_command_line_wins(tmp_path: Path) -> None:
    ours = server(
        tmp_path,
        "Name = a\nPingInterval = 7\n",
        "Port = 1\nSubnet = 10.0.0.0/8\n",
        overrides=["PingInterval=9", "a.Port=5", "a.Subnet = 10.1.0.0/16", "b.Port = 6", "Mode=router"],
    )
    assert (ours.get_int("PingInterval"), ours.get_str("Port")) == (9, "5")
    assert [str(subnet) for subnet in ours.subnets] == ["10.1.0.0/16", "10.0.0.0/8"]


def test_name_from_the_command_line_chooses_the_host_file(tmp_path: Path) -> None:
    make(tmp_path, {"hosts/b": "Port = 77\n"})
    assert server(tmp_path, overrides=["Name=b"]).get_str("Port") == "77"


def test_host_options_in_tinc_conf_and_the_reverse(tmp_path: Path) -> None:
    ours = server(tmp_path, "Name = a\nSubnet = 10.0.0.1\nTCPOnly = yes\n", "ConnectTo = b\n", files={"hosts/b": ""})
    assert ours.subnets == [Subnet.parse("10.0.0.1")]
    assert ours.connect_to == ["b"]
    assert ours.get_bool("TCPOnly")
    assert not ours.get_bool("PMTUDiscovery")


def test_missing_own_host_file_is_said(tmp_path: Path) -> None:
    make(tmp_path, {"hosts/a": ""})
    (tmp_path / "hosts" / "a").unlink()
    (tmp_path / "tinc.conf").write_text("Name = zz\n")
    from gmesh.config.directory import Directory

    (message,) = loud(Directory(tmp_path).server())
    assert f"Cannot open config file {tmp_path}/hosts/zz" in message


@pytest.mark.parametrize(
    ("text", "environ", "name"),
    [
        ("$HOST", {"HOST": "vm.example.org"}, "vm_example_org"),
        ("$MY_NAME", {"MY_NAME": "x-1_y"}, "x_1_y"),
        ("plain_1", {}, "plain_1"),
    ],
)
def test_names(tmp_path: Path, text: str, environ: dict[str, str], name: str) -> None:
    assert server(tmp_path, f"Name = {text}\n", environ=environ).name == name


def test_name_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box.lan")
    assert server(tmp_path, "Name = $HOST\n").name == "box_lan"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Name for tinc daemon required"),
        ("Name = $NOPE\n", "line 1: Invalid Name: environment variable NOPE does not exist"),
        ("Name = a-b\n", "line 1: Invalid name for myself!"),
        ("Name = $EMPTY\n", "line 1: Invalid name for myself!"),
    ],
)
def test_bad_names(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"tinc\.conf.*" + message.replace("$", "")):
        server(tmp_path, text, environ={"EMPTY": ""})


@pytest.mark.parametrize(
    ("lines", "interval", "timeout"),
    [
        ("PingInterval = 0\n", 86400, 5),
        ("PingInterval = -3\nPingTimeout = 100\n", 86400, 100),
        ("PingInterval = 10\nPingTimeout = 20\n", 10, 10),
        ("PingTimeout = 0\n", 60, 60),
    ],
)
def test_ping_times(tmp_path: Path, lines: str, interval: int, timeout: int) -> None:
    ours = server(tmp_path, "Name = a\n" + lines)
    assert (ours.get_int("PingInterval"), ours.get_int("PingTimeout")) == (interval, timeout)


def test_min_timeout_is_cut(tmp_path: Path) -> None:
    ours = server(tmp_path, "Name = a\nMinTimeout = 50\nMaxTimeout = 40\n")
    assert (ours.get_int("MinTimeout"), ours.get_int("MaxTimeout")) == (40, 40)
    assert "tinc.conf line 2" in loud(ours)[0]


def test_mac_length_is_cut_to_the_digest(tmp_path: Path) -> None:
    assert server(tmp_path, "Name = a\nDigest = none\n").get_int("MACLength") == 0
    ours = server(tmp_path, "Name = a\nDigest = SHA1\nMACLength = 30\n")
    assert (ours.get_str("Digest"), ours.get_int("MACLength")) == ("sha1", 20)
    assert "line 3" in loud(ours)[0]


def test_interface_defaults_to_the_netname_and_is_cut(tmp_path: Path) -> None:
    assert server(tmp_path, netname="office").get_str("Interface") == "office"
    assert server(tmp_path, "Name = a\nInterface = tun7\n", netname="office").get_str("Interface") == "tun7"
    ours = server(tmp_path, netname="verylongnetworkname")
    assert ours.get_str("Interface") == "verylongnetwork"
    assert "cut to 15" in loud(ours)[0]


def test_connect_to(tmp_path: Path) -> None:
    lines = "ConnectTo = b\nConnectTo = c\nConnectTo = b\nConnectTo = a\n"
    ours = server(tmp_path, "Name = a\n" + lines, files={"hosts/b": ""})
    assert ours.connect_to == ["b", "c"]
    assert loud(ours) == [
        f"{tmp_path}/tinc.conf line 3: there is no host file hosts/c yet, so no connection to c can be made",
        f"{tmp_path}/tinc.conf line 5: ConnectTo = a names this node itself and is ignored",
    ]


def test_host_name_in_connect_to_means_the_node_that_has_it(tmp_path: Path) -> None:
    files = {"hosts/b": "Address = vpn.example.org 700\n", "hosts/c": "Address = other.example.org\n"}
    ours = server(tmp_path, "Name = a\nConnectTo = VPN.example.org\n", files=files)
    assert ours.connect_to == ["b"]
    (message,) = loud(ours)
    assert "tinc.conf line 2" in message
    assert "ConnectTo = b" in message


def test_host_name_in_connect_to_that_nobody_has(tmp_path: Path) -> None:
    ours = server(tmp_path, "Name = a\nConnectTo = vpn.example.org\n", files={"hosts/b": "Address = 10.0.0.1\n"})
    assert ours.connect_to == []
    (notice,) = ours.notices
    assert (notice.level, notice.line) == (Level.ERROR, 2)
    assert "Address = vpn.example.org" in notice.text


def test_host_name_in_connect_to_that_several_have(tmp_path: Path) -> None:
    files = {"hosts/b": "Address = nat.example.org 1\n", "hosts/c": "Address = nat.example.org 2\n"}
    ours = server(tmp_path, "Name = a\nConnectTo = nat.example.org\n", files=files)
    assert ours.connect_to == []
    assert "b, c" in loud(ours)[0]


def test_legacy_directories_keep_the_defaults_of_1_0(tmp_path: Path) -> None:
    assert not server(tmp_path).get_bool("AutoConnect")


def test_several_errors_come_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        server(tmp_path, "Name = a\nMode = foo\nPort =\nForwarding = bar\n", "Subnet = 10.0.0.1/8\n")
    assert sorted((error.file, error.line) for error in caught.value.errors) == [
        (f"{tmp_path}/hosts/a", 1),
        (f"{tmp_path}/tinc.conf", 2),
        (f"{tmp_path}/tinc.conf", 3),
        (f"{tmp_path}/tinc.conf", 4),
    ]


def test_relative_key_files_start_at_the_directory(tmp_path: Path) -> None:
    ours = server(tmp_path, "Name = a\nPrivateKeyFile = keys/rsa\nEd25519PrivateKeyFile = /abs/key\n")
    assert ours.rsa_private_file == tmp_path / "keys" / "rsa"
    assert ours.ed25519_private_file == Path("/abs/key")


def test_insecure_private_key_is_warned_about(tmp_path: Path) -> None:
    key = tmp_path / "rsa_key.priv"
    key.write_text("x")
    key.chmod(0o640)
    assert "insecure file permissions for RSA private key" in loud(server(tmp_path))[0]
    key.chmod(0o700)
    assert loud(server(tmp_path)) == []
