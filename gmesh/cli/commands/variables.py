"""``gmesh get``, ``set``, ``add``, ``del``, ``config``: single options in the configuration files (control-cli 4)."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from gmesh.cli.context import CommandError, Context, nearest
from gmesh.config import edit, settings
from gmesh.config.lexer import CONTROL, parse_setting
from gmesh.errors import ConfigError
from gmesh.values import is_node_name

_VERBS = {"get": "get", "set": "set", "replace": "set", "change": "set", "add": "add", "del": "del"}


def get(context: Context, arguments: list[str]) -> int:
    """``get [NODE.]VARIABLE``: every value on a line of its own. With a value it sets."""
    return _run(context, "get", arguments)


def set_(context: Context, arguments: list[str]) -> int:
    """``set [NODE.]VARIABLE VALUE``: the only value from now on."""
    return _run(context, "set", arguments)


def add(context: Context, arguments: list[str]) -> int:
    """``add [NODE.]VARIABLE VALUE``: one more value, or of an option that has only one, another."""
    return _run(context, "add", arguments)


def delete(context: Context, arguments: list[str]) -> int:
    """``del [NODE.]VARIABLE [VALUE]``."""
    return _run(context, "del", arguments)


def config(context: Context, arguments: list[str]) -> int:
    """``config [VERB] ...``: the old way to say the same."""
    verb = _VERBS.get(arguments[0].lower()) if arguments else None
    return _run(context, verb or "get", arguments[1:] if verb else arguments)


def _run(context: Context, verb: str, arguments: list[str]) -> int:
    if not arguments:
        raise CommandError("Invalid number of arguments.")
    target, value = parse_setting(" ".join(arguments))
    node, dot, variable = target.partition(".") if "." in target else ("", "", target)
    if not variable:
        raise CommandError("No variable given.")
    if value and verb == "get":
        verb = "set"
    if verb in ("set", "add") and not value:
        raise CommandError("No value for variable given.")
    bad = CONTROL.search(target + value)
    if bad:
        raise CommandError(f"A configuration file cannot hold the control character {ord(bad.group()):#04x}.")
    option = settings.find(variable)
    if verb in ("set", "add"):
        _check(context, option, bool(dot), value)
    if dot and not is_node_name(node):
        raise CommandError("Invalid name for node.")
    if option is None:
        _unknown(context, variable, refuse=verb in ("set", "add"))
    name = option.name if option is not None else variable
    if verb == "get":
        return _get(context, node, name, option)
    path = _file(context, node, option)
    _change(context, path, verb, name, value)
    tell_daemon(context)
    return 0


def _check(context: Context, option: settings.Option | None, of_host: bool, value: str) -> None:
    """Refuse what tinc refuses; say what the daemon would say. Raises CommandError."""
    if option is None:
        return
    if option.type == "subnet":
        _check_subnet(value)
    for wrong, text in (
        (option.obsolete, f"{option.name} is an obsolete variable!"),
        (of_host and option.scope is settings.Scope.SERVER, f"{option.name} is not a host configuration variable!"),
    ):
        if wrong and not context.force:
            raise CommandError(f"{text} Use --force to use it anyway.")
        if wrong:
            sys.stderr.write(f"Warning: {text}\n")
    if option.type != "subnet":
        _warn(context, option, value)


def _check_subnet(value: str) -> None:
    from gmesh.values import Subnet

    try:
        subnet = Subnet.parse(value)
    except ValueError:
        raise CommandError(f"Malformed subnet definition {value}") from None
    if subnet.host_bits_set:
        raise CommandError(f"Network address and prefix length do not match: {value}")


def _warn(context: Context, option: settings.Option, value: str) -> None:
    """Say what a daemon would not like about a value. It is written all the same, as tinc does."""
    from gmesh.config import checks

    try:
        checks.convert(option, value)
    except checks.BadText as error:
        sys.stderr.write(f"Warning: gmeshd would not take this value: {error}\n")
        if option.fatal and not error.form:
            sys.stderr.write("Warning: gmeshd does not start with it, nor does it reload.\n")
    if option.name == "ConnectTo" and is_node_name(value) and not os.path.exists(context.hosts / value):
        near = nearest(value, _host_names(context))
        sys.stderr.write(f"Warning: gmeshd finds no host file {context.hosts / value} yet.{near}\n")
    if option.name in ("Name", "ConnectTo") and not value.startswith("$") and not is_node_name(value):
        sys.stderr.write(f"Warning: gmeshd would not take this value: {value} is no name of a node\n")


def _unknown(context: Context, variable: str, *, refuse: bool) -> None:
    near = nearest(variable, [option.name for option in settings.all_options().values()])
    if refuse and not context.force:
        raise CommandError(f"{variable}: is not a known configuration variable! Use --force to use it anyway.{near}")
    sys.stderr.write(f"Warning: {variable} is not a known configuration variable!{near}\n")


def _file(context: Context, node: str, option: settings.Option | None) -> Path:
    if node:
        return context.hosts / node
    if option is None or option.scope is not settings.Scope.HOST:
        return context.server_file
    return context.hosts / context.own_name()


def _host_names(context: Context) -> list[str]:
    with contextlib.suppress(OSError):
        return [name for name in os.listdir(context.hosts) if is_node_name(name)]
    return []


def _cannot_open(context: Context, path: Path, error: OSError) -> CommandError:
    near = ""
    if path.parent == context.hosts and isinstance(error, FileNotFoundError):
        near = nearest(path.name, _host_names(context))
    return CommandError(f"Could not open configuration file {path}: {error.strerror}{'.' if near else ''}{near}")


def _get(context: Context, node: str, name: str, option: settings.Option | None) -> int:
    if name == "Port" and _show_live_port(context, node):
        return 0
    path = _file(context, node, option)
    try:
        lines = edit.lines_of(edit.read_text(path))
    except OSError as error:
        raise _cannot_open(context, path, error) from None
    found = [(number, line.value) for number, line in enumerate(lines, 1) if line.sets(name) and line.value]
    if not found:
        raise CommandError("No matching configuration variables found.")
    for number, value in found:
        _show(context, name, value, path, number)
    return 0


def _show(context: Context, name: str, value: str, path: Path | str, line: int) -> None:
    if context.json:
        value = json.dumps({"variable": name, "value": value, "file": str(path), "line": line})
    sys.stdout.write(f"{value}\n")


def _show_live_port(context: Context, node: str) -> bool:
    """Show the port that our running daemon really uses; False where none runs, or another node's is asked for."""
    from gmesh.daemon.pidfile import read_pidfile

    try:
        if node and node != context.own_name():
            return False
    except CommandError:
        return False
    try:
        port = read_pidfile(context.pid_path).port
    except (OSError, ValueError):
        port = ""
    if port:
        _show(context, "Port", port, context.pid_path, 0)
    else:
        sys.stderr.write("Could not get port from the pidfile.\n")
    return bool(port)


