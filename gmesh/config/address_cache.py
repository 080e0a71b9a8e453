"""Where nodes were last reached: cache/NAME, in the form of tinc 1.1, so that either daemon can go on from there.

A convenience: what cannot be read is taken as empty, and what cannot be written is remembered until the daemon ends.
Not here: when an address has proved good, and the order in which addresses are tried (`gmesh.daemon.outgoing`).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gmesh.values import Address, ip_version, is_node_name

if TYPE_CHECKING:
    from gmesh.config.directory import Directory

MAX_ADDRESSES = 8
VERSION = 1
ENTRY_SIZES = (32, 28)
"""Of an address on 64-bit and 32-bit Linux (data-sptps 11); we write the first, whatever machine this is."""

_HEAD = struct.Struct("=II")
_FAMILY = struct.Struct("=H")
_IPV4 = struct.Struct("=H2s4s8x")
_IPV6 = struct.Struct("=H2s4x16sI")


def is_link_local(host: str) -> bool:
    """Whether this is an IPv6 address that means something on one link only, and nothing at all without its scope."""
    return ip_version(host) == 6 and ipaddress.ip_address(host).is_link_local


def parse(data: bytes) -> list[Address]:
    """The addresses in a cache file's bytes, newest first; none where it is of another form or version."""
    sizes = {_HEAD.size + MAX_ADDRESSES * size: size for size in ENTRY_SIZES}
    size = sizes.get(len(data))
    if size is None:
        return []
    version, used = _HEAD.unpack_from(data)
    if version != VERSION or used > MAX_ADDRESSES:
        return []
    entries = [_entry(data[start : start + size]) for start in range(_HEAD.size, _HEAD.size + used * size, size)]
    return list(dict.fromkeys(entry for entry in entries if entry is not None))


def form(addresses: Sequence[Address]) -> bytes:
    """The first eight as a file's bytes. Every one has an `Address.endpoint`."""
    entries = b"".join(_bytes(address).ljust(ENTRY_SIZES[0], b"\0") for address in addresses[:MAX_ADDRESSES])
    head = _HEAD.pack(VERSION, min(len(addresses), MAX_ADDRESSES))
    return (head + entries).ljust(_HEAD.size + MAX_ADDRESSES * ENTRY_SIZES[0], b"\0")


def _entry(data: bytes) -> Address | None:
    (family,) = _FAMILY.unpack_from(data)
    if family == socket.AF_INET:
        _, port, host = _IPV4.unpack_from(data)
        address = Address(str(ipaddress.IPv4Address(host)), str(int.from_bytes(port, "big")))
    elif family == socket.AF_INET6:
        _, port, host, scope = _IPV6.unpack_from(data)
        text = str(ipaddress.IPv6Address(host))
        # A scope is the number of an interface; only link-local addresses need one.
        link_local = scope and ipaddress.IPv6Address(host).is_link_local
        address = Address(f"{text}%{scope}" if link_local else text, str(int.from_bytes(port, "big")))
    else:
        return None
    return address if address.endpoint is not None else None


def _bytes(address: Address) -> bytes:
    host = ipaddress.ip_address(address.host)
    port = int(address.port).to_bytes(2, "big")
    if host.version == 4:
        return _IPV4.pack(socket.AF_INET, port, host.packed)
    return _IPV6.pack(socket.AF_INET6, port, host.packed, _scope(host))


def _scope(host: ipaddress.IPv6Address) -> int:
    scope = host.scope_id
    if not scope:
        return 0
    if scope.isdigit():
        return int(scope) & 0xFFFFFFFF
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(scope)
    return 0


class AddressCache:
    """The files of one directory, which may change its place (chroot).

    Link-local addresses are neither kept nor given: interfaces change their numbers, and others' files have none.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._unwritten: dict[str, list[Address]] = {}
        self._newest: dict[str, Address] = {}

    def file(self, name: str) -> Path:
        return self._directory.base / "cache" / name

    def addresses(self, name: str) -> list[Address]:
        """Where the node was reached, newest first."""
        if name in self._unwritten:
            return list(self._unwritten[name])
        if not is_node_name(name):
            return []
        try:
            with open(self.file(name), "rb") as file:
                # A longer file is of another form.
                found = parse(file.read(_HEAD.size + MAX_ADDRESSES * ENTRY_SIZES[0] + 1))
            return [address for address in found if not is_link_local(address.host)]
        except OSError:
            return []

    def add(self, name: str, address: Address) -> bool:
        """``address`` has proved good: it is the first from now on. Returns whether that changed anything.

        Raises OSError where the file cannot be written; the address counts nevertheless.
        """
        if self._newest.get(name) == address or address.endpoint is None or not is_node_name(name):
            return False
        if is_link_local(address.host):
            return False
        self._newest[name] = address
        known = self.addresses(name)
        if known[:1] == [address]:
            return False
        known = [address, *(other for other in known if other != address)][:MAX_ADDRESSES]
        self._unwritten[name] = known
        _write(self.file(name), form(known))
        del self._unwritten[name]
        return True


def _write(path: Path, data: bytes) -> None:
    """Replace the file as a whole. Nothing is flushed to the disk: what a crash takes is found again by dialling."""
    path.parent.mkdir(mode=0o755, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
