"""What every virtual network device looks like to the data plane: Ethernet frames in, Ethernet frames out.

Not here: how a kind of device is opened (one module each), and which kind is wanted (`choose.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class DeviceStatistics:
    """Frames and bytes through a device. *in* is what was read from it, *out* what was written to it."""

    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    discarded: int = 0
    """What was read but is no frame that can be sent: too long, or of no known protocol."""
    failed: int = 0
    """Frames that the system did not take, for instance because the interface is down."""


class Device(Protocol):
    """An open device. Frames are Ethernet frames without FCS, 14 to `gmesh.values.MTU` bytes (data-legacy 1)."""

    @property
    def name(self) -> str:
        """The value of DEVICE for scripts: a path such as ``/dev/net/tun``, or ``dummy``."""

    @property
    def interface(self) -> str:
        """The value of INTERFACE for scripts: the interface's real name."""

    @property
    def description(self) -> str:
        """The line for the log at start (config 7)."""

    @property
    def statistics(self) -> DeviceStatistics: ...

    def fileno(self) -> int | None:
        """What to wait on before `read`; None for a device that never has anything to read."""

    def read(self) -> bytes | None:
        """The next frame, or None when there is none now. Never blocks. Raises OSError when the device is gone."""

    def write(self, frame: bytes) -> bool:
        """Hand a frame to the system; False (and counted) when it did not take it. Never blocks or raises OSError."""

    def close(self) -> None:
        """Close the device; its interface goes away with it unless it was made persistent. Safe to call twice."""
