"""Invitations between gmesh and tinc 1.1pre18, in all four directions, by IPv4, IPv6 and a host name."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from daemon_lab import BIN, SECONDS, TINC11, Mesh, Node, wait_for

needs_tinc = pytest.mark.skipif(
    not TINC11.exists(), reason="NOT TESTED: tinc 1.1 is not unpacked on this machine, see tools/peers"
)
KINDS = [
    pytest.param("gmesh", "gmesh"),
    pytest.param("gmesh", "tinc11", marks=needs_tinc),
    pytest.param("tinc11", "gmesh", marks=needs_tinc),
    pytest.param("tinc11", "tinc11", marks=needs_tinc),
]
"""Inviter and joiner; the last pair shows that the test asks for nothing that tinc does not do."""

SCRIPT_CREATED = """\
#!/bin/sh
env > "${0%/*}/created"
sed -i '1a Subnet = 10.9.0.7\\nIfconfig = 10.9.0.7/24\\nRoute = 10.8.0.0/16 10.9.0.1\\nRoute = 10.7.0.0/16 fd00::1' \\
  "$INVITATION_FILE"
"""
SCRIPT_ACCEPTED = """\
#!/bin/sh
env > "${0%/*}/accepted"
echo "Subnet = 10.9.0.7" >> "${0%/*}/hosts/$NODE"
"""


@dataclass
class Joined(Node):
    """A node whose directory `join` makes."""

    def __post_init__(self) -> None:
        pass

    def join(self, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        program = BIN / "gmesh" if self.kind == "gmesh" else TINC11
        command = [str(program), "-b", "-c", str(self.base), f"--pidfile={self.pid_file}", "join", *words]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.base)): path.read_bytes() for path in self.base.rglob("*") if path.is_file()}


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path)
    yield mesh
    mesh.stop()


def inviter(mesh: Mesh, kind: str, host: str = "127.0.0.1", *conf: str) -> Node:
    """A daemon that can be reached at ``host``."""
    node = mesh.node("alice", kind, ("rsa", "ed25519"))
    bind = f"BindToAddress = {host}" if host != "localhost" else "AddressFamily = ipv4"
    lines = ["Name = alice", "DeviceType = dummy", "AutoConnect = no", "Mode = switch", bind, *conf]
    (node.base / "tinc.conf").write_text("\n".join(lines) + "\n")
    text = node.host_file.read_text()
    node.host_file.write_text(text.replace("Address = 127.0.0.1", f"Address = {host}"))
    node.start()
    return node


def joiner(mesh: Mesh, kind: str, name: str = "bob") -> Joined:
    node = Joined(name, kind, mesh.where / name, mesh.where / "run", 0)
    mesh.nodes[name] = node
    return node


def invite(node: Node, name: str = "bob") -> str:
    return node.tool("invite", name).strip()


def script(node: Node, name: str, text: str) -> None:
    path = node.base / name
    path.write_text(text)
    path.chmod(0o755)


def environment(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


def key_of(path: Path) -> list[str]:
    return re.findall(r"^Ed25519PublicKey = (\S+)$", path.read_text(), re.MULTILINE)


def open_files(node: Node) -> list[str]:
    return sorted(path.name for path in (node.base / "invitations").iterdir())


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def connected(mesh: Mesh, one: Node, other: Joined) -> None:
    with (other.base / "tinc.conf").open("a") as file:
        file.write("DeviceType = dummy\nAutoConnect = no\n")
    other.start("-o", "Port=0")
    mesh.wait_connected(one, other)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
@pytest.mark.parametrize(("one", "other"), KINDS)
def test_join(mesh: Mesh, one: str, other: str, host: str) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("NOT TESTED: this machine has no IPv6")
    alice = inviter(mesh, one, host)
    bob = joiner(mesh, other)
    url = invite(alice)
    place = f"[{host}]" if ":" in host else host
    assert re.fullmatch(rf"{re.escape(place)}:{alice.port}/[A-Za-z0-9_-]{{48}}", url)
    done = bob.join(url)
    assert done.returncode == 0, done.stderr
    assert "Invitation successfully accepted." in done.stderr
    assert open_files(alice) == ["ed25519_key.priv"]
    assert (bob.base / "hosts" / "alice").read_text().strip() == alice.host_file.read_text().strip()
    key = key_of(bob.base / "hosts" / "bob")
    assert len(key) == 1
    assert (alice.base / "hosts" / "bob").read_text() == f"Ed25519PublicKey = {key[0]}\n"
    conf = (bob.base / "tinc.conf").read_text().splitlines()
    assert sorted(conf) == ["ConnectTo = alice", "Mode = switch", "Name = bob"]
    for private in ("ed25519_key.priv", "rsa_key.priv"):
        assert stat.S_IMODE((bob.base / private).stat().st_mode) == 0o600
    if one == "gmesh":
        assert "bob has joined by an invitation" in alice.log
    connected(mesh, alice, bob)


@pytest.mark.parametrize(("one", "other"), KINDS)
def test_scripts(mesh: Mesh, one: str, other: str) -> None:
    alice = inviter(mesh, one)
    script(alice, "invitation-created", SCRIPT_CREATED)
    script(alice, "invitation-accepted", SCRIPT_ACCEPTED)
    bob = joiner(mesh, other)
    url = invite(alice)
    created = environment(alice.base / "created")
    assert (created["NAME"], created["NODE"], created["INVITATION_URL"]) == ("alice", "bob", url)
    assert Path(created["INVITATION_FILE"]).is_file()
    done = bob.join(text=f"{url}\n")
    assert done.returncode == 0, done.stderr
    accepted = environment(alice.base / "accepted")
    assert (accepted["NAME"], accepted["NODE"], accepted["REMOTEADDRESS"]) == ("alice", "bob", "127.0.0.1")
    assert "NETNAME" not in accepted
    assert (alice.base / "hosts" / "bob").read_text().splitlines()[1:] == ["Subnet = 10.9.0.7"]
    assert "Subnet = 10.9.0.7" in (bob.base / "hosts" / "bob").read_text()
    assert "Could not parse gateway in Route statement" in done.stderr
    assert not (bob.base / "tinc-up").exists()
    left = bob.base / "tinc-up.invitation"
    assert not os.access(left, os.X_OK) or os.geteuid() == 0
    assert stat.S_IMODE(left.stat().st_mode) & 0o111 == 0
    lines = [line for line in left.read_text().splitlines() if line]
    assert sorted(lines) == sorted(
        [
            "#!/bin/sh",
            'ip link set "$INTERFACE" up',
            'ip addr replace 10.9.0.7/24 dev "$INTERFACE"',
            'ip route add 10.8.0.0/16 via 10.9.0.1 dev "$INTERFACE" onlink',
        ]
    )
    connected(mesh, alice, bob)


@pytest.mark.parametrize(("one", "other"), KINDS)
def test_an_invitation_counts_once(mesh: Mesh, one: str, other: str) -> None:
    alice = inviter(mesh, one)
    url = invite(alice)
    assert joiner(mesh, "gmesh").join(url).returncode == 0
    late = joiner(mesh, other, "late")
    if other == "tinc11" and one == "tinc11":
        pytest.skip("both wait for ever")
    done = late.join(url)
    assert done.returncode == 1
    assert re.search("invitation cancelled", done.stderr, re.IGNORECASE)
    assert "tinc.conf" not in late.files()
    assert "tried to use non-existing invitation" in alice.log


@pytest.mark.parametrize(("one", "other"), KINDS)
def test_an_expired_invitation_is_refused(mesh: Mesh, one: str, other: str) -> None:
    if one == other == "tinc11":
        pytest.skip("both wait for ever")
    alice = inviter(mesh, one, "127.0.0.1", "InvitationExpire = 60")
    url = invite(alice)
    (file,) = [path for path in (alice.base / "invitations").iterdir() if len(path.name) == 24]
    then = file.stat().st_mtime - 61
    os.utime(file, (then, then))
    bob = joiner(mesh, other)
    done = bob.join(url)
    assert done.returncode == 1
    wait_for(partial(alice.said, "tried to use expired invitation"), "alice says so")
    assert "tinc.conf" not in bob.files()


@needs_tinc
def test_each_tool_lists_the_invitations_of_the_other(mesh: Mesh) -> None:
    """The same directory, both tools."""
    alice = inviter(mesh, "gmesh")
    invite(alice, "bob")
    command = [str(TINC11), "-c", str(alice.base), f"--pidfile={alice.pid_file}"]
    by_tinc = subprocess.run([*command, "invite", "carol"], capture_output=True, text=True, timeout=30, check=True)
    listed = subprocess.run([*command, "dump", "invitations"], capture_output=True, text=True, timeout=30, check=True)
    assert sorted(alice.dump("invitations")) == sorted(listed.stdout.splitlines())
    assert [line.split()[1] for line in sorted(listed.stdout.splitlines(), key=lambda line: line.split()[1])] == [
        "bob",
        "carol",
    ]
    carol = joiner(mesh, "gmesh", "carol")
    assert carol.join(by_tinc.stdout.strip()).returncode == 0


@pytest.mark.parametrize("kind", ["gmesh", pytest.param("tinc11", marks=needs_tinc)])
def test_a_daemon_without_a_key_refuses(mesh: Mesh, kind: str) -> None:
    alice = inviter(mesh, kind)
    bob = joiner(mesh, "gmesh")
    done = bob.join(f"127.0.0.1:{alice.port}/{'A' * 48}")
    assert done.returncode == 1
    assert "Could not connect to inviter" in done.stderr
    assert "Got invitation from" in alice.log
    assert "don't have an invitation key" in alice.log
    assert bob.files() == {}


@pytest.mark.parametrize("kind", ["gmesh", pytest.param("tinc11", marks=needs_tinc)])
def test_another_inviter_than_the_url_means(mesh: Mesh, kind: str) -> None:
    alice = inviter(mesh, kind)
    url = invite(alice)
    place, _, secret = url.partition("/")
    bob = joiner(mesh, "gmesh")
    done = bob.join(f"{place}/{'A' * 24}{secret[24:]}")
    assert done.returncode == 1
    assert "Peer has an invalid key" in done.stderr
    assert bob.join(url, "more").returncode == 1
    assert bob.join(url).returncode == 0


@pytest.mark.parametrize("kind", ["gmesh", pytest.param("tinc11", marks=needs_tinc)])
def test_an_invitation_made_before_the_daemon_runs(mesh: Mesh, kind: str) -> None:
    """And one whose key is made while it runs, which needs no reload of gmeshd."""
    alice = inviter(mesh, kind)
    alice.end()
    url = subprocess.run(
        [str(BIN / "gmesh"), "-c", str(alice.base), f"--pidfile={alice.pid_file}", "invite", "bob"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    ).stdout.strip()
    alice.start()
    bob = joiner(mesh, "gmesh")
    assert bob.join(url).returncode == 0


def test_a_key_that_the_running_daemon_was_not_told_of(mesh: Mesh, tmp_path: Path) -> None:
    alice = inviter(mesh, "gmesh")
    command = [str(BIN / "gmesh"), "-c", str(alice.base), f"--pidfile={tmp_path / 'none.pid'}", "invite", "bob"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    assert "reload" in done.stderr
    assert joiner(mesh, "gmesh").join(done.stdout.strip()).returncode == 0
