"""Which kind of device is meant, and opening it (config 7).

Not here: reading the configuration; the arguments are plain values, whatever they came from.
"""

from __future__ import annotations

from gmesh.device.base import Device
from gmesh.device.dummy import DummyDevice
from gmesh.device.fd import Note, open_fd
from gmesh.device.multicast import open_multicast
from gmesh.device.raw_socket import open_raw_socket
from gmesh.device.tap import TapDevice, open_tap
from gmesh.device.tun import TunDevice, open_tun
from gmesh.device.tuntap import DEFAULT_DEVICE
from gmesh.errors import ConfigError


def _unheard(_debug: int, _text: str) -> None:
    """For whoever does not want to know."""


def open_device(
    device_type: str,
    mode: str,
    device: str,
    interface: str,
    netname: str,
    *,
    one_queue: bool = False,
    note: Note = _unheard,
) -> Device:
    """Open the device that the options DeviceType, Mode, Device and Interface describe; each may be empty.

    ``one_queue`` is IffOneQueue. ``note`` takes lines for the log. Raises ConfigError where the options are wrong and
    GmeshError where the system refuses.
    """
    mode = mode.lower() or "router"
    kind = device_type.lower() or ("tun" if mode == "router" else "tap")
    match kind:
        case "dummy":
            return DummyDevice()
        case "tun":
            if mode == "switch":
                raise ConfigError("Mode switch needs Ethernet frames: DeviceType tap has them, tun has not", key="Mode")
            return open_tun(device or DEFAULT_DEVICE, interface or netname, one_queue=one_queue)
        case "tap":
            return open_tap(
                device or DEFAULT_DEVICE, interface or netname, routed=mode == "router", one_queue=one_queue
            )
        case "raw_socket":
            return open_raw_socket(device, interface)
        case "multicast":
            return open_multicast(device)
        case "fd":
            return open_fd(device, mode, note)
        case _:
            raise ConfigError(f"Unknown device type {device_type}!", key="DeviceType")


def follow_mode(device: Device, mode: str) -> bool:
    """Let an open device serve another mode after a reload; False where it cannot."""
    if isinstance(device, TunDevice):
        return mode != "switch"
    if isinstance(device, TapDevice):
        device.routed = mode == "router"
    return True
