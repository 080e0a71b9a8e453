"""The command ``gmesh``: sets up a network's files, looks at a running daemon and steers it (control-cli 1).

Commands live in `commands`, one file per group, and are imported when they are called. Nothing here needs gevent.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from gmesh.cli.about import try_line, version_text
from gmesh.cli.argv import Argument, Option, UsageError, parse, read, spelled
from gmesh.cli.context import CommandError, Context, nearest
from gmesh.config.netname import check_netname
from gmesh.config.paths import CONFDIR
from gmesh.errors import ConfigError, GmeshError

HELP = """\
Usage: gmesh [options] COMMAND [ARGUMENTS]

Sets up, looks at and steers a gmesh network and its daemon.

Valid options are:
  -c, --config=DIR    The network whose configuration is in DIR instead of /etc/tinc/NETNAME.
  -n, --net=NETNAME   The network NETNAME.
      --pidfile=FILE  The daemon whose pid file is FILE.
  -b, --batch         Never ask anything.
      --force         Go on despite some warnings.
      --json          Show listings as JSON, one object a line.
      --help          Show this help.
      --version       Show the version.

Valid commands are:
  init [NAME]               Make the directory of a new node. Options, after the name:
                            --vpn-address=ADDRESS/LENGTH  give the interface this address
                            --interface=NAME              call the interface so
                            --address=HOST                where others reach this node
  get [NODE.]VARIABLE       Show an option of the configuration.
  set [NODE.]VARIABLE VALUE     Give an option this value.
  add [NODE.]VARIABLE VALUE     Give an option one more value.
  del [NODE.]VARIABLE [VALUE]   Remove an option, or one value of it.
  start [DAEMON OPTIONS]    Start the daemon, and wait until it is ready.
  stop                      Stop the daemon, and wait until it has ended.
  restart [DAEMON OPTIONS]  Stop, then start.
  reload                    Have the configuration read again.
  pid                       Show the daemon's process id.
  generate-keys [BITS]      Make a new RSA and a new Ed25519 key.
  generate-rsa-keys [BITS]  Make a new RSA key.
  generate-ed25519-keys     Make a new Ed25519 key.
  dump TYPE                 List nodes, edges, subnets, connections or invitations.
  dump reachable nodes      List the nodes that can be reached.
  dump graph, dump digraph  Draw the mesh for graphviz.
  info NODE                 Show all about a node.
  info ADDRESS or SUBNET    Show who serves it.
  path NODE                 Show which way packets to a node go now, and why.
  connect NODE              Connect to a node now.
  disconnect NODE           Close the connection to a node.
  retry                     Try all outgoing connections now.
  purge                     Forget nodes that cannot be reached.
  debug LEVEL               Set the debug level; a negative one only asks.
  log [LEVEL]               Show the log as it comes.
  top [--once]              Show the traffic of all nodes, on a screen or once.
  pcap [SNAPLEN]            Write packets as a capture file to standard output.
  edit FILE                 Edit tinc.conf, a script or a host file, then reload.
  export                    Write our host file to standard output.
  export-all                Write all host files to standard output.
  import                    Read host files from standard input.
  exchange, exchange-all    Export, then import.
  invite NODE               Make an invitation for a new node, and show its URL.
  invite --list             List the open invitations and their age.
  invite --revoke NODE      Take invitations back, by node or by file name.
  join [URL]                Make the directory of a new node from an invitation.
  network [NETNAME]         List the networks of this machine, or change to another.
  fsck [--fix]              Look for mistakes in the configuration, and mend what is safe to mend.
  sign [FILE]               Sign a file.
  verify NODE [FILE]        Check who signed a file; NODE may be . (this node) or * (any).
  version, help             Show the version, this help.

Without a command, commands are read from standard input, one a line.
"""

_DOCOPT = """\
Usage: gmesh [options] [--] [WORD]...

