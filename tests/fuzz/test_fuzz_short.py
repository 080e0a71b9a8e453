"""A short run of every fuzz target (requirements 12, 23, 25, 27): the same inputs each time."""

from __future__ import annotations

import pytest
from fuzz import TARGETS, run

INPUTS = {"requests": 3000, "meta": 60, "packets": 60, "frames": 60, "mesh": 30}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_breaks_on_any_input(name: str) -> None:
    assert run(TARGETS[name], seconds=60, seed=7, limit=INPUTS[name]) == INPUTS[name]
