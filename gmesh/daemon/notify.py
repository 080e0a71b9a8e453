"""Tells the service manager how the daemon is: READY, RELOADING, STOPPING, WATCHDOG (sd_notify(3), daemon-cli 7).

Without a manager that listens nothing is sent. Not here: when each is said (the daemon).
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import MutableMapping

import gevent

from gmesh.daemon.logging_setup import log

SHORT_WATCHDOG = 2.0
"""Seconds; a busy machine can hold anybody up for less."""

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """``period`` is the watchdog's, in seconds, 0 without one. The socket is connected at once, so that a later change
    of root or user does not cut us off."""

    def __init__(self, address: str = "", period: float = 0.0) -> None:
        self.period = period
        self._socket: socket.socket | None = None
        if not address.startswith(("/", "@")):
            return
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            # Nobody may hold up the loop; a manager that takes nothing has troubles of its own.
            made.setblocking(False)
            made.connect("\0" + address[1:] if address[0] == "@" else address)
        except OSError as error:
            made.close()
            log(0, logging.WARNING, f"Cannot reach the service manager at {address}: {error.strerror or error}")
        else:
            self._socket = made

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str], pid: int) -> Notifier:
        """Take the manager's variables out of ``environment``, so that scripts do not speak for us."""
        address, period, for_whom = (environment.pop(name, "") for name in _VARIABLES)
        watched = address and period.isascii() and period.isdigit() and for_whom in ("", str(pid))
        return cls(address, int(period) / 1e6 if watched else 0.0)

    def ready(self) -> None:
        self._say("READY=1")

    def reloading(self) -> None:
        """To be followed by `ready`."""
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    def watch(self) -> None:
        """Say twice in each of the watchdog's periods that the loop goes round; returns where there is no watchdog."""
        if self._socket is None or not self.period:
            log(0, logging.INFO, "Watchdog is disabled")
            return
        log(0, logging.INFO, "Watchdog started")
        if self.period < SHORT_WATCHDOG:
            text = "Consider using a higher watchdog timeout. Spurious failures may occur."
            log(0, logging.WARNING, text)
        while True:
            self._say("WATCHDOG=1")
            gevent.sleep(self.period / 2)

    def close(self) -> None:
        """Harmless when repeated."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say(self, text: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.send(text.encode("ascii"))
