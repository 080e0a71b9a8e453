"""Connects to several addresses without waiting for those that do not answer.

Attempts run side by side and end by themselves; the first connection wins. Not here: the order of addresses and when
attempts are started (`dialer.py`).
"""

from __future__ import annotations

import contextlib
import errno
import socket as std_socket
from collections import Counter
from typing import Any, Protocol

import gevent
import gevent.event
import gevent.socket

from gmesh.errors import GmeshError
from gmesh.net.peer import Spawn, reason_of, tune_meta_socket
from gmesh.net.proxy import ProxyConnector
from gmesh.net.resolver import SockAddr
from gmesh.values import Address

MAX_ATTEMPTS = 4
"""Attempts at one address at a time: together with TCP's own repetitions, a SYN leaves at least every 0.7 s for as long
as new attempts are started, however silent the other end is."""

Connected = tuple[Any, Address]

_OF_THIS_SYSTEM = {
    errno.EINVAL,
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
    errno.ENODEV,
    errno.EACCES,
    errno.EPERM,
    errno.EMFILE,
    errno.ENFILE,
}
"""What our own system says of an attempt that never left it. Unreachable networks and hosts come back by themselves."""


class RaceHost(Protocol):
    """What a race needs from outside."""

    spawn: Spawn

    def prepare(self, sock: Any, family: int) -> None:
        """Bind and mark an outgoing socket as configured. Raises OSError or GmeshError."""

    def log(self, debug: int, text: str, key: str = "") -> None: ...


class Race:
    """``news`` is set whenever an attempt ends, well or not. ``timeout`` is in seconds, for each attempt."""

    def __init__(self, name: str, host: RaceHost, news: gevent.event.Event, timeout: float) -> None:
        self.timeout = timeout
        self._name = name
        self._host = host
        self._news = news
        self.absent = False
        """Whether, since somebody last cleared it, the other end's system said that nobody listens there."""
        self.hopeful = False
        """Whether, since then, an attempt ended otherwise than by our own system's verdict."""
        self._running: dict[gevent.Greenlet, SockAddr] = {}
        self._connected: list[Connected] = []

    @property
    def running(self) -> bool:
        """Whether an attempt may still succeed."""
        return bool(self._running)

    def start(self, family: int, sockaddr: SockAddr, proxy: ProxyConnector | None = None) -> None:
        """Begin an attempt, through a proxy if there is one, unless enough are under way to this address."""
        if Counter(self._running.values())[sockaddr] < (MAX_ATTEMPTS if proxy is None else 1):
            greenlet = self._host.spawn(f"connect {self._name}", self._attempt, family, sockaddr, proxy)
            self._running[greenlet] = sockaddr
            greenlet.link(self._ended)

    def take(self) -> Connected | None:
        """A connection that has been made, and its other end's address; the socket is the caller's from now on."""
        return self._connected.pop(0) if self._connected else None

    def abandon(self) -> None:
        """End all attempts and close what has not been taken."""
        running, self._running = self._running, {}
        for greenlet in running:
            greenlet.kill(block=False)
        for sock, _address in self._connected:
            sock.close()
        self._connected.clear()

    def _ended(self, greenlet: gevent.Greenlet) -> None:
        self._running.pop(greenlet, None)
        self._news.set()

    def _attempt(self, family: int, sockaddr: SockAddr, proxy: ProxyConnector | None) -> None:
        address = Address.from_sockaddr(sockaddr)
        text, key = f"{self._name} ({address})", f"{self._name} {address}"
        if proxy is not None:
            text += f" by {proxy.settings.kind} proxy"
        self._host.log(1, f"Trying to connect to {text}", f"dial {key}")
        with contextlib.ExitStack() as undo:
            try:
                if proxy is None:
                    sock = gevent.socket.socket(family, std_socket.SOCK_STREAM)
                    undo.callback(sock.close)
                    tune_meta_socket(sock)
                    self._host.prepare(sock, family)
                    sock.settimeout(self.timeout)
                    sock.connect(sockaddr)
                else:
                    sock, address = proxy.open(self._name, sockaddr, self.timeout)
                    undo.callback(sock.close)
            except TimeoutError:
                self.hopeful = True
                self._host.log(1, f"Timeout while connecting to {text}", f"timeout {key}")
            except OSError as error:
                self.hopeful |= error.errno not in _OF_THIS_SYSTEM or proxy is not None
                self.absent |= isinstance(error, ConnectionRefusedError) and proxy is None
                self._host.log(1, f"Could not connect to {text}: {reason_of(error)}", f"refused {key}")
            except (GmeshError, OverflowError) as error:
                self.hopeful = True
                self._host.log(1, f"Could not connect to {text}: {error}", f"refused {key}")
            else:
                self.hopeful = True
                if gevent.getcurrent() in self._running:
                    undo.pop_all()
                    self._host.log(2, f"Connected to {text}", f"connected {key}")
                    self._connected.append((sock, address))
