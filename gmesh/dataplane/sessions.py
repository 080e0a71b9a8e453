"""The SPTPS sessions of one flow: which one seals, and in which order they are tried to open a datagram.

Not here: the records (`gmesh.proto.sptps_flow`), what a datagram is for (`sealed_receiver.py`, `sealed_sender.py`).
"""

from __future__ import annotations

from gmesh.mesh.actions import InstallSession
from gmesh.proto.sptps_flow import DatagramFlow
from gmesh.proto.sptps_packet import FrameCodec

MAX_SESSIONS = 4
"""Sessions of one node at once: two that were started at the same time, and as many that they replace."""


class PeerSession:
    """One installed session. ``confirmed``: something authentic came in it; ``worn`` was told."""

    __slots__ = ("codec", "compression", "confirmed", "flow", "number", "own_compression", "worn")

    def __init__(self, action: InstallSession, *, with_header: bool) -> None:
        self.number = action.session
        self.flow = DatagramFlow(action.flow)
        self.compression = action.compression
        self.own_compression = action.own_compression
        self.confirmed = False
        self.worn = False
        self.set_mode(with_header=with_header)

    def set_mode(self, *, with_header: bool) -> None:
        self.codec = FrameCodec(self.compression, self.own_compression, with_header=with_header)


class Sessions:
    """All sessions of one node. ``all`` is in the order in which they are tried."""

    __slots__ = ("all", "sending")

    def __init__(self) -> None:
        self.all: tuple[PeerSession, ...] = ()
        self.sending: PeerSession | None = None

    def get(self, number: int) -> PeerSession | None:
        return next((session for session in self.all if session.number == number), None)

    def add(self, session: PeerSession) -> None:
        """One with the same number is replaced; of too many, the one that was of use the longest time ago goes."""
        self.drop(session.number)
        kept = [other for other in self.all if other is not self.sending][: MAX_SESSIONS - 2]
        if self.sending is not None:
            kept.insert(0, self.sending)
        self.all = (*kept, session)

    def drop(self, number: int) -> None:
        self.all = tuple(session for session in self.all if session.number != number)
        if self.sending is not None and self.sending.number == number:
            self.sending = None

    def clear(self) -> None:
        self.all = ()
        self.sending = None

    def prefer(self, session: PeerSession) -> None:
        """Try this one first from now on."""
        self.all = (session, *(other for other in self.all if other is not session))
