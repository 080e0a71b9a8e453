"""What happens to a frame in switch and hub mode (topology 9.6, 9.8)."""

from __future__ import annotations

import struct
import time
from dataclasses import replace

import pytest

from gmesh.route.forwarder import Forwarder, MtuOf
from gmesh.route.icmp import ErrorLimit, Trouble, error
from gmesh.route.router import Drop, Router, ToDevice, ToNode, Verdict
from gmesh.route.snapshot import RouteNode
from gmesh.route.subnets import SubnetTable
from gmesh.route.switch_mode import CACHE_SIZE, SwitchMode
from gmesh.values import MTU, Subnet, SubnetKind
from tests.unit.route.route_frames import OPTIONS, ipv4, ipv6, tcp
from tests.unit.route.switch_frames import EVERYBODY, MACS, link, switched

TAG = b"\x81\x00\x00\x2a"
PLAIN = b"\x88\xb5"


def mtus(node: str) -> int:
    return MTU


def narrow(**bounds: int) -> MtuOf:
    return lambda node: bounds.get(node, MTU)


def decide(router: Router, frame: bytes, source: str = "a", mtu: MtuOf = mtus) -> list[Verdict]:
    return router.decide(frame, source, mtu, 0.0)


def plain(target: str | bytes, size: int = 60) -> bytes:
    return (link(target) + PLAIN).ljust(size, b"x")


def test_frames_go_to_the_owner_of_their_destination_unchanged() -> None:
    router = Router(switched())
    for source, target in (("a", "b"), ("a", "d"), ("b", "c"), ("b", "d"), ("d", "b")):
        for frame in (plain(target), ipv4(link=link(target)), ipv6(link=link(target), tag=TAG)):
            (verdict,) = decide(router, frame, source)
            assert verdict == ToNode(target, frame)
            assert isinstance(verdict, ToNode)
            assert verdict.frame is frame
    frame = plain("a")
    (verdict,) = decide(router, frame, "b")
    assert verdict == ToDevice(frame)


@pytest.mark.parametrize("target", [EVERYBODY, b"\x01\x00\x5e\x00\x00\x01", MACS["nobody"], bytes(6)])
def test_groups_and_unknown_hosts_are_everybody(target: bytes) -> None:
    router = Router(switched())
    frame = plain(target)
    assert decide(router, frame) == [ToNode("b", frame, True), ToNode("c", frame, True)]
    assert decide(router, frame, "b") == [ToDevice(frame), ToNode("c", frame, True)]
    assert decide(router, frame, "d") == [ToDevice(frame), ToNode("b", frame, True)], "d is behind c"


def test_nobody_owns_the_address_of_everybody() -> None:
    picture = switched()
    claim = (Subnet(SubnetKind.MAC, EVERYBODY, 48), "d")
    router = Router(replace(picture, subnets=(claim, *picture.subnets)))
    frame = plain(EVERYBODY)
    assert decide(router, frame) == [ToNode("b", frame, True), ToNode("c", frame, True)]


def test_broadcast_direct_and_no() -> None:
    frame = plain(EVERYBODY)
    direct = Router(switched(broadcast="direct"))
    assert decide(direct, frame) == [ToNode("b", frame, True), ToNode("c", frame, True)]
    assert decide(direct, frame, "b") == [ToDevice(frame)]
    never = Router(switched(broadcast="no"))
    assert decide(never, frame) == [Drop("no receiver")]
    assert decide(never, frame, "b") == [ToDevice(frame)]


def test_frames_that_would_go_back_are_dropped() -> None:
    router = Router(switched())
    assert decide(router, plain("b"), "b") == [Drop("loop")]
    assert decide(router, plain("a"), "a") == [Drop("loop")], "hosts behind the own device find each other there"
    assert decide(router, plain("d"), "c") == [Drop("loop")], "c is the way to d"


def test_an_unreachable_owner_gets_nothing_and_a_reachable_one_is_preferred() -> None:
    picture = switched()
    assert decide(Router(picture), plain("gone")) == [Drop("unreachable")]
    second = (Subnet(SubnetKind.MAC, MACS["gone"], 48), "d")
    frame = plain("gone")
    assert decide(Router(replace(picture, subnets=(*picture.subnets, second))), frame) == [ToNode("d", frame)]


