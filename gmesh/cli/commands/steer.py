"""Commands that make a running daemon do one thing: reload, retry, purge, connect, disconnect, debug, pid."""

from __future__ import annotations

import re
import sys

from gmesh.cli.context import CommandError, Context, expect, nearest
from gmesh.proto.control import ControlCode
from gmesh.values import is_node_name


def pid(context: Context, arguments: list[str]) -> int:
    """The daemon's process id, as the daemon itself says it."""
    expect(arguments, 0, 0)
    sys.stdout.write(f"{context.connect().pid}\n")
    return 0


def reload(context: Context, arguments: list[str]) -> int:
    """Read the configuration again, and say what has changed and what needs a restart.

    Nothing where nothing has changed, as with tinc.
    """
    expect(arguments, 0, 0)
    done, report = context.connect().reload()
    sys.stderr.write("".join(f"{line}\n" for line in report or ()))
    if not done:
        why = "" if report else " The daemon's log says why."
        raise CommandError(f"Could not reload configuration.{why}")
    return 0


def retry(context: Context, arguments: list[str]) -> int:
    """Try all outgoing connections now."""
    expect(arguments, 0, 0)
    return _ask(context, "Could not retry outgoing connections.", ControlCode.RETRY)


def purge(context: Context, arguments: list[str]) -> int:
    """Forget nodes that cannot be reached."""
    expect(arguments, 0, 0)
    return _ask(context, "Could not purge old information.", ControlCode.PURGE)


def connect(context: Context, arguments: list[str]) -> int:
    """Make a connection to a node now."""
    return _about_node(context, _node(arguments), "Could not connect to {}.", ControlCode.CONNECT)


def disconnect(context: Context, arguments: list[str]) -> int:
    """Close the connection to a node; one of ConnectTo comes back by itself."""
    return _about_node(context, _node(arguments), "Could not disconnect {}.", ControlCode.DISCONNECT)


def debug(context: Context, arguments: list[str]) -> int:
    """Set the debug level; a negative one only asks."""
    expect(arguments, 1, 1, exact=True)
    digits = re.match(r"\s*[+-]?[0-9]{1,9}", arguments[0])
    level = int(digits[0]) if digits else 0
    old = context.connect().ask(ControlCode.SET_DEBUG, level)
    if old is None:
        raise CommandError("Could not set the debug level.")
    sys.stderr.write(f"Old level {old}, new level {level}.\n")
    return 0


def _node(arguments: list[str]) -> str:
    expect(arguments, 1, 1, exact=True)
    if not is_node_name(arguments[0]):
        raise CommandError("Invalid name for node.")
    return arguments[0]


def _about_node(context: Context, name: str, complaint: str, code: ControlCode) -> int:
    """Ask something that names a node; where that fails, the name may be a slip of one that the daemon knows."""
    from gmesh.cli.commands.dump import nodes

    connection = context.connect()
    if connection.ask(code, name) == 0:
        return 0
    known = [node.name for node in nodes(connection)]
    raise CommandError(complaint.format(name) + ("" if name in known else nearest(name, known)))


def _ask(context: Context, complaint: str, code: ControlCode, *arguments: object) -> int:
    if context.connect().ask(code, *arguments) != 0:
        raise CommandError(complaint)
    return 0
