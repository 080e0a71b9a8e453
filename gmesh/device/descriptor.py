"""What devices behind one descriptor have in common, whatever their frames look like.

Not here: reading and writing (`tun.py`, `ethernet.py`).
"""

from __future__ import annotations

import os
from typing import Any

from gmesh.device.base import DeviceStatistics
from gmesh.values import MTU

READ_SIZE = MTU + 512
"""More than any frame we may send, so that a longer one is seen to be too long instead of being cut."""
DISCARDS_PER_READ = 64
"""So that a flood of packets that are no frames cannot keep `read` from returning."""


class DescriptorDevice:
    """The open device ``handle``, which has ``fileno`` and ``close``; its descriptor is made non-blocking."""

    def __init__(self, handle: Any, *, name: str, interface: str, description: str) -> None:
        self.name = name
        self.interface = interface
        self.description = description
        self.statistics = DeviceStatistics()
        self._handle = handle
        self._descriptor: int = handle.fileno()
        os.set_blocking(self._descriptor, False)

    def fileno(self) -> int | None:
        return self._descriptor

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()
