"""Where a command finds the files of a running daemon. Only reads; the daemon's own choice is in `config.paths`."""

from __future__ import annotations

import os

from gmesh.config.paths import config_base, default_pid_file


def pid_file(confbase: str | None, netname: str | None, given: str | None = None) -> str:
    """The pid file: as given, else the usual one, else CONFBASE/pid if only that can be read (daemon-cli 4)."""
    if given is not None:
        return given
    usual = str(default_pid_file(netname))
    fallback = str(config_base(netname, confbase) / "pid")
    if not os.access(usual, os.R_OK) and os.access(fallback, os.R_OK):
        return fallback
    return usual
