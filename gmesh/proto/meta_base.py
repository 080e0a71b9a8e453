"""What every meta connection does, however it authenticates: PINGs, time-outs, requests once it is active.

The handshakes are in `meta.py` (legacy), `meta_sptps.py` (SPTPS) and `meta_upgrade.py` (from the one to the other);
`meta_start.py` chooses among them. Not here: bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto

from gmesh.crypto.rsa import RsaPublicKey
from gmesh.errors import PeerError
from gmesh.proto.meta_events import Active, LineRejected, MetaEvent, PongReceived, RequestReceived
from gmesh.proto.requests import (
    MAX_LINE,
    Ack,
    Packet,
    Ping,
    Pong,
    Request,
    TermReq,
    parse_request,
    request_number,
    request_title,
)

MAX_WAITING_INPUT = 2 * MAX_LINE
"""An honest peer sends one ACK at most while a verified handshake waits for `proceed`."""

MAX_UNSENT_PONGS = 65536
"""Bytes of unsent output above which a peer's PING is no longer answered but ends the connection."""

_RELAYABLE = range(10, 17)
"""Gossip and key requests: a malformed one is its origin's fault, not that of the neighbour who passed it on."""


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """What we need to know of a peer that says its name (meta-legacy 4.5, 6).

    ``public_key`` is None where no RSA key is on file, ``ed25519`` likewise; the latter's bytes come from the file
    ``ed25519_file``. ``options`` are the bits to send in our ACK. ``weight`` is the override of the option Weight in
    milliseconds, None for the measured time. ``clamp_mss`` is the peer's host file's ClampMSS, None where it has none.
    """

    public_key: RsaPublicKey | None
    options: int
    weight: int | None = None
    clamp_mss: bool | None = None
    ed25519: bytes | None = None
    ed25519_file: str = ""


class MetaState(Enum):
    """What may arrive next."""

    ID = auto()
    METAKEY = auto()
    CHALLENGE = auto()
    CHAL_REPLY = auto()
    SPTPS = auto()
    VERIFIED = auto()
    ACK = auto()
    UPGRADED = auto()
    ACTIVE = auto()
    CONTROL = auto()
    FAILED = auto()


