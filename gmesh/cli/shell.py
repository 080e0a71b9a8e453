"""The shell of ``gmesh``: a command a line, with completion and history on a terminal (control-cli 12).

The history is kept in memory only: lines may hold secrets. Not here: the commands.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable

from gmesh.cli.context import CommandError, Context
from gmesh.errors import GmeshError
from gmesh.values import is_node_name

Run = Callable[[Context, list[str]], int]

DUMPS = ("reachable", "nodes", "edges", "subnets", "connections", "graph", "digraph", "invitations")
_VARIABLES = ("get", "set", "add", "del")
_NODES = ("info", "connect", "disconnect")
_END = ("exit", "quit")


def run_lines(context: Context, run: Run, commands: Iterable[str]) -> int:
    """Run lines until ``exit``, ``quit`` or the end; the exit code tells whether any failed."""
    context.in_shell = True
    asking = context.may_ask
    if asking:
        _set_up_terminal(context, [*commands, *_END])
    code = 0
    while True:
        try:
            line = _ask(context) if asking else sys.stdin.buffer.readline().decode("utf-8", "surrogateescape")
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            continue
        words = line.split()
        if not line or (words and words[0].lower() in _END):
            context.disconnect()
            return code
        if words and not line.startswith("#"):
            try:
                code |= run(context, words)
            except KeyboardInterrupt:
                context.disconnect()
                sys.stderr.write("\n")
                code |= 1


def prompt(context: Context) -> str:
    return f"gmesh.{context.netname}> " if context.netname else "gmesh> "


def candidates(context: Context, commands: Iterable[str], before: list[str], text: str) -> list[str]:
    """What the word ``text`` may be completed to after the words ``before``."""
    known: Iterable[str]
    if not before:
        known = commands
    elif before[0] in ("dump", "list"):
        known = DUMPS if len(before) == 1 else ("nodes",) if before[1:] == ["reachable"] else ()
    elif before[0] in _VARIABLES and len(before) == 1:
        known = _variables(context, text)
    elif before[0] in (*_NODES, "verify", "edit", "network") and len(before) == 1:
        known = _words_of(context, before[0])
    else:
        known = ()
    wanted = text.lower()
    return sorted({word for word in known if word.lower().startswith(wanted)})


def _variables(context: Context, text: str) -> list[str]:
    from gmesh.config.settings import Scope, all_options

    node, dot, _ = text.partition(".")
    options = all_options().values()
    if not dot:
        return [option.name for option in options] + [f"{name}." for name in _host_names(context)]
    return [f"{node}.{option.name}" for option in options if option.scope is not Scope.SERVER]


def _words_of(context: Context, command: str) -> list[str]:
    if command == "network":
        from gmesh.cli.commands.files import networks

        with contextlib.suppress(CommandError):
            return [name for name, _ in networks()]
        return []
    if command == "edit":
        from gmesh.cli.commands.files import IN_BASE

        return [*IN_BASE, *_host_names(context)]
    if command == "verify":
        return [".", "*", *_host_names(context)]
    return _known_to_daemon(context, with_subnets=command == "info") or _host_names(context)


def _host_names(context: Context) -> list[str]:
    with contextlib.suppress(OSError):
        return [name for name in os.listdir(context.hosts) if is_node_name(name)]
    return []


def _known_to_daemon(context: Context, *, with_subnets: bool) -> list[str]:
    """Nodes, and maybe subnets; nothing without a daemon."""
    from gmesh.cli.commands.dump import nodes, subnets

    if not os.path.exists(context.pid_path):
        return []
    try:
        connection = context.connect()
        found = [node.name for node in nodes(connection)]
        return found + [str(row.subnet) for row in subnets(connection)] if with_subnets else found
    except CommandError:
        context.disconnect()
        return []


def _ask(context: Context) -> str:
    try:
        return input(prompt(context)) + "\n"
    except EOFError:
        sys.stdout.write("\n")
        return ""


def _set_up_terminal(context: Context, commands: list[str]) -> None:
    try:
        import readline
    except ImportError:
        # A Python without it still has a shell.
        return
    found: list[str] = []

    def complete(text: str, state: int) -> str | None:
        if state == 0:
            found.clear()
            before = readline.get_line_buffer()[: readline.get_begidx()].lower().split()
            with contextlib.suppress(OSError, GmeshError):
                found.extend(candidates(context, commands, before, text))
        # A node of an option is not the end of a word.
        return None if state >= len(found) else found[state] + ("" if found[state].endswith(".") else " ")

    readline.set_completer_delims(" \t\n")
    readline.set_completer(complete)
    # Python's default history file is of no concern here; readline keeps lines in memory by itself.
    readline.set_auto_history(True)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
