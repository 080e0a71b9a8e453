"""gmeshd and real daemons of tinc 1.1pre18: SPTPS in both roles, gossip, upgrades, and keys of every kind."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_lab import TINCD, TINCD11, Mesh, Node, wait_for

pytestmark = pytest.mark.skipif(
    not TINCD11.exists(), reason="NOT TESTED: tinc 1.1 is not unpacked on this machine, see tools/peers"
)

BOTH = ("rsa", "ed25519")
QUIET = "AutoConnect = no"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path)
    yield mesh
    mesh.stop()


def connect(mesh: Mesh, one: Node, other: Node, *conf: str, connector: str = "a") -> None:
    """Start both, the one of that name as the one that connects."""
    for node, peer in ((one, other), (other, one)):
        ask = [f"ConnectTo = {peer.name}"] if node.name == connector else []
        own = conf if node.kind == "gmesh" else ()
        node.configure(*ask, QUIET, *own)
    for node in (one, other) if other.name == connector else (other, one):
        node.start()
    mesh.wait_connected(one, other)


def rows(node: Node, what: str) -> dict[str, str]:
    """The rows of a dump by their first word."""
    return {row.split()[0]: row for row in node.dump(what)}


def edge_options(node: Node, source: str, target: str) -> str:
    row = next(row for row in node.dump("edges") if row.startswith(f"{source} to {target} "))
    found = re.search(r"options ([0-9a-f]+)", row)
    assert found is not None
    return found[1]


def wait_subnet(node: Node, subnet: str) -> None:
    wait_for(lambda: any(subnet in row for row in node.dump("subnets")), f"{node.name} knows {subnet}")


def ed25519_lines(path: Path) -> list[str]:
    return re.findall(r"^Ed25519PublicKey = (\S+)$", path.read_text(), re.MULTILINE)


def without_ed25519(path: Path) -> None:
    """Forget somebody's Ed25519 key."""
    path.write_text(re.sub(r"^Ed25519PublicKey = .*\n", "", path.read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("connector", ["a", "b"])
@pytest.mark.parametrize("keys", [BOTH, ("ed25519",)])
def test_sptps_in_both_roles_with_and_without_rsa_keys(mesh: Mesh, connector: str, keys: tuple[str, ...]) -> None:
    a, b = mesh.node("a", "gmesh", keys), mesh.node("b", "tinc11", keys)
    mesh.introduce(a, b)
    connect(mesh, a, b, connector=connector)
    wait_subnet(a, "10.0.0.2")
    wait_subnet(b, "10.0.0.1")
    for node in (a, b):
        assert [edge_options(node, *ends) for ends in (("a", "b"), ("b", "a"))] == ["700000c"] * 2
    assert a.said("Speaking SPTPS") == 1
    # No byte of this connection is encrypted the legacy way.
    for node, peer in ((a, "b"), (b, "a")):
        status = int(rows(node, "connections")[peer].split("status")[1], 16)
        assert not status & 0xC0
    info = a.gmesh("info", "b").stdout
    assert "Protocol:     17.7" in info
    assert re.search(r"Status: .*sptps", info)
    assert a.end() == 0


@pytest.mark.parametrize("connector", ["a", "b"])
def test_rsa_keys_alone_are_spoken_as_ever(mesh: Mesh, connector: str) -> None:
    a, b = mesh.node("a", "gmesh", BOTH), mesh.node("b", "tinc11", ("rsa",))
    mesh.introduce(a, b)
    connect(mesh, a, b, connector=connector)
    wait_subnet(a, "10.0.0.2")
    wait_subnet(b, "10.0.0.1")
    assert edge_options(a, "a", "b") == "c"
    # What we can do is said on a legacy connection too, as 1.1 does.
    assert edge_options(a, "b", "a") == "700000c"


@pytest.mark.parametrize("connector", ["a", "b"])
def test_a_legacy_gmeshd_and_a_node_of_1_1(mesh: Mesh, connector: str) -> None:
    a, b = mesh.node("a", "gmesh", ("rsa",)), mesh.node("b", "tinc11", BOTH)
    mesh.introduce(a, b)
    connect(mesh, a, b, connector=connector)
    wait_subnet(b, "10.0.0.1")
    assert a.said("Speaking the legacy protocol") == 1
    assert edge_options(b, "b", "a") == "c"


@pytest.mark.skipif(TINCD is None, reason="NOT TESTED: there is no tincd (tinc 1.0) on this machine")
@pytest.mark.parametrize("connector", ["a", "b"])
def test_a_gmeshd_of_1_1_and_a_node_of_1_0(mesh: Mesh, connector: str) -> None:
    a, b = mesh.node("a", "gmesh", BOTH), mesh.node("b", "tinc")
    mesh.introduce(a, b)
    connect(mesh, a, b, connector=connector)
    wait_subnet(a, "10.0.0.2")


@pytest.mark.parametrize(("knows_a", "knows_b"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("connector", ["a", "b"])
def test_requirement_5_upgrade_from_rsa_keys(mesh: Mesh, connector: str, knows_a: bool, knows_b: bool) -> None:
    """Also where one side alone knows the other's key, which hangs for ever between two originals."""
    a, b = mesh.node("a", "gmesh", BOTH), mesh.node("b", "tinc11", BOTH)
    mesh.introduce(a, b)
    a_at_b, b_at_a = b.base / "hosts" / "a", a.base / "hosts" / "b"
    if not knows_a:
        without_ed25519(a_at_b)
    if not knows_b:
        without_ed25519(b_at_a)
    b_at_a.chmod(0o640)
    connect(mesh, a, b, connector=connector)
    wait_subnet(a, "10.0.0.2")
    wait_for(lambda: ed25519_lines(a_at_b) == ed25519_lines(a.host_file), "b has stored a's key")
    wait_for(lambda: ed25519_lines(b_at_a) == ed25519_lines(b.host_file), "a has stored b's key")
    assert b_at_a.stat().st_mode & 0o777 == 0o640
    assert edge_options(a, "a", "b") == "700000c"
    status = int(rows(a, "connections")["b"].split("status")[1], 16)
    assert not status & 0xC0


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_an_upgrade_counts_in_memory_where_the_key_cannot_be_stored() -> None:
    """As another user, who may not write into hosts/; in a directory that everybody can read."""
    where = Path(tempfile.mkdtemp(prefix="gmesh-upgrade."))
    where.chmod(0o755)
    mesh = Mesh(where)
    try:
        a, b = mesh.node("a", "gmesh", BOTH), mesh.node("b", "tinc11", BOTH)
        mesh.introduce(a, b)
        b_at_a = a.base / "hosts" / "b"
        for path in (b_at_a, b.base / "hosts" / "a"):
            without_ed25519(path)
        before = b_at_a.read_text()
        a.configure("ConnectTo = b", QUIET)
        b.configure(QUIET)
        b.start()
        a.start("-U", "nobody")
        mesh.wait_connected(a, b)
        wait_subnet(a, "10.0.0.2")
        assert edge_options(a, "a", "b") == "700000c"
        assert not int(rows(a, "connections")["b"].split("status")[1], 16) & 0xC0
        wait_for(lambda: a.said("key that b told is not stored .*Permission denied"), "a says so")
        assert b_at_a.read_text() == before
    finally:
        mesh.stop()
        shutil.rmtree(where)


@pytest.mark.parametrize("connector", ["a", "b"])
def test_a_rollback_is_refused_and_explained(mesh: Mesh, connector: str) -> None:
    a, b = mesh.node("a", "gmesh", BOTH), mesh.node("b", "tinc11", BOTH)
    mesh.introduce(a, b)
    a.configure(*(["ConnectTo = b"] if connector == "a" else []))
    b.configure("ExperimentalProtocol = no", QUIET, *(["ConnectTo = a"] if connector == "b" else []))
    b.start()
    a.start()
    wait_for(lambda: a.said("offers only the old protocol"), "a refuses")
    assert a.said(r"remove its Ed25519PublicKey from \S+/hosts/b and run: gmesh reload")
    assert a.said("Connection with b") == 0
    without_ed25519(a.base / "hosts" / "b")
    a.gmesh("reload")
    mesh.wait_connected(a, b)


def test_nobody_speaks_sptps_with_experimental_protocol_no(mesh: Mesh) -> None:
    a, b = mesh.node("a", "gmesh", BOTH), mesh.node("b", "tinc11", BOTH)
    mesh.introduce(a, b)
    without_ed25519(b.base / "hosts" / "a")
    connect(mesh, a, b, "ExperimentalProtocol = no")
    assert a.said("legacy protocol .* only: ExperimentalProtocol = no") == 1
    assert edge_options(b, "b", "a") == "c"


def test_gossip_passes_between_the_generations(mesh: Mesh) -> None:
    """old -- gmesh -- new: each learns of the other, whole."""
    if TINCD is None:
        pytest.skip("NOT TESTED: there is no tincd (tinc 1.0) on this machine")
    old, a, new = mesh.node("old", "tinc"), mesh.node("a", "gmesh", BOTH), mesh.node("new", "tinc11", BOTH)
    mesh.introduce(a, old)
    mesh.introduce(a, new)
    old.configure("ConnectTo = a")
    new.configure("ConnectTo = a", QUIET)
    a.configure(QUIET)
    for node in (a, old, new):
        node.start()
    mesh.wait_connected(a, old)
    mesh.wait_connected(a, new)
    wait_subnet(new, "10.0.0.1")
    assert edge_options(new, "a", "old") == "c"
    wait_subnet(a, "10.0.0.3")
