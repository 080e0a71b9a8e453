"""The Python data plane beside tinc 1.0: runs the lab scripts in turn, prints a table with ratios, judges the bars.

usage: slow.py [--quick]

A round measures both programs, one right after the other, so that a ratio compares figures of the same minute; a table
shows medians over the rounds. Exit code 1 when a bar is missed. Not here: how anything is measured (`pair.sh`,
`idle.sh`).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
OURS, REFERENCE = "gmesh", "tinc10"
MANY_SUBNETS = 10_000


@dataclass(frozen=True)
class Run:
    """One call of a lab script; the kinds are the program under test and, where ``against``, the one at the far end."""

    script: str
    variants: tuple[str, ...]
    against: str | None = None
    suffix: str = ""

    def command(self, kind: str) -> list[str]:
        # Where no other is named, both ends are of the kind under test.
        kinds = [kind] if self.script == "idle.sh" else [kind, self.against or kind]
        return [str(HERE / self.script), *self.variants, *kinds]


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    text: str
    unit: str
    digits: int = 0


ROWS = (
    Row("rtt", "idle round trip, median", "us"),
    Row("rtt99", "idle round trip, 99th percentile", "us"),
    Row("rtt_many", f"the same with {MANY_SUBNETS} subnets, median", "us"),
    Row("out", "1400-byte packets sent", "/s"),
    Row("out_cpu", "processor time for one sent", "us", 1),
    Row("in", "1400-byte packets received", "/s"),
    Row("in_cpu", "processor time for one received", "us", 1),
    Row("tcp", "TCP, both ends on this machine", "Mbit/s"),
    Row("rss_start", "resident memory, alone", "MB", 1),
    Row("rss", "resident memory, 100 nodes", "MB", 1),
    Row("cpu", "processor when idle, 100 nodes", "%", 2),
    Row("wakeups", "wake-ups when idle, 100 nodes", "/s", 1),
)


@dataclass(frozen=True)
class Bar:
    """What has to hold. ``figure`` takes medians of ours, and medians of the ratios to the reference."""

    text: str
    figure: Callable[[Mapping[str, float], Mapping[str, float]], float]
    limit: float
    at_most: bool

    def met(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit


BARS = (
    Bar("idle round trip, times that of tinc", lambda ours, ratios: ratios["rtt"], 3.0, True),
    Bar("processor when idle with 100 nodes, % of a core", lambda ours, ratios: ours["cpu"], 0.5, True),
    Bar("resident memory with 100 nodes, MB", lambda ours, ratios: ours["rss"], 60.0, True),
    Bar(
        "packets one way, a second: the slower direction",
        lambda ours, ratios: min(ours["out"], ours["in"]),
        15_000,
        False,
    ),
    Bar("TCP with both ends on this machine, Mbit/s", lambda ours, ratios: ours["tcp"], 150.0, False),
)


def plan(quick: bool) -> tuple[int, list[Run]]:
    """How many rounds, and the runs of one."""
    seconds, pings, idle, rates = (2, 100, 5, "25000,50000") if quick else (5, 300, 20, "20000,35000,60000")
    timing = (f"seconds={seconds}", f"pings={pings}")
    runs = [
        Run("pair.sh", ("measures=rtt,tcp", *timing)),
        Run("pair.sh", ("measures=rtt", f"subnets={MANY_SUBNETS}", *timing), suffix="_many"),
        Run("pair.sh", ("measures=out,in", *timing, f"rates={rates}"), against=REFERENCE),
        Run("idle.sh", (f"seconds={idle}",)),
    ]
    return (1 if quick else 3), runs


def measure(run: Run, kind: str) -> dict[str, float]:
    """The results of one run. A run that fails shows what it said, and ends everything."""
    command = run.command(kind)
    print("  " + " ".join([Path(command[0]).name, *command[1:]]), file=sys.stderr, flush=True)
    finished = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{finished.stdout}\n{' '.join(command)} failed")
    words = (line.split() for line in finished.stdout.splitlines() if line.startswith("result "))
    return {name + run.suffix: float(value) for _, name, value in words}


def main() -> int:
    unknown = set(sys.argv[1:]) - {"--quick"}
    if unknown:
        raise SystemExit(f"usage: {Path(sys.argv[0]).name} [--quick]")
    rounds, runs = plan("--quick" in sys.argv)
    figures: dict[str, dict[str, list[float]]] = {OURS: defaultdict(list), REFERENCE: defaultdict(list)}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for run in runs:
            for kind, columns in figures.items():
                for name, value in measure(run, kind).items():
                    columns[name].append(value)
    ours = {name: statistics.median(values) for name, values in figures[OURS].items()}
    theirs = {name: statistics.median(values) for name, values in figures[REFERENCE].items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(values, figures[REFERENCE][name], strict=True))
        for name, values in figures[OURS].items()
        if all(figures[REFERENCE][name])
    }
    print_table(ours, theirs, ratios, figures[OURS])
    return judge(ours, ratios)


def print_table(
    ours: Mapping[str, float],
    theirs: Mapping[str, float],
    ratios: Mapping[str, float],
    all_of_ours: Mapping[str, list[float]],
) -> None:
    print(f"\n{'':44}{'gmesh':>10}{'tinc 1.0':>10}{'ratio':>8}  gmesh, lowest to highest")
    for row in ROWS:
        if row.name not in ours:
            continue
        numbers = [f"{value:.{row.digits}f}" for value in (ours[row.name], theirs[row.name])]
        ratio = f"{ratios[row.name]:.2f}" if row.name in ratios else "-"
        spread = f"{min(all_of_ours[row.name]):.{row.digits}f} to {max(all_of_ours[row.name]):.{row.digits}f}"
        print(f"{row.text + ', ' + row.unit:44}{numbers[0]:>10}{numbers[1]:>10}{ratio:>8}  {spread}")


def judge(ours: Mapping[str, float], ratios: Mapping[str, float]) -> int:
    print()
    missed = 0
    for bar in BARS:
        value = bar.figure(ours, ratios)
        met = bar.met(value)
        missed += not met
        bound = f"{'at most' if bar.at_most else 'at least'} {bar.limit:g}"
        print(f"{'ok  ' if met else 'MISS'}  {bar.text}: {value:.2f} ({bound})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
