"""The Linux tun device: IP packets of the kernel as Ethernet frames with zero addresses (data-legacy 1, config 7).

Opened without the 4-byte packet information header: what it would say, the EtherType, is in the first half byte of
every IP packet, and the kernel looks there as well when we write.

Not here: addresses, routes and link state of the interface. Those belong to tinc-up.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from gmesh.device.base import DeviceStatistics
from gmesh.errors import GmeshError
from gmesh.values import ETHERNET_HEADER, MTU

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_DEVICE = "/dev/net/tun"
MAX_INTERFACE_NAME = 15
"""IFNAMSIZ without the closing zero byte."""

_ZERO_ADDRESSES = bytes(12)
_IPV4_HEADER = _ZERO_ADDRESSES + b"\x08\x00"
_IPV6_HEADER = _ZERO_ADDRESSES + b"\x86\xdd"
_READ_SIZE = MTU + 512
"""More than any frame we may send, so that a longer one is seen to be too long instead of being cut."""
_DISCARDS_PER_READ = 64
"""So that a flood of packets that are no frames cannot keep `read` from returning."""


def cut_interface_name(name: str) -> str:
    """The first 15 bytes of an interface's name, as the kernel would keep it; never half a character."""
    return name.encode()[:MAX_INTERFACE_NAME].decode(errors="ignore")


class TunDevice:
    """A tun interface. ``handle`` is an open `pytun.TunTapDevice` or what has its ``fileno``, ``name``, ``close``."""

    def __init__(self, handle: Any, path: str) -> None:
        self.name = path
        self.interface: str = handle.name
        self.description = f"{path} is a Linux tun/tap device (tun mode)"
        self.statistics = DeviceStatistics()
        self._handle = handle
        self._descriptor: int = handle.fileno()
        os.set_blocking(self._descriptor, False)

    def fileno(self) -> int | None:
        return self._descriptor

    def read(self, _read: Callable[[int, int], bytes] = os.read) -> bytes | None:
        statistics = self.statistics
        for _ in range(_DISCARDS_PER_READ):
            try:
                packet = _read(self._descriptor, _READ_SIZE)
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
                    continue
                statistics.packets_in += 1
                statistics.bytes_in += len(frame)
                return frame
            statistics.discarded += 1
        return None

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

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()


def open_tun(path: str = DEFAULT_DEVICE, interface: str = "") -> TunDevice:
    """Open the tun interface ``interface`` (cut at 15 bytes; empty: the kernel picks) of the device node ``path``.

    Raises GmeshError with the reason and what can be done about it.
    """
    import pytun  # slow to load and Linux only

    try:
        # pytun does not say whether opening or creating failed, and what helps differs.
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise GmeshError(f"Could not open {path}: {error.strerror}{_open_hint(error.errno, path)}") from None
    name = cut_interface_name(interface)
    try:
        handle = pytun.TunTapDevice(name=name, flags=pytun.IFF_TUN | pytun.IFF_NO_PI, dev=path)
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise GmeshError(
            f"Could not create a tun/tap interface from {path}: {reason}{_create_hint(number, name)}"
        ) from None
    # pytun opens without close-on-exec: a script would inherit the device and keep the interface alive.
    os.set_inheritable(handle.fileno(), False)
    return TunDevice(handle, path)


def _open_hint(number: int | None, path: str) -> str:
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return (
            " (load the kernel module with: modprobe tun; "
            f"in a container, start it with the device, for instance --device {path} --cap-add NET_ADMIN)"
        )
    if number in (errno.EACCES, errno.EPERM):
        return " (start as root, or with CAP_NET_ADMIN and write access to the device)"
    return ""


def _create_hint(number: int | None, name: str) -> str:
    if number in (errno.EPERM, errno.EACCES):
        return " (start as root or with CAP_NET_ADMIN; in a container, start it with --cap-add NET_ADMIN)"
    if number == errno.EBUSY:
        return f" (another program has {name} open: is the daemon already running?)"
    if number == errno.EINVAL:
        return f" ({name!r} is no name for a tun interface, or an interface of another kind has it)"
    if number in (errno.ENOTTY, errno.EBADFD):
        return " (that is no tun/tap device node: check Device)"
    return ""