def _change(context: Context, path: Path, verb: str, name: str, value: str) -> None:
    option = settings.find(name)
    single = option is not None and not option.repeatable
    gone: list[str] = []
    deleted = 0

    def work(text: str) -> str:
        nonlocal gone, deleted
        if verb == "del":
            text, deleted = edit.delete_value(text, name, value)
        elif verb == "add" and not single:
            text = edit.add_value(text, name, value)
        else:
            text, gone = edit.set_value(text, name, value)
        return text

    try:
        edit.change(path, work)
    except edit.WriteError as error:
        raise CommandError(f"Could not write configuration file {path}: {error.strerror}") from None
    except OSError as error:
        raise _cannot_open(context, path, error) from None
    except ConfigError as error:
        raise CommandError(str(error)) from None
    if verb == "del" and not deleted:
        raise CommandError("No configuration variables deleted.")
    # `set` of an option that has one value says nothing, as that is what was asked for.
    if verb == "add" or not single:
        for old in gone:
            sys.stderr.write(f"Warning: removing {name} = {old}\n")


def tell_daemon(context: Context) -> None:
    """Have a running daemon read the files again. That none runs is no fault; that it cannot is worth a word."""
    from gmesh.cli.client import ControlConnection
    from gmesh.proto.control import ControlCode

    if not os.path.exists(context.pid_path):
        return
    try:
        connection = context.connect() if context.in_shell else ControlConnection.open(context.pid_path)
        refused = connection.ask(ControlCode.RELOAD) != 0
    except CommandError:
        context.disconnect()
        return
    if refused:
        sys.stderr.write("Warning: the running daemon could not reload its configuration; its log says why.\n")
