"""What routing costs: per frame, per lookup by number of subnets, per new snapshot. Prints nanoseconds (pytest -s).

The limits leave room for a busy machine; the ratio compares rounds that ran side by side.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gmesh.route.router import Router, ToNode
from gmesh.route.snapshot import RouteNode, RouteSettings, RouteSnapshot
from gmesh.route.subnets import SubnetTable
from gmesh.values import MTU, Subnet, SubnetKind
from tests.unit.route.route_frames import OPTIONS, ipv4, ipv6, snapshot, tcp

ROUNDS = 15
TIMESTAMPS = b"\1\1\x08\x0a" + bytes(8)


def mtus(node: str) -> int:
    return MTU


def nanoseconds(action: Callable[[], object], times: int) -> float:
    begin = time.perf_counter_ns()
    for _ in range(times):
        action()
    return (time.perf_counter_ns() - begin) / times


def best(action: Callable[[], object], times: int) -> float:
    return min(nanoseconds(action, times) for _ in range(ROUNDS))


def many(count: int) -> tuple[tuple[Subnet, str], ...]:
    """``count`` subnets: half single addresses, a quarter each of /24 and /64."""
    subnets = []
    for number in range(count):
        owner = f"n{number % 100}"
        high, low = divmod(number, 256)
        if number % 2:
            subnets.append((Subnet.parse(f"10.1.{high}.{low}"), owner))
        elif number % 4:
            subnets.append((Subnet.parse(f"10.{64 + high}.{low}.0/24"), owner))
        else:
            subnets.append((Subnet.parse(f"fd00:{number:x}::/64"), owner))
    return tuple(subnets)


def test_decisions_per_second() -> None:
    router = Router(snapshot())
    source, remote, own = "10.0.1.1", "10.0.2.2", "10.0.1.2"
    segment = tcp(source, remote, TIMESTAMPS, bytes(1400), flags=16)
    frames = {
        "IPv4 from the device, 84 bytes": (ipv4(source, remote, bytes(64)), "a"),
        "IPv4 from the device, 1500 bytes": (ipv4(source, remote, bytes(1480)), "a"),
        "TCP over IPv4 from the device": (ipv4(source, remote, segment, protocol=6), "a"),
        "TCP over IPv4 to the device": (ipv4("10.0.2.2", own, segment, protocol=6), "b"),
        "TCP over IPv4, relayed": (ipv4("10.0.2.2", "10.0.3.3", segment, protocol=6), "b"),
        "TCP over IPv6 from the device": (ipv6("fd00:1::1", "fd00:2::2", segment, following=6), "a"),
        "TCP over IPv6 to the device": (ipv6("fd00:2::2", "fd00:1::1", segment, following=6), "b"),
    }
    for name, (frame, origin) in frames.items():
        cost = best(lambda frame=frame, origin=origin: router.decide(frame, origin, mtus, 0.0), 5000)  # type: ignore[misc]
        print(f"{name}: {cost:.0f} ns")
        if name == "IPv4 from the device, 84 bytes":
            assert router.decide(frame, origin, mtus, 0.0) == [ToNode("b", frame)]
            assert cost < 10_000


def test_ten_thousand_subnets_cost_what_ten_do() -> None:
    """Lookups past any cache, of single addresses and of ranges, side by side in every round."""
    small, large = SubnetTable(many(10)), SubnetTable(many(10_000))
    reachable = {f"n{number}" for number in range(100)}
    asked = [ipv4(destination=text)[30:34] for text in ("10.1.0.1", "10.64.2.9", "10.200.0.1")]

    def lookups(table: SubnetTable) -> Callable[[], object]:
        return lambda: [table.owner(SubnetKind.IPV4, address, reachable) for address in asked]

    costs = [(nanoseconds(lookups(small), 3000), nanoseconds(lookups(large), 3000)) for _ in range(ROUNDS)]
    fewest, most = (min(column) / len(asked) for column in zip(*costs, strict=True))
    print(f"lookup among 10 subnets: {fewest:.0f} ns, among 10 000: {most:.0f} ns")
    assert most < fewest * 1.5


def test_new_snapshots() -> None:
    subnets = many(10_000)
    nodes = {f"n{number}": RouteNode(f"n{number}", True, f"n{number}", f"n{number}", OPTIONS) for number in range(100)}
    picture = RouteSnapshot("a", OPTIONS, nodes, subnets, RouteSettings())
    again = RouteSnapshot("a", OPTIONS, nodes, tuple(subnets), RouteSettings())
    first = Router(picture)
    print(f"new subnets: {min(nanoseconds(lambda: Router(picture), 1) for _ in range(5)) / 1e6:.1f} ms")
    print(f"the same subnets: {best(lambda: Router(again, first), 1) / 1e6:.2f} ms")