Options:
  -c, --config=DIR
  -n, --net=NETNAME
      --pidfile=FILE
  -b, --batch
      --force
      --json
      --help
      --version
"""

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
    "init": ("init", "run"),
    "get": ("variables", "get"),
    "set": ("variables", "set_"),
    "add": ("variables", "add"),
    "del": ("variables", "delete"),
    "start": ("lifecycle", "start"),
    "stop": ("lifecycle", "stop"),
    "restart": ("lifecycle", "restart"),
    "reload": ("steer", "reload"),
    "pid": ("steer", "pid"),
    "generate-keys": ("keys", "both"),
    "generate-rsa-keys": ("keys", "rsa"),
    "generate-ed25519-keys": ("keys", "ed25519"),
    "dump": ("dump", "run"),
    "info": ("info", "run"),
    "path": ("path", "run"),
    "connect": ("steer", "connect"),
    "disconnect": ("steer", "disconnect"),
    "retry": ("steer", "retry"),
    "purge": ("steer", "purge"),
    "debug": ("steer", "debug"),
    "log": ("log", "run"),
    "top": ("top", "run"),
    "pcap": ("pcap", "run"),
    "edit": ("files", "edit"),
    "export": ("exchange", "export"),
    "export-all": ("exchange", "export_all"),
    "import": ("exchange", "import_"),
    "exchange": ("exchange", "exchange"),
    "exchange-all": ("exchange", "exchange_all"),
    "invite": ("invite", "run"),
    "join": ("join", "run"),
    "network": ("files", "network"),
    "fsck": ("fsck", "run"),
    "sign": ("signing", "sign"),
    "verify": ("signing", "verify"),
    "version": ("about", "version"),
    "help": ("about", "help_"),
}
"""Command to module below `gmesh.cli.commands` and function."""

HIDDEN = {"list": COMMANDS["dump"], "config": ("variables", "config")}
"""Other names that tinc has without telling."""

LISTINGS = ("dump", "list", "info", "path", "top", "invite", "network", "fsck")
"""Commands that may have ``--json`` among their words too."""


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
    json_before = context.json
    try:
        code = _run(context, words)
        sys.stdout.flush()
        return code
    except CommandError as error:
        # What the daemon still sends belongs to the request that failed.
        context.disconnect()
        return _failed(context, str(error), usage=error.usage)
    except GmeshError as error:
        return _failed(context, str(error))
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python must not complain again when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        return _failed(
            context, f"Error opening file `{error.filename}': {error.strerror}" if error.filename else str(error)
        )
    finally:
        context.json = json_before


def _run(context: Context, words: list[str]) -> int:
    name = words[0].lower()
    place = COMMANDS.get(name) or HIDDEN.get(name)
    if place is None:
        near = nearest(name, [*COMMANDS, *HIDDEN])
        raise CommandError(f"Unknown command `{words[0]}'.{near}", usage=not context.in_shell)
    arguments = words[1:]
    if name in LISTINGS and "--json" in arguments:
        arguments = [word for word in arguments if word != "--json"]
        context.json = True
    module, function = place
    command: Callable[[Context, list[str]], int] = getattr(import_module(f"gmesh.cli.commands.{module}"), function)
    return command(context, arguments)


def _failed(context: Context, message: str, *, usage: bool = False) -> int:
    with contextlib.suppress(OSError):
        # What was written before the failure comes before the complaint.
        sys.stdout.flush()
    sys.stderr.write(f"{message}\n{try_line(context.program) if usage else ''}")
    return 1


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
    with contextlib.suppress(AttributeError):
        # Files may hold bytes that are no UTF-8; what stands in them is shown as it is.
        sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    if arguments["--version"]:
        sys.stdout.write(version_text("gmesh"))
        return 0
    try:
        context = context_of(arguments, program)
        if arguments["WORD"]:
            return run_command(context, arguments["WORD"])
        from gmesh.cli.shell import run_lines

        return run_lines(context, run_command, COMMANDS)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
