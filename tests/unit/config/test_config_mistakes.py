"""A directory with every kind of mistake: each is named with file, line, and what is allowed (requirement 10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmesh.config.check import check
from gmesh.config.directory import Directory
from gmesh.config.notices import Level
from gmesh.config.settings import all_options
from gmesh.errors import ConfigError
from gmesh.proto import compression
from tests.unit.config.net_directory import loud, make, server

FATAL = [
    ("Mode = bridge", "Mode", ["Invalid routing mode!", "router", "switch", "hub"]),
    ("Forwarding = maybe", "Forwarding", ["Invalid forwarding mode!", "off", "internal", "kernel"]),
    ("Broadcast = all", "Broadcast", ["Invalid broadcast mode!", "no", "mst", "direct"]),
    ("AddressFamily = ipx", "AddressFamily", ["Invalid address family!", "ipv4", "ipv6", "any"]),
    ("DeviceType = tape", "DeviceType", ["Unknown device type!", "tun", "dummy"]),
    ("DeviceType = uml", "DeviceType", ["Unknown device type!", "uml"]),
    ("ProcessPriority = Extreme", "ProcessPriority", ["Invalid priority!", "Low", "Normal", "High"]),
    ("Sandbox = maybe", "Sandbox", ["Bad sandbox value!", "off"]),
    ("Sandbox = normal", "Sandbox", ["not supported on this platform"]),
    ("MaxTimeout = 0", "MaxTimeout", ["Bogus maximum timeout!", "at least 1"]),
    ("MinTimeout = -1", "MinTimeout", ["Bogus minimum timeout!", "at least 0"]),
    ("MaxConnectionBurst = 0", "MaxConnectionBurst", ["cannot be negative!", "at least 1"]),
    ("UDPRcvBuf = -1", "UDPRcvBuf", ["cannot be negative!"]),
    ("UDPSndBuf = -1", "UDPSndBuf", ["cannot be negative!"]),
    ("ReplayWindow = -1", "ReplayWindow", ["cannot be negative!"]),
    ("Cipher = rot13", "Cipher", ["Unrecognized cipher type!", "aes-256-cbc", "none"]),
    ("Digest = crc32", "Digest", ["Unrecognized digest type!", "sha256", "none"]),
    ("MACLength = -1", "MACLength", ["Bogus MAC length!"]),
    ("Cipher = aes-256-ctr", "Cipher", ["Cipher = aes-256-ctr", "same key stream", "choose a CBC cipher"]),
    ("Cipher = AES-128-OFB", "Cipher", ["aes-128-ofb is a stream cipher"]),
    ("Proxy = socks6 localhost 1", "Proxy", ["Unknown proxy type socks6!", "socks5 HOST PORT"]),
    ("Proxy = http localhost", "Proxy", ["Host and port argument expected for proxy!"]),
    ("Proxy = exec", "Proxy", ["Argument expected for proxy type exec!"]),
    ("Compression = 13", "Compression", ["Bogus compression level!", "0 to 12"]),
    ("Subnet = 10.0.0.1/8", "Subnet", ["Network address and prefix length do not match", "10.0.0.1/8"]),
    ("Subnet = fd00::1/64", "Subnet", ["Network address and prefix length do not match"]),
    ("Subnet = 10.0.0.0/33", "Subnet", ["Subnet expected", "between 0 and 32"]),
    ("Subnet = lan", "Subnet", ["Subnet expected", "IPv4"]),
    ("Subnet = 10.0.0.0/8#heavy", "Subnet", ["Subnet expected", "heavy"]),
    ("Port", "Port", ["No value for variable `Port'"]),
    ("Name2\x01 = a", "", ["control character 0x01"]),
]


@pytest.mark.parametrize(("line", "key", "words"), FATAL, ids=[line for line, _, _ in FATAL])
def test_mistakes_that_forbid_a_start(tmp_path: Path, line: str, key: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        server(tmp_path, f"Name = a\n\n{line}\n")
    error = caught.value
    assert (error.file, error.line, error.key) == (f"{tmp_path}/tinc.conf", 3, key)
    assert str(error).startswith(f"{tmp_path}/tinc.conf line 3: ")
    for word in words:
        assert word in error.message


SURVIVED: list[tuple[str, Level, list[str]]] = [
    ("TCPOnly = true", Level.ERROR, ['"yes" or "no" expected', "TCPOnly", "true"]),
    ("PingInterval = often", Level.ERROR, ["Integer expected", "PingInterval", "the default is used"]),
    ("MaxTimeout = long", Level.ERROR, ["Integer expected", "MaxTimeout"]),
    ("KeyExpire = 0", Level.ERROR, ["KeyExpire", "at least 1"]),
    ("FWMark = 99999999999", Level.ERROR, ["FWMark", "0 to 4294967295"]),
    ("Port = 70000", Level.ERROR, ["Port", "70000", "number or service name"]),
    ("Address = a b c", Level.ERROR, ["Address", "optionally a blank and a port", "ignored"]),
    ("BindToAddress = * 99999", Level.ERROR, ["BindToAddress", "ignored"]),
    ("ConnectTo = not/a/name", Level.ERROR, ["not/a/name", "hosts/"]),
    ("PortNumber = 5", Level.WARNING, ["PortNumber", "not a known option"]),
    ("PingIntervall = 5", Level.WARNING, ["did you mean PingInterval?"]),
    ("VDEPort = 60", Level.WARNING, ["VDEPort = 60", "not effective"]),
    ("UPnP = udponly", Level.WARNING, ["UPnP = udponly", "not effective"]),
    ("-----BEGIN RSA PUBLIC KEY-----", Level.WARNING, ["no END line"]),
    ("= 5", Level.WARNING, ["no variable name"]),
    (" Port = 5", Level.NOTICE, ["blanks precede it"]),
]


@pytest.mark.parametrize(("line", "level", "words"), SURVIVED, ids=[line for line, _, _ in SURVIVED])
def test_mistakes_that_are_survived(tmp_path: Path, line: str, level: Level, words: list[str]) -> None:
    ours = server(tmp_path, f"Name = a\n\n{line}\n")
    (notice,) = ours.notices
    assert (notice.level, notice.file, notice.line) == (level, f"{tmp_path}/tinc.conf", 3)
    for word in words:
        assert word in notice.text


@pytest.mark.parametrize(
    "line",
    [
        "StrictSubnets = yes",
        "TunnelServer = YES",
        "LocalDiscovery = yes",
        "BroadcastSubnet = 10.0.0.255",
        "AutoConnect = yes",
        "ExperimentalProtocol = no",
        "UDPDiscovery = no",
        "UDPDiscoveryInterval = 5",
        "Proxy = none",
        "Sandbox = off",
        "Mode = router",
        "Mode = switch",
        "MACExpire = 30",
        "DeviceType = dummy",
        "DeviceType = TAP",
        "Compression = 9",
        "Proxy = socks5 localhost 1080",
        "Proxy = exec ncat $REMOTEADDRESS $REMOTEPORT",
        "UPnP = no",
        "DisableBuggyPeers = yes",
        "IffOneQueue = yes",
    ],
)
def test_what_asks_for_nothing_is_not_warned_about(tmp_path: Path, line: str) -> None:
    assert server(tmp_path, f"Name = a\n{line}\n").notices == []


@pytest.mark.parametrize(("level", "package"), [(10, "lzallright"), (11, "lzallright"), (12, "lz4")])
def test_compression_without_its_package_forbids_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int, package: str
) -> None:
    monkeypatch.setattr(compression, "_lzo", lambda: None)
    monkeypatch.setattr(compression, "_lz4", lambda: None)
    with pytest.raises(ConfigError, match=package) as caught:
        server(tmp_path, f"Name = a\nCompression = {level}\n")
    assert (caught.value.line, caught.value.key) == (2, "Compression")
    assert "pip install 'gmesh[compress]'" in caught.value.message


def test_values_not_acted_on_give_way(tmp_path: Path) -> None:
    ours = server(tmp_path, "Name = a\nVDEPort = 60\n")
    assert ours.get_int("VDEPort") == 0


def test_every_ineffective_option_warns_when_it_asks_for_something(tmp_path: Path) -> None:
    asking = {"bool": ("yes", "no"), "int": ("77", "77"), "string": ("x y", "x y"), "path": ("x", "x")}
    for option in all_options().values():
        if option.effective is False and option.type in asking:
            yes, no = asking[option.type]
            value = no if option.idle_value == "yes" else yes
            messages = loud(server(tmp_path, f"Name = a\n{option.name} = {value}\n"))
            assert len(messages) == 1, option.name
            assert "not effective" in messages[0]


def test_bad_value_of_a_peer_is_never_fatal(tmp_path: Path) -> None:
    base = make(
        tmp_path,
        {
            "tinc.conf": "Name = a\n",
            "hosts/a": "",
            "hosts/b": "Subnet = 10.0.0.1/8\nCipher = rot13\nWeight\nMode = hub\nPort=1",
        },
    )
    host = Directory(base).host("b")
    assert host.port == "1"
    assert host.subnets == []
    assert sorted(notice.line for notice in host.notices) == [1, 2, 3, 4]
    assert all(notice.file == f"{base}/hosts/b" for notice in host.notices)


def test_bad_lines_of_conf_d_forbid_a_start_and_of_the_own_host_file_do_not(tmp_path: Path) -> None:
    ours = server(tmp_path, own="Port\nSubnet = 10.0.0.0/8\n")
    assert loud(ours) == [f"{tmp_path}/hosts/a line 1: No value for variable `Port'"]
    assert len(ours.subnets) == 1
    with pytest.raises(ConfigError, match=r"x\.conf line 1: No value for variable `Port'"):
        server(tmp_path, files={"conf.d/x.conf": "Port\n"})


def test_unreadable_server_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Cannot open config file .*tinc\.conf: No such file"):
        Directory(tmp_path).server()
    make(tmp_path, {"tinc.conf": "Name = a\n", "hosts/a": ""})
    (tmp_path / "conf.d" / "d.conf").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"d\.conf: Is a directory"):
        Directory(tmp_path).server()


def test_messages_are_bounded_and_printable(tmp_path: Path) -> None:
    ours = server(
        tmp_path, b"Name = a\nTCPOnly = " + b"\xff" * 5000 + b"\nX\xfe = 1\nConnectTo = " + b"\xe9" * 3000 + b"\n"
    )
    for notice in ours.notices:
        assert len(notice.text) < 1000
        notice.text.encode("utf-8")
    assert len(ours.notices) == 3


def test_odd_file_names_are_printable(tmp_path: Path) -> None:
    odd = b"\xff\n.conf".decode("utf-8", "surrogateescape")
    with pytest.raises(ConfigError) as caught:
        server(tmp_path, b"Name = a\nPrivateKeyFile = \x80\n", files={f"conf.d/{odd}": "Port\n", f"hosts/{odd}": ""})
    assert str(caught.value) == f"{tmp_path}/conf.d/\\udcff\\n.conf line 1: No value for variable `Port'"
    for notice in check(Directory(tmp_path)):
        assert str(notice).isprintable()


def test_a_file_of_another_kind_does_not_flood_the_log(tmp_path: Path) -> None:
    lines = "".join(f"word{number} = 1\n" for number in range(5000))
    messages = loud(server(tmp_path, f"Name = a\n{lines}"))
    assert len(messages) == 21
    assert "tinc.conf line 22: 4980 more options" in messages[-1]
