"""The joiner's end of an invitation's conversation (invitations 4). Not here: sockets, and what becomes of the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

from gmesh.crypto.ed25519 import SEED_SIZE, Ed25519PrivateKey, public_from_text, public_to_text, require_usable
from gmesh.errors import KeyFileError, PeerError
from gmesh.proto.framing import LineFraming
from gmesh.proto.invitation import MAX_FILE, RECORD_ACCEPTED, RECORD_DATA, RECORD_END, InvitationUrl, key_hash
from gmesh.proto.requests import PROTOCOL_MAJOR, Ack, Id, parse_request, request_number
from gmesh.proto.sptps import Record, StreamSession
from gmesh.proto.sptps_handshake import INVITATION_LABEL, Entropy, HandshakeFinished

GREETING_MINOR = 1
"""What tinc's join says; nobody looks at it."""


class GuestState(Enum):
    """What the inviter says next."""

    GREETING = auto()
    KEY = auto()
    HANDSHAKE = auto()
    FILE = auto()
    OUR_TURN = auto()
    ACCEPTED = auto()
    DONE = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Greeted:
    """The node that answers holds the key that the URL names."""

    inviter: str


@dataclass(frozen=True, slots=True)
class InvitationReceived:
    """The whole file. `InvitationGuest.send_key` comes next, and soon: tinc's inviter waits 5 s in all."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class InvitationAccepted:
    """The inviter has our key; the connection may be closed."""


GuestEvent = Greeted | InvitationReceived | InvitationAccepted


class InvalidKeyError(PeerError):
    """The inviter is not who the URL means; ``key`` is the text that it said."""

    def __init__(self, key: str) -> None:
        super().__init__("Peer has an invalid key. Please make sure you're using the correct URL.")
        self.key = key


class InvitationGuest:
    """One connection to the inviter. Everything raises PeerError, after which nothing works any more."""

    def __init__(self, url: InvitationUrl, entropy: Entropy) -> None:
        self.state = GuestState.GREETING
        self.inviter = ""
        self._url = url
        self._entropy = entropy
        # For this connection only: the cookie is what says who we are.
        self._key = Ed25519PrivateKey.from_seed(entropy(SEED_SIZE))
        self._framing = LineFraming()
        self._session: StreamSession | None = None
        self._file = bytearray()
        greeting = f"{Id.NUMBER} ?{public_to_text(self._key.public)} {PROTOCOL_MAJOR}.{GREETING_MINOR}\n"
        self._output = greeting.encode("ascii")

    def data_to_send(self) -> bytes:
        """All bytes that are ready; they leave the output."""
        data, self._output = self._output, b""
        return data if self._session is None else data + self._session.data_to_send()

    def receive(self, data: bytes, now: float) -> list[GuestEvent]:
        """Take bytes in pieces of any size. An error behind complete events is raised by the next call."""
        events: list[GuestEvent] = []
        try:
            if self.state is GuestState.FAILED:
                raise PeerError("the conversation has failed before")
            if self._session is None:
                self._framing.feed(data)
                while self._session is None and (line := self._framing.take_line()) is not None:
                    self._take_line(line, events, now)
                data = self._framing.take_rest() if self._session is not None else b""
            if self._session is not None:
                self._session.feed(data)
                while (event := self._session.next_event(now)) is not None:
                    self._take_event(event, events)
        except PeerError:
            self.state = GuestState.FAILED
            if not events:
                raise
        return events

    def send_key(self, public: bytes) -> None:
        """Answer `InvitationReceived`: the key of the new node, 32 bytes."""
        if self.state is not GuestState.OUR_TURN or self._session is None:
            raise RuntimeError("it is not our turn")
        self._session.send_record(RECORD_END, public_to_text(public).encode("ascii"))
        self.state = GuestState.ACCEPTED

    def _take_line(self, line: str, events: list[GuestEvent], now: float) -> None:
        if self.state is GuestState.GREETING:
            if request_number(line) != Id.NUMBER:
                raise PeerError("the peer does not greet as a tinc daemon does")
            greeting = parse_request(line)
            assert isinstance(greeting, Id)
            if greeting.major != PROTOCOL_MAJOR:
                raise PeerError(f"the peer speaks protocol version {greeting.major} instead of {PROTOCOL_MAJOR}")
            self.inviter = greeting.name
            self.state = GuestState.KEY
            return
        words = line.split()
        if len(words) < 2 or words[0] != str(Ack.NUMBER):
            raise PeerError("the peer does not say its invitation key")
        self._session = self._open_session(words[1], now)
        self.state = GuestState.HANDSHAKE
        events.append(Greeted(self.inviter))

    def _open_session(self, text: str, now: float) -> StreamSession:
        try:
            public = public_from_text(text)
            require_usable(public)
        except KeyFileError:
            raise InvalidKeyError(text) from None
        # Other texts give the same bytes, so what counts is the hash of the one text that we would write.
        if key_hash(public) != self._url.key_hash or public_to_text(public) != text:
            raise InvalidKeyError(text)
        return StreamSession(
            initiator=True,
            private_key=self._key,
            peer_public=public,
            label=INVITATION_LABEL,
            entropy=self._entropy,
            now=now,
        )

    def _take_event(self, event: Record | HandshakeFinished, events: list[GuestEvent]) -> None:
        assert self._session is not None
        if isinstance(event, HandshakeFinished):
            if event.first:
                self._session.send_record(RECORD_DATA, self._url.cookie)
                self.state = GuestState.FILE
            return
        expected = (self.state, event.kind)
        if expected == (GuestState.FILE, RECORD_DATA):
            if len(self._file) + len(event.data) > MAX_FILE:
                raise PeerError(f"the invitation is larger than {MAX_FILE // 1024} KiB")
            self._file += event.data
        elif expected == (GuestState.FILE, RECORD_END):
            self.state = GuestState.OUR_TURN
            events.append(InvitationReceived(bytes(self._file)))
        elif expected == (GuestState.ACCEPTED, RECORD_ACCEPTED):
            self.state = GuestState.DONE
            events.append(InvitationAccepted())
        else:
            raise PeerError(f"a record of type {event.kind} that does not belong here")
