"""Configuration files as lines: the syntax that all files of a directory share (config 4).

The rules are tinc's, with these differences: lines may be of any length, leading blanks do not hide a setting,
indented comments and lines of blanks are empty, a block that is never closed is reported, and a byte order mark is
skipped. Not here: what a name means.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gmesh.config.notices import Level, Notice, printable, shown
from gmesh.errors import ConfigError

MAX_FILE_SIZE = 16 * 1024 * 1024
"""Bytes; far above any real file, so that a device or a log given by mistake does not fill the memory."""

_BEGIN = "-----BEGIN"
_END = "-----END"
_LABEL = re.compile(r"-----BEGIN ([^-]*)-----")
_SETTING = re.compile(r"([^ \t=]*)[ \t]*=?[ \t]*(.*)\Z", re.DOTALL)
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""Characters that no line of a configuration file may hold."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting as it stands in a file. ``line`` counts from 1; 0 for the command line, where ``file`` says which."""

    key: str
    value: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Block:
    """A PEM block: ``label`` is what follows BEGIN, ``text`` everything from the BEGIN to the END line, with LFs."""

    label: str
    text: str
    file: str
    line: int

    def __repr__(self) -> str:
        return f"Block({self.label!r}, {self.file!r}, {self.line})"


@dataclass(frozen=True, slots=True)
class Document:
    """A file, read. ``errors`` are the lines tinc stops reading at; whether they end more depends on the file."""

    file: str
    entries: tuple[Entry, ...] = ()
    blocks: tuple[Block, ...] = ()
    errors: tuple[ConfigError, ...] = ()
    notices: tuple[Notice, ...] = ()


def parse_setting(text: str) -> tuple[str, str]:
    """Key and value of one line without its end; either may be empty."""
    match = _SETTING.match(text.strip(" \t"))
    assert match is not None  # every part of the pattern may be empty
    return match.group(1), match.group(2)


@dataclass(frozen=True, slots=True)
class Override:
    """One ``-o`` option: a setting for the server (``node`` empty) or for one node's host file."""

    node: str
    entry: Entry


def parse_overrides(texts: Sequence[str]) -> list[Override]:
    """All the ``-o`` options of a command line, in order. Raises ConfigError."""
    return [parse_override(text, number) for number, text in enumerate(texts, 1)]


def parse_override(text: str, number: int = 1) -> Override:
    """One ``[NODE.]KEY=VALUE``; ``number`` counts the -o options from 1. Raises ConfigError."""
    bad = CONTROL.search(text)
    if bad:
        raise ConfigError(f"control character {ord(bad.group()):#04x} in command line option {number}")
    key, value = parse_setting(text)
    if not value:
        raise ConfigError(f"No value for variable `{shown(key)}' in command line option {number}", key=key)
    node, dot, host_key = key.rpartition(".")
    if not host_key or (dot and not node):
        raise ConfigError(f"no variable name in command line option {number}: {shown(text)}")
    return Override(node, Entry(host_key, value, f"command line option {number}", 0))


def load(path: Path) -> bytes:
    """A configuration file's bytes. Raises OSError, and ConfigError for one that is no sensible file at all."""
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(21, "Is a directory", str(path))
    if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode):
        raise OSError(22, "Not a regular file", str(path))
    with open(path, "rb") as file:
        data = file.read(MAX_FILE_SIZE + 1)
    if len(data) > MAX_FILE_SIZE:
        raise ConfigError(f"more than {MAX_FILE_SIZE // 2**20} MiB: not a configuration file", printable(path))
    return data


def read(path: Path) -> Document:
    """Read a file. Raises ConfigError when it cannot be opened or is no sensible file at all."""
    name = printable(path)
    try:
        data = load(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "Impossible name"
        raise ConfigError(f"Cannot open config file {name}: {reason}", name) from None
    return parse(data, name)


def parse(data: bytes, file: str) -> Document:
    """Split a file's bytes into settings and blocks. Never raises; bad lines are in ``errors``.

    Bytes that are not UTF-8 are kept as surrogate escapes.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        wrong = ConfigError("this is UTF-16 text; configuration files are plain UTF-8", file, 1)
        return Document(file, errors=(wrong,))
    lines = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n")
    return _Reader(file).run(lines)


class _Reader:
    """State of one pass over a file: the results so far and the block that is open."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.entries: list[Entry] = []
        self.blocks: list[Block] = []
        self.errors: list[ConfigError] = []
        self.notices: list[Notice] = []
        self.open_block: list[str] = []
        self.open_line = 0

    def run(self, lines: list[str]) -> Document:
        for number, raw in enumerate(lines, 1):
            line = raw.removesuffix("\r")
            if self.open_block:
                self.block_line(line)
            else:
                self.line(line, number)
        if self.open_block:
            self.notice(
                Level.WARNING,
                f"the block begun here by '{shown(self.open_block[0])}' has no END line: the rest is not read",
                self.open_line,
            )
        return Document(self.file, tuple(self.entries), tuple(self.blocks), tuple(self.errors), tuple(self.notices))

    def notice(self, level: Level, text: str, line: int, key: str = "") -> None:
        self.notices.append(Notice(level, text, self.file, line, key))

    def block_line(self, line: str) -> None:
        stripped = line.strip(" \t")
        self.open_block.append(stripped)
        if stripped.startswith(_END):
            label = _LABEL.match(self.open_block[0])
            text = "\n".join(self.open_block) + "\n"
            self.blocks.append(Block(label.group(1) if label else "", text, self.file, self.open_line))
            self.open_block = []

    def line(self, line: str, number: int) -> None:
        text = line.strip(" \t")
        if not text or text.startswith("#"):
            return
        if text.startswith(_BEGIN):
            self.open_block, self.open_line = [text], number
            return
        bad = CONTROL.search(text)
        if bad:
            self.errors.append(ConfigError(f"control character {ord(bad.group()):#04x}", self.file, number))
            return
        key, value = parse_setting(text)
        if not key:
            self.notice(Level.WARNING, f"no variable name before '{shown(text)}': line ignored", number)
            return
        if not value:
            self.errors.append(ConfigError(f"No value for variable `{shown(key)}'", self.file, number, key))
            return
        if line[0] in " \t":
            self.notice(
                Level.NOTICE, f"{shown(key)} is set although blanks precede it; tinc ignores such lines", number, key
            )
        self.entries.append(Entry(key, value, self.file, number))
