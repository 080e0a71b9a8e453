"""``gmesh fsck``: the mistakes in a directory, what each one does, and how it is mended (control-cli 11)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from gmesh.cli.context import CommandError, Context
from gmesh.config.check import check
from gmesh.config.findings import LEVEL_WORDS, Finding
from gmesh.config.notices import Level
from gmesh.daemon.pidfile import AlreadyRunningError, PidFile, is_alive, read_pidfile
from gmesh.errors import GmeshError

FIX = "--fix"


def run(context: Context, arguments: list[str]) -> int:
    """``fsck [--fix]``: 1 when something is left that the daemon cannot work with; warnings do not count."""
    words = [word for word in arguments if word != FIX]
    if words:
        raise CommandError("Too many arguments!")
    mend = context.force or len(words) != len(arguments)
    failed = False
    for finding in [*check(context.directory), *_pid_file(context)]:
        if not context.json:
            sys.stderr.write("".join(f"{line}\n" for line in _lines(context, finding)))
        done = finding.fix is not None and (mend or _agreed(context)) and _mended(context, finding)
        failed |= finding.fails and not done
        if context.json:
            sys.stdout.write(f"{json.dumps(_plain(context, finding, fixed=done))}\n")
    return int(failed)


def _pid_file(context: Context) -> Iterator[Finding]:
    """A pid file that a daemon has left behind when it was killed."""
    path = context.pid_path
    try:
        pid = read_pidfile(path).pid
    except (OSError, ValueError):
        return
    if is_alive(pid):
        return

    def fix() -> str:
        PidFile.acquire(path).remove()
        return f"Removed {path}."

    text = f"the pid file {path} names process {pid}, which does not run"
    yield Finding(Level.NOTICE, text, path, explanation="The daemon did not end by itself.", fix=fix)


def _lines(context: Context, finding: Finding) -> Iterator[str]:
    yield f"{LEVEL_WORDS[finding.level]}: {finding.text}"
    if finding.explanation:
        yield f"  {finding.explanation}"
    for command in finding.commands:
        yield f"    {_command(context, command)}"


def _command(context: Context, command: str) -> str:
    """A command as one would type it."""
    return command[2:] if command.startswith("$ ") else context.command_line(command)


def _agreed(context: Context) -> bool:
    if not context.may_ask or context.json:
        return False
    try:
        return input("Fix y/n? ").strip().lower().startswith("y")
    except EOFError:
        return False


def _mended(context: Context, finding: Finding) -> bool:
    assert finding.fix is not None
    try:
        said = finding.fix()
    except OSError as error:
        said, done = f"Could not mend it: {error.filename or finding.file}: {error.strerror}", False
    except (GmeshError, AlreadyRunningError) as error:
        said, done = f"Could not mend it: {error}", False
    else:
        done = True
    if not context.json or not done:
        sys.stderr.write(f"{said}\n")
    return done


def _plain(context: Context, finding: Finding, *, fixed: bool) -> dict[str, object]:
    return {
        "level": LEVEL_WORDS[finding.level].lower(),
        "text": finding.text,
        "file": finding.file,
        "line": finding.line,
        "variable": finding.key,
        "explanation": finding.explanation,
        "commands": [_command(context, command) for command in finding.commands],
        "fails": finding.fails,
        "fixable": finding.fix is not None,
        "fixed": fixed,
    }