def test_forwarding_off_and_kernel() -> None:
    off = Router(switched(forwarding="off"))
    for frame in (ipv4("10.0.2.1", "10.0.3.1", link=link("c", "b")), plain("c")):
        assert decide(off, frame, "b") == [Drop("prohibited")], "without a word, as stock daemons"
    assert decide(off, plain("a"), "b") == [ToDevice(plain("a"))]
    kernel = Router(switched(forwarding="kernel"))
    for target in ("a", "c", "nobody", EVERYBODY):
        assert decide(kernel, plain(target), "b") == [ToDevice(plain(target))]


def test_direct_only_uses_no_relay() -> None:
    router = Router(switched(direct_only=True))
    assert decide(router, plain("d")) == [Drop("prohibited")]
    assert decide(router, plain("c")) == [ToNode("c", plain("c"))]


@pytest.mark.parametrize("tag", [b"", TAG])
def test_relayed_packets_lose_a_hop_where_wanted(tag: bytes) -> None:
    router = Router(switched(decrement_ttl=True))
    frame, fewer = (ipv4(link=link("c", "b"), tag=tag, ttl=ttl) for ttl in (9, 8))
    assert decide(router, frame, "b") == [ToNode("c", fewer)]
    assert decide(router, frame) == [ToNode("c", frame)], "the own device's are not relayed"
    last = ipv4(link=link("c", "b"), tag=tag, ttl=1)
    (verdict,) = decide(router, last, "b")
    assert verdict == ToNode("b", error(Trouble.TIME_EXCEEDED, last), True)
    assert decide(router, plain("c"), "b") == [ToNode("c", plain("c"))]


@pytest.mark.parametrize("tag", [b"", TAG])
class TestTooBig:
    def test_ipv4_that_may_be_cut_is_cut(self, tag: bytes) -> None:
        frame = ipv4(payload=bytes(range(250)) * 5, link=link("d"), tag=tag)
        verdicts = decide(Router(switched()), frame, mtu=narrow(c=800))
        assert len(verdicts) == 2
        for verdict in verdicts:
            assert isinstance(verdict, ToNode)
            assert (verdict.node, verdict.exact) == ("c", True)
            assert len(verdict.frame) <= 800
            assert verdict.frame.startswith(link("d") + tag + b"\x08\x00")

    def test_ipv4_that_may_not_be_cut_is_answered(self, tag: bytes) -> None:
        frame = ipv4(payload=bytes(1200), flags=0x4000, link=link("b"), tag=tag)
        (verdict,) = decide(Router(switched()), frame, mtu=narrow(b=1000))
        assert isinstance(verdict, ToDevice)
        start = 14 + len(tag)
        assert verdict.frame[:start] == MACS["a"] + MACS["b"] + frame[12:start]
        assert verdict.frame[start + 20 : start + 22] == b"\x03\x04"
        assert struct.unpack("!H", verdict.frame[start + 26 : start + 28]) == (1000 - start,)

    def test_ipv6_is_answered(self, tag: bytes) -> None:
        frame = ipv6(payload=bytes(1400), link=link("b"), tag=tag)
        (verdict,) = decide(Router(switched()), frame, mtu=narrow(b=1400))
        assert isinstance(verdict, ToDevice)
        start = 14 + len(tag)
        assert verdict.frame[start + 40 : start + 42] == b"\x02\x00"
        assert struct.unpack("!I", verdict.frame[start + 44 : start + 48]) == (1400 - start,)

    def test_nobody_is_told_of_less_than_ip_needs(self, tag: bytes) -> None:
        router = Router(switched())
        start = 14 + len(tag)
        for frame in (
            ipv4(payload=bytes(556), flags=0x4000, link=link("b"), tag=tag),
            ipv6(payload=bytes(1240), link=link("b"), tag=tag),
        ):
            assert decide(router, frame, mtu=narrow(b=300)) == [ToNode("b", frame)]
        frame = ipv4(payload=bytes(700), flags=0x4000, link=link("b"), tag=tag)
        (verdict,) = decide(router, frame, mtu=narrow(b=300))
        assert isinstance(verdict, ToDevice)
        assert struct.unpack("!H", verdict.frame[start + 26 : start + 28]) == (576,)

    def test_what_is_no_ip_goes_as_it_is(self, tag: bytes) -> None:
        frame = (link("b") + tag + PLAIN).ljust(1514, b"x")
        assert decide(Router(switched()), frame, mtu=narrow(b=600)) == [ToNode("b", frame)]

    def test_the_own_device_takes_any_size(self, tag: bytes) -> None:
        frame = ipv4(payload=bytes(1400), flags=0x4000, link=link("a", "b"), tag=tag)
        assert decide(Router(switched()), frame, "b", narrow(a=600, b=600)) == [ToDevice(frame)]


