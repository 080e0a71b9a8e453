"""Learned MAC addresses: announced, kept while they are used, withdrawn when silent or claimed (topology 2.3, 6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gmesh.mesh.actions import Action, ForgetMac, RoutesChanged
from gmesh.mesh.events import FlowCounters, MacSeen
from gmesh.mesh.macs import BURST, CHECK_INTERVAL, MAX_MACS, RATE
from gmesh.mesh.mesh import Mesh
from gmesh.values import Subnet
from tests.unit.mesh.test_mesh_facade import Bench, gossip, scripts

MAC = bytes.fromhex("020000000001")
TEXT = "02:00:00:00:00:01"
EXPIRE = 600.0


def number(index: int) -> bytes:
    return b"\x02" + index.to_bytes(5, "big")


class Ages:
    """The data plane as far as addresses go."""

    def __init__(self) -> None:
        self.seen: dict[bytes, float] = {}

    def counters(self, node: str) -> FlowCounters | None:
        return None

    def mac_ages(self) -> dict[bytes, float]:
        return self.seen


class SwitchBench(Bench):
    """A mesh in switch mode whose neighbour ``n`` listens."""

    def __init__(self, subnets: Iterable[str] = ()) -> None:
        super().__init__(subnets=tuple(subnets), mac_expire=EXPIRE)
        self.ages = Ages()
        source = iter(range(1, 1 << 30))
        self.mesh = Mesh(self.settings, self.now, lambda size: next(source).to_bytes(size, "big"), self.ages)
        self.neighbour("n")

    def frame(self, mac: bytes = MAC) -> list[Action]:
        """A frame from the own device, as the data plane tells of it."""
        known = mac in self.ages.seen
        self.ages.seen[mac] = self.now
        return [] if known else self.mesh.data_event(MacSeen(mac), self.now)

    def wait(self, seconds: float) -> list[Action]:
        actions = super().wait(seconds)
        self.forgotten(actions)
        return actions

    def forgotten(self, actions: list[Action]) -> list[bytes]:
        macs = [action.mac for action in actions if isinstance(action, ForgetMac)]
        for mac in macs:
            self.ages.seen.pop(mac, None)
        return macs

    def reload(self, **settings: object) -> list[Action]:
        self.settings = replace(self.settings, **settings)  # type: ignore[arg-type]
        return self.mesh.set_settings(self.settings, self.now)

    @property
    def ours(self) -> set[str]:
        return {str(subnet) for subnet in self.mesh.registry.me.subnets}


def test_a_new_address_becomes_a_subnet_of_ours_at_once() -> None:
    bench = SwitchBench()
    assert gossip(bench.frame()) == [f"10 m {TEXT}"]
    assert Subnet.parse(f"{TEXT}#10") in bench.mesh.registry.me.subnets
    actions = bench.wait(0.1)
    assert RoutesChanged() in actions
    assert scripts(actions) == [f"SubnetUp m {TEXT}"]
    assert bench.mesh.data_event(MacSeen(MAC), bench.now) == []


def test_it_stays_while_it_is_used_and_goes_when_it_is_silent() -> None:
    bench = SwitchBench()
    bench.frame()
    for _ in range(30):
        assert gossip(bench.wait(EXPIRE / 10)) == []
        bench.frame()
    assert gossip(bench.wait(EXPIRE - 1)) == []
    actions = bench.wait(CHECK_INTERVAL + 2)
    assert gossip(actions) == [f"11 m {TEXT}"]
    assert ForgetMac(MAC) in actions
    assert scripts(actions) == [f"SubnetDown m {TEXT}"]
    assert gossip(bench.frame()) == [f"10 m {TEXT}"], "its next frame teaches it anew"


def test_configured_addresses_never_expire() -> None:
    bench = SwitchBench([f"{TEXT}#3"])
    assert gossip(bench.frame()) == []
    actions = bench.wait(EXPIRE + CHECK_INTERVAL)
    assert gossip(actions) == []
    assert bench.ours == {f"{TEXT}#3"}
    assert ForgetMac(MAC) in actions, "the data plane need not keep it"


def test_an_address_that_another_node_announces_has_moved_there() -> None:
    bench = SwitchBench()
    bench.neighbour("o")
    bench.frame()
    bench.wait(0.1)
    actions = bench.say("o", f"10 77 o {TEXT}")
    assert gossip(actions, bench.ids["n"]) == [f"10 o {TEXT}", f"11 m {TEXT}"]
    assert gossip(actions, bench.ids["o"]) == [f"11 m {TEXT}"]
    assert bench.forgotten(actions) == [MAC]
    assert bench.ours == set()
    assert gossip(bench.frame(), bench.ids["o"]) == [f"10 m {TEXT}"], "and comes back with its next frame here"


def test_a_claim_ends_neither_configured_nor_other_addresses() -> None:
    bench = SwitchBench([TEXT])
    bench.frame()
    bench.frame(number(7))
    for line in (f"10 77 n {TEXT}#5", "10 78 n 02:00:00:00:00:08", "10 79 n 10.0.0.0/8"):
        assert gossip(bench.say("n", line)) == []
    assert bench.ours == {TEXT, "02:00:00:00:00:07"}


def test_a_claim_that_was_not_believed_ends_nothing() -> None:
    """StrictSubnets passes such a line on without believing it."""
    bench = SwitchBench()
    bench.frame()
    assert bench.mesh._macs.claimed("n", Subnet.parse(TEXT)) == []
    assert bench.mesh._macs.claimed("nobody", Subnet.parse(TEXT)) == []
    assert bench.ours == {TEXT}


def test_a_flood_of_addresses_is_bounded_in_number_and_rate() -> None:
    bench = SwitchBench()
    actions = [action for index in range(3 * MAX_MACS) for action in bench.frame(number(index))]
    assert len(gossip(actions)) == BURST
    assert len(gossip(bench.wait(5.0))) == 5 * RATE
    bench.wait(MAX_MACS / RATE)
    assert len(bench.ours) == MAX_MACS
    assert bench.mesh.next_timeout() > bench.now


def test_a_loop_behind_us_is_no_storm_in_the_mesh() -> None:
    """The same host seems to be here and there in turns, a thousand times a second."""
    bench = SwitchBench()
    lines = 0
    for turn in range(10_000):
        bench.now += 0.001
        actions = bench.wait(0) + bench.frame()
        lines += len(gossip(actions))
        actions = bench.say("n", f"11 a{turn:x} n {TEXT}") + bench.say("n", f"10 b{turn:x} n {TEXT}")
        bench.forgotten(actions)
        lines += len(gossip(actions))
    assert BURST < lines <= 2 * (BURST + 11 * RATE)


def test_events_that_were_lost_are_made_up_for() -> None:
    bench = SwitchBench()
    bench.ages.seen[MAC] = bench.now
    assert gossip(bench.wait(CHECK_INTERVAL + 0.1)) == [f"10 m {TEXT}"]


def test_another_mode_takes_back_what_was_learned() -> None:
    bench = SwitchBench(["02:00:00:00:00:09"])
    bench.frame()
    bench.frame(number(9))
    actions = bench.reload(mac_expire=None)
    assert gossip(actions) == [f"11 m {TEXT}"]
    assert set(bench.forgotten(actions)) == {MAC, number(9)}
    assert bench.ours == {"02:00:00:00:00:09"}
    assert bench.frame() == []


def test_an_address_is_configured_while_it_is_learned_and_the_other_way_round() -> None:
    bench = SwitchBench()
    bench.frame()
    bench.wait(0.1)
    assert gossip(bench.reload(subnets=frozenset({Subnet.parse(TEXT)}))) == []
    assert gossip(bench.wait(EXPIRE + CHECK_INTERVAL)) == []
    bench.frame()
    assert sorted(gossip(bench.reload(subnets=frozenset({Subnet.parse(f"{TEXT}#5")})))) == [
        f"10 m {TEXT}#5",
        f"11 m {TEXT}",
    ]
    assert bench.ours == {f"{TEXT}#5"}
    assert gossip(bench.reload(subnets=frozenset())) == [f"11 m {TEXT}#5", f"10 m {TEXT}"]
    assert bench.ours == {TEXT}
