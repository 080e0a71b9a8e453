"""What devices that carry whole Ethernet frames have in common: reading and writing them by a descriptor.

Not here: opening one, and what a kind does to its frames (`tap.py`, `raw_socket.py`).
"""

from __future__ import annotations

import os

from gmesh.device.descriptor import DISCARDS_PER_READ, READ_SIZE, DescriptorDevice
from gmesh.values import ETHERNET_HEADER, MTU


class EthernetDevice(DescriptorDevice):
    """Frames through the descriptor of ``handle``."""

    def read(self) -> bytes | None:
        statistics = self.statistics
        for _ in range(DISCARDS_PER_READ):
            try:
                frame = self._receive()
            except BlockingIOError:
                return None
            if ETHERNET_HEADER <= len(frame) <= MTU:
                statistics.packets_in += 1
                statistics.bytes_in += len(frame)
                return frame
            statistics.discarded += 1
        return None

    def write(self, frame: bytes) -> bool:
        statistics = self.statistics
        try:
            self._send(frame)
        except OSError:
            # The interface is down or its queue full: lost as on any wire.
            statistics.failed += 1
            return False
        statistics.packets_out += 1
        statistics.bytes_out += len(frame)
        return True

    def _receive(self) -> bytes:
        """What comes next, whatever it is. Raises BlockingIOError where there is nothing now."""
        return os.read(self._descriptor, READ_SIZE)

    def _send(self, frame: bytes) -> None:
        os.write(self._descriptor, frame)
