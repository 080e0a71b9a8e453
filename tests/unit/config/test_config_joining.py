"""What a joiner makes of an invitation: hostile ones get nowhere but into the new directory."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.config import joined
from gmesh.config.directory import Directory
from gmesh.config.joined import NewDirectory
from gmesh.config.joining import MAX_REMARKS, Joining, read_invitation
from gmesh.errors import ConfigError
from gmesh.values import is_node_name
from tests.vectors.sptps import ed25519_key

KEY = ed25519_key("joiner")
SEPARATOR = "#---------------------------------------------------------------#"
USUAL = f"""\
Name = bob
NetName = net
ConnectTo = alice
mode = switch

# a comment
Subnet = 10.0.0.2
Ifconfig = 10.0.0.2/24
Route = 10.1.0.0/16 10.0.0.1
Name = bob
Weight = 3
{SEPARATOR}
Name = alice
Address = alice.example
-----BEGIN RSA PUBLIC KEY-----
abc
-----END RSA PUBLIC KEY-----
{SEPARATOR}
Name = carol
Subnet = 10.0.0.3
"""


def read(text: str, *, force: bool = False) -> Joining:
    return read_invitation(text.encode(), force=force)


def test_usual() -> None:
    joining = read(USUAL)
    assert (joining.name, joining.netname) == ("bob", "net")
    assert joining.server == ["ConnectTo = alice", "Mode = switch"]
    assert joining.host == ["Subnet = 10.0.0.2", "Weight = 3"]
    assert joining.remarks == []
    assert joining.hosts == {
        "alice": "Address = alice.example\n-----BEGIN RSA PUBLIC KEY-----\nabc\n-----END RSA PUBLIC KEY-----\n",
        "carol": "Subnet = 10.0.0.3\n",
    }
    assert joining.script.split("\n") == [
        "#!/bin/sh",
        "",
        'ip link set "$INTERFACE" up',
        'ip addr replace 10.0.0.2/24 dev "$INTERFACE"',
        'ip route add 10.1.0.0/16 via 10.0.0.1 dev "$INTERFACE" onlink',
        "",
    ]


@pytest.mark.parametrize("text", [USUAL, USUAL.replace("\n", "\r\n")])
def test_line_ends_do_not_matter(text: str) -> None:
    assert read(text) == read(USUAL)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "No Name found"),
        ("\nName = bob\n", "No Name found"),
        ("Mode = hub\n", "No Name found"),
        ("Name = ../bob\n", "Invalid Name found"),
        ("Name =\n", "Invalid Name found"),
        ("Name = $HOST\n", "Invalid Name found"),
        ("Name = bob\nName = ../../etc/passwd\nroot\n", "Invalid Name found"),
        ("Name = bob\nName = alice-up\n#!/bin/sh\n", "Invalid Name found"),
        ("Name = bob\nName = alice/../bob\n", "Invalid Name found"),
        ("Name = bob\nName = alice\nx\nName = bob\nPort = 1\n", "our own host config file"),
        ("Name = bob\nNetName = ../x\n", "Unsafe NetName"),
        ("Name = bob\nNetName = a b\n", "Unsafe NetName"),
        ("Name = bob\nNetName = .\n", "Unsafe NetName"),
        ("Name = bob\nNetName = $(reboot)\n", "Unsafe NetName"),
        (f"Name = bob\nNetName = {'x' * 256}\n", "Unsafe NetName"),
    ],
)
def test_nothing_comes_of_it(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read(text)


@pytest.mark.parametrize(
    ("line", "remark"),
    [
        ("ScriptsInterpreter = /bin/evil", "Ignoring unsafe variable 'ScriptsInterpreter' in invitation."),
        ("proxy = exec evil", "Ignoring unsafe variable 'Proxy' in invitation."),
        ("Device = /dev/sda", "Ignoring unsafe variable 'Device' in invitation."),
        ("Ed25519PublicKeyFile = /etc/shadow", "Ignoring unsafe variable 'Ed25519PublicKeyFile' in invitation."),
        ("Foo = bar", "Ignoring unknown variable 'Foo' in invitation."),
        ("Mode = evil", "Ignoring variable 'Mode' in invitation: "),
        ("ConnectTo = ../x", "Ignoring variable 'ConnectTo' in invitation: "),
        ("Subnet = $(reboot)", "Ignoring variable 'Subnet' in invitation: "),
        ("Mode = hub\x1b[2J", "Ignoring a line with a control character in invitation."),
        ("\x07 = x", "Ignoring a line with a control character in invitation."),
    ],
)
def test_lines_that_are_left_out(line: str, remark: str) -> None:
    joining = read(f"Name = bob\n{line}\n")
    assert len(joining.remarks) == 1
    assert joining.remarks[0].startswith(remark)
    assert joining.remarks[0].isprintable()
    assert joining == Joining("bob", remarks=joining.remarks)


def test_force_takes_unsafe_but_no_unknown_variables() -> None:
    joining = read("Name = bob\nDevice = /dev/net/tun\nPort = 700\nFoo = bar\n", force=True)
    assert (joining.server, joining.host) == (["Device = /dev/net/tun"], ["Port = 700"])
    assert joining.remarks == [
        "Warning: unsafe variable 'Device' in invitation.",
        "Warning: unsafe variable 'Port' in invitation.",
        "Ignoring unknown variable 'Foo' in invitation.",
    ]


def test_remarks_are_bounded() -> None:
    joining = read("Name = bob\n" + "Foo = bar\n" * 10_000)
    assert len(joining.remarks) == MAX_REMARKS + 1
    assert joining.remarks[-1].startswith("9950 more")


DEV = '"$INTERFACE"'


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("Ifconfig = dhcp", [f"dhclient -nw {DEV}"]),
        ("Ifconfig = dhcp6", [f"dhclient -6 -nw {DEV}"]),
        (
            "Ifconfig = slaac",
            [f'echo 1 >"/proc/sys/net/ipv6/conf/$INTERFACE/{name}"' for name in ("accept_ra", "autoconf")],
        ),
        ("Ifconfig = 10.0.0.2", [f"ip addr replace 10.0.0.2 dev {DEV}"]),
        ("Ifconfig = fd00:0::2/64", [f"ip addr replace fd00::2/64 dev {DEV}"]),
        ("Ifconfig = 02:00:00:00:00:01", []),
        ("Route = fd00::/8", [f"ip route add fd00::/8 dev {DEV}"]),
        ("Route = fd00::/8 fd01::1", [f"ip route add fd00::/8 via fd01::1 dev {DEV} onlink"]),
    ],
)
def test_commands(line: str, commands: list[str]) -> None:
    joining = read(f"Name = bob\n{line}\n")
    assert joining.commands == commands
    assert joining.remarks == []


@pytest.mark.parametrize(
    ("line", "remark"),
    [
        ("Ifconfig = 10.0.0.2; reboot", "Could not parse address in Ifconfig statement"),
        ("Ifconfig = $(reboot)", "Could not parse address in Ifconfig statement"),
        ("Ifconfig = fe80::1%;reboot", "Could not parse address in Ifconfig statement"),
        ("Route = x", "Could not parse subnet in Route statement"),
        ("Route = 02:00:00:00:00:01", "Could not parse subnet in Route statement"),
        ("Route = 10.0.0.0/8 10.0.0.1 reboot", "Could not parse subnet in Route statement"),
        ("Route = 10.0.0.0/8 fd00::1", "Could not parse gateway in Route statement"),
        ("Route = 10.0.0.0/8 `reboot`", "Could not parse gateway in Route statement"),
        ("Route = 10.0.0.0/8 10.0.0.0/24", "Could not parse gateway in Route statement"),
    ],
)
def test_nothing_foreign_gets_into_the_script(line: str, remark: str) -> None:
    joining = read(f"Name = bob\n{line}\n")
    assert (joining.commands, joining.remarks) == ([], [remark])


LINES = st.one_of(
    st.text(),
    st.sampled_from(
        ["Name = ", "NetName = ", "Ifconfig = ", "Route = ", "Mode = ", "Subnet = ", "Name = bob", ""]
    ).flatmap(lambda head: st.text(max_size=20).map(lambda tail: head + tail)),
)


@given(st.lists(LINES, max_size=8))
def test_any_text(lines: list[str]) -> None:
    """Whatever it is: names that are names, lines that are lines, commands that a shell reads as they look."""
    data = "\n".join(["Name = bob", *lines]).encode("utf-8", "surrogatepass")
    try:
        joining = read_invitation(data)
    except ConfigError:
        return
    assert all(is_node_name(name) and name != "bob" for name in joining.hosts)
    for line in [*joining.server, *joining.host, *joining.remarks]:
        assert "\n" not in line
    for command in joining.commands:
        assert set(command.replace(DEV, "").replace("$INTERFACE", "")) <= set(
            'abcdefghijklmnopqrstuvwxyz0123456789 -:./>"_'
        )


# On disk


def write(base: Path, text: str = USUAL) -> NewDirectory:
    new = NewDirectory(base)
    new.write(read(text), KEY, text.encode())
    return new


def snapshot(base: Path) -> dict[str, bytes]:
    return {str(path.relative_to(base)): path.read_bytes() if path.is_file() else b"" for path in base.rglob("*")}


def test_files(tmp_path: Path) -> None:
    new = write(tmp_path / "a" / "net")
    assert sorted(snapshot(tmp_path / "a" / "net")) == [
        "cache", "ed25519_key.priv", "hosts", "hosts/alice", "hosts/bob", "hosts/carol", "invitation-data",
        "tinc-up.invitation", "tinc.conf",
    ]  # fmt: skip
    assert (new.base / "invitation-data").read_text() == USUAL
    assert stat.S_IMODE((new.base / "ed25519_key.priv").stat().st_mode) == 0o600
    assert stat.S_IMODE(new.proposed_script.stat().st_mode) == 0o644
    server = Directory(new.base).server()
    assert (server.name, server.connect_to, server.get_str("Mode")) == ("bob", ["alice"], "switch")
    assert server.ed25519_public_key() == KEY.public
    new.enable_script()
    assert stat.S_IMODE(new.script.stat().st_mode) == 0o755
    assert not new.proposed_script.exists()
    assert subprocess.run(["/bin/sh", "-n", str(new.script)], check=False).returncode == 0


@pytest.mark.parametrize("name", ["tinc.conf", "hosts/bob", "ed25519_key.priv", "invitation-data"])
@pytest.mark.parametrize("link", [False, True])
def test_what_exists_is_not_touched(tmp_path: Path, name: str, *, link: bool) -> None:
    base = tmp_path / "net"
    (base / "hosts").mkdir(parents=True)
    outside = tmp_path / "outside"
    if link:
        (base / name).symlink_to(outside)
    else:
        (base / name).write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(ConfigError, match="already exists"):
        write(base)
    assert snapshot(tmp_path) == before
    assert not outside.exists()


def test_host_files_that_exist_stay(tmp_path: Path) -> None:
    (tmp_path / "net" / "hosts").mkdir(parents=True)
    (tmp_path / "net" / "hosts" / "alice").symlink_to(tmp_path / "outside")
    new = write(tmp_path / "net")
    assert new.skipped == [tmp_path / "net" / "hosts" / "alice"]
    assert not (tmp_path / "outside").exists()
    assert (tmp_path / "net" / "hosts" / "carol").exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(files: object) -> None:
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(joined, "replace_files", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "a" / "net")
    assert os.listdir(tmp_path) == []


def test_undo_takes_only_what_was_made(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "mine").write_text("x")
    new = write(tmp_path / "net")
    new.undo()
    assert snapshot(tmp_path / "net") == {"mine": b"x"}
