"""The pid file: proof that a daemon runs, the way to its control socket, and the lock that keeps a second one away.

The lock is an flock held for the daemon's life, taken before anything else is touched (requirement 8). Not here: the
control socket itself. The reading half is used by the control tool too, so nothing here needs gevent.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from dataclasses import dataclass, field

from gmesh.errors import GmeshError

_MAX_SIZE = 1024


class AlreadyRunningError(GmeshError):
    """Another daemon holds this pid file; ``pid`` is its process id, 0 where the file does not say."""

    def __init__(self, pid: int, netname: str) -> None:
        who = f"A tincd is already running for net `{netname}'" if netname else "A tincd is already running"
        super().__init__(f"{who} with pid {pid}.")
        self.pid = pid


@dataclass(frozen=True, slots=True)
class PidRecord:
    """What the file says: ``PID COOKIE HOST port PORT`` (daemon-cli 4); of 1.0's short form only ``pid`` is set."""

    pid: int
    cookie: str = field(default="", repr=False)
    host: str = ""
    port: str = ""

    def format(self) -> str:
        """The line, with its newline."""
        return f"{self.pid} {self.cookie} {self.host} port {self.port}\n"

    @classmethod
    def parse(cls, text: str) -> PidRecord:
        """Read either generation's form. Raises ValueError when there is no process id."""
        words = text.split()
        if not words or not words[0].isascii() or not words[0].isdigit() or int(words[0]) <= 0:
            raise ValueError("no process id in the pid file")
        pid = int(words[0])
        if len(words) >= 5 and words[3] == "port":
            return cls(pid, words[1], words[2], words[4])
        return cls(pid)


def make_cookie() -> str:
    """A fresh control cookie: 64 hexadecimal digits, upper case."""
    return secrets.token_hex(32).upper()


def read_pidfile(path: str) -> PidRecord:
    """Raises OSError, or ValueError when the file holds no process id."""
    with open(path, encoding="ascii", errors="replace") as file:
        return PidRecord.parse(file.read(_MAX_SIZE))


def is_alive(pid: int) -> bool:
    """Whether a process of this id exists, ours or not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_other_tincd(pid: int) -> bool:
    """Whether ``pid`` is a tinc daemon, which takes no lock: after a crash the number may belong to anything else."""
    if pid == os.getpid() or not is_alive(pid):
        return False
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip().startswith("tincd")
    except FileNotFoundError:
        # Either it has just ended, or there is no /proc to ask; then the file is believed, as tinc 1.0 does.
        return not os.path.isdir(f"/proc/{os.getpid()}") and is_alive(pid)


class PidFile:
    """A pid file that we hold. It is locked from `acquire` on, and says something from `write` on."""

    def __init__(self, path: str, directory: int, descriptor: int) -> None:
        self.path = path
        self._directory = directory
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: str, netname: str = "") -> PidFile:
        """Take the lock. Raises AlreadyRunningError, having touched nothing, or OSError.

        A stale file is taken over. The lock survives a fork: the child holds it for as long as it lives.
        """
        path = os.path.abspath(path)
        directory_path, name = os.path.split(path)
        directory = os.open(directory_path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return cls(path, directory, cls._lock(directory, name, netname))
        except BaseException:
            os.close(directory)
            raise

    @staticmethod
    def _lock(directory: int, name: str, netname: str) -> int:
        while True:
            descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=directory)
            try:
                locked = _try_lock(descriptor)
                if locked and not _names(directory, name, descriptor):
                    # Its owner removed it between our opening and locking: that was the old file, try the new one.
                    os.close(descriptor)
                    continue
                try:
                    pid = PidRecord.parse(os.pread(descriptor, _MAX_SIZE, 0).decode("ascii", "replace")).pid
                except ValueError:
                    pid = 0
                if not locked or _is_other_tincd(pid):
                    raise AlreadyRunningError(pid, netname)
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor

    def write(self, record: PidRecord) -> None:
        """Say who we are. Readers see the old or the new line, never half of one. Raises OSError."""
        line = record.format().encode("ascii")
        os.fchmod(self._descriptor, 0o600)
        os.pwrite(self._descriptor, line, 0)
        os.ftruncate(self._descriptor, len(line))

    def remove(self) -> None:
        """Remove the file and let go of the lock, in this order. Harmless when repeated, never raises.

        The directory is held open, so that this works after a chroot too. Another daemon's file is left alone.
        """
        if self._descriptor < 0:
            return
        name = os.path.basename(self.path)
        try:
            if _names(self._directory, name, self._descriptor):
                os.unlink(name, dir_fd=self._directory)
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """Let go of our descriptors and leave the file: for the parent of a fork. The child's lock stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            os.close(self._directory)
        self._descriptor = self._directory = -1


def _names(directory: int, name: str, descriptor: int) -> bool:
    """Whether ``name`` in ``directory`` is the very file behind ``descriptor``."""
    try:
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return stat.S_ISREG(there.st_mode) and (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
