"""Changing single settings in a configuration file, every other line as it is: comments, order, blanks, PEM blocks
(control-cli 4).

Works on text; `change` brings in the file. Not here: which file, or whether the value makes sense.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gmesh.config.lexer import load, parse_setting
from gmesh.config.notices import printable
from gmesh.errors import ConfigError

_NO_SETTING = re.compile(r"[ \t]*(#|$)")
NEW_FILE_MODE = 0o644


class WriteError(OSError):
    """The file could be read, but not be written; it is as it was."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line with its end. ``key`` is empty where it sets nothing: comments, blank lines, blocks."""

    text: str
    key: str = ""
    value: str = ""

    def sets(self, name: str) -> bool:
        return self.key.lower() == name.lower()


def lines_of(text: str) -> list[Line]:
    """Split a file's text, read as the daemon reads it (`gmesh.config.lexer`)."""
    lines: list[Line] = []
    in_block = False
    for raw in re.findall(r"[^\n]*\n|[^\n]+", text):
        plain = raw.removesuffix("\n").removesuffix("\r").removeprefix("\ufeff")
        start = plain.lstrip(" \t")
        begins = not in_block and start.startswith("-----BEGIN")
        if in_block or begins or _NO_SETTING.match(plain):
            lines.append(Line(raw))
        else:
            lines.append(Line(raw, *parse_setting(plain)))
        in_block = begins or (in_block and not start.startswith("-----END"))
    return lines


def values(text: str, name: str) -> list[str]:
    """All values of an option, in file order; the name in any case."""
    return [line.value for line in lines_of(text) if line.sets(name) and line.value]


def set_value(text: str, name: str, value: str) -> tuple[str, list[str]]:
    """Make ``value`` the only one: in the place of the first, else at the end.

    Returns the new text and the other values that are gone.
    """
    kept: list[str] = []
    gone: list[str] = []
    written = False
    for line in lines_of(text):
        if not line.sets(name):
            kept.append(line.text)
            continue
        if line.value and line.value.lower() != value.lower():
            gone.append(line.value)
        if not written:
            kept.append(f"{name} = {value}\n")
            written = True
    return _joined(kept, "" if written else f"{name} = {value}\n"), gone


def add_value(text: str, name: str, value: str) -> str:
    """The text with one more value, unless it is there already in any case."""
    present = value.lower() in (old.lower() for old in values(text, name))
    return _joined([text], "" if present else f"{name} = {value}\n")


def delete_value(text: str, name: str, value: str = "") -> tuple[str, int]:
    """The text without the option, or without this value of it, compared in any case; and how many lines are gone."""
    lines = lines_of(text)
    kept = [line.text for line in lines if not line.sets(name) or (value and line.value.lower() != value.lower())]
    deleted = len(lines) - len(kept)
    return (_joined(kept, "") if deleted else text), deleted


def _joined(parts: list[str], addition: str) -> str:
    text = "".join(parts)
    end = "\n" if text and not text.endswith("\n") else ""
    return text + end + addition


def read_text(path: Path) -> str:
    """A file's text, with what is no UTF-8 as surrogate escapes. Raises OSError and ConfigError."""
    return load(path).decode("utf-8", "surrogateescape")


def change(path: Path, edit: Callable[[str], str]) -> bool:
    """Replace a file by what ``edit`` makes of its text; False when that is the same. Raises OSError and ConfigError.

    Changes by several commands at once follow one another, so that none is lost.
    """
    from gmesh.config.write import replace_file

    with _alone(path):
        old = read_text(path)
        begun = _open_block(old)
        if begun:
            raise ConfigError(
                "the block begun here has no END line, so that nothing after it counts; mend that first",
                printable(path),
                begun,
            )
        new = edit(old)
        if new == old:
            return False
        try:
            replace_file(path, new.encode("utf-8", "surrogateescape"), NEW_FILE_MODE)
        except OSError as error:
            raise WriteError(error.errno, error.strerror, str(path)) from None
        return True


def _open_block(text: str) -> int:
    """The line of a BEGIN that no END follows; 0 without one."""
    begun = 0
    for number, line in enumerate(text.split("\n"), 1):
        start = line.lstrip(" \t")
        if not begun and start.startswith("-----BEGIN"):
            begun = number
        elif begun and start.startswith("-----END"):
            begun = 0
    return begun


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock on the directory: the file itself is another one after each change."""
    descriptor = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
