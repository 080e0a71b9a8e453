"""IndirectData and TCPOnly keep packets off UDP, but IndirectData not between neighbours (topology 9.2, 10)."""

from __future__ import annotations

import pytest
from test_mesh_facade import Bench

from gmesh.mesh.udp import State
from gmesh.values import OPTION_CLAMP_MSS, OPTION_INDIRECT, OPTION_PMTU, OPTION_TCPONLY

USUAL = OPTION_PMTU | OPTION_CLAMP_MSS


def neighbour(options: int) -> Bench:
    bench = Bench()
    bench.connect("b", options=options)
    bench.say("b", f"12 1 b m 192.0.2.1 655 {options:x} 60")
    bench.settle()
    return bench


def state(bench: Bench, name: str) -> State:
    bench.mesh.channels._find(name, bench.now)
    return bench.mesh.channels._peers[name].path.state


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (USUAL, State.WAITING),
        (USUAL | OPTION_INDIRECT, State.WAITING),
        (OPTION_CLAMP_MSS | OPTION_INDIRECT | OPTION_TCPONLY, State.OFF),
        (OPTION_INDIRECT, State.TRUSTED),
    ],
)
def test_a_neighbour(options: int, wanted: State) -> None:
    assert state(neighbour(options), "b") is wanted


@pytest.mark.parametrize(("options", "wanted"), [(USUAL, State.WAITING), (USUAL | OPTION_INDIRECT, State.OFF)])
def test_a_node_behind_a_neighbour(options: int, wanted: State) -> None:
    bench = neighbour(USUAL)
    bench.say("b", f"12 2 b c 192.0.2.3 655 {options:x} 60")
    bench.say("b", f"12 3 c b 192.0.2.2 655 {USUAL:x} 60")
    bench.settle()
    assert state(bench, "c") is wanted
