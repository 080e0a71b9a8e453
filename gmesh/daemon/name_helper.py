"""Name lookups for a daemon under chroot: by a small process that was started before and keeps the old root.

The resolver reads /etc and loads libraries when it is first asked, both out of reach afterwards. The helper has
the rights of the daemon's user and no others, takes (host, port, family) and gives socket addresses. It is a program of
its own (`python -m gmesh.daemon.name_helper`), so nothing of the daemon's loop is in it, and it ends with the daemon.
Not here: when names are looked up (`gmesh.net.resolver`).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pwd

MAX_MESSAGE = 65_536
MAX_ADDRESSES = 32
THREADS = 8


def serve(channel: socket.socket) -> None:
    """Answer questions until the other end is closed; a slow name delays no other."""
    from gmesh.net.resolver import lookup

    def answer(question: bytes) -> None:
        reply: dict[str, Any] = {}
        try:
            number, host, port, family = json.loads(question)
            reply["number"] = number
            reply["found"] = lookup(host, port, family)[:MAX_ADDRESSES]
        except Exception as error:
            reply["error"] = str(error)
        with contextlib.suppress(OSError):
            channel.send(json.dumps(reply).encode())

    with ThreadPoolExecutor(THREADS) as pool:
        while question := channel.recv(MAX_MESSAGE):
            pool.submit(answer, question)
        pool.shutdown(wait=False, cancel_futures=True)
        # A lookup that hangs must not keep the process.
        os._exit(0)


class NameHelper:
    """The daemon's end. Started before the chroot; `run` is the body of a greenlet that hands out the answers."""

    def __init__(self, user: pwd.struct_passwd | None) -> None:
        """Start the process. Raises OSError."""
        import gevent.socket

        from gmesh.daemon.plain_os import plain

        ours, theirs = gevent.socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "gmesh.daemon.name_helper"]
        if user is not None:
            groups = ",".join(map(str, os.getgrouplist(user.pw_name, user.pw_gid)))
            command += [str(user.pw_uid), str(user.pw_gid), groups]
        environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)]
        self._pid: int = plain("posix_spawn")(sys.executable, command, environment, file_actions=actions)
        theirs.close()
        self._channel = ours
        self._number = count().__next__
        self._waiting: dict[int, Any] = {}

    def ask(self, host: str, port: str, family: int) -> Any:
        """An AsyncResult of the addresses, as `gmesh.net.resolver.lookup` gives them, or of the GmeshError."""
        from gevent.event import AsyncResult

        from gmesh.errors import GmeshError

        result: Any = AsyncResult()
        number = self._number()
        self._waiting[number] = result
        try:
            self._channel.send(json.dumps([number, host, port, family]).encode())
        except OSError as error:
            del self._waiting[number]
            result.set(GmeshError(f"cannot resolve {host} port {port}: {error.strerror}"))
        return result

    def run(self) -> None:
        """Take answers until the helper ends; then every question is answered with a failure."""
        from gmesh.errors import GmeshError

        while True:
            try:
                data = self._channel.recv(MAX_MESSAGE)
            except OSError:
                data = b""
            if not data:
                break
            reply = json.loads(data)
            result = self._waiting.pop(reply.get("number"), None)
            if result is None:
                continue
            if "found" in reply:
                result.set([(int(family), tuple(address)) for family, address in reply["found"]])
            else:
                result.set(GmeshError(str(reply.get("error"))))
        for result in self._waiting.values():
            result.set(GmeshError("names cannot be looked up any more"))
        self._waiting.clear()

    def close(self) -> None:
        """End the process, which has nothing to lose, and wait for it: bounded, whatever a lookup waits for."""
        from gmesh.daemon.plain_os import plain

        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self._pid, signal.SIGKILL)
        self._channel.close()
        with contextlib.suppress(ChildProcessError):
            plain("waitpid")(self._pid, 0)


def _become(uid: str, gid: str, groups: str) -> None:
    os.setgroups([int(group) for group in groups.split(",")])
    os.setgid(int(gid))
    os.setuid(int(uid))


def main() -> None:
    """The program: on descriptor 0 lies the channel; the arguments are uid, gid and groups to take on, or none."""
    # While everything can be read.
    importlib.import_module("encodings.idna")
    importlib.import_module("gmesh.net.resolver")
    if sys.argv[1:]:
        _become(*sys.argv[1:])
    os.setsid()
    channel = socket.socket(fileno=0)
    channel.setblocking(True)
    serve(channel)


if __name__ == "__main__":
    main()
