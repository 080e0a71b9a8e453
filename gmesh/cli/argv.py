"""Makes a command line explicit the way getopt_long reads it, so that docopt understands the result.

Handles what docopt does not know: optional option arguments, GNU's error messages, and that the first bad option wins.
Unique prefixes of long options and bundled short ones are spelled out on the way. Not here: what options mean.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from gmesh.errors import GmeshError


class Argument(Enum):
    """Whether an option takes an argument."""

    NONE = auto()
    OPTIONAL = auto()
    REQUIRED = auto()


@dataclass(frozen=True, slots=True)
class Option:
    """One option; ``short`` is a letter or empty, ``long`` has no dashes.

    ``default`` is what an `OPTIONAL` argument becomes when none is given.
    """

    short: str
    long: str
    argument: Argument = Argument.NONE
    default: str = ""


class UsageError(GmeshError):
    """A bad command line. The text is getopt's, without the program's name in front."""


Parsed = list[tuple[str, str | None]]
"""Options in their order: long name, and the argument or None."""


def parse(
    arguments: Sequence[str], options: Iterable[Option], *, stop_at_word: bool = False
) -> tuple[Parsed, list[str]]:
    """Split ``arguments`` (without the program) into options and words. Raises UsageError.

    An optional argument is attached, or the next word if that does not start with ``-`` (daemon-cli 1). With
    ``stop_at_word`` the first word ends the options, as in ``gmesh [options] command ...``.
    """
    table = list(options)
    parsed: Parsed = []
    words: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return parsed, words + rest
        if argument.startswith("--"):
            parsed.append(_long(argument, rest, table))
        elif argument.startswith("-") and argument != "-":
            parsed += _bundle(argument[1:], rest, table)
        elif stop_at_word:
            return parsed, [argument, *rest]
        else:
            words.append(argument)
    return parsed, words


def spelled(parsed: Iterable[tuple[str, str | None]]) -> list[str]:
    """Options in the one spelling that docopt reads: ``--long`` or ``--long=value``."""
    return [f"--{name}" if value is None else f"--{name}={value}" for name, value in parsed]


def read(text: str, explicit: Sequence[str]) -> dict[str, Any]:
    """What docopt makes of an explicit command line, by its help text."""
    with warnings.catch_warnings():
        # Its source has escapes that newer Pythons warn about when they compile it.
        warnings.simplefilter("ignore")
        from docopt import docopt
    return dict(docopt(text, list(explicit), help=False))


def _long(argument: str, rest: list[str], table: list[Option]) -> tuple[str, str | None]:
    name, equals, value = argument[2:].partition("=")
    matches = [option for option in table if option.long == name]
    matches = matches or [option for option in table if name and option.long.startswith(name)]
    if not matches:
        raise UsageError(
            f"unrecognized option '--{name}{equals}{value}'" if equals else f"unrecognized option '--{name}'"
        )
    if len(matches) > 1:
        possible = "".join(f" '--{option.long}'" for option in matches)
        raise UsageError(f"option '{argument}' is ambiguous; possibilities:{possible}")
    option = matches[0]
    if option.argument is Argument.NONE:
        if equals:
            raise UsageError(f"option '--{option.long}' doesn't allow an argument")
        return option.long, None
    if equals:
        return option.long, value
    return option.long, _next_word(option, rest, f"option '--{option.long}' requires an argument")


def _bundle(letters: str, rest: list[str], table: list[Option]) -> Parsed:
    parsed: Parsed = []
    while letters:
        letter, letters = letters[0], letters[1:]
        option = next((option for option in table if option.short == letter), None)
        if option is None:
            raise UsageError(f"invalid option -- '{letter}'")
        if option.argument is Argument.NONE:
            parsed.append((option.long, None))
            continue
        value = letters or _next_word(option, rest, f"option requires an argument -- '{letter}'")
        parsed.append((option.long, value))
        break
    return parsed


def _next_word(option: Option, rest: list[str], complaint: str) -> str:
    if option.argument is Argument.REQUIRED:
        if not rest:
            raise UsageError(complaint)
        return rest.pop(0)
    if rest and not rest[0].startswith("-"):
        return rest.pop(0)
    return option.default
