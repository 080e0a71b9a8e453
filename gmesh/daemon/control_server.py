"""Control clients: who may come in, how many, and when they have to leave (control 1).

They come by the control socket, or from this machine by TCP, where the greeting looks like a peer's.

Not here: the conversation with one client (`control_client`), what requests do (`ControlBackend`).
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import logging
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent import socket
from gevent.lock import BoundedSemaphore

from gmesh.daemon.control_backend import ControlBackend
from gmesh.daemon.control_client import UNIX_ADDRESS, ControlClient
from gmesh.daemon.logging_setup import DaemonLog, log
from gmesh.daemon.supervisor import Supervisor
from gmesh.errors import GmeshError
from gmesh.net.peer import PeerConnection
from gmesh.proto.control import ConnectionLine

MAX_CLIENTS = 128
"""Beyond this the oldest client that waits for nothing gives way to a new one."""

DUMPS_AT_ONCE = 4
"""Dumps in memory at a time; further ones wait, but not for ever, as a reader that stalls is dropped."""

_LONGEST_PATH = 107
_PEER_CREDENTIALS = struct.Struct("3i")


class ControlServer:
    """Serves from `listen` until `close`. Its greenlets are of the kind ``control``, which must outlive all others."""

    def __init__(self, backend: ControlBackend, supervisor: Supervisor, daemon_log: DaemonLog, cookie: str) -> None:
        self.backend = backend
        self.log = daemon_log
        self.dumping = BoundedSemaphore(DUMPS_AT_ONCE)
        self._cookie = cookie.encode("ascii")
        self._supervisor = supervisor
        self._clients: dict[ControlClient, None] = {}
        self._listener: Any = None
        self._path = ""
        self._directory = -1
        self._inode = (0, 0)
        self._users = {0, os.getuid(), os.geteuid()}

    def __len__(self) -> int:
        """How many clients there are."""
        return len(self._clients)

    def listen(self, path: str) -> None:
        """Make the socket and accept clients. The caller holds the pid file's lock, so a left-over socket is removed.

        Raises GmeshError when a daemon that knows no lock still answers there, or the path cannot be used.
        """
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise GmeshError(f"UNIX socket filename {path} is too long!")
        if _answers(path):
            raise GmeshError(f"UNIX socket {path} is still in use!")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o077)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            listener.bind(path)
            os.chmod(path, 0o700)
            listener.listen(64)
            self._directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            listener.close()
            raise GmeshError(f"Cannot bind UNIX socket {path}: {error.strerror}") from None
        finally:
            os.umask(mask)
        status = os.stat(path)
        self._inode = (status.st_dev, status.st_ino)
        self._path = path
        self._listener = listener
        self._supervisor.spawn("control listener", self._accept, policy="restart")

    def remove_socket(self) -> None:
        """Remove the socket's name, if it is still ours; works after a chroot. Harmless when repeated."""
        if self._directory < 0:
            return
        name = os.path.basename(self._path)
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
            if (status.st_dev, status.st_ino) == self._inode:
                os.unlink(name, dir_fd=self._directory)
        os.close(self._directory)
        self._directory = -1

    def adopt(self, peer: PeerConnection, cookie: str) -> bool:
        """Take over a TCP connection whose greeting was ``^cookie`` (control 1).

        False, and nothing done, unless it comes from loopback with the right cookie.
        """
        if not _is_loopback(peer.address.host) or not self.is_cookie(cookie):
            return False
        connection, rest = peer.give_up_socket()
        self._serve(ControlClient(self, connection, peer.address, rest, authenticated=True))
        return True

    def is_cookie(self, cookie: str) -> bool:
        """Compared in constant time."""
        return hmac.compare_digest(cookie.encode("utf-8", "replace"), self._cookie)

    def connections(self) -> Iterator[ConnectionLine]:
        """The dump of connections: the daemon's, then our clients."""
        yield from self.backend.connections()
        for client in self._clients:
            if client.authenticated:
                yield client.line()

    def spawn(self, name: str, function: Callable[..., Any], *args: Any) -> None:
        """A greenlet that belongs to a client."""
        self._supervisor.spawn(name, function, *args)

    def close_clients(self) -> None:
        """Close all clients at once, those that wait for the daemon's end too."""
        for client in list(self._clients):
            client.close()

    def close(self, patience: float = 1.0) -> None:
        """The very end: give log readers ``patience`` seconds for their last lines, then close everything.

        Clients that asked for the stop learn from this that the daemon has ended, so it comes last of all.
        """
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        with gevent.Timeout(patience, False):
            while waiting := [client for client in self._clients if not client.drained]:
                waiting[0].drain()
        self.close_clients()
        self.remove_socket()

    def _accept(self) -> None:
        while self._listener is not None:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._listener is None:
                    return
                log(0, logging.ERROR, f"Cannot accept control clients: {error.strerror}", key="control accept")
                gevent.sleep(0.5)
                continue
            user = _PEER_CREDENTIALS.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
            )[1]
            if user not in self._users:
                log(0, logging.WARNING, f"User {user} may not control this daemon", key="control user")
                connection.close()
                continue
            self._serve(ControlClient(self, connection, UNIX_ADDRESS))

    def _serve(self, client: ControlClient) -> None:
        if len(self._clients) >= MAX_CLIENTS and not self._make_room():
            log(0, logging.WARNING, "Too many control clients", key="control clients")
            client.close()
            return
        self._clients[client] = None
        self._supervisor.spawn("control client", self._run, client)

    def _make_room(self) -> bool:
        for client in self._clients:
            if client.expendable:
                log(1, logging.WARNING, "Too many control clients: dropping the oldest", key="control clients")
                self._clients.pop(client)
                client.close()
                return True
        return False

    def _run(self, client: ControlClient) -> None:
        try:
            client.run()
        finally:
            client.close()
            self._clients.pop(client, None)


def _answers(path: str) -> bool:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(1.0)
    try:
        probe.connect(path)
    except OSError:
        return False
    else:
        return True
    finally:
        probe.close()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
