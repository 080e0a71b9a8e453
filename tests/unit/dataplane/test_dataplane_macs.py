"""MAC ages: what the plane notes of its own device's frames in switch mode, and tells once (contract 5)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gmesh.mesh.events import MacSeen
from gmesh.mesh.macs import MAX_MACS
from gmesh.route.snapshot import RouteNode, RouteSettings, RouteSnapshot
from tests.unit.dataplane.dataplane_lab import PlaneUnderTest, wait_until

MAC = bytes.fromhex("020000000001")
EVERYBODY = b"\xff" * 6


def frame(source: bytes = MAC) -> bytes:
    return (EVERYBODY + source + b"\x88\xb5").ljust(60, b"x")


@pytest.fixture
def alpha() -> Iterator[PlaneUnderTest]:
    plane = PlaneUnderTest("alpha")
    yield plane
    plane.close()


def use_mode(plane: PlaneUnderTest, mode: str) -> None:
    nodes = {plane.name: RouteNode(plane.name, True, via=plane.name, next_hop=plane.name)}
    plane.plane.set_routes(RouteSnapshot(plane.name, 0, nodes, settings=RouteSettings(mode=mode)))


def read(plane: PlaneUnderTest, *frames: bytes) -> None:
    """Let the plane take these frames from its device."""
    expected = plane.device.statistics.packets_in + len(frames)
    for one in frames:
        plane.device.inject(one)
    wait_until(lambda: plane.device.statistics.packets_in >= expected)


def test_an_address_is_told_once_and_its_age_follows_its_frames(alpha: PlaneUnderTest) -> None:
    use_mode(alpha, "switch")
    read(alpha, frame())
    wait_until(lambda: bool(alpha.seen(MacSeen)))
    first = alpha.plane.mac_ages()[MAC]
    alpha.shift = 100.0
    read(alpha, frame(), frame())
    assert alpha.seen(MacSeen) == [MacSeen(MAC)]
    assert alpha.plane.mac_ages()[MAC] >= first + 100
    alpha.plane.forget_mac(MAC)
    assert not alpha.plane.mac_ages()
    read(alpha, frame())
    wait_until(lambda: len(alpha.seen(MacSeen)) == 2)


@pytest.mark.parametrize("source", [EVERYBODY, bytes(6), bytes.fromhex("01005e000001")])
def test_no_host_has_such_an_address(alpha: PlaneUnderTest, source: bytes) -> None:
    use_mode(alpha, "switch")
    read(alpha, frame(source), frame())
    assert list(alpha.plane.mac_ages()) == [MAC]


@pytest.mark.parametrize("mode", ["router", "hub"])
def test_other_modes_learn_nothing(alpha: PlaneUnderTest, mode: str) -> None:
    use_mode(alpha, mode)
    read(alpha, frame())
    assert not alpha.plane.mac_ages()
    assert not alpha.seen(MacSeen)


def test_frames_of_other_nodes_teach_nothing(alpha: PlaneUnderTest) -> None:
    use_mode(alpha, "switch")
    alpha.plane._route(frame(), "beta", 1.0)
    assert alpha.device.written == [frame()]
    assert not alpha.plane.mac_ages()


def test_the_number_of_addresses_is_bounded(alpha: PlaneUnderTest) -> None:
    use_mode(alpha, "switch")
    for start in range(0, MAX_MACS + 100, 100):
        read(alpha, *(frame(b"\x02" + number.to_bytes(5, "big")) for number in range(start, start + 100)))
    assert len(alpha.plane.mac_ages()) == MAX_MACS
