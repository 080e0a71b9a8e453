"""Planes that are closed when their test ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dataplane_lab import Build, PlaneUnderTest


@pytest.fixture
def build() -> Iterator[Build]:
    planes: list[PlaneUnderTest] = []

    def make(name: str, host: str = "127.0.0.1", replay_window: int = 16) -> PlaneUnderTest:
        planes.append(PlaneUnderTest(name, host, replay_window))
        return planes[-1]

    yield make
    for plane in planes:
        plane.close()
