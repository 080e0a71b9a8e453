"""The meta connection of tinc 1.1 after the IDs: SPTPS, ACK, and every request in a record (meta-sptps 3, 5, 6).

Same face as the legacy connection, so that nobody above has to ask which it is. Not here: the IDs and the choice of the
handshake (`meta_start.py`), and what requests do.
"""

from __future__ import annotations

import math

from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.errors import PeerError
from gmesh.proto.meta_base import MAX_WAITING_INPUT, MetaConnection, MetaState, PeerCredentials
from gmesh.proto.meta_events import (
    DatagramReceived,
    FrameReceived,
    InfoReceived,
    LineRejected,
    MetaEvent,
    Verified,
)
from gmesh.proto.requests import MAX_LINE, Ack, Packet, Request, parse_request, request_number, request_title
from gmesh.proto.requests_11 import HIGHEST_REQUEST, IDS_SIZE, NODE_ID_SIZE, SptpsPacket, parse_newer
from gmesh.proto.sptps import StreamSession
from gmesh.proto.sptps_handshake import WRONG_SIGNATURE, Entropy, HandshakeFinished, meta_label
from gmesh.values import ETHERNET_HEADER, MTU

REQUEST_RECORD = 0
RENEWAL_SECONDS = 3600.0
"""The keys of a meta connection are renewed that often (requirement 3); tinc never begins, but answers."""

_RESPONDER_WAITS = 1.1
"""The responder renews a little later, so that two gmesh nodes do not both begin."""


