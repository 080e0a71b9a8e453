"""Starting commands: what each gets from the daemon, and what it must not get.

Not here: which commands those are: scripts are the daemon's (`gmesh.daemon.scripts`), a proxy is `proxy.py`'s.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

import gevent.monkey

SHELL = "/bin/sh"
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)

_EVENT = ("NODE", "REMOTEADDRESS", "REMOTEPORT", "SUBNET", "WEIGHT", "INVITATION_FILE", "INVITATION_URL")
_OURS = ("NETNAME", "NAME", "DEVICE", "INTERFACE", "DEBUG", *_EVENT)
_PRIVATE = ("TINC_UMBILICAL", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Variables that are between the daemon and whoever started it."""


def start_command(
    command: str, environment: Mapping[str, str], *, stdin: int | None = None, stdout: int | None = None
) -> int:
    """Start ``command`` in a shell; returns its process id. ``stdin`` and ``stdout`` are descriptors, None: ours.

    Whoever wants its status watches it by the loop before anything yields. Raises OSError, or ValueError for what can
    be in no command line.
    """
    close_on_exec()
    given = [(os.POSIX_SPAWN_DUP2, ours, its) for its, ours in ((0, stdin), (1, stdout)) if ours is not None]
    # posix_spawn and not fork: nothing of Python runs in the child, so the resolver's threads cannot hurt it. The
    # system's own, because gevent's would collect the child itself.
    spawn = gevent.monkey.get_original("os", "posix_spawn")
    arguments = ["sh", "-c", command]
    pid: int = spawn(SHELL, arguments, environment, file_actions=given, setsigmask=[], setsigdef=_DEFAULT_SIGNALS)
    return pid


def inherited_environment() -> dict[str, str]:
    """The daemon's own environment without what it sets for commands and what is nobody else's business."""
    return {key: value for key, value in os.environ.items() if key not in _OURS and key not in _PRIVATE}


def close_on_exec() -> None:
    """Keep sockets and devices away from commands, also those that some library opened without that flag."""
    try:
        descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return
    for descriptor in descriptors:
        try:
            if descriptor > 2 and os.get_inheritable(descriptor):
                os.set_inheritable(descriptor, False)
        except OSError:
            continue
