"""What every command of ``gmesh`` gets: the network it is about, its files, and a way to its daemon."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gmesh.cli.files import pid_file
from gmesh.config.paths import CONFDIR
from gmesh.errors import ConfigError, GmeshError

if TYPE_CHECKING:
    from gmesh.cli.client import ControlConnection
    from gmesh.config.directory import Directory


class CommandError(GmeshError):
    """A command cannot be carried out; ``usage`` asks for the line that names ``--help``."""

    def __init__(self, message: str, *, usage: bool = False) -> None:
        super().__init__(message)
        self.usage = usage


@dataclass(slots=True)
class Context:
    """``confbase`` and ``pidfile`` as given, None where not. ``batch``: never ask; ``force``: go on after warnings.

    ``in_shell``: more commands follow, so that a connection to the daemon is worth keeping.
    """

    program: str = "gmesh"
    confbase: str | None = None
    netname: str | None = None
    pidfile: str | None = None
    batch: bool = False
    force: bool = False
    json: bool = False
    in_shell: bool = False
    _connection: ControlConnection | None = field(default=None, repr=False)

    @property
    def base(self) -> Path:
        """CONFBASE; a directory given by ``-c`` stays relative, so that messages name it as the user did."""
        if self.confbase is not None:
            return Path(self.confbase)
        return CONFDIR / self.netname if self.netname else CONFDIR

    @property
    def server_file(self) -> Path:
        return self.base / "tinc.conf"

    @property
    def hosts(self) -> Path:
        return self.base / "hosts"

    @property
    def directory(self) -> Directory:
        from gmesh.config.directory import Directory

        return Directory(self.base, self.netname)

    def own_name(self) -> str:
        """Our node's name by the server's files. Raises CommandError in tinc's words."""
        from gmesh.config import lexer
        from gmesh.config.ownname import own_name

        try:
            entries = lexer.parse(lexer.load(self.server_file), str(self.server_file)).entries
            if any(entry.key.lower() == "name" for entry in entries):
                return own_name(entries, os.environ)
            return self.directory.own_name()
        except OSError as error:
            raise CommandError(f"Could not open {self.server_file}: {error.strerror}") from None
        except ConfigError as error:
            missing = not error.line and error.key == "Name"
            raise CommandError(f"Could not find Name in {self.server_file}." if missing else error.message) from None

    @property
    def pid_path(self) -> str:
        return pid_file(self.confbase, self.netname, self.pidfile)

    @property
    def for_net(self) -> str:
        """`` for net `NET'``, or nothing without a netname."""
        return f" for net `{self.netname}'" if self.netname else ""

    @property
    def may_ask(self) -> bool:
        """Whether somebody sits at a terminal and is willing to answer."""
        return not self.batch and sys.stdin.isatty() and sys.stdout.isatty()

    def command_line(self, command: str) -> str:
        """How to run a command of ours on this network, for hints."""
        import shlex

        options = ""
        if self.confbase is not None:
            options = f" -c {shlex.quote(self.confbase)}"
        elif self.netname:
            options = f" -n {shlex.quote(self.netname)}"
        return f"{self.program}{options} {command}"

    def connect(self) -> ControlConnection:
        """A connection to the daemon, in the shell the same as before. Raises CommandError with tinc's message."""
        from gmesh.cli.client import ControlConnection

        if self._connection is not None:
            if self._connection.alive:
                return self._connection
            self.disconnect()
            sys.stderr.write("Previous connection to tincd lost, reconnecting.\n")
        connection = ControlConnection.open(self.pid_path)
        if self.in_shell:
            self._connection = connection
        return connection

    def disconnect(self) -> None:
        """Give up a kept connection: it is busy, in an unknown state, or of another network."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def expect(arguments: list[str], least: int, most: int, *, exact: bool = False) -> None:
    """Check the number of arguments. Raises CommandError in tinc's words."""
    if exact and not least <= len(arguments) <= most:
        raise CommandError("Invalid number of arguments.")
    if len(arguments) > most:
        raise CommandError("Too many arguments!")
    if len(arguments) < least:
        raise CommandError("Not enough arguments!")


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """`` Did you mean X?`` for the known word that ``word`` is probably a slip of, else nothing."""
    import difflib

    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return f" Did you mean {by_lower[close[0]]}?" if close else ""
