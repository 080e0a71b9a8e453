"""What every command that the daemon starts gets, and must not get, from it.

Not here: which commands those are: scripts are the daemon's (`gmesh.daemon.scripts`), a proxy is `proxy.py`'s.
"""

from __future__ import annotations

import os

_EVENT = ("NODE", "REMOTEADDRESS", "REMOTEPORT", "SUBNET", "WEIGHT", "INVITATION_FILE", "INVITATION_URL")
_OURS = ("NETNAME", "NAME", "DEVICE", "INTERFACE", "DEBUG", *_EVENT)
_PRIVATE = ("TINC_UMBILICAL", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Variables that are between the daemon and whoever started it."""


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
