"""The inviting daemon's end of an invitation's conversation, from behind the joiner's greeting (invitations 4).

It has the face of a meta connection, so that the network room serves it like any stranger. Not here: which invitations
there are, and what becomes of the joiner's key.
"""

from __future__ import annotations

import math
from enum import Enum, auto

from gmesh.crypto.ed25519 import Ed25519PrivateKey, public_from_text, public_to_text, require_usable
from gmesh.errors import KeyFileError, PeerError
from gmesh.proto.invitation import COOKIE_SIZE, PIECE_SIZE, RECORD_ACCEPTED, RECORD_DATA, RECORD_END
from gmesh.proto.meta_base import MetaConnection, MetaState
from gmesh.proto.meta_events import InvitationPresented, JoinerKeyReceived, MetaEvent
from gmesh.proto.requests import MINOR, Ack, Id
from gmesh.proto.sptps import StreamSession
from gmesh.proto.sptps_handshake import INVITATION_LABEL, Entropy, HandshakeFinished

JOIN_SECONDS = 30.0
"""How long a joiner that showed a good cookie may take to make its key, and its inviter to write it down."""

MAX_RECORD = 128
"""Bytes that a joiner may have to say at once."""


class HostState(Enum):
    """What the joiner says next."""

    HANDSHAKE = auto()
    COOKIE = auto()
    OUR_ANSWER = auto()
    KEY = auto()
    OUR_WORD = auto()
    NOTHING = auto()


class InvitationHost(MetaConnection):
    """``key`` is the inviter's; ``invitation`` and ``node`` are empty until `hand_out` says what this is about."""

    def __init__(
        self, *, my_name: str, key: Ed25519PrivateKey, joiner: str, entropy: Entropy, now: float, patience: float
    ) -> None:
        """``joiner`` is the text behind the ``?`` of the greeting; within ``patience`` seconds there must be a cookie.

        Raises PeerError for what can be no key.
        """
        super().__init__(outgoing=False, name="", now=now, ping_interval=math.inf, ping_timeout=patience)
        self.invitation = ""
        self.node = ""
        self.key = key
        self.step = HostState.HANDSHAKE
        self._deadline = now + patience
        self._state = MetaState.SPTPS
        self._session = StreamSession(
            initiator=False,
            private_key=key,
            peer_public=_joiner_key(joiner),
            label=INVITATION_LABEL,
            entropy=entropy,
            now=now,
            max_data=MAX_RECORD,
        )
        greeting = f"{Id(my_name, minor=MINOR).format()}\n{Ack.NUMBER} {public_to_text(key.public)}\n"
        self._greeting = greeting.encode("ascii")

    @property
    def pending(self) -> int:
        return len(self._greeting) + self._session.pending

    def receive(self, data: bytes, now: float) -> list[MetaEvent]:
        self._raise_pending()
        self._session.feed(data)
        return self._process(now)

    def hand_out(self, invitation: str, node: str, data: bytes, now: float) -> None:
        """Answer `InvitationPresented`: the file of the invitation, which is for ``node``."""
        if self.step is not HostState.OUR_ANSWER:
            raise RuntimeError("nobody asked for a file")
        self.invitation, self.node = invitation, node
        for at in range(0, len(data), PIECE_SIZE):
            self._session.send_record(RECORD_DATA, data[at : at + PIECE_SIZE])
        self._session.send_record(RECORD_END, b"")
        self.step = HostState.KEY
        self._deadline = now + JOIN_SECONDS

    def proceed(self, now: float) -> list[MetaEvent]:
        """Answer `JoinerKeyReceived`: the key is in its place. The joiner closes the connection then."""
        self._raise_pending()
        if self.step is HostState.OUR_WORD:
            self._session.send_record(RECORD_ACCEPTED, b"")
            self.step = HostState.NOTHING
            self._deadline = now + self._ping_timeout
        return []

    def send(self, plain: bytes) -> None:
        raise RuntimeError("requests are sent on active connections only")

    def data_to_send(self) -> bytes:
        data, self._greeting = self._greeting, b""
        return data + self._session.data_to_send()

    def take_remaining(self) -> bytes:
        raise RuntimeError("nobody takes over an invitation's connection")

    def next_timeout(self) -> float:
        return -math.inf if self._error is not None else self._deadline

    # Inside

    def _step(self, events: list[MetaEvent], now: float) -> bool:
        event = self._session.next_event(now)
        if event is None:
            return False
        if isinstance(event, HandshakeFinished):
            if event.first:
                self.step = HostState.COOKIE
        elif self.step is HostState.COOKIE and event.kind == RECORD_DATA and len(event.data) == COOKIE_SIZE:
            self.step = HostState.OUR_ANSWER
            events.append(InvitationPresented(event.data))
        elif self.step is HostState.KEY and event.kind == RECORD_END:
            events.append(JoinerKeyReceived(_joiner_key(event.data.decode("latin-1"))))
            self.step = HostState.OUR_WORD
        else:
            raise PeerError(f"a joiner sends a record of type {event.kind} that does not belong here")
        return True


def _joiner_key(text: str) -> bytes:
    """A key is decoded and checked before it is used or stored (requirement 30)."""
    try:
        public = public_from_text(text)
        require_usable(public)
    except KeyFileError as error:
        raise PeerError(f"a joiner sends a bad key: {error}") from None
    return public
