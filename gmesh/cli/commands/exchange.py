"""``gmesh export``, ``export-all``, ``import``, ``exchange`` and ``exchange-all``: host files from node to node
(control-cli 7)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gmesh.cli.context import CommandError, Context, expect
from gmesh.config.lexer import load
from gmesh.errors import ConfigError
from gmesh.values import is_node_name

SEPARATOR = b"#---------------------------------------------------------------#"
MAX_HOST_FILE = 1024 * 1024
"""Bytes of one imported host file, far above any real one: whoever sends them may be a stranger."""

MAX_HOST_FILES = 65536

_NAME_SETTING = re.compile(rb"name(?=[ \t=\r]|\Z)", re.IGNORECASE)
_BEGINS_FILE = re.compile(rb"Name\s*=\s*(\S+)")
_WORD = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
_LONGEST_PATH = 4096


def export(context: Context, arguments: list[str]) -> int:
    """``export``: our own host file on standard output."""
    expect(arguments, 0, 0)
    return _exported(context, _export(context))


def export_all(context: Context, arguments: list[str]) -> int:
    """``export-all``: every host file on standard output."""
    expect(arguments, 0, 0)
    return _exported(context, _export_all(context))


def import_(context: Context, arguments: list[str]) -> int:
    """``import``: host files from standard input."""
    expect(arguments, 0, 0)
    count = 0
    for name, content in _host_files(sys.stdin.buffer):
        count += _import_one(context, name, content)
    if not count:
        raise CommandError("No host configuration files imported.")
    sys.stderr.write(f"Imported {count} host configuration files.\n")
    return 0


def exchange(context: Context, arguments: list[str]) -> int:
    """``exchange``: export, and unless that failed, import."""
    return export(context, arguments) or import_(context, arguments)


def exchange_all(context: Context, arguments: list[str]) -> int:
    """``exchange-all``: export-all, and unless that failed, import."""
    return export_all(context, arguments) or import_(context, arguments)


def _exported(context: Context, code: int) -> int:
    """Without a terminal let the reader see the end, as the one that we import from may wait for it."""
    sys.stdout.flush()
    if context.batch or not (sys.stdin.isatty() and sys.stdout.isatty()):
        _close_output()
    return code


def _close_output() -> None:
    """Close descriptor 1; what is written from now on goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _export(context: Context) -> int:
    name = context.own_name()
    _write_host(name, _read(context.hosts / name))
    return 0


def _export_all(context: Context) -> int:
    try:
        names = sorted(name for name in os.listdir(context.hosts) if is_node_name(name))
    except OSError as error:
        raise CommandError(f"Could not open host configuration directory {context.hosts}: {error.strerror}") from None
    code = 0
    first = True
    for name in names:
        try:
            content = _read(context.hosts / name)
        except CommandError as error:
            sys.stderr.write(f"{error}\n")
            code = 1
            continue
        if not first:
            sys.stdout.buffer.write(SEPARATOR + b"\n")
        first = False
        _write_host(name, content)
    return code


def _read(path: Path) -> bytes:
    try:
        return load(path)
    except OSError as error:
        raise CommandError(f"Could not open configuration file {path}: {error.strerror}") from None
    except ConfigError as error:
        raise CommandError(str(error)) from None


def _write_host(name: str, content: bytes) -> None:
    sys.stdout.flush()
    kept = [line for line in content.removesuffix(b"\n").split(b"\n") if not _NAME_SETTING.match(line)]
    text = b"\n".join(kept)
    sys.stdout.buffer.write(f"Name = {name}\n".encode() + text + (b"\n" if text else b""))


def _host_files(stream: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """The host files in a stream, each when it is complete. Raises CommandError."""
    name = ""
    lines: list[bytes] = []
    size = count = 0
    junk = False
    while line := stream.readline(MAX_HOST_FILE + 1):
        begins = _BEGINS_FILE.match(line)
        if begins:
            if name:
                yield name, b"".join(lines)
            name, lines, size = begins[1].decode("utf-8", "replace"), [], 0
            count += 1
            if count > MAX_HOST_FILES:
                raise CommandError(f"More than {MAX_HOST_FILES} host files in the input.")
        elif not name:
            if not junk:
                sys.stderr.write("Junk at the beginning of the input, ignoring.\n")
            junk = True
        elif line.rstrip(b"\r\n") != SEPARATOR:
            size += len(line)
            if size > MAX_HOST_FILE:
                raise CommandError(f"The host file of {name} is larger than {MAX_HOST_FILE // 1024} KiB.")
            lines.append(line)
    if name:
        yield name, b"".join(lines)


def _import_one(context: Context, name: str, content: bytes) -> int:
    """1 when the host file was written, 0 when there is one already. Raises CommandError."""
    from gmesh.config.write import replace_file

    if not _WORD.fullmatch(name):
        raise CommandError("Invalid Name in input!")
    path = context.hosts / name
    if len(os.fsencode(path)) >= _LONGEST_PATH:
        raise CommandError(f"Filename too long: {path}")
    try:
        if os.path.lexists(path) and not context.force:
            sys.stderr.write(f"Host configuration file {path} already exists, skipping.\n")
            return 0
        replace_file(path, content, 0o644)
    except OSError as error:
        raise CommandError(f"Error creating configuration file {path}: {error.strerror}") from None
    return 1
