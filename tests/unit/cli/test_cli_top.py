"""``gmesh top``: rates, order and units, from two looks at a daemon."""

from __future__ import annotations

from dataclasses import replace

from gmesh.cli.commands.top import Table
from tests.unit.daemon.fake_backend import node


def table() -> Table:
    made = Table()
    one, two = node("bar"), node("zed")
    made.update([one, two, node("old")], 10.0)
    made.update([replace(one, bytes_in=2002, packets_in=5), replace(two, bytes_out=9004)], 12.0)
    return made


def test_rates_and_order() -> None:
    made = table()
    assert made.rows["bar"].rates == (2, 1000, 0, 0)
    assert made.rows["old"].gone
    for key, first in (("n", "bar"), ("i", "bar"), ("o", "zed"), ("t", "zed"), ("T", "bar"), ("x", "bar")):
        made.key(key)
        assert made.sorted()[0].node.name == first
    made.key("c")
    assert made.numbers(made.rows["bar"]) == (5, 2002, 3, 4)


def test_counters_that_begin_anew_give_no_negative_rate() -> None:
    made = table()
    made.update([node("bar")], 13.0)
    assert made.rows["bar"].rates == (0, 0, 0, 0)


def test_lines_and_objects() -> None:
    made = table()
    made.key("k")
    lines = [text for text, _ in made.lines("net")]
    assert lines[0] == "Tinc net               Nodes:    3  Sort: name        Current"
    assert lines[3].split()[:5] == ["bar", "2", "1", "0", "0"]
    assert lines[4].endswith("gone")
    first = next(made.objects())
    assert first["bytes_in_per_second"] == 1000
    assert first["bytes_in"] == 2002
