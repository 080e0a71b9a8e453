"""Host names to socket addresses, off the loop and with a time limit (contract 9).

Not here: the order in which addresses are tried (`dialer.py`).
"""

from __future__ import annotations

import socket as std_socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent
import gevent.monkey

from gmesh.errors import GmeshError
from gmesh.values import ip_version

PATIENCE = 1.0
"""Seconds to wait for one answer. A later one is kept for the next time, so a slow name delays no other address."""

LATE_ANSWER_LIFETIME = 30.0
"""Seconds after the question for which a late answer is still good."""

_getaddrinfo = gevent.monkey.get_original("socket", "getaddrinfo")
"""The system's own: gevent's would use a thread, even from within one of gevent's threads, and even for numbers."""

SockAddr = tuple[object, ...]
Resolved = list[tuple[int, SockAddr]]


def lookup(host: str, port: str, family: int = std_socket.AF_UNSPEC) -> Resolved:
    """(family, sockaddr) pairs in the system's order for a stream connection to ``host``. Blocks unless numeric.

    Raises GmeshError that says which name failed and why.
    """
    flags = std_socket.AI_NUMERICSERV if port.isdigit() else 0
    if ip_version(host):
        flags |= std_socket.AI_NUMERICHOST
    try:
        if port.isdigit() and int(port) > 65535:
            raise ValueError("there is no such port")
        found = _getaddrinfo(host, port, family, std_socket.SOCK_STREAM, 0, flags)
    except OSError as error:
        raise GmeshError(f"cannot resolve {host} port {port}: {error.strerror or error}") from None
    except ValueError as error:
        # What cannot be a host name is refused by the codec, not by the resolver.
        raise GmeshError(f"cannot resolve {host} port {port}: {error}") from None
    return [(int(entry[0]), tuple(entry[4])) for entry in found]


def _attempt(ask: Callable[[str, str, int], Resolved], *question: Any) -> Resolved | GmeshError:
    """The failure as a value: gevent writes what a thread of its pool raises to standard error, with a traceback."""
    try:
        return ask(*question)
    except GmeshError as error:
        return error


@dataclass(frozen=True, slots=True)
class _Question:
    asked: float
    answer: Any


class Resolver:
    """Asks in gevent's threads. A name has one question in flight at most, so a dead DNS server blocks few threads."""

    def __init__(
        self,
        ask: Callable[[str, str, int], Resolved] = lookup,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
        start: Callable[[str, str, int], Any] | None = None,
    ) -> None:
        """``start`` begins a lookup elsewhere than in a thread: an AsyncResult of addresses or GmeshError."""
        self._ask = ask
        self._clock = clock
        self._patience = patience
        self._start = start or self._in_a_thread
        self._asked: dict[tuple[str, str, int], _Question] = {}

    def resolve(self, host: str, port: str, family: int = std_socket.AF_UNSPEC) -> Resolved:
        """As `lookup`, but only waits for `PATIENCE`. Names are looked up anew each time. Raises GmeshError."""
        if ip_version(host):
            # At once, and not behind names that wait for a thread.
            return lookup(host, port, family)
        key = (host, port, family)
        question = self._asked.get(key)
        if question is None or (question.answer.ready() and self._is_stale(question)):
            self._forget_stale()
            answer = self._start(host, port, family)
            question = self._asked[key] = _Question(self._clock(), answer)
        question.answer.wait(self._patience)
        if not question.answer.ready():
            raise GmeshError(f"cannot resolve {host} port {port}: no answer yet")
        if self._asked.get(key) is question:
            del self._asked[key]
        found: Resolved | GmeshError = question.answer.get()
        if isinstance(found, GmeshError):
            raise found
        return found

    def _in_a_thread(self, host: str, port: str, family: int) -> Any:
        return gevent.get_hub().threadpool.spawn(_attempt, self._ask, host, port, family)

    def _is_stale(self, question: _Question) -> bool:
        return self._clock() - question.asked > LATE_ANSWER_LIFETIME

    def _forget_stale(self) -> None:
        for key, question in list(self._asked.items()):
            if question.answer.ready() and self._is_stale(question):
                del self._asked[key]
