"""Giving up rights at the end of set-up, and locking memory and priority (daemon-cli 6).

Not here: opening what needs the rights, which happens before, and importing what lies below closed directories, which
must happen before too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import stat
import struct
from collections.abc import Callable, Iterable
from typing import NoReturn

from gmesh.daemon.plain_os import plain
from gmesh.errors import GmeshError

_MCL_CURRENT = 1
_MCL_FUTURE = 2
_PR_SET_KEEPCAPS = 8
_CAPABILITY_VERSION_3 = 0x20080522
NET_BIND_SERVICE, NET_ADMIN, NET_RAW = 10, 12, 13
"""Capabilities, by their numbers in Linux."""
_NICENESS = {"low": 10, "normal": 0, "high": -10}


def find_user(name: str) -> pwd.struct_passwd:
    """The account of ``-U``. Raises GmeshError."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise GmeshError(f"unknown user `{name}'") from None


def lock_memory() -> None:
    """Keep all present and future memory out of the swap space. Raises GmeshError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        raise GmeshError(f"System call `mlockall' failed: {os.strerror(ctypes.get_errno())}")


def set_priority(name: str) -> None:
    """Set the process's niceness by ProcessPriority's word, any case. Raises GmeshError."""
    niceness = _NICENESS.get(name.lower())
    if niceness is None:
        raise GmeshError(f"Invalid priority `{name}'!")
    _call("setpriority", lambda: os.setpriority(os.PRIO_PROCESS, 0, niceness))


def needed_capabilities(*, mark: bool, interface: bool) -> frozenset[int]:
    """What a running daemon cannot do without: binding low ports again, firewall marks, sockets bound to a device.

    A mark needs NET_ADMIN; binding to a device needed NET_RAW before Linux 5.7.
    """
    needed = {NET_BIND_SERVICE}
    if mark:
        needed.add(NET_ADMIN)
    if interface:
        needed.add(NET_RAW)
    return frozenset(needed)


def drop(user: pwd.struct_passwd | None, chroot: str | None, keep: frozenset[int] = frozenset()) -> None:
    """Take on the user's groups, confine ourselves to ``chroot``, take on the user: in this order. Raises GmeshError.

    Of all capabilities only ``keep`` stays (as far as we have it), for this process alone: programs that it starts get
    none, as none is inheritable. A user of number 0 loses nothing.

    After ``chroot`` the current directory is its root, so relative names keep their meaning if it was CONFBASE.
    """
    if user is not None:
        _call("initgroups", lambda: os.initgroups(user.pw_name, user.pw_gid))
        _call("setgid", lambda: os.setgid(user.pw_gid))
    if chroot is not None:
        _call("chroot", lambda: os.chroot(chroot))
        _call("chdir", lambda: os.chdir("/"))
    if user is not None:
        if user.pw_uid != 0:
            _keep_capabilities_over_setuid()
        _call("setuid", lambda: os.setuid(user.pw_uid))
        if user.pw_uid != 0:
            _reduce_capabilities(keep)


def _keep_capabilities_over_setuid() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0:
        raise GmeshError(f"System call `prctl' failed: {os.strerror(ctypes.get_errno())}")


def _reduce_capabilities(keep: frozenset[int]) -> None:
    """Make ``keep`` all that is permitted and effective, as far as it is permitted now; nothing is inheritable."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    if libc.capget(header, data) != 0:
        raise GmeshError(f"System call `capget' failed: {os.strerror(ctypes.get_errno())}")
    permitted = struct.unpack("=6I", data.raw)[1] & sum(1 << number for number in keep)
    if libc.capset(header, struct.pack("=6I", permitted, permitted, 0, 0, 0, 0)) != 0:
        raise GmeshError(f"System call `capset' failed: {os.strerror(ctypes.get_errno())}")


def _call(name: str, function: Callable[[], object]) -> None:
    try:
        function()
    except OSError as error:
        raise GmeshError(f"System call `{name}' failed: {error.strerror}") from None


def unreadable_for(user: pwd.struct_passwd, paths: Iterable[str]) -> list[str]:
    """Which of these files and directories the user will not be able to read, by their mode bits alone."""
    groups = set(os.getgrouplist(user.pw_name, user.pw_gid))
    return [path for path in paths if not _readable(path, user.pw_uid, groups)]


def _readable(path: str, uid: int, groups: set[int]) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return True
    if uid == 0:
        return True
    need = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
    if status.st_uid == uid:
        shift = 6
    elif status.st_gid in groups:
        shift = 3
    else:
        shift = 0
    return (status.st_mode >> shift) & need == need


class Janitor:
    """A small process that keeps our rights after we have dropped them, only to remove files at our end.

    It runs ``clean_up`` when we close it or die, and ends. Started before any thread and before `drop`.
    """

    def __init__(self, clean_up: Callable[[], None]) -> None:
        reader, self._writer = os.pipe()
        self._pid = plain("fork")()
        if self._pid == 0:
            _wait_and_clean(reader, clean_up)
        plain("close")(reader)

    def close(self) -> None:
        """Have the files removed now, and wait for it. Harmless when repeated."""
        if self._writer < 0:
            return
        plain("close")(self._writer)
        self._writer = -1
        # The event loop may have collected it already, which it does with every child.
        with contextlib.suppress(ChildProcessError):
            plain("waitpid")(self._pid, 0)


def _wait_and_clean(reader: int, clean_up: Callable[[], None]) -> NoReturn:
    try:
        os.setsid()
        _close_all_but_files(keep=reader)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        while os.read(reader, 1):
            pass
        clean_up()
    finally:
        os._exit(0)


def _close_all_but_files(keep: int) -> None:
    """Close what others wait for the end of (sockets, pipes, devices); files and directories are needed to clean up."""
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        with contextlib.suppress(OSError):
            mode = os.fstat(descriptor).st_mode
            if descriptor > 2 and descriptor != keep and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                plain("close")(descriptor)
