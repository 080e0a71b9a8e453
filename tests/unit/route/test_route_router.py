"""What happens to a frame in router mode (topology 9)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from gmesh.errors import ConfigError
from gmesh.route.forwarder import Forwarder, MtuOf
from gmesh.route.icmp import ErrorLimit, Trouble, error
from gmesh.route.router import Drop, Router, ToDevice, ToNode, Verdict
from gmesh.route.router_mode import CACHE_SIZE, RouterMode
from gmesh.route.snapshot import RouteNode, RouteSnapshot
from gmesh.route.subnets import SubnetTable
from gmesh.values import MTU, Subnet
from tests.unit.route.route_frames import OPTIONS, ipv4, ipv6, packed, snapshot, tcp


def mtus(node: str) -> int:
    return MTU


def narrow(**bounds: int) -> MtuOf:
    return lambda node: bounds.get(node, MTU)


def decide(router: Router, frame: bytes, source: str = "a", mtu: MtuOf = mtus) -> Verdict:
    (verdict,) = router.decide(frame, source, mtu, 0.0)
    return verdict


def told(trouble: Trouble, frame: bytes, mtu: int = 0, sender: bytes | None = None) -> bytes:
    return error(trouble, frame, mtu, sender)


def to(node: str, payload: bytes = b"hello", source: str = "10.0.1.1", **kwargs: object) -> bytes:
    number = {"a": 1, "b": 2, "c": 3, "d": 4, "gone": 9, "nobody": 99}[node]
    return ipv4(source, f"10.0.{number}.7", payload, **kwargs)  # type: ignore[arg-type]


def to6(node: str, payload: bytes = b"hello", **kwargs: object) -> bytes:
    number = {"a": 1, "b": 2, "c": 3, "d": 4, "gone": 9, "nobody": 99}[node]
    return ipv6("fd00:1::1", f"fd00:{number}::7", payload, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("build", [to, to6])
class TestBothFamilies:
    def test_unchanged_frames_are_the_same_object(self, build: Callable[..., bytes]) -> None:
        router = Router(snapshot())
        for source, node in (("a", "b"), ("a", "d"), ("b", "c"), ("b", "d"), ("d", "b")):
            frame = build(node)
            verdict = decide(router, frame, source)
            assert verdict == ToNode(node, frame)
            assert isinstance(verdict, ToNode)
            assert verdict.frame is frame
        frame = build("a")
        verdict = decide(router, frame, "b")
        assert isinstance(verdict, ToDevice)
        assert verdict.frame is frame

    def test_senders_hear_what_is_wrong(self, build: Callable[..., bytes]) -> None:
        for node, trouble in (("nobody", Trouble.UNKNOWN), ("gone", Trouble.UNREACHABLE)):
            frame = build(node)
            router = Router(snapshot())
            assert decide(router, frame) == ToDevice(told(trouble, frame))
            assert decide(router, frame, "b") == ToNode("b", told(trouble, frame), exact=True)

    def test_loops_are_dropped(self, build: Callable[..., bytes]) -> None:
        router = Router(snapshot())
        assert decide(router, build("b"), "b") == Drop("loop")
        assert decide(router, build("a"), "a") == Drop("loop")
        assert decide(router, build("d"), "c") == Drop("loop"), "c is the way to d"

    def test_forwarding_off_relays_nothing(self, build: Callable[..., bytes]) -> None:
        router = Router(snapshot(forwarding="off"))
        frame = build("c")
        assert decide(router, frame, "b") == ToNode("b", told(Trouble.PROHIBITED, frame), exact=True)
        assert decide(router, frame, "a") == ToNode("c", frame)
        assert decide(router, build("a"), "b") == ToDevice(build("a"))

    def test_forwarding_kernel_leaves_it_to_the_device(self, build: Callable[..., bytes]) -> None:
        router = Router(snapshot(forwarding="kernel"))
        for node in ("a", "b", "c", "gone", "nobody"):
            assert decide(router, build(node), "b") == ToDevice(build(node))
        assert decide(router, build("b"), "a") == ToNode("b", build("b"))

    def test_direct_only_sends_nothing_through_relays(self, build: Callable[..., bytes]) -> None:
        router = Router(snapshot(direct_only=True))
        assert decide(router, build("d")) == ToDevice(told(Trouble.PROHIBITED, build("d")))
        assert decide(router, build("c")) == ToNode("c", build("c"))

    def test_decrement_ttl_on_relayed_frames_only(self, build: Callable[..., bytes]) -> None:
        router = Router(snapshot(decrement_ttl=True))
        name = "ttl" if build is to else "hops"
        old, new = build("c", **{name: 7}), build("c", **{name: 6})
        assert decide(router, old, "b") == ToNode("c", new)
        assert decide(router, old, "a") == ToNode("c", old)
        mine = build("a", **{name: 1})
        assert decide(router, mine, "b") == ToDevice(mine)

    def test_time_exceeded_comes_from_the_local_address(self, build: Callable[..., bytes]) -> None:
        name, asker, local = ("ttl", "10.0.1.1", "10.0.1.254") if build is to else ("hops", "fd00:1::1", "fd00:1::fe")
        asked: list[bytes] = []

        def local_address(address: bytes) -> bytes:
            asked.append(address)
            return packed(local)

        router = Router(snapshot(decrement_ttl=True), local_address=local_address)
        for left in (0, 1):
            frame = build("c", **{name: left})
            expected = told(Trouble.TIME_EXCEEDED, frame, sender=packed(local))
            assert decide(router, frame, "b") == ToNode("b", expected, exact=True)
        assert asked == [packed(asker)] * 2
        frame = build("c", **{name: 1})
        answer = told(Trouble.TIME_EXCEEDED, frame)
        assert decide(Router(snapshot(decrement_ttl=True)), frame, "b") == ToNode("b", answer, exact=True)


def test_first_edge_indirect_goes_by_the_next_hop() -> None:
    """via = myself: the next hop counts, for loops as for the MTU (topology 8, 9.2)."""
    router = Router(snapshot(nodes={"d": RouteNode("d", True, "a", "c", OPTIONS)}))
    assert decide(router, to("d")) == ToNode("d", to("d"))
    assert decide(router, to("d"), "c") == Drop("loop")
    big = to("d", bytes(1000), flags=0x4000)
    assert decide(router, big, mtu=narrow(c=800)) == ToDevice(told(Trouble.TOO_BIG, big, 786))
    assert decide(router, big, mtu=narrow(d=800)) == ToNode("d", big)


def test_unreachable_owner_gives_way_to_a_wider_subnet() -> None:
    subnets = (
        (Subnet.parse("10.0.0.0/8"), "b"),
        (Subnet.parse("10.0.9.0/24#5"), "gone"),
        (Subnet.parse("10.0.9.0/24"), "c"),
        (Subnet.parse("10.0.9.7"), "gone"),
    )
    base = snapshot()
    router = Router(RouteSnapshot("a", OPTIONS, base.nodes, subnets))
    assert decide(router, to("gone")) == ToNode("c", to("gone"))
    nodes = {**base.nodes, "c": RouteNode("c", False)}
    router = Router(RouteSnapshot("a", OPTIONS, nodes, subnets))
    assert decide(router, to("gone")) == ToNode("b", to("gone"))
    router = Router(RouteSnapshot("a", OPTIONS, {"a": base.nodes["a"]}, subnets))
    assert decide(router, to("gone")) == ToDevice(told(Trouble.UNREACHABLE, to("gone")))


@pytest.mark.parametrize("source", ["a", "b"])
def test_too_big_for_the_path(source: str) -> None:
    """Frame 1142 at MTU 796: fragments of 794 and 382 to via, or ICMP 3/4 with MTU 782 (vectors)."""
    router = Router(snapshot())
    pieces = router.decide(to("d", bytes(1108)), source, narrow(c=796, d=100), 0.0)
    assert all(isinstance(piece, ToNode) and piece.node == "c" and piece.exact for piece in pieces)
    assert [len(piece.frame) for piece in pieces if isinstance(piece, ToNode)] == [794, 382]
    frame = to("d", bytes(1108), flags=0x4000)
    message = told(Trouble.TOO_BIG, frame, 782)
    expected = ToDevice(message) if source == "a" else ToNode("b", message, exact=True)
    assert decide(router, frame, source, narrow(c=796, d=100)) == expected
    assert message[34:42] == b"\x03\x04" + message[36:38] + struct.pack("!I", 782)


def test_no_path_is_narrower_than_ip_demands() -> None:
    router = Router(snapshot())
    fits = to("b", bytes(590 - 34), flags=0x4000)
    assert decide(router, fits, mtu=narrow(b=0)) == ToNode("b", fits)
    over = to("b", bytes(591 - 34), flags=0x4000)
    assert decide(router, over, mtu=narrow(b=0)) == ToDevice(told(Trouble.TOO_BIG, over, 576))
    fits = to6("b", bytes(1294 - 54))
    assert decide(router, fits, mtu=narrow(b=0)) == ToNode("b", fits)
    over = to6("b", bytes(1295 - 54))
    assert decide(router, over, mtu=narrow(b=0)) == ToDevice(told(Trouble.TOO_BIG, over, 1280))
    over = to6("b", bytes(1446 - 54 + 1))
    assert decide(router, over, mtu=narrow(b=1446)) == ToDevice(told(Trouble.TOO_BIG, over, 1432))


def test_nothing_is_too_big_for_the_device() -> None:
    frame = to("a", bytes(1400), flags=0x4000)
    assert decide(Router(snapshot()), frame, "b", narrow(a=0, b=0)) == ToDevice(frame)


def syn(source: str, destination: str, mss: int) -> bytes:
    option = b"\x02\x04" + struct.pack("!H", mss)
    return ipv4(source, destination, tcp(source, destination, option), protocol=6)


@pytest.mark.parametrize(
    ("source", "destination", "bounds", "expected"),
    [
        ("a", "10.0.2.2", {"b": 796}, ToNode("b", syn("10.0.5.1", "10.0.2.2", 742))),
        ("a", "10.0.2.2", {"a": 600}, ToNode("b", syn("10.0.5.1", "10.0.2.2", 1460))),
        ("a", "10.0.4.2", {"c": 796, "d": 600}, ToNode("d", syn("10.0.5.1", "10.0.4.2", 742))),
        ("b", "10.0.3.2", {"b": 796, "c": 1000}, ToNode("c", syn("10.0.5.1", "10.0.3.2", 742))),
        ("b", "10.0.3.2", {"b": 1000, "c": 796}, ToNode("c", syn("10.0.5.1", "10.0.3.2", 742))),
        ("b", "10.0.1.2", {"b": 796, "a": 600}, ToDevice(syn("10.0.5.1", "10.0.1.2", 742))),
    ],
)
def test_clamping_to_the_narrower_side(
    source: str, destination: str, bounds: dict[str, int], expected: Verdict
) -> None:
    frame = syn("10.0.5.1", destination, 1460)
    assert decide(Router(snapshot()), frame, source, narrow(**bounds)) == expected


def test_clamping_follows_the_option_of_via() -> None:
    frame = syn("10.0.5.1", "10.0.4.2", 1460)
    router = Router(snapshot(nodes={"c": RouteNode("c", True, "c", "c", 0, True, True)}))
    assert decide(router, frame, mtu=narrow(c=796)) == ToNode("d", frame)
    router = Router(snapshot(nodes={"d": RouteNode("d", True, "c", "c", 0)}))
    assert decide(router, frame, mtu=narrow(c=796)) == ToNode("d", syn("10.0.5.1", "10.0.4.2", 742))
    frame = syn("10.0.5.1", "10.0.1.2", 1460)
    assert decide(Router(snapshot(options=0)), frame, "b", narrow(b=796)) == ToDevice(frame)


GROUPS = [
    ipv4(destination="224.0.0.251"),
    ipv4(destination="239.255.255.250"),
    ipv4(destination="255.255.255.255"),
    ipv6(destination="ff02::fb"),
]


def test_unanswered_frames_ask_for_no_local_address_and_use_up_no_limit() -> None:
    asked: list[bytes] = []
    router = Router(snapshot(decrement_ttl=True), local_address=asked.append)
    for _ in range(5):
        assert decide(router, to("c", b"\x0b\0", ttl=1, protocol=1), "b") == Drop("TTL expired")
    assert asked == []
    verdicts = [decide(router, to("c", ttl=1), "b") for _ in range(5)]
    assert [type(verdict) for verdict in verdicts] == [ToNode, ToNode, ToNode, Drop, Drop]
    assert len(asked) == 3


@pytest.mark.parametrize("frame", GROUPS)
class TestBroadcast:
    """Topology 9.6."""

    def test_along_the_tree(self, frame: bytes) -> None:
        nodes = {"e": RouteNode("e", True, "e", "e", OPTIONS, True, False)}
        router = Router(snapshot(nodes=nodes))
        copies = [ToNode("b", frame, True), ToNode("c", frame, True)]
        assert router.decide(frame, "a", mtus, 0.0) == copies
        assert router.decide(frame, "b", mtus, 0.0) == [ToDevice(frame), copies[1]]
        assert router.decide(frame, "d", mtus, 0.0) == [ToDevice(frame), copies[0]], "d is reached through c"
        assert router.decide(frame, "e", mtus, 0.0) == [ToDevice(frame), *copies]
        assert router.decide(frame, "stranger", mtus, 0.0) == [ToDevice(frame)]

    def test_direct_sends_only_our_own(self, frame: bytes) -> None:
        nodes = {
            "e": RouteNode("e", True, "e", "c", OPTIONS),
            "f": RouteNode("f", True, "a", "f", OPTIONS, neighbour=True),
        }
        router = Router(snapshot(nodes=nodes, broadcast="direct"))
        assert router.decide(frame, "a", mtus, 0.0) == [ToNode(name, frame, True) for name in ("b", "c", "e", "f")]
        assert router.decide(frame, "b", mtus, 0.0) == [ToDevice(frame)]

    def test_tunnel_server_passes_nothing_on(self, frame: bytes) -> None:
        router = Router(snapshot(tunnel_server=True))
        assert [type(verdict) for verdict in router.decide(frame, "a", mtus, 0.0)] == [Drop]
        assert router.decide(frame, "b", mtus, 0.0) == [ToDevice(frame)]

    def test_no_broadcast_is_looked_up_like_any_other(self, frame: bytes) -> None:
        assert decide(Router(snapshot(broadcast="no")), frame) == Drop("no subnet")

    def test_a_default_route_does_not_swallow_it(self, frame: bytes) -> None:
        subnets = ((Subnet.parse("0.0.0.0/0"), "b"), (Subnet.parse("::/0"), "b"))
        router = Router(RouteSnapshot("a", OPTIONS, snapshot().nodes, subnets))
        assert len(router.decide(frame, "a", mtus, 0.0)) == 2

    def test_decrement_ttl_on_relayed_copies(self, frame: bytes) -> None:
        router = Router(snapshot(decrement_ttl=True))
        at = 22 if frame[12] == 8 else 21
        last = frame[:at] + b"\1" + frame[at + 1 :]
        assert router.decide(last, "b", mtus, 0.0) == [ToDevice(last)]
        device, copy = router.decide(frame, "b", mtus, 0.0)
        assert device == ToDevice(frame)
        assert isinstance(copy, ToNode)
        assert copy.frame[at] == frame[at] - 1
        assert router.decide(last, "a", mtus, 0.0) == [ToNode("b", last, True), ToNode("c", last, True)]


@pytest.mark.parametrize("source", ["a", "b"])
def test_frames_that_are_no_packets(source: str) -> None:
    router = Router(snapshot())
    assert decide(router, b"", source) == Drop("too short")
    assert decide(router, bytes(13), source) == Drop("too short")
    assert decide(router, bytes(12) + b"\x88\xcc" + bytes(60), source) == Drop("unknown EtherType")
    assert decide(router, to("b")[:33], source) == Drop("too short")
    assert decide(router, to6("b")[:53], source) == Drop("too short")


def test_kernel_forwarding_still_wants_a_link_header() -> None:
    assert decide(Router(snapshot(forwarding="kernel")), bytes(13), "b") == Drop("too short")


def test_errors_are_limited_across_snapshots() -> None:
    """Three per second, all kinds together, whoever asks (vectors: 5 at once -> 3 errors)."""
    router = Router(snapshot())
    frames = [to("nobody"), to6("nobody"), to("gone"), to("nobody"), to6("gone")]
    kinds = [type(router.decide(frame, source, mtus, 1.0)[0]) for frame, source in zip(frames, "ababa", strict=True)]
    assert kinds == [ToDevice, ToNode, ToDevice, Drop, Drop]
    router = Router(snapshot(), router)
    assert router.decide(to("nobody"), "a", mtus, 1.5) == [Drop("no subnet")]
    assert isinstance(router.decide(to("nobody"), "a", mtus, 2.0)[0], ToDevice)


def test_a_new_snapshot_is_looked_up_anew() -> None:
    first = Router(snapshot())
    assert isinstance(decide(first, to("gone")), ToDevice)
    second = Router(snapshot(nodes={"gone": RouteNode("gone", True, "b", "b", OPTIONS)}), first)
    assert decide(second, to("gone")) == ToNode("gone", to("gone"))
    changed = RouteSnapshot("a", OPTIONS, snapshot().nodes, ((Subnet.parse("10.0.9.0/24"), "c"),))
    assert decide(Router(changed, second), to("gone")) == ToNode("c", to("gone"))


def test_remembered_destinations_do_not_pile_up() -> None:
    """Right beyond the cache's size as well as below it."""
    picture = snapshot()
    mode = RouterMode(Forwarder(picture, ErrorLimit(), None), SubnetTable(picture.subnets))
    for number in range(CACHE_SIZE + 10):
        frame = ipv6(destination=f"fd00:2::{number:x}")
        assert mode.decide(frame, "a", mtus, 0.0) == [ToNode("b", frame)]
        assert len(mode._ipv6_paths) <= CACHE_SIZE
    assert len(mode._ipv6_paths) == 10


