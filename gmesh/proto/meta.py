"""The legacy meta connection without I/O: handshake, time-outs, requests (meta-legacy 3, 4, 9, 11).

Bytes go in by `receive`, events come out, bytes to send wait in a FIFO. Not here: sockets, what requests do, and which
of two connections to the same peer survives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from gmesh.crypto.nids import AES_256_CFB
from gmesh.crypto.rsa import RsaPrivateKey, RsaPublicKey
from gmesh.crypto.stream import STREAM_CIPHERS, MetaStream
from gmesh.errors import PeerError
from gmesh.proto.framing import LineFraming
from gmesh.proto.legacy_auth import Entropy, LegacyAuth
from gmesh.proto.meta_events import (
    Active,
    ControlRequested,
    FrameReceived,
    Identified,
    LineRejected,
    MetaEvent,
    PongReceived,
    RequestReceived,
    Verified,
)
from gmesh.proto.requests import (
    MAX_LINE,
    PROTOCOL_MAJOR,
    Ack,
    Challenge,
    ChallengeReply,
    Id,
    MetaKey,
    Packet,
    Ping,
    Pong,
    Request,
    TermReq,
    parse_request,
    request_number,
    request_title,
)
from gmesh.values import ETHERNET_HEADER, MTU

MAX_WAITING_INPUT = 2 * MAX_LINE
"""An honest peer sends one ACK at most while a verified handshake waits for `proceed`."""

MAX_UNSENT_PONGS = 65536
"""Bytes of unsent output above which a peer's PING is no longer answered but ends the connection."""

HIGHEST_REQUEST = Packet.NUMBER
_RELAYABLE = range(10, 17)
"""Gossip and key requests: a malformed one is its origin's fault, not that of the neighbour who passed it on."""

_ED25519_TEXT_LENGTH = 43

_HandshakeRequest = type[Id] | type[MetaKey] | type[Challenge] | type[ChallengeReply] | type[Ack]


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """What we need to know of a peer that says its name (meta-legacy 4.5, 6).

    ``options`` are the bits to send in our ACK. ``weight`` is the override of the option Weight in milliseconds, None
    for the measured time. ``clamp_mss`` is the peer's host file's ClampMSS, None where it has none.
    ``knows_ed25519`` says that the peer's Ed25519 key is on file; the legacy handshake does not look at it, since there
    is nothing better to fall back from.
    """

    public_key: RsaPublicKey
    options: int
    weight: int | None = None
    clamp_mss: bool | None = None
    knows_ed25519: bool = False


class _State(Enum):
    """What may arrive next."""

    ID = auto()
    METAKEY = auto()
    CHALLENGE = auto()
    CHAL_REPLY = auto()
    VERIFIED = auto()
    ACK = auto()
    ACTIVE = auto()
    CONTROL = auto()
    FAILED = auto()


