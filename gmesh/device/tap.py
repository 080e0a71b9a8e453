"""The Linux tap device: the kernel's Ethernet frames as they are (config 7).

In router mode other nodes may have tun devices, whose frames bear zero addresses, so frames for the kernel get the
interface's own address as their destination: otherwise it would take them as somebody else's.

Not here: answers to the kernel's questions for hardware addresses in router mode (`gmesh.route.neighbours`).
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from gmesh.device.ethernet import EthernetDevice
from gmesh.device.tuntap import DEFAULT_DEVICE, open_interface

LOOK_INTERVAL = 1.0
"""Seconds between two looks at the interface's hardware address, while frames are written."""


class TapDevice(EthernetDevice):
    """A tap interface. ``handle`` is an open `pytun.TunTapDevice` or what has its methods used here.

    ``routed`` says whether destination addresses are replaced: in router mode.
    """

    def __init__(self, handle: Any, path: str, *, routed: bool) -> None:
        super().__init__(
            handle,
            name=path,
            interface=handle.name,
            description=f"{path} is a Linux tun/tap device (tap mode)",
        )
        self.routed = routed
        self._hardware: bytes = handle.hwaddr
        self._looked_at = time.monotonic()

    def write(self, frame: bytes) -> bool:
        return super().write(self._own_address() + frame[6:] if self.routed else frame)

    def _own_address(self) -> bytes:
        """The interface's hardware address, which tinc-up or an administrator may change at any time."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_INTERVAL:
            self._looked_at = now
            # Renamed, for instance: then what was known is as good as anything.
            with contextlib.suppress(OSError):
                self._hardware = self._handle.hwaddr
        return self._hardware


def open_tap(path: str = DEFAULT_DEVICE, interface: str = "", *, routed: bool, one_queue: bool = False) -> TapDevice:
    """Open the tap interface ``interface`` of the device node ``path``, see `tuntap.open_interface`."""
    return TapDevice(open_interface(path, interface, tap=True, one_queue=one_queue), path, routed=routed)
