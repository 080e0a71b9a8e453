"""Opening a Linux tun or tap interface (config 7): what both kinds have in common, and advice where it fails.

Whether there is such a device at all is found by trying: containers have device nodes that look like nothing known, and
interfaces that somebody else made for us.

Not here: reading and writing, see `tun.py` and `tap.py`.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from gmesh.errors import GmeshError
from gmesh.values import cut_interface_name

DEFAULT_DEVICE = "/dev/net/tun"

_TUN, _TAP, _MULTI_QUEUE = 0x1, 0x2, 0x100


def open_interface(path: str, interface: str, *, tap: bool, one_queue: bool = False) -> Any:
    """An open `pytun.TunTapDevice`, non-blocking, for ``interface`` (cut at 15 bytes; empty: the kernel picks).

    An interface that exists already and is not in use is taken, and left behind at the end. Raises GmeshError with the
    reason and what can be done about it.
    """
    import pytun  # slow to load and Linux only

    try:
        # pytun does not say whether opening or creating failed, and what helps differs.
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise GmeshError(f"Could not open {path}: {error.strerror}{_open_hint(error.errno, path)}") from None
    name = cut_interface_name(interface)
    flags = (pytun.IFF_TAP if tap else pytun.IFF_TUN) | pytun.IFF_NO_PI
    if one_queue:
        flags |= pytun.IFF_ONE_QUEUE
    try:
        handle = pytun.TunTapDevice(name=name, flags=flags, dev=path)
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise GmeshError(
            f"Could not create a tun/tap interface from {path}: {reason}{_create_hint(number, name, tap=tap)}"
        ) from None
    # pytun opens without close-on-exec: a script would inherit the device and keep the interface alive.
    os.set_inheritable(handle.fileno(), False)
    os.set_blocking(handle.fileno(), False)
    return handle


def _open_hint(number: int | None, path: str) -> str:
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return (
            " (load the kernel module with: modprobe tun; "
            f"in a container, start it with the device, for instance --device {path} --cap-add NET_ADMIN)"
        )
    if number in (errno.EACCES, errno.EPERM):
        return " (start as root, or with CAP_NET_ADMIN and write access to the device)"
    return ""


def _create_hint(number: int | None, name: str, *, tap: bool) -> str:
    if number in (errno.EPERM, errno.EACCES):
        return " (start as root or with CAP_NET_ADMIN; in a container, start it with --cap-add NET_ADMIN)"
    if number == errno.EBUSY:
        return f" (another program has {name} open: is the daemon already running?)"
    if number == errno.EINVAL:
        return f" ({why_invalid(name, interface_flags(name), tap=tap)})"
    if number in (errno.ENOTTY, errno.EBADFD):
        return " (that is no tun/tap device node: check Device)"
    return ""


def interface_flags(name: str) -> int | None:
    """The kernel's flags of an existing tun or tap interface; 0 for one of another kind, None where there is none."""
    directory = Path("/sys/class/net") / name
    try:
        return int((directory / "tun_flags").read_text(), 16)
    except (OSError, ValueError):
        return 0 if name and directory.exists() else None


def why_invalid(name: str, flags: int | None, *, tap: bool) -> str:
    """Why the kernel finds opening ``name`` invalid, given what `interface_flags` says of it."""
    wanted = "tap" if tap else "tun"
    if flags is None:
        return f"{name!r} is no name for a {wanted} interface, or an interface of another kind has it"
    if flags & (_TUN | _TAP) == 0:
        return f"an interface {name} exists, and it is neither tun nor tap: choose another name with Interface"
    if flags & (_TAP if tap else _TUN) == 0:
        other = "tun" if tap else "tap"
        return f"the interface {name} exists and is a {other} interface, but a {wanted} interface is needed here"
    if flags & _MULTI_QUEUE:
        return (
            f"the interface {name} exists and was made with multi_queue: delete it and make it anew without, "
            f"for instance: ip link del {name}; ip tuntap add dev {name} mode {wanted}"
        )
    return f"the interface {name} exists, but was made with options that differ from ours"