class LegacyMeta:
    """One meta connection, from its first byte to its last.

    ``name`` is the peer's, empty until it is identified (the expected one before that, on outgoing connections).
    ``dropped_frames`` counts bodies of PACKET that were no possible frame.

    A PeerError from any method means: close the connection, for that reason. Events that were complete before the
    error are never lost: `receive` and `proceed` return them, and the error is raised by the next call of `receive`,
    `proceed` or `on_timeout`; `next_timeout` is in the past until then. After an error every further call raises it.
    """

    def __init__(
        self,
        *,
        outgoing: bool,
        my_name: str,
        private_key: RsaPrivateKey,
        expected_name: str = "",
        credentials: Callable[[str], PeerCredentials],
        entropy: Entropy,
        now: float,
        ping_interval: float,
        ping_timeout: float,
        meta_cipher: int = AES_256_CFB,
        port: str,
    ) -> None:
        """``credentials`` raises PeerError for an unknown name; times are seconds; ``port`` is ours, as text."""
        if meta_cipher not in STREAM_CIPHERS:
            raise ValueError(f"cipher {meta_cipher} cannot encrypt a meta connection")
        self.outgoing = outgoing
        self.name = expected_name
        self.dropped_frames = 0
        self._my_name = my_name
        self._private_key = private_key
        self._expected_name = expected_name
        self._find_credentials = credentials
        self._entropy = entropy
        self._meta_cipher = meta_cipher
        self._port = port
        self._started = now
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._last_ping = now
        self._ping_outstanding = False
        self._state = _State.ID
        self._framing = LineFraming()
        self._body_length: int | None = None
        self._output = bytearray()
        self._encryption: MetaStream | None = None
        self._error: PeerError | None = None
        self._credentials: PeerCredentials | None = None
        self._auth: LegacyAuth | None = None
        self._challenge: Challenge | None = None
        self._weight = 0
        if outgoing:
            self._send(Id(my_name))

    def __repr__(self) -> str:
        return f"LegacyMeta(name={self.name!r}, outgoing={self.outgoing}, state={self._state.name})"

    @property
    def active(self) -> bool:
        """Whether both ACKs are exchanged and requests may flow."""
        return self._state is _State.ACTIVE

    @property
    def credentials(self) -> PeerCredentials | None:
        """What was known of the peer when it said its name; None before that."""
        return self._credentials

    @property
    def pending(self) -> int:
        """Bytes that wait in `data_to_send`."""
        return len(self._output)

    # Input

    def receive(self, data: bytes, now: float) -> list[MetaEvent]:
        """Take bytes from the socket, in pieces of any size; returns what they completed. Raises PeerError."""
        self._raise_pending()
        try:
            self._framing.feed(data)
        except PeerError as error:
            self._fail(error)
            raise
        return self._process(now)

    def proceed(self, now: float) -> list[MetaEvent]:
        """Finish a verified handshake: send what is left to send and process what came meanwhile. Raises PeerError.

        Does nothing unless the connection is waiting at `Verified`.
        """
        self._raise_pending()
        if self._state is not _State.VERIFIED:
            return []
        auth, credentials = self._handshake()
        if not self.outgoing:
            # Only now: a stranger must not use us to answer its challenges (CVE-2018-16737, CVE-2018-16738).
            assert self._challenge is not None
            self._send(auth.answer(self._challenge))
        elapsed = max(0, min(int((now - self._started) * 1000), 2**31 - 1))
        self._weight = elapsed if credentials.weight is None else credentials.weight
        self._send(Ack(self._port, self._weight, credentials.options))
        self._state = _State.ACK
        return self._process(now)

    def take_remaining(self) -> bytes:
        """After `ControlRequested`: the bytes that followed the greeting and were not parsed here."""
        return self._framing.take_rest()

    # Output

    def send(self, plain: bytes) -> None:
        """Encrypt whole lines (with their newlines) and bodies into the FIFO; only on an active connection.

        Raises PeerError when the key's byte budget is used up.
        """
        if self._state is not _State.ACTIVE:
            raise RuntimeError("requests are sent on active connections only")
        self._put(plain)

    def data_to_send(self) -> bytes:
        """All bytes that are ready for the socket; they leave the FIFO."""
        data = bytes(self._output)
        self._output.clear()
        return data

    # Time

    def next_timeout(self) -> float:
        """When `on_timeout` wants to be called, in the time of ``now``; infinity for never."""
        if self._error is not None:
            return -math.inf
        if self._state is _State.CONTROL:
            return math.inf
        if self._state is _State.ACTIVE and not self._ping_outstanding:
            return self._last_ping + self._ping_interval
        return self._last_ping + self._ping_timeout

    def on_timeout(self, now: float) -> None:
        """Send a PING where one is due. Raises PeerError when the peer has been silent for too long."""
        self._raise_pending()
        if now < self.next_timeout():
            return
        if self._state is _State.ACTIVE and not self._ping_outstanding:
            self._ping(now)
            return
        reason = "no answer to PING" if self._state is _State.ACTIVE else "authentication takes too long"
        self._fail(PeerError(reason))
        self._raise_pending()

    def ping_now(self, now: float) -> None:
        """Ask an active peer at once whether it is there, unless a PING is on its way already."""
        if self._state is _State.ACTIVE and not self._ping_outstanding:
            self._ping(now)

    def _ping(self, now: float) -> None:
        self._last_ping = now
        self._ping_outstanding = True
        self._send(Ping())

    # Inside

    def _raise_pending(self) -> None:
        if self._error is not None:
            raise self._error

    def _fail(self, error: PeerError) -> None:
        self._error = error
        self._state = _State.FAILED

    def _send(self, request: Request) -> None:
        self._put(request.format().encode("ascii") + b"\n")

    def _put(self, plain: bytes) -> None:
        self._output += plain if self._encryption is None else self._encryption.process(plain)

    def _handshake(self) -> tuple[LegacyAuth, PeerCredentials]:
        assert self._auth is not None
        assert self._credentials is not None
        return self._auth, self._credentials

    def _process(self, now: float) -> list[MetaEvent]:
        events: list[MetaEvent] = []
        try:
            while self._step(events, now):
                pass
        except PeerError as error:
            self._fail(error)
            if not events:
                raise
        return events

    def _step(self, events: list[MetaEvent], now: float) -> bool:
        """Take one line or body from the input; False when there is none, or none that may be taken now."""
        if self._state is _State.VERIFIED:
            if len(self._framing) > MAX_WAITING_INPUT:
                raise PeerError("requests before the handshake was finished")
            return False
        if self._state is _State.CONTROL:
            return False
        if self._body_length is not None:
            return self._take_body(events, self._body_length)
        line = self._framing.take_line()
        if line is None:
            return False
        if self._state is _State.ACTIVE:
            self._active_line(events, line, now)
        else:
            self._handshake_line(events, line)
        return True

    def _take_body(self, events: list[MetaEvent], length: int) -> bool:
        body = self._framing.take_body(length)
        if body is None:
            return False
        self._body_length = None
        if ETHERNET_HEADER <= length <= MTU:
            events.append(FrameReceived(body))
        else:
            self.dropped_frames += 1
        return True

    def _handshake_line(self, events: list[MetaEvent], line: str) -> None:
        if self._state is _State.ID and self._is_special(events, line):
            return
        expected, handle = _HANDSHAKE[self._state]
        number = request_number(line)
        if number != expected.NUMBER:
            raise PeerError(f"{request_title(number)} where {request_title(expected.NUMBER)} is expected")
        if expected is Ack:
            self._refuse_upgrade(line)
        handle(self, events, parse_request(line))

    def _is_special(self, events: list[MetaEvent], line: str) -> bool:
        """Greetings that are no ID of a node: a control client's, an invited node's."""
        fields = line.split()
        if self.outgoing or len(fields) < 2 or fields[0] != "0":
            return False
        if fields[1].startswith("^"):
            if not line.isascii():
                raise PeerError("the cookie is no ASCII text")
            self._state = _State.CONTROL
            events.append(ControlRequested(fields[1][1:]))
            return True
        if fields[1].startswith("?"):
            raise PeerError("wants to join with an invitation, and this daemon takes none")
        return False

    def _refuse_upgrade(self, line: str) -> None:
        fields = line.split()
        if len(fields) == 2 and len(fields[1]) == _ED25519_TEXT_LENGTH:
            raise PeerError(
                f"{self.name} wants to upgrade to Ed25519 keys, which this daemon does not speak: set "
                f"ExperimentalProtocol = no in {self.name}'s tinc.conf"
            )

    def _on_id(self, events: list[MetaEvent], request: Id) -> None:
        if request.name == self._my_name:
            raise PeerError(f"the peer calls itself {request.name}, which is our own name")
        if self._expected_name and request.name != self._expected_name:
            raise PeerError(f"the peer is {request.name} instead of {self._expected_name}")
        if request.major != PROTOCOL_MAJOR:
            raise PeerError(f"{request.name} speaks protocol version {request.major} instead of {PROTOCOL_MAJOR}")
        self._credentials = self._find_credentials(request.name)
        self.name = request.name
        self._auth = LegacyAuth(self._private_key, self._credentials.public_key, self._entropy, self._meta_cipher)
        if not self.outgoing:
            self._send(Id(self._my_name))
        meta_key, stream = self._auth.make_meta_key()
        self._send(meta_key)
        self._encryption = stream
        self._state = _State.METAKEY
        events.append(Identified(request.name, request.minor or 0))

    def _on_meta_key(self, events: list[MetaEvent], request: MetaKey) -> None:
        auth, _ = self._handshake()
        self._framing.switch(auth.read_meta_key(request).process)
        self._send(auth.make_challenge())
        self._state = _State.CHALLENGE

    def _on_challenge(self, events: list[MetaEvent], request: Challenge) -> None:
        auth, _ = self._handshake()
        auth.check_challenge(request)
        if self.outgoing:
            self._send(auth.answer(request))
        else:
            self._challenge = request
        self._state = _State.CHAL_REPLY

    def _on_reply(self, events: list[MetaEvent], request: ChallengeReply) -> None:
        auth, _ = self._handshake()
        auth.verify(request)
        self._state = _State.VERIFIED
        events.append(Verified())

    def _on_ack(self, events: list[MetaEvent], request: Ack) -> None:
        _, credentials = self._handshake()
        self._state = _State.ACTIVE
        events.append(
            Active(
                name=self.name,
                port=request.port,
                weight_received=request.weight,
                weight_sent=self._weight,
                options_received=request.options,
                options_sent=credentials.options,
                clamp_mss=credentials.clamp_mss,
            )
        )

    def _active_line(self, events: list[MetaEvent], line: str, now: float) -> None:
        number = request_number(line)
        if number > HIGHEST_REQUEST:
            events.append(LineRejected(line, f"unknown request {number}"))
            return
        if number in _RELAYABLE:
            try:
                events.append(RequestReceived(parse_request(line), line))
            except PeerError as error:
                events.append(LineRejected(line, str(error)))
            return
        if number <= Ack.NUMBER:
            raise PeerError(f"{request_title(number)} on a connection that is already active")
        request = parse_request(line)
        if isinstance(request, Packet):
            self._body_length = request.length
        elif isinstance(request, Ping):
            if len(self._output) > MAX_UNSENT_PONGS:
                raise PeerError("the peer sends PINGs and does not read the answers")
            self._send(Pong())
        elif isinstance(request, Pong):
            if self._ping_outstanding:
                self._ping_outstanding = False
                events.append(PongReceived(max(0.0, now - self._last_ping)))
        elif isinstance(request, TermReq):
            raise PeerError("the peer asks to end the connection")


_HANDSHAKE: dict[_State, tuple[_HandshakeRequest, Callable[[LegacyMeta, list[MetaEvent], Any], None]]] = {
    _State.ID: (Id, LegacyMeta._on_id),
    _State.METAKEY: (MetaKey, LegacyMeta._on_meta_key),
    _State.CHALLENGE: (Challenge, LegacyMeta._on_challenge),
    _State.CHAL_REPLY: (ChallengeReply, LegacyMeta._on_reply),
    _State.ACK: (Ack, LegacyMeta._on_ack),
}
"""The order of the handshake, the same for both ends (meta-legacy 3): what is expected, and what happens then."""
