"""The command ``gmesh``: looks at a running daemon and steers it (control-cli 1).

Commands live in `commands`, one file per group, and are imported when they are called. Nothing here needs gevent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from gmesh.cli.about import try_line, version_text
from gmesh.cli.argv import Argument, Option, UsageError, parse, read, spelled
from gmesh.cli.context import CommandError, Context, expect
from gmesh.config.netname import check_netname
from gmesh.config.paths import CONFDIR
from gmesh.errors import ConfigError

HELP = """\
Usage: gmesh [options] COMMAND [ARGUMENTS]

Looks at and steers the daemon of a gmesh network.

Valid options are:
  -c, --config=DIR    The network whose configuration is in DIR instead of /etc/tinc/NETNAME.
  -n, --net=NETNAME   The network NETNAME.
      --pidfile=FILE  The daemon whose pid file is FILE.
  -b, --batch         Never ask anything.
      --force         Go on despite some warnings.
      --json          Dump as JSON, one object a line.
      --help          Show this help.
      --version       Show the version.

Valid commands are:
  start [DAEMON OPTIONS]    Start the daemon, and wait until it is ready.
  stop                      Stop the daemon, and wait until it has ended.
  restart [DAEMON OPTIONS]  Stop, then start.
  reload                    Have the configuration read again.
  pid                       Show the daemon's process id.
  dump TYPE                 List nodes, edges, subnets, connections or invitations.
  dump reachable nodes      List the nodes that can be reached.
  dump graph, dump digraph  Draw the mesh for graphviz.
  info NODE                 Show all about a node.
  info ADDRESS or SUBNET    Show who serves it.
  connect NODE              Connect to a node now.
  disconnect NODE           Close the connection to a node.
  retry                     Try all outgoing connections now.
  purge                     Forget nodes that cannot be reached.
  debug LEVEL               Set the debug level; a negative one only asks.
  log [LEVEL]               Show the log as it comes.
  get VARIABLE              Show an option of the configuration.
  version, help             Show the version, this help.

Without a command, commands are read from standard input, one a line.
"""

_DOCOPT = HELP.replace("COMMAND [ARGUMENTS]", "[--] [WORD]...", 1).replace("Valid options are:", "Options:", 1)

OPTIONS = (
    Option("c", "config", Argument.REQUIRED),
    Option("n", "net", Argument.REQUIRED),
    Option("", "pidfile", Argument.REQUIRED),
    Option("b", "batch"),
    Option("", "force"),
    Option("", "json"),
    Option("", "help"),
    Option("", "version"),
)

COMMANDS = {
    "start": ("lifecycle", "start"),
    "stop": ("lifecycle", "stop"),
    "restart": ("lifecycle", "restart"),
    "reload": ("steer", "reload"),
    "pid": ("steer", "pid"),
    "dump": ("dump", "run"),
    "list": ("dump", "run"),
    "info": ("info", "run"),
    "connect": ("steer", "connect"),
    "disconnect": ("steer", "disconnect"),
    "retry": ("steer", "retry"),
    "purge": ("steer", "purge"),
    "debug": ("steer", "debug"),
    "log": ("log", "run"),
    "get": ("get", "run"),
}
"""Command to module below `gmesh.cli.commands` and function."""

_EDIT = "edit tinc.conf and the files in hosts/ instead, then `reload'"
_COPY = "copy the files in hosts/ instead"
NOT_HERE = {
    "init": "use gmesh-keygen --name NAME",
    "generate-keys": "use gmesh-keygen",
    "generate-rsa-keys": "use gmesh-keygen --rsa",
    "generate-ed25519-keys": "use gmesh-keygen --ed25519",
    **dict.fromkeys(("set", "add", "del", "edit"), _EDIT),
    **dict.fromkeys(("export", "export-all", "import", "exchange", "exchange-all", "invite", "join"), _COPY),
}
"""Commands of tinc 1.1 that gmesh does not have, and what to do instead."""


def arguments_of(command_line: Sequence[str]) -> dict[str, Any]:
    """Options by long name with dashes, and ``WORD``, as docopt gives them. Raises UsageError."""
    parsed, words = parse(command_line, OPTIONS, stop_at_word=True)
    return read(_DOCOPT, [*spelled(dict(parsed).items()), "--", *words])


def context_of(arguments: dict[str, Any], program: str) -> Context:
    """What the options say about the network. Raises ConfigError for a bad netname."""
    given = arguments["--net"]
    netname, _ = check_netname(os.environ.get("NETNAME", "") if given is None else given)
    confbase = arguments["--config"]
    if confbase is not None and given is not None and netname and _differs(confbase, netname):
        sys.stderr.write("Both netname and configuration directory given, using the latter...\n")
    return Context(
        program=program,
        confbase=confbase,
        netname=netname,
        pidfile=arguments["--pidfile"],
        batch=arguments["--batch"],
        force=arguments["--force"],
        json=arguments["--json"],
    )


def _differs(confbase: str, netname: str) -> bool:
    return os.path.realpath(confbase) != os.path.realpath(CONFDIR / netname)


def run_command(context: Context, words: list[str]) -> int:
    """Run one command; returns its exit code and says on standard error what went wrong."""
    name = words[0].lower()
    try:
        if name == "version":
            expect(words[1:], 0, 0)
            sys.stdout.write(version_text("gmesh"))
            return 0
        if name == "help":
            sys.stdout.write(HELP)
            return 0
        if name in NOT_HERE:
            raise CommandError(f"gmesh has no command `{words[0]}': {NOT_HERE[name]}.")
        if name not in COMMANDS:
            raise CommandError(f"Unknown command `{words[0]}'.", usage=True)
        module, function = COMMANDS[name]
        command: Callable[[Context, list[str]], int] = getattr(import_module(f"gmesh.cli.commands.{module}"), function)
        return command(context, words[1:])
    except CommandError as error:
        sys.stderr.write(f"{error}\n{try_line(context.program) if error.usage else ''}")
        return 1
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python must not complain again when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def run_lines(context: Context) -> int:
    """The shell: a command a line until ``exit``, ``quit`` or the end; the exit code tells whether any failed."""
    code = 0
    asking = sys.stdin.isatty() and sys.stdout.isatty() and not context.batch
    while True:
        if asking:
            sys.stdout.write(f"gmesh.{context.netname}> " if context.netname else "gmesh> ")
            sys.stdout.flush()
        line = sys.stdin.readline()
        words = line.split()
        if not line or (words and words[0].lower() in ("exit", "quit")):
            return code
        if words and not line.startswith("#"):
            code |= run_command(context, words)
            sys.stdout.flush()


def main(command_line: Sequence[str] | None = None) -> int:
    """Run ``gmesh``; returns the exit code."""
    program = os.path.basename(sys.argv[0]) or "gmesh"
    try:
        arguments = arguments_of(sys.argv[1:] if command_line is None else command_line)
    except UsageError as error:
        sys.stderr.write(f"{program}: {error}\n{try_line(program)}")
        return 1
    if arguments["--help"]:
        sys.stdout.write(HELP)
        return 0
    if arguments["--version"]:
        sys.stdout.write(version_text("gmesh"))
        return 0
    try:
        context = context_of(arguments, program)
        return run_command(context, arguments["WORD"]) if arguments["WORD"] else run_lines(context)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
