"""``gmesh edit`` and ``gmesh network``: which files, which networks (control-cli 10)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from gmesh.cli.commands.variables import tell_daemon
from gmesh.cli.context import CommandError, Context, expect
from gmesh.config.netname import check_netname
from gmesh.config.paths import CONFDIR
from gmesh.errors import ConfigError
from gmesh.values import is_node_name

IN_BASE = (
    "tinc.conf",
    "tinc-up",
    "tinc-down",
    "subnet-up",
    "subnet-down",
    "host-up",
    "host-down",
    "invitation-created",
    "invitation-accepted",
)


def edit(context: Context, arguments: list[str]) -> int:
    """``edit FILE``: with the administrator's editor; then a running daemon is told to reload."""
    expect(arguments, 1, 1, exact=True)
    path = edited_file(context, arguments[0])
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    # By a shell, so that the editor may have options; the path is an argument of its own, whatever is in it.
    done = subprocess.run(["/bin/sh", "-c", f'{editor} "$1"', editor, str(path)], check=False)
    if done.returncode:
        raise CommandError(f"The editor ended with {done.returncode}; a running daemon is not told to reload.")
    tell_daemon(context)
    return 0


def edited_file(context: Context, name: str) -> Path:
    """The path of a file that may be edited. Raises CommandError for any other."""
    if name in IN_BASE:
        return context.base / name
    host = name.removeprefix("hosts/")
    node = host.removesuffix("-up") if host.endswith("-up") else host.removesuffix("-down")
    if not is_node_name(node):
        raise CommandError("Invalid configuration filename.")
    return context.hosts / host


def network(context: Context, arguments: list[str]) -> int:
    """``network [NETNAME]``: list the networks of this machine, or go on with another one (in the shell)."""
    expect(arguments, 0, 1)
    if arguments:
        return _switch(context, arguments[0])
    for name, base in networks():
        sys.stdout.write(f"{json.dumps({'network': name, 'directory': str(base)}) if context.json else name}\n")
    return 0


def networks() -> Iterator[tuple[str, Path]]:
    """Name and directory of every network, sorted; ``.`` is CONFDIR itself. Raises CommandError."""
    if os.access(CONFDIR / "tinc.conf", os.R_OK):
        yield ".", CONFDIR
    try:
        names = sorted(os.listdir(CONFDIR))
    except OSError as error:
        raise CommandError(f"Could not read directory {CONFDIR}: {error.strerror}") from None
    for name in names:
        if not name.startswith(".") and os.access(CONFDIR / name / "tinc.conf", os.R_OK):
            yield name, CONFDIR / name


def _switch(context: Context, name: str) -> int:
    try:
        netname, warning = check_netname(name)
    except ConfigError as error:
        raise CommandError(error.message) from None
    if warning:
        sys.stderr.write(f"{warning}\n")
    context.disconnect()
    context.netname = netname
    context.confbase = context.pidfile = None
    return 0
