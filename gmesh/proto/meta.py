"""The legacy meta connection after the IDs, without I/O: handshake, time-outs, requests (meta-legacy 3, 4, 9, 11).

Bytes go in by `receive`, events come out, bytes to send wait in a FIFO. Not here: the IDs and the choice of the
handshake (`meta_start.py`), sockets, what requests do, and which of two connections to the same peer survives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmesh.crypto.ed25519 import PUBLIC_TEXT_LENGTH
from gmesh.crypto.nids import AES_256_CFB
from gmesh.crypto.rsa import RsaPrivateKey
from gmesh.crypto.stream import STREAM_CIPHERS, MetaStream
from gmesh.errors import PeerError
from gmesh.proto.framing import LineFraming
from gmesh.proto.legacy_auth import Entropy, LegacyAuth
from gmesh.proto.meta_base import (
    MAX_WAITING_INPUT,
    MetaConnection,
    MetaState,
    PeerCredentials,
)
from gmesh.proto.meta_events import FrameReceived, MetaEvent, Verified
from gmesh.proto.requests import (
    Ack,
    Challenge,
    ChallengeReply,
    MetaKey,
    Request,
    parse_request,
    request_number,
    request_title,
)
from gmesh.values import ETHERNET_HEADER, MTU

_HandshakeRequest = type[MetaKey] | type[Challenge] | type[ChallengeReply] | type[Ack]


class LegacyMeta(MetaConnection):
    """A meta connection with RSA keys, from behind the IDs on."""

    def __init__(
        self,
        *,
        outgoing: bool,
        my_name: str,
        private_key: RsaPrivateKey,
        name: str,
        credentials: PeerCredentials,
        entropy: Entropy,
        started: float,
        ping_interval: float,
        ping_timeout: float,
        meta_cipher: int = AES_256_CFB,
        port: str,
    ) -> None:
        """``credentials`` are those of the identified peer ``name``, its RSA key among them.

        Times are seconds; the time for authentication and the weight count from ``started``. ``port`` is ours, as text.
        """
        if meta_cipher not in STREAM_CIPHERS:
            raise ValueError(f"cipher {meta_cipher} cannot encrypt a meta connection")
        if credentials.public_key is None:
            raise ValueError("the legacy handshake needs the peer's RSA key")
        super().__init__(
            outgoing=outgoing, name=name, now=started, ping_interval=ping_interval, ping_timeout=ping_timeout
        )
        self._my_name = my_name
        self._credentials = credentials
        self._port = port
        self._framing = LineFraming()
        self._body_length: int | None = None
        self._output = bytearray()
        self._encryption: MetaStream | None = None
        self._challenge: Challenge | None = None
        self._weight = 0
        self._auth = LegacyAuth(private_key, credentials.public_key, entropy, meta_cipher)
        meta_key, stream = self._auth.make_meta_key()
        self._send(meta_key)
        self._encryption = stream
        self._state = MetaState.METAKEY

    @property
    def pending(self) -> int:
        return len(self._output)

    # Input

    def receive(self, data: bytes, now: float) -> list[MetaEvent]:
        self._raise_pending()
        try:
            self._framing.feed(data)
        except PeerError as error:
            self._fail(error)
            raise
        return self._process(now)

    def proceed(self, now: float) -> list[MetaEvent]:
        self._raise_pending()
        if self._state is not MetaState.VERIFIED:
            return []
        if not self.outgoing:
            # Only now: a stranger must not use us to answer its challenges (CVE-2018-16737, CVE-2018-16738).
            assert self._challenge is not None
            self._send(self._auth.answer(self._challenge))
        self._send_ack(now)
        self._state = MetaState.ACK
        return self._process(now)

    # Output

    def send(self, plain: bytes) -> None:
        if self._state is not MetaState.ACTIVE:
            raise RuntimeError("requests are sent on active connections only")
        self._put(plain)

    def data_to_send(self) -> bytes:
        data = bytes(self._output)
        self._output.clear()
        return data

    # Inside

    def _send(self, request: Request) -> None:
        self._put(request.format().encode("ascii") + b"\n")

    def _put(self, plain: bytes) -> None:
        self._output += plain if self._encryption is None else self._encryption.process(plain)

    def _send_ack(self, now: float) -> None:
        self._weight = self._weight_since_start(now)
        self._send(Ack(self._port, self._weight, self._known.options))

    def _step(self, events: list[MetaEvent], now: float) -> bool:
        if self._state is MetaState.VERIFIED:
            if len(self._framing) > MAX_WAITING_INPUT:
                raise PeerError("requests before the handshake was finished")
            return False
        if self._body_length is not None:
            return self._take_body(events, self._body_length)
        line = self._framing.take_line()
        if line is None:
            return False
        if self._state is MetaState.ACTIVE:
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
        expected, handle = _HANDSHAKE[self._state]
        try:
            number = request_number(line)
        except PeerError:
            if self._state is MetaState.CHALLENGE:
                # The first line under the new keys: what two different keys make of it is noise.
                raise PeerError(
                    f"the keys do not match: compare hosts/{self.name} here with the one at {self.name}, and "
                    f"hosts/{self._my_name} there with ours"
                ) from None
            raise
        if number != expected.NUMBER:
            raise PeerError(f"{request_title(number)} where {request_title(expected.NUMBER)} is expected")
        if expected is Ack and self._is_upgrade(events, line):
            return
        handle(self, events, parse_request(line))

    def _is_upgrade(self, events: list[MetaEvent], line: str) -> bool:
        """Whether an ACK was one of the upgrade to Ed25519 keys, and is dealt with (meta-legacy 4.6)."""
        fields = line.split()
        if len(fields) == 2 and len(fields[1]) == PUBLIC_TEXT_LENGTH:
            raise PeerError(
                f"{self.name} wants to upgrade to Ed25519 keys, which this daemon does not speak: set "
                f"ExperimentalProtocol = no in {self.name}'s tinc.conf"
            )
        return False

    def _on_meta_key(self, events: list[MetaEvent], request: MetaKey) -> None:
        self._framing.switch(self._auth.read_meta_key(request).process)
        self._send(self._auth.make_challenge())
        self._state = MetaState.CHALLENGE

    def _on_challenge(self, events: list[MetaEvent], request: Challenge) -> None:
        self._auth.check_challenge(request)
        if self.outgoing:
            self._send(self._auth.answer(request))
        else:
            self._challenge = request
        self._state = MetaState.CHAL_REPLY

    def _on_reply(self, events: list[MetaEvent], request: ChallengeReply) -> None:
        self._auth.verify(request)
        self._state = MetaState.VERIFIED
        events.append(Verified())

    def _on_ack(self, events: list[MetaEvent], request: Ack) -> None:
        self._activate(events, request, self._weight)

    def _expect_body(self, length: int) -> None:
        self._body_length = length


_HANDSHAKE: dict[MetaState, tuple[_HandshakeRequest, Callable[[LegacyMeta, list[MetaEvent], Any], None]]] = {
    MetaState.METAKEY: (MetaKey, LegacyMeta._on_meta_key),
    MetaState.CHALLENGE: (Challenge, LegacyMeta._on_challenge),
    MetaState.CHAL_REPLY: (ChallengeReply, LegacyMeta._on_reply),
    MetaState.ACK: (Ack, LegacyMeta._on_ack),
}
"""The order of the handshake, the same for both ends (meta-legacy 3): what is expected, and what happens then."""
