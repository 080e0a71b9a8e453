"""DeviceStandby: the device's scripts follow the first and the last other node."""

from __future__ import annotations

from typing import Any

import pytest

from gmesh.daemon.standby import Standby
from gmesh.mesh.actions import NodeDown, NodeUp, SubnetDown, SubnetUp
from gmesh.values import Address, Subnet

HERE = Address("10.0.0.1", "655")
NET = Subnet.parse("10.2.0.0/16")


class Notebook:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def tinc(self, *, up: bool) -> None:
        self.lines.append("tinc-up" if up else "tinc-down")

    def mesh_event(self, event: Any) -> None:
        self.lines.append(f"{type(event).__name__} {event.node}")


@pytest.fixture
def book() -> Notebook:
    return Notebook()


@pytest.fixture
def standby(book: Notebook) -> Standby:
    return Standby(book)  # type: ignore[arg-type]


def test_up_before_the_first_and_down_after_the_last(book: Notebook, standby: Standby) -> None:
    standby.mesh_event(SubnetUp("me", NET, None))
    standby.settle()
    for name in ("b", "c"):
        standby.mesh_event(NodeUp(name, HERE))
        standby.settle()
    standby.mesh_event(NodeDown("b", HERE))
    standby.settle()
    standby.mesh_event(NodeDown("c", HERE))
    standby.mesh_event(SubnetDown("c", NET, HERE))
    standby.settle()
    standby.mesh_event(SubnetDown("me", NET, None))
    standby.end()
    assert book.lines == [
        "SubnetUp me",
        "tinc-up",
        "NodeUp b",
        "NodeUp c",
        "NodeDown b",
        "NodeDown c",
        "SubnetDown c",
        "tinc-down",
        "SubnetDown me",
    ]


def test_it_comes_again(book: Notebook, standby: Standby) -> None:
    for _ in range(2):
        standby.mesh_event(NodeUp("b", HERE))
        standby.mesh_event(NodeDown("b", HERE))
        standby.settle()
    assert book.lines == ["tinc-up", "NodeUp b", "NodeDown b", "tinc-down"] * 2


def test_who_was_alone_has_nothing_to_take_down(book: Notebook, standby: Standby) -> None:
    standby.end()
    assert book.lines == []


def test_a_stop_takes_down(book: Notebook, standby: Standby) -> None:
    standby.mesh_event(NodeUp("b", HERE))
    standby.end()
    assert book.lines[-1] == "tinc-down"
