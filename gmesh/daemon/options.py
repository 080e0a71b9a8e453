"""What the command line asked of the daemon. Made by `gmesh.cli.gmeshd`, read by `daemon.run`.

Not here: the configuration's own options, of which ``overrides`` are only the raw text of ``-o``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """All paths are absolute: the daemon changes its directory. None: not given.

    ``debug`` is the level that ``-d`` asked for, 0 without it (LogLevel counts only then). ``logfile`` is empty for
    ``--logfile`` without a name: the usual place. ``syslog`` means that ``--syslog`` was given after any ``--logfile``.
    """

    program: str = "gmeshd"
    confbase: str | None = None
    netname: str | None = None
    netname_warning: str = ""
    detach: bool = True
    debug: int = 0
    logfile: str | None = None
    syslog: bool = False
    pidfile: str | None = None
    overrides: tuple[str, ...] = ()
    lock_memory: bool = False
    chroot: bool = False
    user: str | None = None