@pytest.mark.parametrize("tag", [b"", TAG])
def test_mss_is_clamped(tag: bytes) -> None:
    segment = tcp("10.0.1.1", "10.0.2.2", b"\x02\x04\x05\xb4")
    frame = ipv4(payload=segment, protocol=6, link=link("b"), tag=tag)
    (verdict,) = decide(Router(switched()), frame, mtu=narrow(b=1000))
    assert isinstance(verdict, ToNode)
    at = 14 + len(tag) + 40 + 2
    assert struct.unpack("!H", verdict.frame[at : at + 2]) == (1000 - 14 - len(tag) - 40,)
    without = Router(switched(nodes={"b": RouteNode("b", True, "b", "b", 0, True, True)}))
    assert decide(without, frame, mtu=narrow(b=1000)) == [ToNode("b", frame)]


@pytest.mark.parametrize("mode", ["switch", "hub"])
@pytest.mark.parametrize("forwarding", ["internal", "kernel"])
def test_what_has_no_header_is_dropped(mode: str, forwarding: str) -> None:
    router = Router(switched(mode=mode, forwarding=forwarding))
    for size in (0, 6, 13):
        for source in ("a", "b"):
            assert decide(router, plain("b")[:size], source) == [Drop("too short")]


def test_a_hub_looks_at_no_address() -> None:
    router = Router(switched(mode="hub"))
    for target in ("a", "b", "nobody", EVERYBODY):
        frame = plain(target)
        assert decide(router, frame) == [ToNode("b", frame, True), ToNode("c", frame, True)]
        assert decide(router, frame, "c") == [ToDevice(frame), ToNode("b", frame, True)]
    kernel = Router(switched(mode="hub", forwarding="kernel"))
    assert decide(kernel, plain("b"), "c") == [ToDevice(plain("b"))]
    assert decide(kernel, plain("b")) == [ToNode("b", plain("b"), True), ToNode("c", plain("b"), True)]


def test_made_up_destinations_cost_no_memory() -> None:
    picture = switched()
    mode = SwitchMode(Forwarder(picture, ErrorLimit(), None), SubnetTable(picture.subnets))
    for number in range(2 * CACHE_SIZE):
        mode.decide(plain(b"\x02" + number.to_bytes(5, "big")), "a", mtus, 0.0)
        assert len(mode._paths) <= CACHE_SIZE + 1
    frame = plain(EVERYBODY)
    assert mode.decide(frame, "a", mtus, 0.0) == [ToNode("b", frame, True), ToNode("c", frame, True)]


def test_ten_thousand_addresses_cost_no_more_than_a_thousand() -> None:
    """Fresh routers, so that each decision is a look at the table."""

    def seconds(count: int) -> float:
        hosts = [b"\x02" + index.to_bytes(5, "big") for index in range(count)]
        subnets = tuple((Subnet(SubnetKind.MAC, host, 48), "b") for host in hosts)
        router = Router(replace(switched(), subnets=subnets, options=OPTIONS))
        frames = [plain(host) for host in (hosts * 1000)[:1000] + hosts[-1000:]]
        best = float("inf")
        for _ in range(7):
            fresh = Router(router.snapshot, router)
            began = time.perf_counter()
            for frame in frames:
                fresh.decide(frame, "a", mtus, 0.0)
            best = min(best, (time.perf_counter() - began) / len(frames))
        return best

    few, many = seconds(1000), seconds(10_000)
    assert many < 3 * few
