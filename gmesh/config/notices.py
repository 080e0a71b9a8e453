"""What reading a configuration has to say: things to tell the administrator, and errors collected into one.

Not here: logging. Whoever reads the configuration decides where notices go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from gmesh.errors import ConfigError

MAX_SHOWN = 80


def printable(text: object) -> str:
    """A path or other text, fit for a message: what is no printable character is escaped, broken UTF-8 too."""
    plain = str(text)
    return plain if plain.isprintable() else repr(plain)[1:-1]


def shown(text: str) -> str:
    """Text from a file, fit for a message: `printable` and of bounded length."""
    cut = printable(text[:MAX_SHOWN])
    return cut if len(text) <= MAX_SHOWN and len(cut) <= 2 * MAX_SHOWN else f"{cut[:MAX_SHOWN]}..."


MOST_ERRORS = 20
"""More are not shown: a file that is no text at all has thousands."""


class Level(IntEnum):
    """How loud a notice is; the numbers are those of the logging module (NOTICE between INFO and WARNING)."""

    INFO = 20
    NOTICE = 25
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about a file that does not stop the daemon. ``line`` is 0 and ``file`` empty where none applies."""

    level: Level
    text: str
    file: str = ""
    line: int = 0
    key: str = ""

    def __str__(self) -> str:
        return str(ConfigError(self.text, self.file, self.line, self.key))

    @classmethod
    def from_error(cls, error: ConfigError, level: Level = Level.ERROR) -> Notice:
        return cls(level, error.message, error.file, error.line, error.key)


class ConfigErrors(ConfigError):
    """Several errors at once, so that an administrator sees all of them; blamed on the place of the first."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        first = errors[0]
        super().__init__(first.message, first.file, first.line, first.key)
        self.errors = tuple(errors)

    def __str__(self) -> str:
        lines = [str(error) for error in self.errors[:MOST_ERRORS]]
        if len(self.errors) > MOST_ERRORS:
            lines.append(f"{len(self.errors) - MOST_ERRORS} more errors were left out")
        return "\n".join(lines)


def raise_all(errors: Sequence[ConfigError]) -> None:
    """Raise what was collected: nothing, the only error, or all in one."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ConfigErrors(errors)
