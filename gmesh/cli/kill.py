"""``gmeshd -k``: a signal for the running daemon (daemon-cli 1). Units and init scripts of tinc 1.0 rely on it."""

from __future__ import annotations

import os
import signal
import sys

from gmesh.cli.about import try_line
from gmesh.cli.files import pid_file
from gmesh.daemon.options import DaemonOptions
from gmesh.daemon.pidfile import AlreadyRunningError, PidFile, is_alive, read_pidfile

_NAMES = ("HUP", "TERM", "KILL", "USR1", "USR2", "WINCH", "INT", "ALRM", "ABRT")


def send_signal(options: DaemonOptions, wanted: str) -> int:
    """Send the signal ``wanted`` (a name in any case, or a number); returns the exit code."""
    number = _signal_number(wanted)
    if number is None:
        sys.stderr.write(
            f"Invalid argument `{wanted}'; SIGNAL must be a number or one of "
            f"HUP, TERM, KILL, USR1, USR2, WINCH, INT or ALRM.\n{try_line(options.program)}"
        )
        return 1
    path = pid_file(options.confbase, options.netname, options.pidfile)
    net = f" for net `{options.netname}'" if options.netname else ""
    try:
        pid = read_pidfile(path).pid
    except PermissionError as error:
        sys.stderr.write(f"Could not open pid file {path}: {error.strerror}\n")
        return 1
    except (OSError, ValueError):
        sys.stderr.write(f"No other tincd is running{net}.\n")
        return 1
    if not is_alive(pid):
        sys.stderr.write(f"The tincd{net} is no longer running. Removing stale lock file.\n")
        try:
            # Through the lock, so that a daemon that starts at this moment keeps its file.
            PidFile.acquire(path).remove()
        except (OSError, AlreadyRunningError):
            return 0
        return 0
    try:
        os.kill(pid, number)
    except OSError as error:
        sys.stderr.write(f"Could not send signal {number} to process {pid}: {error.strerror}\n")
        return 1
    return 0


def _signal_number(wanted: str) -> int | None:
    if wanted.isascii() and wanted.isdigit() and 0 < int(wanted) < signal.NSIG:
        return int(wanted)
    name = wanted.upper()
    return int(signal.Signals[f"SIG{name}"]) if name in _NAMES else None
