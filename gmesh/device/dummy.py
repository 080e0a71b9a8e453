"""A device that is none: for relays that take part in the mesh without an own address in it (config 7).

Not here: anything to read. What is written is counted and dropped.
"""

from __future__ import annotations

from gmesh.device.base import DeviceStatistics


class DummyDevice:
    """Reads nothing, drops what is written."""

    def __init__(self) -> None:
        self.name = "dummy"
        self.interface = "dummy"
        self.description = "dummy (dummy) is a dummy device"
        self.statistics = DeviceStatistics()

    def fileno(self) -> int | None:
        return None

    def read(self) -> bytes | None:
        return None

    def write(self, frame: bytes) -> bool:
        self.statistics.packets_out += 1
        self.statistics.bytes_out += len(frame)
        return True

    def close(self) -> None:
        """Nothing to close."""
