"""The command ``gmeshd``: reads the daemon's command line and starts it (daemon-cli 1).

gevent is imported, and the standard library patched, only when a daemon really starts. Not here: sending signals
(`kill`), making keys (`keygen`), the daemon.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from gmesh.cli.about import try_line, version_text
from gmesh.cli.argv import Argument, Option, UsageError, parse, read, spelled
from gmesh.config.netname import check_netname
from gmesh.daemon.options import DaemonOptions
from gmesh.errors import ConfigError, GmeshError

HELP = """\
Usage: gmeshd [options]

The gmesh daemon: takes part in a mesh VPN as its directory says.

Options:
  -c, --config=DIR             Read the configuration in DIR instead of /etc/tinc/NETNAME.
  -n, --net=NETNAME            Take part in the network NETNAME.
  -D, --no-detach              Stay in the foreground and log to standard error.
  -d, --debug[=LEVEL]          Log more, or as much as LEVEL (0 to 10) says.
  -k, --kill[=SIGNAL]          Send a signal (default TERM) to the running daemon, and leave.
  -K, --generate-keys[=BITS]   Make a pair of RSA keys (default 2048 bits), and leave.
  -o, --option=[HOST.]KEY=VALUE  Set an option of the server or of a host; may be repeated.
      --logfile[=FILE]         Log to a file (default /var/log/tinc.NETNAME.log).
  -s, --syslog                 Log to the system's log.
      --pidfile=FILE           Write the process id to FILE; the control socket lies beside it.
  -L, --mlock                  Keep all memory out of the swap space.
  -R, --chroot                 Confine the daemon to its configuration directory.
  -U, --user=USER              Become USER after set-up.
      --bypass-security        Refused: gmesh always authenticates and encrypts.
      --help                   Show this help.
      --version                Show the version.
"""

OPTIONS = (
    Option("c", "config", Argument.REQUIRED),
    Option("n", "net", Argument.REQUIRED),
    Option("D", "no-detach"),
    Option("d", "debug", Argument.OPTIONAL, "+"),
    Option("k", "kill", Argument.OPTIONAL, "TERM"),
    Option("K", "generate-keys", Argument.OPTIONAL, "2048"),
    Option("o", "option", Argument.REQUIRED),
    Option("", "logfile", Argument.OPTIONAL),
    Option("s", "syslog"),
    Option("", "pidfile", Argument.REQUIRED),
    Option("L", "mlock"),
    Option("R", "chroot"),
    Option("U", "user", Argument.REQUIRED),
    Option("", "bypass-security"),
    Option("", "help"),
    Option("", "version"),
)

BYPASS_REFUSED = (
    "--bypass-security is refused: it would let anybody in who can reach the port, and send everything in clear. "
    "To look into requests use a debug level of 4 instead."
)

SMALLEST_KEY = 512
"""Bits of the smallest RSA key that ``-K`` makes."""

_EXPLICIT = re.compile(r"\[(=[A-Z]+)\]")
_REPEATED = "Usage: gmeshd [options] [--option=KV]..."


def docopt_text() -> str:
    """The help as docopt understands it: it knows no optional arguments, which `argv` has made explicit by then."""
    text = _EXPLICIT.sub(r"\1", HELP).replace("--option=[HOST.]KEY=VALUE", "--option=KV")
    return text.replace("Usage: gmeshd [options]", _REPEATED, 1)


def arguments_of(command_line: Sequence[str]) -> dict[str, Any]:
    """Options by long name with dashes, as docopt gives them. Raises UsageError.

    Of repeated options the last one counts; ``--debug`` becomes the sum of all its mentions, and only the later one of
    ``--logfile`` and ``--syslog`` is left.
    """
    parsed, words = parse(command_line, OPTIONS)
    if words:
        raise UsageError(f"unrecognized argument '{words[0]}'")
    last: dict[str, str | None] = {}
    repeated: list[str] = []
    for name, value in parsed:
        if name == "option":
            repeated.append(f"--option={value}")
        elif name == "debug":
            level = int(last.get(name) or 0) + 1 if value == "+" else _number(value or "")
            last[name] = str(level)
        else:
            if name in ("logfile", "syslog"):
                last.pop("logfile", None)
                last.pop("syslog", None)
            last[name] = value
    return read(docopt_text(), spelled(last.items()) + repeated)


def options_of(
    arguments: Mapping[str, Any], environment: Mapping[str, str], program: str = "gmeshd", pid: int = 0
) -> DaemonOptions:
    """What the daemon is to do. Raises ConfigError for a bad netname."""
    given = arguments["--net"]
    netname, warning = check_netname(environment.get("NETNAME", "") if given is None else given)
    activated = pid > 0 and environment.get("LISTEN_PID") == str(pid)
    logfile = arguments["--logfile"]
    return DaemonOptions(
        program=program,
        confbase=_absolute(arguments["--config"]),
        netname=netname,
        netname_warning=warning,
        detach=not arguments["--no-detach"] and not activated,
        debug=int(arguments["--debug"] or 0),
        logfile=_absolute(logfile) if logfile else logfile,
        syslog=bool(arguments["--syslog"]),
        pidfile=_absolute(arguments["--pidfile"]),
        overrides=tuple(arguments["--option"]),
        lock_memory=bool(arguments["--mlock"]),
        chroot=bool(arguments["--chroot"]),
        user=arguments["--user"],
    )


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(path)


def _number(text: str) -> int:
    """As C's atoi: leading digits, else 0."""
    match = re.match(r"\s*[+-]?[0-9]{1,9}", text)
    return int(match[0]) if match else 0


def main(command_line: Sequence[str] | None = None) -> int:
    """Run ``gmeshd``; returns the exit code."""
    program = os.path.basename(sys.argv[0]) or "gmeshd"
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
        options = options_of(arguments, os.environ, program, os.getpid())
        if arguments["--kill"] is not None:
            from gmesh.cli.kill import send_signal

            return send_signal(options, arguments["--kill"])
        if arguments["--generate-keys"] is not None:
            return _generate_keys(options, arguments["--generate-keys"])
        if arguments["--bypass-security"]:
            raise ConfigError(BYPASS_REFUSED)
    except GmeshError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return _run_daemon(options)


def _generate_keys(options: DaemonOptions, bits_text: str) -> int:
    """``-K``: an RSA pair in the usual files, or where a person at a terminal wants it (daemon-cli 1)."""
    from gmesh.cli.keygen import ask_on_terminal, generate
    from gmesh.config.directory import Directory
    from gmesh.config.paths import config_base

    bits = _number(bits_text)
    if bits < SMALLEST_KEY:
        sys.stderr.write(
            f"Invalid argument `{bits_text}'; BITS must be a number equal to or greater than {SMALLEST_KEY}.\n"
            f"{try_line(options.program)}"
        )
        return 1
    directory = Directory(config_base(options.netname, options.confbase), options.netname)
    ask = ask_on_terminal if sys.stdin.isatty() and sys.stdout.isatty() else None
    try:
        generate(directory, bits - bits % 8, ed25519=False, ask=ask)
    except OSError as error:
        sys.stderr.write(f"Error opening file `{error.filename}': {error.strerror}\n")
        return 1
    return 0


def _run_daemon(options: DaemonOptions) -> int:
    from gevent import monkey

    monkey.patch_all()
    from gmesh.daemon.daemon import run

    return int(run(options))


if __name__ == "__main__":
    sys.exit(main())
