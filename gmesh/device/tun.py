"""The Linux tun device: IP packets of the kernel as Ethernet frames with zero addresses (data-legacy 1, config 7).

Opened without the 4-byte packet information header: what it would say, the EtherType, is in the first half byte of
every IP packet, and the kernel looks there as well when we write.

Not here: addresses, routes and link state of the interface. Those belong to tinc-up.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from gmesh.device.descriptor import DISCARDS_PER_READ, READ_SIZE, DescriptorDevice
from gmesh.device.tuntap import DEFAULT_DEVICE, open_interface
from gmesh.values import ETHERNET_HEADER, MTU

if TYPE_CHECKING:
    from collections.abc import Callable

_ZERO_ADDRESSES = bytes(12)
_IPV4_HEADER = _ZERO_ADDRESSES + b"\x08\x00"
_IPV6_HEADER = _ZERO_ADDRESSES + b"\x86\xdd"


class TunDevice(DescriptorDevice):
    """A tun interface. ``handle`` is an open `pytun.TunTapDevice` or what has its ``fileno``, ``name``, ``close``."""

    def __init__(self, handle: Any, path: str) -> None:
        description = f"{path} is a Linux tun/tap device (tun mode)"
        super().__init__(handle, name=path, interface=handle.name, description=description)

    def read(self, _read: Callable[[int, int], bytes] = os.read) -> bytes | None:
        statistics = self.statistics
        for _ in range(DISCARDS_PER_READ):
            try:
                packet = _read(self._descriptor, READ_SIZE)
            except BlockingIOError:
                return None
            version = packet[0] >> 4 if packet else 0
            if len(packet) <= MTU - ETHERNET_HEADER:
                if version == 4:
                    frame = _IPV4_HEADER + packet
                elif version == 6:
                    frame = _IPV6_HEADER + packet
                else:
                    statistics.discarded += 1
                    self._unknown(packet)
                    continue
                statistics.packets_in += 1
                statistics.bytes_in += len(frame)
                return frame
            statistics.discarded += 1
        return None

    def _unknown(self, packet: bytes) -> None:
        """What is done about a packet that is neither IPv4 nor IPv6, besides counting it."""

    def write(self, frame: bytes, _write: Callable[[int, bytes], int] = os.write) -> bool:
        statistics = self.statistics
        try:
            _write(self._descriptor, frame[ETHERNET_HEADER:])
        except OSError:
            # EIO while the interface is down, EINVAL for what is no IP packet, EAGAIN while its queue is full:
            # in each case the frame is lost as on any wire, and the next may fare better.
            statistics.failed += 1
            return False
        statistics.packets_out += 1
        statistics.bytes_out += len(frame)
        return True


def open_tun(path: str = DEFAULT_DEVICE, interface: str = "", *, one_queue: bool = False) -> TunDevice:
    """Open the tun interface ``interface`` of the device node ``path``, see `tuntap.open_interface`."""
    return TunDevice(open_interface(path, interface, tap=False, one_queue=one_queue), path)
