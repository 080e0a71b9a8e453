"""The connections that have not proved who they are: how many there may be, and who has to go (requirement 18).

Not here: accepting (`listener.py`), what they cost (`turnstile.py`).
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count

from gmesh.net.turnstile import Turnstile

MAX_STRANGERS = 256
"""Beyond it the one of the greediest source that has made no progress for longest is closed."""


def source_of(host: str) -> str:
    """What counts as one source: an IPv4 address, or an IPv6 /64."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(ipaddress.ip_network((int(address), 64), strict=False).network_address)


class Strangers:
    """All strangers by source. Within a source those that got further in the handshake count as younger, so that idle
    connections go before a peer that is being let in from the same address."""

    def __init__(self, turnstile: Turnstile, limit: int = MAX_STRANGERS) -> None:
        self.turnstile = turnstile
        self.limit = limit
        self._by_source: dict[str, OrderedDict[int, Callable[[], None]]] = {}
        self._total = 0
        self._next = count()

    def __len__(self) -> int:
        return self._total

    def admit(self, source: str, evict: Callable[[], None]) -> Place:
        """Count a new stranger; where that is one too many, another has to go. ``evict`` must not yield."""
        if self._total >= self.limit:
            self.evict_one()
        key = next(self._next)
        self._by_source.setdefault(source, OrderedDict())[key] = evict
        self._total += 1
        return Place(self, source, key)

    def evict_one(self) -> None:
        """Close one, to make room for others."""
        if not self._by_source:
            return
        source = max(self._by_source, key=lambda name: len(self._by_source[name]))
        key, evict = next(iter(self._by_source[source].items()))
        self.remove(source, key)
        evict()

    def promote(self, source: str, key: int) -> None:
        """It made progress."""
        held = self._by_source.get(source)
        if held is not None and key in held:
            held.move_to_end(key)

    def remove(self, source: str, key: int) -> None:
        """It authenticated or left. Unknown keys are fine: it may have been evicted."""
        held = self._by_source.get(source)
        if held is None or held.pop(key, None) is None:
            return
        self._total -= 1
        if not held:
            del self._by_source[source]


class Place:
    """One stranger's place among all; implements `gmesh.net.peer.Gate`."""

    __slots__ = ("_key", "_source", "_strangers")

    def __init__(self, strangers: Strangers, source: str, key: int) -> None:
        self._strangers = strangers
        self._source = source
        self._key = key

    def turn(self) -> AbstractContextManager[None]:
        return self._strangers.turnstile.turn(self._source)

    def progress(self) -> None:
        self._strangers.promote(self._source, self._key)

    def leave(self) -> None:
        """Harmless when repeated."""
        self._strangers.remove(self._source, self._key)
