"""TunnelServer and StrictSubnets (topology 2.3, 3, 10): what is believed, and who hears of it."""

from __future__ import annotations

from typing import Any

from test_mesh_facade import Bench, gossip, scripts, sent

from gmesh.mesh.settings import MeshSettings
from gmesh.proto.meta_events import Active
from gmesh.values import Address, Subnet


def subnets(**names: str) -> dict[str, frozenset[Subnet]]:
    return {name: frozenset(map(Subnet.parse, text.split())) for name, text in names.items()}


def bench(**settings: Any) -> Bench:
    settings.setdefault("host_subnets", subnets(b="10.2.0.0/16", c="10.3.0.0/16 10.3.1.0/24"))
    it = Bench(subnets=("10.0.0.1",), **settings)
    for name in ("b", "c"):
        it.neighbour(name)
    return it


def held(it: Bench, name: str) -> set[str]:
    node = it.mesh.registry.node(name)
    return set() if node is None else {str(subnet) for subnet in node.subnets}


def reload(it: Bench, **changes: Any) -> Any:
    values = {"name": "m", "subnets": it.settings.subnets, "host_subnets": it.settings.host_subnets, **changes}
    it.settings = MeshSettings(**values)
    return it.mesh.set_settings(it.settings, it.now)


def test_strict_nodes_have_the_subnets_of_their_host_files_from_the_start() -> None:
    it = Bench(subnets=("10.0.0.1",), host_subnets=subnets(b="10.2.0.0/16"))
    assert held(it, "b") == {"10.2.0.0/16"}
    assert "SubnetUp b 10.2.0.0/16" in scripts(it.neighbour("b"))


def test_strict_unauthorised_subnets_are_passed_on_and_not_used() -> None:
    it = bench()
    actions = it.say("b", "10 1 b 10.66.0.0/16")
    assert gossip(actions) == ["10 b 10.66.0.0/16"]
    assert held(it, "b") == {"10.2.0.0/16"}
    assert scripts(actions) == []
    assert it.say("c", "10 1 b 10.66.0.0/16") == [], "and only once"
    assert gossip(it.wait(30)) == [], "nobody is corrected for it"


def test_strict_subnets_stay_when_others_delete_or_purge_them() -> None:
    it = bench()
    actions = it.say("b", "11 1 c 10.3.0.0/16")
    assert gossip(actions) == ["11 c 10.3.0.0/16"]
    assert gossip(it.say("b", "10 2 c 10.3.0.0/16")) == ["10 c 10.3.0.0/16"], "whoever purged it learns it again"
    it.lose("c")
    assert not [line for line in gossip(it.mesh.purge(it.now)) if line.startswith("11")]
    assert held(it, "c") == {"10.3.0.0/16", "10.3.1.0/24"}
    it.lose("b")
    assert held(it, "c") == {"10.3.0.0/16", "10.3.1.0/24"}


def test_strict_claims_about_our_own_subnets_are_corrected() -> None:
    it = bench()
    actions = it.say("b", "10 1 m 10.66.0.0/16") + it.wait(1)
    assert gossip(actions, it.ids["b"]) == ["11 m 10.66.0.0/16"]
    actions = it.say("b", "11 2 m 10.0.0.1") + it.wait(1)
    assert gossip(actions, it.ids["b"]) == ["10 m 10.0.0.1"]


def test_strict_reload_announces_what_host_files_say_now_and_runs_scripts() -> None:
    it = bench()
    actions = reload(it, host_subnets=subnets(b="10.2.0.0/16 10.7.0.0/16", c="10.3.0.0/16", d="10.4.0.0/16"))
    assert sorted(gossip(actions, it.ids["b"])) == ["10 b 10.7.0.0/16", "10 d 10.4.0.0/16", "11 c 10.3.1.0/24"]
    assert scripts(actions) == ["SubnetDown c 10.3.1.0/24", "SubnetUp b 10.7.0.0/16"], "d is not there"


def test_tunnel_server_tells_a_neighbour_of_itself_only() -> None:
    it = Bench(subnets=("10.0.0.1",), tunnel_server=True, host_subnets=subnets(b="10.2.0.0/16", c="10.3.0.0/16"))
    assert gossip(it.neighbour("b")) == ["10 m 10.0.0.1", "12 m b 192.0.2.7 655 c 60"]
    actions = it.neighbour("c")
    assert gossip(actions, it.ids["c"]) == ["10 m 10.0.0.1", "12 m c 192.0.2.7 655 c 60"]
    assert gossip(actions, it.ids["b"]) == []
    node = it.mesh.registry.node("c")
    assert node is not None
    assert node.reachable


def test_tunnel_server_passes_nothing_on() -> None:
    it = bench(tunnel_server=True)
    before = {name: held(it, name) for name in "bc"}
    for line in (
        "10 1 b 10.66.0.0/16",
        "10 2 b 10.2.0.0/16",
        "11 3 b 10.2.0.0/16",
        "12 4 b x 192.0.2.9 655 c 60",
        "12 5 x b 192.0.2.9 655 c 60",
        "13 6 x b",
        "14 7 b",
        "15 b c",
        "16 b c " + "00" * 48 + " 427 672 4 0",
    ):
        assert sent(it.say("b", line) + it.settle(), it.ids["c"]) == [], line
    assert {name: held(it, name) for name in "bc"} == before
    actions = it.lose("b")
    assert gossip(actions, it.ids["c"]) == []


def test_tunnel_server_ignores_what_concerns_neither_itself_nor_the_sender() -> None:
    it = bench(tunnel_server=True)
    for line in (
        "12 1 x y 192.0.2.9 655 c 60",
        "12 2 c x 192.0.2.9 655 c 60",
        "10 3 x 10.9.0.0/16",
        "11 4 c 10.3.0.0/16",
        "13 5 c m",
        "14 6 c",
    ):
        assert it.say("b", line) + it.settle() == [], line
    assert it.mesh.registry.node("x") is None
    assert held(it, "c") == {"10.3.0.0/16", "10.3.1.0/24"}


def test_tunnel_server_learns_nodes_behind_a_neighbour() -> None:
    """An edge of which one end is the sender is believed, as tinc does."""
    it = bench(tunnel_server=True)
    it.say("b", "12 1 b x 192.0.2.9 655 c 60")
    it.say("b", "12 2 x b 192.0.2.9 655 c 60")
    it.settle()
    node = it.mesh.registry.node("x")
    assert node is not None
    assert node.reachable


def test_tunnel_server_announces_its_own_changes() -> None:
    it = bench(tunnel_server=True)
    actions = reload(
        it, tunnel_server=True, subnets=frozenset([Subnet.parse("10.8.0.0/16")]), host_subnets=subnets(b="10.2.9.0/24")
    )
    for name in "bc":
        assert gossip(actions, it.ids[name]) == ["11 m 10.0.0.1", "10 m 10.8.0.0/16"]
    assert held(it, "c") == set()


def test_our_edges_carry_our_local_address() -> None:
    for host, wanted in (("192.168.1.2", " 192.168.1.2 6655"), ("fe80::1%eth0", ""), ("", ""), ("host.example", "")):
        fresh = Bench(port="6655")
        connection = fresh.open("b")
        fresh.identify(connection, "b")
        fresh.verify(connection)
        ack = Active("b", "655", 50, 70, 0xC, 0xC)
        actions = fresh.mesh.peer_active(connection, ack, Address("192.0.2.7", "40000"), fresh.now, host)
        assert [line for line in gossip(actions) if line.startswith("12 m")] == [f"12 m b 192.0.2.7 655 c 60{wanted}"]
