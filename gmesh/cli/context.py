"""What every command of ``gmesh`` gets: the network it is about, and a way to its daemon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gmesh.cli.files import pid_file
from gmesh.errors import GmeshError

if TYPE_CHECKING:
    from gmesh.cli.client import ControlConnection


class CommandError(GmeshError):
    """A command cannot be carried out; ``usage`` asks for the line that names ``--help``."""

    def __init__(self, message: str, *, usage: bool = False) -> None:
        super().__init__(message)
        self.usage = usage


@dataclass(frozen=True, slots=True)
class Context:
    """``confbase`` and ``pidfile`` as given, None where not. ``batch``: never ask; ``force``: go on after warnings."""

    program: str = "gmesh"
    confbase: str | None = None
    netname: str | None = None
    pidfile: str | None = None
    batch: bool = False
    force: bool = False
    json: bool = False

    @property
    def pid_path(self) -> str:
        return pid_file(self.confbase, self.netname, self.pidfile)

    @property
    def for_net(self) -> str:
        """`` for net `NET'``, or nothing without a netname."""
        return f" for net `{self.netname}'" if self.netname else ""

    def connect(self) -> ControlConnection:
        """Raises CommandError with tinc's message."""
        from gmesh.cli.client import ControlConnection

        return ControlConnection.open(self.pid_path)


def expect(arguments: list[str], least: int, most: int, *, exact: bool = False) -> None:
    """Check the number of arguments. Raises CommandError in tinc's words."""
    if exact and not least <= len(arguments) <= most:
        raise CommandError("Invalid number of arguments.")
    if len(arguments) > most:
        raise CommandError("Too many arguments!")
    if len(arguments) < least:
        raise CommandError("Not enough arguments!")
