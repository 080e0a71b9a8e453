"""Gives memory back to the system after a storm: the C library keeps what was freed, and a peer can make it keep much.

Not here: bounds on what is remembered at all (`gmesh.mesh.settings`).
"""

from __future__ import annotations

import ctypes
import os

import gevent

CHECK_SECONDS = 5.0
WORTH_IT = 1024 * 1024
"""Bytes of growth since the last time that make it worth a look: it takes a fraction of a millisecond."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes of memory in use; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def keep_small() -> None:
    """Trim the heap whenever it has grown, for ever; returns at once where the C library cannot."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return
    known = resident()
    while True:
        gevent.sleep(CHECK_SECONDS)
        if resident() > known + WORTH_IT:
            trim(0)
            known = resident()
