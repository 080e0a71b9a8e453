"""The SPTPS sessions with one node: those being made, those that are open, and the one that sends (meta-sptps 7.2).

    pending --last record--> open, used or spare --another one is used and confirmed, or too many--> dropped
       \\--10 s--> dropped

Either end may begin a session, and both at once: then both may come to life, and each end has to choose the same. Two
sessions crossed if each began before the other was open; lines keep their order on the way, so both ends agree on that.
Of two that crossed the one whose initiator has the smaller name sends, otherwise the newer one does. Whichever sends,
datagrams of all that are open are opened. Not here: when a session is begun (`sptps_channel.py`), and the flows of open
ones, which the data plane has.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from gmesh.mesh.actions import Action, DropSession, InstallSession, UseSession
from gmesh.proto.sptps import HANDSHAKE_SECONDS
from gmesh.proto.sptps_datagram import DatagramSession

NEVER = math.inf
MAX_OPEN = 4
"""So many open sessions at most; each costs every datagram that fits none a look."""
LATE_SECONDS = 10.0
"""How long a session that is not used any more opens datagrams that are late, from the first one in its successor."""


@dataclass(slots=True, eq=False)
class Pending:
    """A session whose first handshake runs. ``kex`` is the datagram with which its initiator asked for it, ``answer``
    the one that we as responder answered with, ``own_compression`` the level that we announce in it. ``taken``: the
    responder's KEX is there."""

    session: DatagramSession
    kex: bytes = field(repr=False)
    own_compression: int
    began: float
    order: int
    answer: bytes = field(default=b"", repr=False)
    taken: bool = False


@dataclass(slots=True, eq=False)
class OpenSession:
    """A session whose flow the data plane has. ``began`` and ``opened`` count the starts and ends of handshakes with
    the node; ``renewed_at`` is when it had its present keys."""

    number: int
    session: DatagramSession
    compression: int
    own_compression: int
    began: int
    opened: int
    renewed_at: float
    confirmed: bool = False
    drop_at: float = NEVER


class Sessions:
    """See the module. Methods return what the data plane has to do."""

    def __init__(self, node: str, me: str, numbers: Iterator[int]) -> None:
        self.initiating: Pending | None = None
        self.responding: Pending | None = None
        self.used: OpenSession | None = None
        self.open: list[OpenSession] = []
        """The oldest first."""
        self._node = node
        self._we_are_smaller = me.encode() < node.encode()
        self._numbers = numbers
        self._order = 0

    @property
    def pending(self) -> list[Pending]:
        return [each for each in (self.initiating, self.responding) if each is not None]

    def numbered(self, number: int) -> OpenSession | None:
        return next((each for each in self.open if each.number == number), None)

    def begin(self, session: DatagramSession, kex: bytes, own_compression: int, now: float) -> Pending:
        """A handshake began; it replaces one of the same role that was not finished."""
        self._order += 1
        pending = Pending(session, kex, own_compression, now, self._order)
        if session.initiator:
            self.initiating = pending
        else:
            self.responding = pending
        return pending

    def finished(self, pending: Pending, compression: int, now: float) -> list[Action]:
        """The first handshake of a session is done: the data plane gets it, and perhaps sends in it from now on."""
        if pending is self.initiating:
            self.initiating = None
        else:
            self.responding = None
        self._order += 1
        new = OpenSession(
            number=next(self._numbers),
            session=pending.session,
            compression=compression,
            own_compression=pending.own_compression,
            began=pending.order,
            opened=self._order,
            renewed_at=now,
        )
        spare = [each for each in self.open if each is not self.used]
        actions: list[Action] = []
        for each in spare[: max(len(self.open) + 1 - MAX_OPEN, 0)]:
            actions += self._drop(each)
        flow = new.session.export_flow()
        actions.append(InstallSession(self._node, new.number, flow, compression, new.own_compression))
        self.open.append(new)
        if self.used is None or not self._yields(new, self.used):
            self.used = new
            actions.append(UseSession(self._node, new.number))
            for other in self.open:
                other.drop_at = NEVER
        elif self.used.confirmed:
            new.drop_at = now + LATE_SECONDS
        return actions

    def _yields(self, new: OpenSession, used: OpenSession) -> bool:
        """Whether ``used`` goes on sending though ``new`` is open now."""
        crossed = new.began < used.opened and new.session.initiator != used.session.initiator
        return crossed and used.session.initiator == self._we_are_smaller

    def confirmed(self, number: int, now: float) -> None:
        """A first authentic datagram arrived in a session: the other end has it too."""
        known = self.numbered(number)
        if known is None:
            return
        known.confirmed = True
        if known is self.used:
            for other in self.open:
                if other is not known:
                    other.drop_at = min(other.drop_at, now + LATE_SECONDS)

    def next_timeout(self) -> float:
        times = [each.began + HANDSHAKE_SECONDS for each in self.pending]
        times += [min(each.drop_at, each.session.next_timeout()) for each in self.open]
        return min(times, default=NEVER)

    def on_timeout(self, now: float) -> tuple[list[Action], bool]:
        """The flag says that a renewal of the session in use got stuck, so that only another session helps."""
        actions: list[Action] = []
        for pending in self.pending:
            if now >= pending.began + HANDSHAKE_SECONDS:
                self._abandon(pending)
        stuck = False
        for each in list(self.open):
            if now >= each.drop_at:
                actions += self._drop(each)
            elif each.session.on_timeout(now):
                stuck |= each is self.used
        return actions, stuck

    def _abandon(self, pending: Pending) -> None:
        if pending is self.initiating:
            self.initiating = None
        else:
            self.responding = None

    def _drop(self, session: OpenSession) -> list[Action]:
        self.open.remove(session)
        return [DropSession(self._node, session.number)]
