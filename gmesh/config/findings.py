"""What looking a directory over finds: a mistake, its place, what it does, and how it is mended.

Not here: looking (`check` and what it calls), and how findings are shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gmesh.config.notices import Level


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake.

    ``text`` is the whole first line, the place included, in tinc's words where tinc knows the mistake. ``line`` is 0
    and ``file`` empty where none applies. ``commands`` mend it: words for gmesh, or with a ``$ `` in front for the
    shell. ``fix`` mends what is safe to mend and returns what it did. ``fails``: the daemon does not start, or
    nobody can connect.
    """

    level: Level
    text: str
    file: str = ""
    line: int = 0
    key: str = ""
    explanation: str = ""
    commands: tuple[str, ...] = ()
    fails: bool = False
    fix: Callable[[], str] | None = None

    def __str__(self) -> str:
        return f"{self.text}: {self.explanation}" if self.explanation else self.text


LEVEL_WORDS = {Level.ERROR: "ERROR", Level.WARNING: "WARNING", Level.NOTICE: "NOTE", Level.INFO: "NOTE"}
"""How findings of a level begin, for people and (in lower case) in JSON."""
