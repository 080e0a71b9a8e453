"""``gmesh top``: the traffic of all nodes, on a screen that follows it, or once as text or JSON (control-cli 9)."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gmesh.cli.client import ControlConnection
from gmesh.cli.commands.dump import nodes
from gmesh.cli.commands.path import explain
from gmesh.cli.context import CommandError, Context
from gmesh.proto.control import NodeLine

SHORTEST_DELAY = 0.1
Numbers = tuple[float, float, float, float]
"""Packets in, bytes in, packets out, bytes out."""

SORTS = {
    "n": ("name", ()),
    "i": ("in bytes", (1,)),
    "I": ("in pkts", (0,)),
    "o": ("out bytes", (3,)),
    "O": ("out pkts", (2,)),
    "t": ("tot bytes", (1, 3)),
    "T": ("tot pkts", (0, 2)),
}
"""Key to what it is called, and the numbers that are added up."""

UNITS = {"b": (1.0, 1.0), "k": (1.0, 1e3), "M": (1e3, 1e6), "G": (1e6, 1e9)}
"""Key to the sizes of the units of packets and bytes."""


@dataclass(slots=True)
class Row:
    """One node; ``rates`` are per second. ``gone``: no longer known, which stays listed."""

    node: NodeLine
    rates: Numbers = (0, 0, 0, 0)
    gone: bool = False

    @property
    def totals(self) -> Numbers:
        return (self.node.packets_in, self.node.bytes_in, self.node.packets_out, self.node.bytes_out)


@dataclass(slots=True)
class Table:
    """All rows, from one look at the daemon to the next."""

    rows: dict[str, Row] = field(default_factory=dict)
    sort: str = "n"
    unit: str = "b"
    cumulative: bool = False
    _before: float = 0.0

    def update(self, found: list[NodeLine], now: float) -> None:
        """Take in the daemon's counters at ``now`` (seconds). The first look has no rates yet."""
        elapsed, self._before = now - self._before, now
        old, self.rows = self.rows, {name: Row(row.node, gone=True) for name, row in self.rows.items()}
        for node in found:
            row = self.rows[node.name] = Row(node)
            if node.name in old and elapsed > 0:
                changes = [
                    max(new - was, 0) / elapsed for new, was in zip(row.totals, old[node.name].totals, strict=True)
                ]
                row.rates = (changes[0], changes[1], changes[2], changes[3])

    def numbers(self, row: Row) -> Numbers:
        return row.totals if self.cumulative else row.rates

    def sorted(self) -> list[Row]:
        places = SORTS[self.sort][1]
        return sorted(self.rows.values(), key=lambda row: (-sum(self.numbers(row)[i] for i in places), row.node.name))

    def key(self, key: str) -> None:
        """What a key changes; others do nothing."""
        if key in SORTS:
            self.sort = key
        elif key in UNITS:
            self.unit = key
        elif key == "c":
            self.cumulative = not self.cumulative

    def lines(self, netname: str) -> Iterator[tuple[str, Row | None]]:
        """The screen's lines, the nodes' with their rows."""
        what = "Cumulative" if self.cumulative else "Current"
        yield f"Tinc {netname:<16}  Nodes: {len(self.rows):4}  Sort: {SORTS[self.sort][0]:<10}  {what}", None
        yield "", None
        packets, octets = {
            "b": ("pkts", "bytes"),
            "k": ("pkts", "kbyte"),
            "M": ("kpkt", "Mbyte"),
            "G": ("Mpkt", "Gbyte"),
        }[self.unit]
        heads = "".join(f"{text:>10} " for text in (f"IN {packets}", f"IN {octets}", f"OUT {packets}", f"OUT {octets}"))
        yield f"{'Node':<16} {heads}{'RTT ms':>9}  Path", None
        for row in self.sorted():
            sizes = UNITS[self.unit] * 2
            numbers = "".join(f"{value / size:10.0f} " for value, size in zip(self.numbers(row), sizes, strict=True))
            rtt = f"{row.node.round_trip_us / 1000:9.3f}" if row.node.round_trip_us >= 0 else f"{'-':>9}"
            yield f"{row.node.name:<16} {numbers}{rtt}  {'gone' if row.gone else explain(row.node)[0]}", row

    def objects(self) -> Iterator[dict[str, object]]:
        """The rows for JSON, with the names in ``docs/gmesh-json.md``."""
        names = ("packets_in", "bytes_in", "packets_out", "bytes_out")
        for row in self.sorted():
            rates = {f"{name}_per_second": round(rate, 3) for name, rate in zip(names, row.rates, strict=True)}
            totals = dict(zip(names, row.totals, strict=True))
            kind = explain(row.node)[0]
            yield {"name": row.node.name, **totals, **rates, "round_trip_us": row.node.round_trip_us, "kind": kind}


def run(context: Context, arguments: list[str]) -> int:
    """``top [--once]``."""
    once = arguments == ["--once"]
    if arguments and not once:
        raise CommandError("Too many arguments!")
    if context.json and not once:
        raise CommandError("`top --json' needs `--once'.")
    if not once and not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise CommandError("`top' needs a terminal; `top --once' does not.")
    connection = context.connect()
    table = Table()
    table.update(nodes(connection), time.monotonic())
    if once:
        time.sleep(1)
        table.update(nodes(connection), time.monotonic())
        texts = (
            map(json.dumps, table.objects())
            if context.json
            else (text for text, _ in table.lines(context.netname or ""))
        )
        sys.stdout.write("".join(f"{text}\n" for text in texts))
        return 0
    import curses

    with contextlib.suppress(KeyboardInterrupt):
        curses.wrapper(_follow, connection, table, context.netname or "")
    return 0


def _follow(screen: Any, connection: ControlConnection, table: Table, netname: str) -> None:
    import curses

    with contextlib.suppress(curses.error):
        curses.curs_set(0)
    delay = 1.0
    due = time.monotonic() + delay
    while True:
        _draw(screen, table, netname)
        screen.timeout(max(int((due - time.monotonic()) * 1000), 1))
        code = screen.getch()
        key = chr(code) if 0 < code < 128 else ""
        if key == "q":
            return
        if key == "s":
            delay = _ask_delay(screen, delay)
        table.key(key)
        if time.monotonic() >= due:
            table.update(nodes(connection), time.monotonic())
            due = time.monotonic() + delay


def _draw(screen: Any, table: Table, netname: str) -> None:
    import curses

    height, width = screen.getmaxyx()
    screen.erase()
    for number, (text, row) in enumerate(table.lines(netname)):
        if number >= height:
            break
        style = curses.A_REVERSE if number == 2 else curses.A_NORMAL
        if row is not None:
            style = curses.A_DIM if row.gone else curses.A_BOLD if any(row.rates) else style
        # The screen's last corner cannot be written to.
        screen.addnstr(number, 0, text, max(width - 1, 0), style)
    screen.refresh()


def _ask_delay(screen: Any, delay: float) -> float:
    import curses

    screen.timeout(-1)
    curses.echo()
    try:
        screen.addstr(1, 0, f"Change delay from {delay:.1f}s to: ")
        return max(float(screen.getstr(10)), SHORTEST_DELAY)
    except (ValueError, curses.error):
        return delay
    finally:
        curses.noecho()
