"""What waits to be sent on one meta connection (contract 4): bounded by the graph, not by the length of a storm.

Holds plain text and frames; encryption and sockets are the connection's. Not here: PING and PONG, which overtake.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from gmesh.mesh.actions import LaterLine

MAX_PLAIN_LINES = 1000
"""The most waiting lines without a fact; above it the oldest of them goes."""
MAX_PLAIN_BYTES = 256 * 1024
"""The same in bytes: far below what ends a connection (`net/peer.py`), which relayed lines of others must never do."""
PACKET_NUMBER = 17
SPTPS_PACKET_NUMBER = 21
_REMOVALS = (b"11 ", b"13 ")
"""DEL_SUBNET and DEL_EDGE."""


_Waiting = bytes | LaterLine


class Outbox:
    """An ordered queue of lines, in which a later line about a fact takes the place of a waiting one.

    The order of everything else is kept, and what was sent behind an ADD stays behind one: a removal is appended, never
    put in the place of the addition before it, because a key request waiting in between would then arrive from a node
    that the peer no longer reaches, which crashes stock daemons. So at most two lines of one fact wait: the addition
    and a later removal, or a removal and a later addition.

    ``max_bytes`` is MaxOutputBufferSize; it bounds frames only.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        """Bytes that wait, framing included. Lines that are not put together yet count nothing: there is at most one of
        them for each fact that we know."""
        self.dropped_frames = 0
        self.dropped_lines = 0
        # By place, which are consecutive numbers; some of them are empty.
        self._entries: dict[int, tuple[_Waiting, Hashable]] = {}
        self._by_fact: dict[Hashable, tuple[int, ...]] = {}
        self._plain: OrderedDict[int, int] = OrderedDict()
        """The sizes of lines without a fact, by place."""
        self._plain_bytes = 0
        self._first = 0
        self._next = 0

    def __len__(self) -> int:
        """Entries that wait, lines and frames."""
        return len(self._entries)

    def put_line(self, line: str | LaterLine, fact: Hashable = None) -> None:
        """Queue a request line (no newline). Text is never refused."""
        data = _encode(line) if isinstance(line, str) else line
        if fact is None:
            size = _size(data)
            while self._plain and (len(self._plain) >= MAX_PLAIN_LINES or self._plain_bytes + size > MAX_PLAIN_BYTES):
                self._remove(next(iter(self._plain)))
                self.dropped_lines += 1
            self._plain[self._append(data, None)] = size
            self._plain_bytes += size
            return
        places = self._by_fact.get(fact, ())
        if not places:
            self._by_fact[fact] = (self._append(data, fact),)
            return
        removal = _is_removal(data)
        if len(places) == 2 and removal == self._is_removal_at(places[0]):
            if not removal:
                # Addition, removal, addition: the newest addition in the place of the first says it all.
                self._remove(places[1])
                self._replace(places[0], data)
                self._by_fact[fact] = places[:1]
                return
            # Removal, addition, removal: the addition moves up, so that what followed it still does.
            self._replace(places[0], self._entries[places[1]][0])
            self._remove(places[1])
            self._by_fact[fact] = (places[0], self._append(data, fact))
        elif removal == self._is_removal_at(places[-1]):
            self._replace(places[-1], data)
        else:
            self._by_fact[fact] = (*places, self._append(data, fact))

    def put_frame(self, frame: bytes, chance: float) -> bool:
        """Queue a PACKET, unless random early drop has it (meta-legacy 11): False then.

        ``chance`` is a fresh random value in [0, 1).
        """
        return self._put_body(PACKET_NUMBER, frame, chance)

    def put_datagram(self, destination: bytes, source: bytes, datagram: bytes, chance: float) -> bool:
        """Queue an SPTPS_PACKET between two node ids of 6 bytes (meta-sptps 6), under the same rule."""
        return self._put_body(SPTPS_PACKET_NUMBER, destination + source + datagram, chance)

    def has_room(self, chance: float) -> bool:
        """Whether random early drop spares what is to be queued now; counted as a dropped frame where it does not."""
        half = self.max_bytes / 2
        if self.bytes > half and (self.bytes - half) > chance * half:
            self.dropped_frames += 1
            return False
        return True

    def take(self, limit: int) -> bytes:
        """The next whole entries, together at most ``limit`` bytes; a single larger one comes alone."""
        taken: list[bytes] = []
        size = 0
        entries = self._entries
        while entries:
            place = self._first
            entry = entries.get(place)
            if entry is None:
                self._first += 1
                continue
            data, fact = entry
            if not isinstance(data, bytes):
                data = _encode(str(data))
                self._replace(place, data)
            if taken and size + len(data) > limit:
                break
            taken.append(data)
            size += len(data)
            self._first += 1
            self._remove(place)
            if fact is not None:
                rest = self._by_fact[fact][1:]
                if rest:
                    self._by_fact[fact] = rest
                else:
                    del self._by_fact[fact]
        return b"".join(taken)

    def clear(self) -> None:
        """Forget everything that waits."""
        self._entries.clear()
        self._by_fact.clear()
        self._plain.clear()
        self._plain_bytes = 0
        self._first = self._next
        self.bytes = 0

    def _put_body(self, number: int, body: bytes, chance: float) -> bool:
        if not self.has_room(chance):
            return False
        self._append(b"%d %d\n" % (number, len(body)) + body, None)
        return True

    def _append(self, data: _Waiting, fact: Hashable) -> int:
        place = self._next
        self._next += 1
        self._entries[place] = (data, fact)
        self.bytes += _size(data)
        return place

    def _replace(self, place: int, data: _Waiting) -> None:
        old, fact = self._entries[place]
        self._entries[place] = (data, fact)
        self.bytes += _size(data) - _size(old)

    def _remove(self, place: int) -> None:
        data, fact = self._entries.pop(place)
        if fact is None:
            self._plain_bytes -= self._plain.pop(place, 0)
        self.bytes -= _size(data)

    def _is_removal_at(self, place: int) -> bool:
        return _is_removal(self._entries[place][0])


def _encode(line: str) -> bytes:
    return line.encode("ascii", "replace") + b"\n"


def _size(data: _Waiting) -> int:
    return len(data) if isinstance(data, bytes) else 0


def _is_removal(data: _Waiting) -> bool:
    return isinstance(data, bytes) and data.startswith(_REMOVALS)
