"""Which kind of device is meant, and opening it (config 7).

Not here: reading the configuration; the arguments are plain values, whatever they came from.
"""

from __future__ import annotations

from gmesh.device.base import Device
from gmesh.device.dummy import DummyDevice
from gmesh.device.tun import DEFAULT_DEVICE, open_tun
from gmesh.errors import ConfigError

_LATER = frozenset({"tap", "raw_socket", "multicast", "fd", "uml", "vde"})
"""Kinds that tinc has on Linux and that cannot be opened here yet."""


def open_device(device_type: str, mode: str, device: str, interface: str, netname: str) -> Device:
    """Open the device that the options DeviceType, Mode, Device and Interface describe; each may be empty.

    Raises ConfigError where the options are wrong and GmeshError where the system refuses.
    """
    kind = device_type.lower() or ("tun" if mode.lower() in ("", "router") else "tap")
    if kind == "dummy":
        return DummyDevice()
    if kind == "tun":
        return open_tun(device or DEFAULT_DEVICE, interface or netname)
    if kind in _LATER:
        detail = f"DeviceType {kind} is not supported yet, use tun or dummy"
        if not device_type:
            detail = f"Mode {mode} needs DeviceType {kind}, which is not supported yet; use Mode router"
        raise ConfigError(detail, key="DeviceType" if device_type else "Mode")
    raise ConfigError(f"Unknown device type {device_type}!", key="DeviceType")
