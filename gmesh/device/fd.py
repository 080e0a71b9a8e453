"""A tun device that somebody else has opened: its descriptor is inherited, or comes through a unix socket (config 7).

What it carries are IP packets without any header, as through `tun.py`. That is how a program without privileges gets a
tunnel from one that has them, on Android for instance.

Not here: making the interface.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable

from gmesh.device.tun import TunDevice
from gmesh.errors import ConfigError, GmeshError

Note = Callable[[int, str], None]
"""Takes a line for the log with the least debug level that shows it."""

MAX_SOCKET_PATH = 107
"""sun_path without the closing zero byte."""
CONNECT_SECONDS = 5.0


class _Descriptor:
    """A descriptor that is ours, in the shape in which `TunDevice` wants it."""

    def __init__(self, number: int) -> None:
        self.name = f"fd/{number}"
        self._number = number

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        os.close(self._number)


class FdDevice(TunDevice):
    """IP packets through the open descriptor ``number``, which is closed with the device."""

    def __init__(self, number: int, path: str, note: Note) -> None:
        super().__init__(_Descriptor(number), path)
        self.description = f"fd/{number} adapter set up."
        self._note = note

    def _unknown(self, packet: bytes) -> None:
        if not packet:
            raise OSError(None, "its other end was closed")
        self._note(5, f"Unknown IP version while reading packet from {self.interface}!")


def open_fd(device: str, mode: str, note: Note) -> FdDevice:
    """``device`` is a descriptor's number, or the path of a unix stream socket (``@name``: an abstract one).

    Raises ConfigError where ``device`` or ``mode`` does not fit, GmeshError where there is no such descriptor.
    """
    if mode.lower() == "switch":
        raise ConfigError("Switch mode not supported (requires unsupported TAP device)!", key="Mode")
    if not device:
        raise ConfigError("Could not read device from configuration!", key="Device")
    number = _as_number(device)
    if number is None:
        number = _received(device, note)
    else:
        try:
            os.fstat(number)
        except (OSError, OverflowError):
            raise GmeshError(f"Could not open {device}: Bad file descriptor!") from None
    os.set_inheritable(number, False)
    return FdDevice(number, device, note)


def _as_number(device: str) -> int | None:
    digits = device.removeprefix("-")
    return int(device) if digits.isascii() and digits.isdigit() and len(digits) < 20 else None


def _received(path: str, note: Note) -> int:
    """The descriptor that the unix socket at ``path`` sends, together with one byte, to whoever connects."""
    name = os.fsencode(path)
    if len(name) > MAX_SOCKET_PATH:
        raise ConfigError("Unix socket path too long!", key="Device")
    note(0, f"Receiving fd from Unix socket at {path}.")
    if name.startswith(b"@"):
        name = b"\0" + name[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(CONNECT_SECONDS)
        try:
            sock.connect(name)
        except OSError as error:
            raise GmeshError(f"Could not connect to Unix socket (error -1)! {path}: {_reason(error)}") from None
        return _first_descriptor(sock, path)


def _first_descriptor(sock: socket.socket, path: str) -> int:
    numbers = array.array("i")
    try:
        data, control, _, _ = sock.recvmsg(1, socket.CMSG_SPACE(4 * numbers.itemsize), socket.MSG_CMSG_CLOEXEC)
    except OSError as error:
        raise GmeshError(f"Could not read from unix socket (error -1)! {path}: {_reason(error)}") from None
    for level, kind, rights in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(rights[: len(rights) - len(rights) % numbers.itemsize])
    if data and len(numbers) == 1:
        return numbers[0]
    for number in numbers:
        os.close(number)
    if not data:
        raise GmeshError("Could not read from unix socket (error 0)!")
    raise GmeshError(f"Could not open {path}: it sent {len(numbers)} descriptors in place of one!")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
