"""gmeshd among real daemons of tinc 1.0: connecting in every role, gossip, keys, reload, restarts."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_lab import TINCD, Mesh, Node, wait_for

pytestmark = pytest.mark.skipif(TINCD is None, reason="NOT TESTED: there is no tincd (tinc 1.0) on this machine")


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path)
    yield mesh
    mesh.stop()


def active_connections(node: Node) -> list[str]:
    """Names of the neighbours of a gmeshd, one for each connection."""
    rows = [line.split()[0] for line in node.dump("connections")]
    return [name for name in rows if not name.startswith("<")]


def tinc_dump(node: Node) -> str:
    """What a tincd writes at USR2."""
    before = node.said("End of subnet list")
    node.send(signal.SIGUSR2)
    wait_for(lambda: node.said("End of subnet list") > before, f"{node.name} dumps")
    return node.log[node.log.rindex("Nodes:") :]


@pytest.mark.parametrize(("kinds", "initiator"), [(("gmesh", "tinc"), "a"), (("gmesh", "tinc"), "b")])
def test_connects_in_both_directions(mesh: Mesh, kinds: tuple[str, str], initiator: str) -> None:
    a, b = mesh.node("a", kinds[0]), mesh.node("b", kinds[1])
    mesh.introduce(a, b)
    mesh.nodes[initiator].configure(f"ConnectTo = {'b' if initiator == 'a' else 'a'}")
    for node in (b, a):
        node.start()
    mesh.wait_connected(a, b)
    wait_for(lambda: any("10.0.0.2" in line for line in a.dump("subnets")), "a knows b's subnet")
    assert active_connections(a) == ["b"]
    wait_for(lambda: "10.0.0.1" in tinc_dump(b), "b knows a's subnet")
    assert any(line.startswith("a to b at 127.0.0.1") for line in a.dump("edges"))
    assert any(line.startswith("b to a at 127.0.0.1") for line in a.dump("edges"))
    assert a.end() == 0
    assert b.end() == 0


def test_mutual_connect_to_gives_one_stable_connection(mesh: Mesh) -> None:
    a, b = mesh.node("a"), mesh.node("b", "tinc")
    mesh.introduce(a, b)
    a.configure("ConnectTo = b")
    b.configure("ConnectTo = a")
    b.start()
    a.start()
    mesh.wait_connected(a, b)
    wait_for(lambda: active_connections(a) == ["b"], "one connection")
    # What is to be stable is looked at for a while.
    closed, end = a.said("Closing connection with b"), time.monotonic() + 6
    while time.monotonic() < end:
        assert active_connections(a) == ["b"]
    assert a.said("Closing connection with b") == closed


def test_learns_nodes_that_it_has_no_file_for(mesh: Mesh) -> None:
    a, b, c = mesh.node("a"), mesh.node("b", "tinc"), mesh.node("c")
    mesh.introduce(a, b)
    mesh.introduce(c, b)
    for node in (a, c):
        node.configure("ConnectTo = b")
    for node in (b, a, c):
        node.start()
    mesh.wait_connected(a, b)
    mesh.wait_connected(c, b)
    wait_for(lambda: any(line.startswith("c ") for line in a.dump("nodes")), "a knows c")
    wait_for(lambda: any("10.0.0.3" in line for line in a.dump("subnets")), "a knows c's subnet")
    assert not (a.base / "hosts" / "c").exists()
    assert any(line.startswith("c ") for line in a.gmesh("dump", "reachable", "nodes").stdout.splitlines())


def test_hup_adds_a_connection_and_a_subnet_and_drops_nothing(mesh: Mesh) -> None:
    a, b, c = mesh.node("a"), mesh.node("b", "tinc"), mesh.node("c", "tinc")
    mesh.introduce(a, b)
    mesh.introduce(a, c)
    a.configure("ConnectTo = b")
    for node in (b, c, a):
        node.start()
    mesh.wait_connected(a, b)
    a.configure("ConnectTo = b", "ConnectTo = c")
    with a.host_file.open("a") as file:
        file.write("Subnet = 10.77.0.0/16\n")
    a.send(signal.SIGHUP)
    mesh.wait_connected(a, c)
    for node in (b, c):
        wait_for(lambda node=node: "10.77.0.0/16" in tinc_dump(node), f"{node.name} knows the new subnet")
    assert a.said("Closing connection with b") == 0
    # The other way: what is taken out goes, and only that.
    a.configure("ConnectTo = b")
    a.send(signal.SIGHUP)
    wait_for(lambda: active_connections(a) == ["b"], "c is no longer connected")
    assert a.said("Closing connection with b") == 0


def test_requirement_8_a_reload_of_nonsense_changes_nothing(mesh: Mesh) -> None:
    a, b = mesh.node("a"), mesh.node("b", "tinc")
    mesh.introduce(a, b)
    a.configure("ConnectTo = b")
    b.start()
    a.start()
    mesh.wait_connected(a, b)
    a.configure("Mode = sideways")
    a.send(signal.SIGHUP)
    wait_for(lambda: a.said("the old one stays in force"), "the reload was refused")
    assert a.said(r"tinc.conf line 5: .*sideways")
    assert a.gmesh("reload", check=False).returncode != 0
    assert active_connections(a) == ["b"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_requirement_17_a_restarted_peer_is_reconnected_at_once(mesh: Mesh, number: int) -> None:
    a, b = mesh.node("a"), mesh.node("b", "tinc")
    mesh.introduce(a, b)
    a.configure("ConnectTo = b")
    b.start()
    a.start()
    mesh.wait_connected(a, b)
    b.end(number)
    wait_for(lambda: a.said("Closing connection with b"), "a has noticed")
    if number == signal.SIGKILL:
        b.pid_file.unlink(missing_ok=True)
    b.start()
    ready = time.monotonic()
    wait_for(lambda: a.said("Connection with b .* activated") == 2, "they are connected again")
    # Two seconds on a busy machine, of which gmesh waits half a second at most.
    assert time.monotonic() - ready < 2
    assert a.alive


def test_a_connector_started_before_its_target_connects_by_itself(mesh: Mesh) -> None:
    a, b = mesh.node("a"), mesh.node("b", "tinc")
    mesh.introduce(a, b)
    a.configure("ConnectTo = b")
    a.start()
    wait_for(lambda: a.said("Could not connect to b") >= 3, "a has tried")
    b.start()
    mesh.wait_connected(a, b)


def test_requirement_20_two_restarts_within_a_second(mesh: Mesh) -> None:
    a, b = mesh.node("a"), mesh.node("b", "tinc")
    mesh.introduce(a, b)
    a.configure("ConnectTo = b")
    b.start()
    for count in (1, 2, 3):
        a.start()
        wait_for(lambda count=count: a.said("Connection with b .* activated") == count, f"start {count} connects")
        assert a.end(signal.SIGKILL) == -signal.SIGKILL
    assert b.alive
