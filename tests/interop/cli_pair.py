"""The same commands through tinc 1.1's own tool and through gmesh, on two copies of a directory.

Each copy lies in a working directory of its own under the same relative name, so that messages that name files are
the same too.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PEERS = Path(__file__).resolve().parents[2] / ".cache" / "peers" / "tinc-1.1" / "bin"
TINC11 = Path(os.environ.get("TINC11", PEERS / "tinc"))
TINCD11 = Path(os.environ.get("TINCD11", PEERS / "tincd"))
GMESH = Path(sys.executable).parent / "gmesh"
needs_tinc = pytest.mark.skipif(
    not TINC11.exists(), reason="NOT TESTED: tinc 1.1 is not unpacked on this machine, see tools/peers"
)

_PROGRESS = re.compile(r"[-.+*]* ?[pq]?")
_OURS = (
    # What gmesh says beyond tinc's line: the nearest word, the file, the reason.
    (re.compile(r"(directory)\. Did you mean [^?]*\?$"), r"\1"),
    (re.compile(r" Did you mean [^?]*\?$"), ""),
    (re.compile(r"(old key\(s\) found and disabled\.) \(.*\)$"), r"\1"),
    (re.compile(r"^(Invalid name for myself!) .*$"), r"\1"),
    (re.compile(r"^(Could not read (?:public|private) key from [^:]*): .*$"), r"\1"),
    (re.compile(r"^(Invalid character in netname!) .*$"), r"\1"),
    (re.compile(r"^(Warning: unsafe character in netname!) .*$"), r"\1"),
    (re.compile(r"; does the daemon run, .*$"), ""),
)
_EXPLAINS = re.compile(r"  |Now give the host file|Unable to read RSA p|Warning: gmeshd |To be dumped: |Usage: gmesh ")
_SECRETS = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40,}={0,2}(?![A-Za-z0-9+/=])")


@dataclass(frozen=True)
class Result:
    """What a command did. ``err`` is without what one of the two says in addition on purpose."""

    code: int
    out: str
    err: list[str]


@dataclass
class Side:
    """One of the two tools in its own working directory."""

    program: Path
    where: Path
    environment: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ("-c", "net")

    def run(self, *words: str, text: str | bytes = "", options: tuple[str, ...] | None = None) -> Result:
        done = subprocess.run(
            [
                str(self.program),
                *(self.options if options is None else options),
                f"--pidfile={self.where / 'd.pid'}",
                *words,
            ],
            cwd=self.where,
            input=text.encode() if isinstance(text, str) else text,
            capture_output=True,
            check=False,
            timeout=60,
            env={**os.environ, **self.environment},
        )
        return Result(
            done.returncode, self.same(done.stdout.decode("utf-8", "surrogateescape")), self.said(done.stderr)
        )

    def said(self, stderr: bytes) -> list[str]:
        lines = []
        for line in stderr.decode("utf-8", "surrogateescape").splitlines():
            if not _PROGRESS.fullmatch(line) and not _EXPLAINS.match(line):
                lines.append(functools.reduce(lambda said, rule: rule[0].sub(rule[1], said), _OURS, self.same(line)))
        return lines

    def same(self, text: str) -> str:
        """The text with what cannot be the same in both: keys, the program's own name, the directory."""
        text = re.sub(r"[^\s`]*/(usr/sbin/tinc|tinc)(?= )|\bgmesh(?= -| --)", "TOOL", text)
        return _SECRETS.sub("KEY", text.replace(str(self.where), "WHERE"))

    def tree(self) -> dict[str, tuple[int, str]]:
        """Every file below the directory with its mode and text; the places of keys are marked, not the keys."""
        found = {}
        for path in sorted((self.where / "net").rglob("*")):
            mode = stat.S_IMODE(path.lstat().st_mode)
            text = path.read_bytes().decode("utf-8", "surrogateescape") if path.is_file() else ""
            # A key's text ends with whatever is left over, so its last line is marked with the block.
            text = re.sub(r"(-----BEGIN [A-Z0-9 ]+-----\n)(?:.*\n)*?(#?-----END)", r"\1KEY\n\2", text)
            found[str(path.relative_to(self.where))] = (mode, self.same(text))
        return found


class Pair:
    """Both sides; ``tinc`` is the one that is right unless a test says why not."""

    def __init__(self, where: Path) -> None:
        self.tinc = Side(TINC11, where / "tinc")
        self.gmesh = Side(GMESH, where / "gmesh")
        for side in self.sides:
            side.where.mkdir()

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.tinc, self.gmesh

    def prepare(self, work: Callable[[Path], object]) -> None:
        """Do something to both directories."""
        for side in self.sides:
            work(side.where / "net")

    def copy(self, directory: Path) -> None:
        self.prepare(lambda net: shutil.copytree(directory, net))

    def same(self, *words: str, text: str | bytes = "", options: tuple[str, ...] | None = None) -> Result:
        """Run a command on both sides and hold the results together; returns what both did."""
        theirs, ours = (side.run(*words, text=text, options=options) for side in self.sides)
        assert ours == theirs, (words, text)
        return ours

    def same_files(self) -> None:
        theirs, ours = self.tinc.tree(), self.gmesh.tree()
        # The git version of tinc 1.1 makes this directory at init, and so does gmesh.
        ours.pop("net/cache", None)
        assert ours == theirs
