"""Sessions of SPTPS without I/O: handshake and records together, and those over a stream (sptps 2.1, 5).

`StreamSession` is for meta connections and invitations: every error is the end. Not here: sessions over datagrams
(`sptps_datagram.py`), who a session is with, and what records mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.errors import DatagramError, PeerError
from gmesh.proto.sptps_flow import (
    APPLICATION_RECORDS,
    HANDSHAKE_RECORD,
    LAST_NUMBER,
    TAG_SIZE,
    WORN_NUMBER,
)
from gmesh.proto.sptps_handshake import (
    KEX_SIZE,
    ConfirmReceiveKey,
    Entropy,
    Handshake,
    HandshakeFinished,
    HandshakeState,
    RecordCipher,
    RecordSuite,
    SendHandshake,
    StageReceiveKey,
    Step,
    UseSendKey,
    tinc_only,
)

HANDSHAKE_SECONDS = 10.0
"""A handshake that takes longer has lost a message, and there is no way to ask for it again."""

MAX_DATA = 65535
RENEWAL_BURST = 8
RENEWAL_SECONDS = 1.0
"""So many renewals may the peer begin at once, and one more after each such time. Each costs us a signature."""

_LENGTH_SIZE = 2


@dataclass(frozen=True, slots=True)
class Record:
    """An application record; ``kind`` is 0 to 127."""

    kind: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HandshakeStalled:
    """A handshake was not finished in time. Only a new session helps; the keys in force still work until then."""


StreamEvent = Record | HandshakeFinished
SptpsEvent = StreamEvent | HandshakeStalled


class Session:
    """What both kinds have in common: a handshake and how long it may take."""

    def __init__(self, handshake: Handshake, error: type[PeerError] | type[DatagramError], now: float) -> None:
        self._handshake = handshake
        self._session_error = error
        self._deadline = math.inf
        self._renewals_paid_until = now

    @property
    def established(self) -> bool:
        """Whether the first handshake is finished, so that records can be sent."""
        return self._handshake.established

    @property
    def renewing(self) -> bool:
        """Whether a handshake is under way."""
        return self._handshake.state is not HandshakeState.READY

    @property
    def initiator(self) -> bool:
        return self._handshake.initiator

    def next_timeout(self) -> float:
        """When `on_timeout` wants to be called, in the time of ``now``; infinity for never."""
        return self._deadline

    def on_timeout(self, now: float) -> list[SptpsEvent]:
        """`HandshakeStalled`, once for each handshake that takes too long."""
        if now < self._deadline:
            return []
        self._deadline = math.inf
        self._give_up()
        return [HandshakeStalled()]

    def _give_up(self) -> None:
        """The handshake under way will not be finished."""

    def _take_handshake(self, data: bytes, now: float) -> list[Step]:
        """Hand a handshake record on, unless it begins one renewal of too many."""
        if self._handshake.state is not HandshakeState.READY:
            return self._handshake.receive(data)
        paid_until = max(self._renewals_paid_until, now)
        if paid_until - now > (RENEWAL_BURST - 1) * RENEWAL_SECONDS:
            raise self._session_error("the peer renews its keys all the time")
        steps = self._handshake.receive(data)
        self._renewals_paid_until = paid_until + RENEWAL_SECONDS
        return steps

    def _watch(self, now: float) -> None:
        if not self.renewing:
            self._deadline = math.inf
        elif self._deadline == math.inf:
            self._deadline = now + HANDSHAKE_SECONDS


class StreamSession(Session):
    """A session over an ordered byte stream. Raises PeerError, after which nothing works any more."""

    def __init__(
        self,
        *,
        initiator: bool,
        private_key: Ed25519PrivateKey,
        peer_public: bytes,
        label: bytes,
        entropy: Entropy,
        now: float,
        max_data: int = MAX_DATA,
        make_nonce: Callable[[], bytes] | None = None,
        choose_suite: Callable[[bytes, bytes], RecordSuite] = tinc_only,
    ) -> None:
        """Keys and label as in sptps 1; ``max_data`` bounds what a record may announce once it is encrypted."""
        super().__init__(
            Handshake(
                initiator=initiator,
                private_key=private_key,
                peer_public=peer_public,
                label=label,
                entropy=entropy,
                error=PeerError,
                make_nonce=make_nonce,
                choose_suite=choose_suite,
            ),
            PeerError,
            now,
        )
        self._max_data = max_data
        self._input = bytearray()
        self._start = 0
        self._output = bytearray()
        self._sending: RecordCipher | None = None
        self._receiving: RecordCipher | None = None
        self._staged: RecordCipher | None = None
        self._next_sent = 0
        self._next_received = 0
        self._error: PeerError | None = None
        self._perform(self._handshake.start(), now)

    def __repr__(self) -> str:
        return f"StreamSession({self._handshake!r})"

    @property
    def waiting_input(self) -> int:
        """Bytes that were fed and not yet taken."""
        return len(self._input) - self._start

    @property
    def pending(self) -> int:
        """Bytes that wait in `data_to_send`."""
        return len(self._output)

    @property
    def worn(self) -> bool:
        """Whether so many records went by that the stream itself has to be replaced before the numbers end."""
        return max(self._next_sent, self._next_received) > WORN_NUMBER

    def receive(self, data: bytes, now: float) -> list[SptpsEvent]:
        """Take bytes in pieces of any size; returns what they completed.

        An error behind complete records is raised by the next call, so that none of them is lost.
        """
        self.feed(data)
        events: list[SptpsEvent] = []
        try:
            while (event := self.next_event(now)) is not None:
                events.append(event)
        except PeerError:
            if not events:
                raise
        return events

    def feed(self, data: bytes) -> None:
        """Store bytes for `next_event` and `take_raw`."""
        if self._error is not None:
            raise self._error
        if self._start:
            del self._input[: self._start]
            self._start = 0
        self._input += data

    def next_event(self, now: float) -> StreamEvent | None:
        """Take records up to the first event; None when more bytes are needed."""
        if self._error is not None:
            raise self._error
        try:
            while (record := self._take_record()) is not None:
                kind, data = record
                if kind < APPLICATION_RECORDS:
                    if self._receiving is None:
                        raise PeerError("an application record before the handshake was finished")
                    return Record(kind, data)
                if kind != HANDSHAKE_RECORD:
                    raise PeerError(f"a record of the unknown type {kind}")
                event = self._perform(self._take_handshake(data, now), now)
                if event is not None:
                    return event
        except PeerError as error:
            self._error = error
            raise
        return None

    def take_raw(self, length: int) -> bytes | None:
        """The next bytes of the stream as they are, outside of all records; None while some are missing."""
        if self.waiting_input < length:
            return None
        raw = bytes(self._input[self._start : self._start + length])
        self._start += length
        return raw

    def send_record(self, kind: int, data: bytes) -> None:
        """Append an application record to the output. Raises PeerError when the record numbers are used up."""
        if not self.established:
            raise RuntimeError("records are sent after the first handshake only")
        if not 0 <= kind < APPLICATION_RECORDS or len(data) > MAX_DATA:
            raise ValueError("no application record")
        self._send(kind, data)

    def send_raw(self, data: bytes) -> None:
        """Append bytes outside of all records (meta-sptps 6)."""
        self._output += data

    def data_to_send(self) -> bytes:
        """All bytes that are ready; they leave the output."""
        data = bytes(self._output)
        self._output.clear()
        return data

    def renew(self, now: float) -> None:
        """Begin to renew the keys; nothing happens while a handshake is under way."""
        self._perform(self._handshake.start(), now)

    def _take_record(self) -> tuple[int, bytes] | None:
        if self.waiting_input < _LENGTH_SIZE:
            return None
        at = self._start + _LENGTH_SIZE
        length = int.from_bytes(self._input[self._start : at], "big")
        cipher = self._receiving
        # Strangers must not make us wait for more than a handshake can need.
        if length > (KEX_SIZE if cipher is None else self._max_data):
            raise PeerError(f"a record of {length} bytes is too long")
        end = at + 1 + length + (0 if cipher is None else TAG_SIZE)
        if len(self._input) < end:
            return None
        number = self._next_received
        if number > LAST_NUMBER:
            raise PeerError("the record numbers of the peer are used up")
        record: bytes | None = bytes(self._input[at:end])
        if cipher is not None and record is not None:
            record = cipher.open(number, record)
        if record is None:
            raise PeerError("a record is not authentic")
        self._next_received = number + 1
        self._start = end
        return record[0], record[1:]

    def _send(self, kind: int, data: bytes) -> None:
        number = self._next_sent
        if number > LAST_NUMBER:
            raise PeerError("the record numbers of the connection are used up")
        self._next_sent = number + 1
        record = bytes((kind,)) + data
        self._output += len(data).to_bytes(_LENGTH_SIZE, "big")
        self._output += record if self._sending is None else self._sending.seal(number, record)

    def _perform(self, steps: list[Step], now: float) -> HandshakeFinished | None:
        finished = None
        for step in steps:
            match step:
                case SendHandshake():
                    self._send(HANDSHAKE_RECORD, step.data)
                case UseSendKey():
                    self._sending = step.key.cipher()
                case StageReceiveKey():
                    self._staged = step.key.cipher()
                case ConfirmReceiveKey():
                    self._receiving, self._staged = self._staged, None
                case HandshakeFinished():
                    finished = step
        self._watch(now)
        return finished
