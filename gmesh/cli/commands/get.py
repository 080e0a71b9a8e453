"""``gmesh get``: an option as the configuration files have it (control-cli 4). Not here: changing options."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from gmesh.cli.context import CommandError, Context
from gmesh.config import lexer, settings
from gmesh.config.directory import Directory
from gmesh.config.paths import config_base
from gmesh.daemon.pidfile import read_pidfile
from gmesh.errors import ConfigError
from gmesh.values import is_node_name

_SEPARATOR = re.compile(r"[ \t]*[ \t=][ \t]*")


def run(context: Context, arguments: list[str]) -> int:
    """``get [NODE.]VARIABLE``: every value on a line of its own."""
    if not arguments:
        raise CommandError("Invalid number of arguments.")
    target, value = (*_SEPARATOR.split(" ".join(arguments).strip(), maxsplit=1), "")[:2]
    if value:
        raise CommandError("Changing options is not supported yet: edit the file, then use `gmesh reload'.")
    node, dot, variable = target.rpartition(".")
    if not variable:
        raise CommandError("No variable given.")
    if dot and not is_node_name(node):
        raise CommandError("Invalid name for node.")
    option = settings.find(variable)
    if option is None:
        near = settings.nearest(variable)
        hint = f" Did you mean {near}?" if near else ""
        sys.stderr.write(f"Warning: {variable} is not a known configuration variable!{hint}\n")
    if variable.lower() == "port" and _live_port(context):
        return 0
    path = _file(Directory(config_base(context.netname, context.confbase), context.netname), node, option)
    values = [entry.value for entry in _entries(path) if entry.key.lower() == variable.lower()]
    if not values:
        raise CommandError("No matching configuration variables found.")
    sys.stdout.write("".join(f"{found}\n" for found in values))
    return 0


def _file(directory: Directory, node: str, option: settings.Option | None) -> Path:
    if node:
        return directory.host_file(node)
    if option is None or option.scope is not settings.Scope.HOST:
        return directory.server_file
    try:
        return directory.host_file(directory.own_name())
    except ConfigError as error:
        raise CommandError(error.message) from None


def _entries(path: Path) -> tuple[lexer.Entry, ...]:
    try:
        return lexer.read(path).entries
    except ConfigError as error:
        raise CommandError(error.message) from None


def _live_port(context: Context) -> bool:
    """Print the port that a running daemon really uses; False where none runs."""
    try:
        port = read_pidfile(context.pid_path).port
    except (OSError, ValueError):
        port = ""
    if port:
        sys.stdout.write(f"{port}\n")
    else:
        sys.stderr.write("Could not get port from the pidfile.\n")
    return bool(port)
