"""Going into the background, and telling whoever started us when we are ready.

Everything here happens before a gevent hub or a thread exists. Not here: which descriptors the log uses meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import MutableMapping

from gmesh.daemon.plain_os import plain

UMBILICAL = "TINC_UMBILICAL"
_READY = b"\0"


class Umbilical:
    """The line back to our starter: it gets log lines until we are ready, then one NUL byte, then the end of file.

    The same protocol serves 1.1's ``tinc start`` (daemon-cli 7) and the parent of `detach`. ``descriptor`` is where log
    lines may be written until `ready` or `abandon`; ``quiet`` asks for warnings and errors only.
    """

    def __init__(self, descriptor: int, *, colour: bool = False, quiet: bool = False) -> None:
        self.descriptor = descriptor
        self.quiet = quiet
        self.colour = colour
        os.set_inheritable(descriptor, False)

    def ready(self) -> None:
        """Report success and let go. Harmless when repeated; a starter that has gone away is no error."""
        if self.descriptor >= 0:
            with contextlib.suppress(OSError):
                os.write(self.descriptor, _READY)
        self.abandon()

    def abandon(self) -> None:
        """Let go without success, which means failure to the starter. Harmless when repeated."""
        if self.descriptor >= 0:
            with contextlib.suppress(OSError):
                plain("close")(self.descriptor)
        self.descriptor = -1


def umbilical_from_environment(environment: MutableMapping[str, str]) -> Umbilical | None:
    """Take ``TINC_UMBILICAL="DESCRIPTOR COLOUR"`` out of the environment; None when absent, malformed or not open."""
    words = environment.pop(UMBILICAL, "").split()
    if not words or not words[0].isdigit() or int(words[0]) <= 2:
        return None
    try:
        return Umbilical(int(words[0]), colour=words[1:2] == ["1"])
    except (OSError, OverflowError):
        return None


def detach(starter: Umbilical | None = None) -> Umbilical:
    """Go on in a child that has its own session and no terminal; returns only there.

    The parent copies what comes through the child's umbilical to its ``starter``, or to its standard error without one,
    and leaves with 0 once the child is ready, with 1 if the child ends before that. Raises OSError when there can be
    no child. The caller renews the event loop, if there is one.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    close = plain("close")
    if plain("fork")() != 0:
        close(writer)
        ready = follow_umbilical(reader, 2 if starter is None else starter.descriptor)
        if starter is not None and ready:
            starter.ready()
        os._exit(0 if ready else 1)
    close(reader)
    if starter is not None:
        starter.abandon()
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    if null > 2:
        close(null)
    if starter is None:
        return Umbilical(writer, quiet=True)
    return Umbilical(writer, colour=starter.colour)


def follow_umbilical(reader: int, output: int) -> bool:
    """Copy log lines from a starter's end to ``output`` until the end of file; whether the last byte said: ready."""
    last = b""
    while True:
        try:
            data = os.read(reader, 4096)
        except ConnectionError:
            data = b""
        if not data:
            return last == _READY
        last = data[-1:]
        text = data.removesuffix(_READY)
        if text:
            with contextlib.suppress(OSError):
                os.write(output, text)
