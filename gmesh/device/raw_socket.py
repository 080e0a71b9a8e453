"""A packet socket on an interface that exists: its whole network takes part in the mesh (config 7).

Not here: the interface's addresses and whether it is promiscuous, which stay as the administrator made them.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

from gmesh.device.descriptor import READ_SIZE
from gmesh.device.ethernet import EthernetDevice
from gmesh.errors import GmeshError
from gmesh.values import cut_interface_name

DEFAULT_INTERFACE = "eth0"

_ALL_PROTOCOLS = 0x0003
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_AUXDATA = struct.Struct("=IIIHHHH")
"""status, length, captured length, offsets of the link and network headers, VLAN tag, VLAN type"""
_TAG_VALID, _TYPE_VALID = 0x10, 0x40
_VLAN = 0x8100


class RawSocketDevice(EthernetDevice):
    """Frames that ``sock``, a bound packet socket, sees in either direction, but not those that it sends itself."""

    def __init__(self, sock: Any, name: str, interface: str) -> None:
        super().__init__(sock, name=name, interface=interface, description=f"{name} is a raw_socket")

    def _receive(self) -> bytes:
        try:
            frame, control, _, _ = self._handle.recvmsg(READ_SIZE, 128)
        except BlockingIOError:
            raise
        except OSError as error:
            # The interface went down; frames come again when it is up.
            raise BlockingIOError from error
        # The kernel has taken VLAN tags out of the frames; without them one network's frames would get into another.
        for level, kind, data in control:
            if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA) and len(data) >= _AUXDATA.size:
                status, _, _, _, _, tag, tag_type = _AUXDATA.unpack_from(data)
                if status & _TAG_VALID:
                    protocol = tag_type if status & _TYPE_VALID else _VLAN
                    return bytes(frame[:12] + struct.pack("!HH", protocol, tag) + frame[12:])
        return bytes(frame)


def open_raw_socket(device: str = "", interface: str = "") -> RawSocketDevice:
    """Open a packet socket on ``interface`` (cut at 15 bytes); ``device`` is only a label. Raises GmeshError."""
    interface = cut_interface_name(interface) or DEFAULT_INTERFACE
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    except OSError as error:
        hint = " (start as root or with CAP_NET_RAW)" if isinstance(error, PermissionError) else ""
        raise GmeshError(f"Could not open a packet socket: {os.strerror(error.errno or 0)}{hint}") from None
    try:
        sock.setblocking(False)
        sock.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        # Bound to a protocol only together with the interface, so that no frame of another one gets in before.
        sock.bind((interface, _ALL_PROTOCOLS))
    except OSError as error:
        sock.close()
        raise GmeshError(f"Can't find interface {interface}: {os.strerror(error.errno or 0)}") from None
    return RawSocketDevice(sock, device or interface, interface)