@pytest.mark.parametrize(
    ("setting", "value", "key"),
    [
        ("mode", "bridge", "Mode"),
        ("forwarding", "x", "Forwarding"),
        ("broadcast", "", "Broadcast"),
    ],
)
def test_what_does_not_exist_is_refused_at_once(setting: str, value: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Router(snapshot(**{setting: value}))
    assert caught.value.key == key


class TestBroadcastSubnet:
    def router(self, *texts: str, **settings: Any) -> Router:
        subnets = tuple(Subnet.parse(text) for text in texts)
        return Router(snapshot(broadcast_subnets=subnets, **settings))

    def test_packets_to_it_are_broadcast(self) -> None:
        frame = ipv4(destination="10.0.255.255")
        one, other = self.router("10.0.255.255").decide(frame, "a", mtus, 0.0)
        assert one != other
        assert all(isinstance(verdict, ToNode) and verdict.exact for verdict in (one, other))
        assert self.router("10.0.255.255").decide(frame, "b", mtus, 0.0)[0] == ToDevice(frame)
        assert isinstance(decide(self.router("10.0.255.255", broadcast="no"), frame), Drop)

    def test_a_smaller_subnet_of_a_node_is_its_own(self) -> None:
        frame = ipv4(destination="10.0.2.9")
        assert decide(self.router("10.0.0.0/8"), frame) == decide(self.router(), frame)

    def test_a_reload_changes_it(self) -> None:
        frame = ipv4(destination="10.0.255.255")
        before = self.router()
        after = Router(snapshot(broadcast_subnets=(Subnet.parse("10.0.255.255"),)), before)
        assert len(after.decide(frame, "a", mtus, 0.0)) == 2
        assert len(Router(snapshot(), after).decide(frame, "a", mtus, 0.0)) == 1