class MetaConnection:
    """One meta connection, from its first byte to its last.

    ``name`` is the peer's, empty until it is identified (the expected one before that, on outgoing connections).
    ``dropped_frames`` counts bodies of PACKET that were no possible frame.

    A PeerError from any method means: close the connection, for that reason. Events that were complete before the
    error are never lost: `receive` and `proceed` return them, and the error is raised by the next call of `receive`,
    `proceed` or `on_timeout`; `next_timeout` is in the past until then. After an error every further call raises it.
    """

    HIGHEST_REQUEST = Packet.NUMBER
    """Greater numbers are no requests of this generation."""

    def __init__(self, *, outgoing: bool, name: str, now: float, ping_interval: float, ping_timeout: float) -> None:
        """Times are seconds."""
        self.outgoing = outgoing
        self.name = name
        self.dropped_frames = 0
        self._started = now
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._last_ping = now
        self._ping_outstanding = False
        self._state = MetaState.ID
        self._error: PeerError | None = None
        self._credentials: PeerCredentials | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, outgoing={self.outgoing}, state={self._state.name})"

    @property
    def active(self) -> bool:
        """Whether both ACKs are exchanged and requests may flow."""
        return self._state is MetaState.ACTIVE

    @property
    def sptps(self) -> bool:
        """Whether requests travel in SPTPS records."""
        return False

    @property
    def credentials(self) -> PeerCredentials | None:
        """What was known of the peer when it said its name; None before that."""
        return self._credentials

    @property
    def pending(self) -> int:
        """Bytes that wait in `data_to_send`."""
        raise NotImplementedError

    def receive(self, data: bytes, now: float) -> list[MetaEvent]:
        """Take bytes from the socket, in pieces of any size; returns what they completed. Raises PeerError."""
        raise NotImplementedError

    def proceed(self, now: float) -> list[MetaEvent]:
        """Finish a verified handshake: send what is left to send and process what came meanwhile. Raises PeerError.

        Does nothing unless the connection is waiting at `Verified`.
        """
        raise NotImplementedError

    def send(self, plain: bytes) -> None:
        """Encrypt whole lines (with their newlines) and bodies into the FIFO; only on an active connection.

        Raises PeerError when the key can encrypt no more.
        """
        raise NotImplementedError

    def data_to_send(self) -> bytes:
        """All bytes that are ready for the socket; they leave the FIFO."""
        raise NotImplementedError

    def take_remaining(self) -> bytes:
        """After `ControlRequested` or `InvitationRequested`: the bytes that followed the greeting, not parsed here."""
        raise NotImplementedError

    # Time

    def next_timeout(self) -> float:
        """When `on_timeout` wants to be called, in the time of ``now``; infinity for never."""
        if self._error is not None:
            return -math.inf
        if self._state is MetaState.CONTROL:
            return math.inf
        if self._state is MetaState.ACTIVE and not self._ping_outstanding:
            return self._last_ping + self._ping_interval
        return self._last_ping + self._ping_timeout

    def on_timeout(self, now: float) -> None:
        """Send a PING where one is due. Raises PeerError when the peer has been silent for too long."""
        self._raise_pending()
        if now < self.next_timeout():
            return
        if self._state is MetaState.ACTIVE and not self._ping_outstanding:
            self._ping(now)
            return
        reason = "no answer to PING" if self._state is MetaState.ACTIVE else "authentication takes too long"
        self._fail(PeerError(reason))
        self._raise_pending()

    def ping_now(self, now: float) -> None:
        """Ask an active peer at once whether it is there, unless a PING is on its way already."""
        if self._state is MetaState.ACTIVE and not self._ping_outstanding:
            self._ping(now)

    def _ping(self, now: float) -> None:
        self._last_ping = now
        self._ping_outstanding = True
        self._send(Ping())

    # Inside

    def _send(self, request: Request) -> None:
        raise NotImplementedError

    def _step(self, events: list[MetaEvent], now: float) -> bool:
        """Take one piece of the input; False when there is none, or none that may be taken now."""
        raise NotImplementedError

    def _raise_pending(self) -> None:
        if self._error is not None:
            raise self._error

    def _fail(self, error: PeerError) -> None:
        self._error = error
        self._state = MetaState.FAILED

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

    def _weight_since_start(self, now: float) -> int:
        """The weight of our ACK: milliseconds since the connection was started, or what is configured."""
        elapsed = max(0, min(int((now - self._started) * 1000), 2**31 - 1))
        return elapsed if self._known.weight is None else self._known.weight

    @property
    def _known(self) -> PeerCredentials:
        """The credentials, once there are some."""
        assert self._credentials is not None
        return self._credentials

    def _activate(self, events: list[MetaEvent], ack: Ack, weight_sent: int) -> None:
        """The peer's ACK is there, and ours is sent."""
        self._state = MetaState.ACTIVE
        events.append(
            Active(
                name=self.name,
                port=ack.port,
                weight_received=ack.weight,
                weight_sent=weight_sent,
                options_received=ack.options,
                options_sent=self._known.options,
                clamp_mss=self._known.clamp_mss,
            )
        )

    def _active_line(self, events: list[MetaEvent], line: str, now: float) -> None:
        number = request_number(line)
        if number > self.HIGHEST_REQUEST:
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
        if number > Packet.NUMBER:
            self._newer_line(events, line, number)
            return
        request = parse_request(line)
        if isinstance(request, Packet):
            self._expect_body(request.length)
        elif isinstance(request, Ping):
            if self.pending > MAX_UNSENT_PONGS:
                raise PeerError("the peer sends PINGs and does not read the answers")
            self._send(Pong())
        elif isinstance(request, Pong):
            if self._ping_outstanding:
                self._ping_outstanding = False
                events.append(PongReceived(max(0.0, now - self._last_ping)))
        elif isinstance(request, TermReq):
            raise PeerError("the peer asks to end the connection")

    def _expect_body(self, length: int) -> None:
        """PACKET was read: its body of this length comes next."""
        raise NotImplementedError

    def _newer_line(self, events: list[MetaEvent], line: str, number: int) -> None:
        """A request above PACKET, where `HIGHEST_REQUEST` allows for it."""
        raise NotImplementedError
