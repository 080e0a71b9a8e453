"""GraphDumpFile: what is written, where, when, and that a failure is a line in the log only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from gmesh.daemon.graph_dump import GraphDump, graph_text
from gmesh.mesh.registry import Bounds, Registry
from gmesh.values import Address


@pytest.fixture
def registry() -> Registry:
    registry = Registry("me", Bounds(9000, 9000, 9000, 10_000_000), 0.0)
    join(registry, "b")
    return registry


def join(registry: Registry, name: str) -> None:
    other = registry.ensure_node(name, 0.0)
    for one, two in ((registry.me, other), (other, registry.me)):
        registry.put_edge(one, two, address=Address("10.0.0.1", "655"), options=0, weight=1)


@pytest.fixture
def dump(registry: Registry, log_lines: list[str]) -> Iterator[Callable[[str], GraphDump]]:
    greenlets = []

    def start(target: str, interval: float = 0.05) -> GraphDump:
        it = GraphDump(registry, lambda: target, interval)
        greenlets.append(gevent.spawn(it.run))
        it.changed.set()
        return it

    yield start
    gevent.killall(greenlets)


def until(condition: Callable[[], bool]) -> None:
    with gevent.Timeout(5):
        while not condition():
            gevent.sleep(0.005)


def test_the_form_of_tinc(registry: Registry) -> None:
    assert graph_text(registry) == (
        'digraph {\n\t"b" [label = "b"];\n\t"me" [label = "me"];\n\t"b" -> "me";\n\t"me" -> "b";\n}\n'
    )


def test_a_file_is_replaced_as_a_whole_when_the_graph_changed(
    registry: Registry, dump: Callable[..., GraphDump], tmp_path: Path
) -> None:
    file = tmp_path / "graph"
    it = dump(str(file))
    until(file.exists)
    assert file.read_text() == graph_text(registry)
    first = file.stat().st_ino
    it.changed.set()
    gevent.sleep(0.2)
    assert file.stat().st_ino == first, "nothing has changed"
    join(registry, "c")
    until(lambda: file.stat().st_ino != first)
    assert '"c" -> "me"' in file.read_text()
    assert not (tmp_path / "graph.new").exists()


def test_a_storm_is_written_once_in_an_interval(
    registry: Registry, dump: Callable[..., GraphDump], tmp_path: Path
) -> None:
    file = tmp_path / "graph"
    it = dump(str(file), 60.0)
    until(file.exists)
    first = file.stat().st_ino
    join(registry, "c")
    it.changed.set()
    gevent.sleep(0.2)
    assert file.stat().st_ino == first


def test_a_command_reads_it(registry: Registry, dump: Callable[..., GraphDump], tmp_path: Path) -> None:
    for number in range(3000):  # more than a pipe holds
        join(registry, f"n{number}")
    file = tmp_path / "graph"
    dump(f"|cat >{file}.part && mv {file}.part {file}")
    until(file.exists)
    assert file.read_text() == graph_text(registry)


@pytest.mark.parametrize("target", ["/nowhere/at/all/graph", "|exit 3"])
def test_a_failure_is_a_line_in_the_log_and_not_the_end(
    target: str, dump: Callable[..., GraphDump], log_lines: list[str]
) -> None:
    def complaints() -> int:
        return sum(f"Could not write the graph to {target}" in line for line in log_lines)

    dump(target)
    # Tried again although nothing has changed.
    until(lambda: complaints() >= 2)