class SptpsMeta(MetaConnection):
    """A meta connection with Ed25519 keys, from behind the IDs on."""

    HIGHEST_REQUEST = HIGHEST_REQUEST

    def __init__(
        self,
        *,
        outgoing: bool,
        my_name: str,
        private_key: Ed25519PrivateKey,
        name: str,
        credentials: PeerCredentials,
        entropy: Entropy,
        now: float,
        started: float,
        ping_interval: float,
        ping_timeout: float,
        port: str,
        renewal_seconds: float = RENEWAL_SECONDS,
    ) -> None:
        """``credentials`` are those of the identified peer ``name``, its Ed25519 key among them.

        The time for authentication and the weight count from ``started``.
        """
        super().__init__(
            outgoing=outgoing, name=name, now=started, ping_interval=ping_interval, ping_timeout=ping_timeout
        )
        if credentials.ed25519 is None:
            raise ValueError("SPTPS needs the peer's Ed25519 key")
        self._credentials = credentials
        self._port = port
        self._weight = 0
        self._renewal_seconds = renewal_seconds * (1 if outgoing else _RESPONDER_WAITS)
        self._renew_at = math.inf
        self._body_length: int | None = None
        self._raw_length: int | None = None
        self._state = MetaState.SPTPS
        initiator, responder = (my_name, name) if outgoing else (name, my_name)
        self._session = StreamSession(
            initiator=outgoing,
            private_key=private_key,
            peer_public=credentials.ed25519,
            label=meta_label(initiator, responder),
            entropy=entropy,
            now=now,
        )

    @property
    def sptps(self) -> bool:
        return True

    @property
    def pending(self) -> int:
        return self._session.pending

    def receive(self, data: bytes, now: float) -> list[MetaEvent]:
        self._raise_pending()
        self._session.feed(data)
        return self._process(now)

    def proceed(self, now: float) -> list[MetaEvent]:
        self._raise_pending()
        if self._state is not MetaState.VERIFIED:
            return []
        self._weight = self._weight_since_start(now)
        self._send(Ack(self._port, self._weight, self._known.options))
        self._state = MetaState.ACK
        return self._process(now)

    def send(self, plain: bytes) -> None:
        """Whole lines and bodies, as on a legacy connection: each becomes a record, a body of SPTPS_PACKET goes raw."""
        if self._state is not MetaState.ACTIVE:
            raise RuntimeError("requests are sent on active connections only")
        at = 0
        while at < len(plain):
            end = plain.index(b"\n", at) + 1
            line = plain[at:end]
            self._session.send_record(REQUEST_RECORD, line)
            at = end
            if line.startswith((_PACKET_PREFIX, _RAW_PREFIX)):
                at = end + int(line[len(_PACKET_PREFIX) :])
                if at > len(plain):
                    raise ValueError("a body is cut off")
                if line.startswith(_PACKET_PREFIX):
                    self._session.send_record(REQUEST_RECORD, plain[end:at])
                else:
                    self._session.send_raw(plain[end:at])

    def data_to_send(self) -> bytes:
        return self._session.data_to_send()

    def next_timeout(self) -> float:
        own = super().next_timeout()
        return own if self._error is not None else min(own, self._renew_at, self._session.next_timeout())

    def on_timeout(self, now: float) -> None:
        """Also renews the keys when that is due. Raises PeerError likewise when a renewal gets no answer."""
        self._raise_pending()
        if self._session.on_timeout(now):
            self._fail(PeerError("a handshake takes too long"))
        elif self._session.worn:
            # Renewal goes on counting records, only a new connection starts again.
            self._fail(PeerError("so many records went by that the connection has to be made anew"))
        self._raise_pending()
        if now >= self._renew_at:
            self._renew_at = math.inf
            self._session.renew(now)
        if now >= super().next_timeout():
            super().on_timeout(now)

    # Inside

    def _send(self, request: Request) -> None:
        self._session.send_record(REQUEST_RECORD, request.format().encode("ascii") + b"\n")

    def _step(self, events: list[MetaEvent], now: float) -> bool:
        if self._state is MetaState.VERIFIED:
            if self._session.waiting_input > MAX_WAITING_INPUT:
                raise PeerError("requests before the handshake was finished")
            return False
        if self._raw_length is not None:
            return self._take_raw(events, self._raw_length)
        try:
            event = self._session.next_event(now)
        except PeerError as error:
            if str(error) != WRONG_SIGNATURE:
                raise
            advice = f"compare hosts/{self.name} here with {self.name}'s own, as its key may have changed"
            raise PeerError(f"{error}: {advice}, and hosts/ there with ours") from None
        if event is None:
            return False
        if isinstance(event, HandshakeFinished):
            self._on_keys(events, event, now)
            return True
        if event.kind != REQUEST_RECORD:
            raise PeerError(f"a record of type {event.kind} where a request is expected")
        if self._body_length is not None:
            self._take_body(events, event.data, self._body_length)
            return True
        line = _line(event.data)
        if self._state is MetaState.ACTIVE:
            self._active_line(events, line, now)
        else:
            self._on_ack(events, line, now)
        return True

    def _on_keys(self, events: list[MetaEvent], event: HandshakeFinished, now: float) -> None:
        if event.first:
            self._state = MetaState.VERIFIED
            events.append(Verified())
        if self._state is MetaState.ACTIVE:
            self._renew_at = now + self._renewal_seconds

    def _on_ack(self, events: list[MetaEvent], line: str, now: float) -> None:
        number = request_number(line)
        if number != Ack.NUMBER:
            raise PeerError(f"{request_title(number)} where {request_title(Ack.NUMBER)} is expected")
        request = parse_request(line)
        assert isinstance(request, Ack)
        self._renew_at = now + self._renewal_seconds
        self._activate(events, request, self._weight)

    def _expect_body(self, length: int) -> None:
        self._body_length = length

    def _take_body(self, events: list[MetaEvent], body: bytes, length: int) -> None:
        self._body_length = None
        if len(body) != length:
            raise PeerError(f"a packet of {len(body)} bytes where {length} were announced")
        if ETHERNET_HEADER <= length <= MTU:
            events.append(FrameReceived(body))
        else:
            self.dropped_frames += 1

    def _newer_line(self, events: list[MetaEvent], line: str, number: int) -> None:
        try:
            request = parse_newer(line, number)
        except PeerError as error:
            if number == SptpsPacket.NUMBER:
                # What follows could not be told from records any more.
                raise
            events.append(LineRejected(line, str(error)))
            return
        if request is None:
            events.append(LineRejected(line, f"unknown request {number}"))
        elif isinstance(request, SptpsPacket):
            self._raw_length = request.length
        else:
            events.append(InfoReceived(request, line))

    def _take_raw(self, events: list[MetaEvent], length: int) -> bool:
        raw = self._session.take_raw(length)
        if raw is None:
            return False
        self._raw_length = None
        events.append(DatagramReceived(raw[:NODE_ID_SIZE], raw[NODE_ID_SIZE:IDS_SIZE], raw[IDS_SIZE:]))
        return True


_PACKET_PREFIX = f"{Packet.NUMBER} ".encode("ascii")
_RAW_PREFIX = f"{SptpsPacket.NUMBER} ".encode("ascii")


def _line(data: bytes) -> str:
    """The line of a record, its newline taken off."""
    if not data or data == b"\n":
        raise PeerError("an empty request")
    if len(data) > MAX_LINE:
        raise PeerError(f"a line is longer than {MAX_LINE} bytes")
    return data.removesuffix(b"\n").decode("latin-1")
