"""Requirement 18: somebody who only claims a node's name does not hold up a handshake with that node."""

from __future__ import annotations

import time

import pytest
from hub_lab import Lab

from gmesh.mesh.connections import PATIENCE
from gmesh.proto.meta_events import Identified, Verified


@pytest.mark.usefixtures("log_lines")
@pytest.mark.parametrize("proved", [False, True])
def test_requirement_18_a_rival_that_has_not_proved_its_name_is_waited_for_briefly(proved: bool) -> None:
    lab = Lab()
    rival = lab.open(1)
    lab.hub.event(rival, Identified("b", 0))
    ours = lab.open(2, "b", outgoing=True)
    proceeded: list[bool] = []
    ours.on_proceed = lambda: proceeded.append(True)
    lab.hub.event(ours, Identified("b", 0))
    lab.hub.event(ours, Verified())
    # The initiator with the smaller name has priority.
    assert not proceeded
    now = time.monotonic()
    assert lab.hub.mesh.next_timeout() <= now + PATIENCE
    if proved:
        lab.hub.event(rival, Verified())
    lab.hub.perform(lab.hub.mesh.on_timeout(now + PATIENCE))
    assert bool(proceeded) is not proved
