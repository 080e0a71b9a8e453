"""The Python data plane beside tinc, in both generations: runs the lab scripts in turn, prints tables with ratios,
judges the bars.

usage: slow.py [--quick]

A round measures both programs, one right after the other, so that a ratio compares figures of the same minute; a table
shows medians over the rounds. Exit code 1 when a bar is missed. Not here: how anything is measured (`pair.sh`,
`idle.sh`, `settle.sh`).
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
MANY_SUBNETS = 10_000


@dataclass(frozen=True)
class Generation:
    """``ours`` and ``reference`` are kinds of the lab."""

    title: str
    ours: str
    reference: str


LEGACY = Generation("tinc 1.0", "gmesh", "tinc10")
SPTPS = Generation("tinc 1.1", "gmesh11", "tinc11")


@dataclass(frozen=True)
class Run:
    """One call of a lab script. Where there is a far end it is of the kind under test, or ``against_reference``."""

    script: str
    variants: tuple[str, ...]
    against_reference: bool = False
    suffix: str = ""
    generations: tuple[Generation, ...] = (LEGACY, SPTPS)

    def command(self, generation: Generation, kind: str) -> list[str]:
        far_end = generation.reference if self.against_reference else kind
        kinds = [kind, far_end] if self.script == "pair.sh" else [kind]
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
    Row("out", "1380-byte packets sent", "/s"),
    Row("out_cpu", "processor time for one sent", "us", 1),
    Row("in", "1380-byte packets received", "/s"),
    Row("in_cpu", "processor time for one received", "us", 1),
    Row("tcp", "TCP, both ends on this machine", "Mbit/s"),
    Row("rss_start", "resident memory, alone", "MB", 1),
    Row("rss", "resident memory, 100 nodes", "MB", 1),
    Row("cpu", "processor when idle, 100 nodes", "%", 2),
    Row("wakeups", "wake-ups when idle, 100 nodes", "/s", 1),
    Row("settle", "processor time to learn 1000 nodes", "s", 2),
)


@dataclass(frozen=True)
class Bar:
    """What has to hold. ``figure`` takes medians of ours, and medians of the ratios to the reference."""

    text: str
    figure: Callable[[Mapping[str, float], Mapping[str, float]], float]
    limit: float
    at_most: bool
    generations: tuple[Generation, ...] = (LEGACY, SPTPS)

    def met(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit


BARS = (
    Bar("idle round trip, times that of tinc", lambda ours, ratios: ratios["rtt"], 3.0, True, (LEGACY,)),
    Bar("processor when idle with 100 nodes, % of a core", lambda ours, ratios: ours["cpu"], 0.5, True),
    Bar("resident memory with 100 nodes, MB", lambda ours, ratios: ours["rss"], 60.0, True),
    Bar(
        "packets one way, a second: the slower direction",
        lambda ours, ratios: min(ours["out"], ours["in"]),
        15_000,
        False,
    ),
    Bar("TCP with both ends on this machine, Mbit/s", lambda ours, ratios: ours["tcp"], 150.0, False, (LEGACY,)),
    Bar("processor time to learn 1000 nodes, s", lambda ours, ratios: ours["settle"], 1.5, True),
)


def plan(quick: bool) -> tuple[int, list[Run]]:
    """How many rounds, and the runs of one."""
    seconds, pings, idle, rates = (2, 100, 5, "25000,50000") if quick else (5, 300, 20, "20000,35000,60000")
    timing = (f"seconds={seconds}", f"pings={pings}")
    runs = [
        Run("pair.sh", ("measures=rtt,tcp", *timing)),
        Run("pair.sh", ("measures=rtt", f"subnets={MANY_SUBNETS}", *timing), suffix="_many", generations=(LEGACY,)),
        Run("pair.sh", ("measures=out,in", *timing, f"rates={rates}"), against_reference=True),
        Run("idle.sh", (f"seconds={idle}",)),
        Run("settle.sh", ()),
    ]
    return (1 if quick else 3), runs


def measure(run: Run, generation: Generation, kind: str) -> dict[str, float]:
    """The results of one run. A run that fails shows what it said, and ends everything."""
    command = run.command(generation, kind)
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
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for run in runs:
            for generation in run.generations:
                for kind in (generation.ours, generation.reference):
                    for name, value in measure(run, generation, kind).items():
                        figures[kind][name].append(value)
    missed = [report(each, figures[each.ours], figures[each.reference]) for each in (LEGACY, SPTPS)]
    return 1 if any(missed) else 0


def report(generation: Generation, ours: Mapping[str, list[float]], reference: Mapping[str, list[float]]) -> int:
    """Print what was measured; returns how many bars were missed."""
    medians = {name: statistics.median(values) for name, values in ours.items()}
    theirs = {name: statistics.median(values) for name, values in reference.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(values, reference[name], strict=True))
        for name, values in ours.items()
        if all(reference[name])
    }
    print_table(generation.title, medians, theirs, ratios, ours)
    return judge(generation, medians, ratios)


def print_table(
    title: str,
    ours: Mapping[str, float],
    theirs: Mapping[str, float],
    ratios: Mapping[str, float],
    all_of_ours: Mapping[str, list[float]],
) -> None:
    print(f"\n{'':44}{'gmesh':>10}{title:>10}{'ratio':>8}  gmesh, lowest to highest")
    for row in ROWS:
        if row.name not in ours:
            continue
        numbers = [f"{value:.{row.digits}f}" for value in (ours[row.name], theirs[row.name])]
        ratio = f"{ratios[row.name]:.2f}" if row.name in ratios else "-"
        spread = f"{min(all_of_ours[row.name]):.{row.digits}f} to {max(all_of_ours[row.name]):.{row.digits}f}"
        print(f"{row.text + ', ' + row.unit:44}{numbers[0]:>10}{numbers[1]:>10}{ratio:>8}  {spread}")


def judge(generation: Generation, ours: Mapping[str, float], ratios: Mapping[str, float]) -> int:
    print()
    missed = 0
    for bar in BARS:
        if generation not in bar.generations:
            continue
        value = bar.figure(ours, ratios)
        met = bar.met(value)
        missed += not met
        bound = f"{'at most' if bar.at_most else 'at least'} {bar.limit:g}"
        print(f"{'ok  ' if met else 'MISS'}  {bar.text}: {value:.2f} ({bound})")
    return missed


if __name__ == "__main__":
    sys.exit(main())
