"""The first line of a meta connection, and which of the handshakes follows (meta-sptps 2; meta-legacy 4.1).

From then on everything is passed through to the connection that was chosen. Not here: the handshakes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.crypto.nids import AES_256_CFB
from gmesh.crypto.rsa import RsaPrivateKey
from gmesh.errors import PeerError
from gmesh.proto.framing import LineFraming
from gmesh.proto.meta import LegacyMeta
from gmesh.proto.meta_base import MetaConnection, MetaState, PeerCredentials
from gmesh.proto.meta_events import ControlRequested, Identified, InvitationRequested, KeyUnknownThere, MetaEvent
from gmesh.proto.meta_sptps import RENEWAL_SECONDS, SptpsMeta
from gmesh.proto.meta_upgrade import UpgradeMeta
from gmesh.proto.requests import (
    MINOR,
    PROTOCOL_MAJOR,
    Id,
    MetaKey,
    Request,
    parse_request,
    request_number,
    request_title,
)
from gmesh.proto.sptps_handshake import Entropy

MINOR_UPGRADE = 1
"""Can do Ed25519, but lacks the peer's key."""

MINOR_LEGACY = 0

_META_KEY = f"{MetaKey.NUMBER} ".encode("ascii")
"""What the legacy handshake begins with; as the length of a record it would be far too much for the first one."""


def effective_minor(theirs: int, *, ours: bool, peer_key_known: bool) -> int:
    """Which handshake follows: 0 legacy, 1 legacy with an exchange of keys, from 2 SPTPS (2.1).

    ``theirs`` is the minor of the peer's ID, ``ours`` whether we do SPTPS at all. A rollback is not refused here.
    """
    if not ours:
        return MINOR_LEGACY
    if theirs > MINOR_LEGACY and not peer_key_known:
        return MINOR_UPGRADE
    return theirs


class MetaStart(MetaConnection):
    """A meta connection of either generation. `take_remaining` is also for `InvitationRequested`."""

    def __init__(
        self,
        *,
        outgoing: bool,
        my_name: str,
        rsa_key: RsaPrivateKey | None,
        ed25519_key: Ed25519PrivateKey | None,
        expected_name: str = "",
        credentials: Callable[[str], PeerCredentials],
        entropy: Entropy,
        now: float,
        ping_interval: float,
        ping_timeout: float,
        meta_cipher: int = AES_256_CFB,
        port: str,
        renewal_seconds: float = RENEWAL_SECONDS,
        exchange: bool = False,
    ) -> None:
        """``rsa_key`` is None where there is none, ``ed25519_key`` also with ExperimentalProtocol = no. ``exchange``
        asks an outgoing connection to tell our Ed25519 key first, although we have the peer's (`KeyUnknownThere`).

        ``credentials`` raises PeerError for an unknown name. Times are seconds; ``port`` is ours, as text.
        """
        super().__init__(
            outgoing=outgoing, name=expected_name, now=now, ping_interval=ping_interval, ping_timeout=ping_timeout
        )
        self._my_name = my_name
        self._rsa_key = rsa_key
        self._ed25519_key = ed25519_key
        self._expected_name = expected_name
        self._find_credentials = credentials
        self._entropy = entropy
        self._meta_cipher = meta_cipher
        self._port = port
        self._renewal_seconds = renewal_seconds
        self._exchange = exchange and outgoing
        self._framing = LineFraming()
        self._output = bytearray()
        self._chosen: MetaConnection | None = None
        self._peek: bytes | None = None
        """The first bytes behind the peer's ID, while they may be those of the wrong handshake."""
        if outgoing:
            self._greet_first()

    def __repr__(self) -> str:
        return super().__repr__() if self._chosen is None else f"MetaStart({self._chosen!r})"

    @property
    def chosen(self) -> MetaConnection | None:
        """The connection that the IDs led to; None before that."""
        return self._chosen

    @property
    def active(self) -> bool:
        return self._chosen is not None and self._chosen.active

    @property
    def sptps(self) -> bool:
        return self._chosen is not None and self._chosen.sptps

    @property
    def pending(self) -> int:
        return len(self._output) + (0 if self._chosen is None else self._chosen.pending)

    def receive(self, data: bytes, now: float) -> list[MetaEvent]:
        if self._chosen is not None:
            return self._receive_chosen(self._chosen, data, now)
        self._raise_pending()
        self._framing.feed(data)
        return self._process(now)

    def proceed(self, now: float) -> list[MetaEvent]:
        self._raise_pending()
        return [] if self._chosen is None else self._pass_on(self._chosen.proceed(now))

    def take_remaining(self) -> bytes:
        return self._framing.take_rest()

    def send(self, plain: bytes) -> None:
        if self._chosen is None:
            raise RuntimeError("requests are sent on active connections only")
        self._chosen.send(plain)

    def data_to_send(self) -> bytes:
        data = bytes(self._output)
        self._output.clear()
        return data if self._chosen is None else data + self._chosen.data_to_send()

    def next_timeout(self) -> float:
        return super().next_timeout() if self._chosen is None else self._chosen.next_timeout()

    def on_timeout(self, now: float) -> None:
        if self._chosen is None:
            super().on_timeout(now)
        else:
            self._chosen.on_timeout(now)

    def ping_now(self, now: float) -> None:
        if self._chosen is not None:
            self._chosen.ping_now(now)

    # Inside

    def _receive_chosen(self, chosen: MetaConnection, data: bytes, now: float) -> list[MetaEvent]:
        if self._peek is not None:
            self._peek += data[: len(_META_KEY) - len(self._peek)]
            if self._peek == _META_KEY:
                reason = f"{self.name} does not know our Ed25519 key: hosts/{self._my_name} there lacks it"
                self._fail(PeerError(reason))
                return [KeyUnknownThere(self.name)]
            if len(self._peek) == len(_META_KEY):
                self._peek = None
        return self._pass_on(chosen.receive(data, now))

    def _pass_on(self, events: list[MetaEvent]) -> list[MetaEvent]:
        assert self._chosen is not None
        self.dropped_frames = self._chosen.dropped_frames
        return events

    def _send(self, request: Request) -> None:
        self._output += request.format().encode("ascii") + b"\n"

    def _minor_for(self, credentials: PeerCredentials) -> int:
        """The minor of our ID. An acceptor without the key says so too, else the connection hangs (requirement 5)."""
        if self._ed25519_key is None:
            return MINOR_LEGACY
        return MINOR if credentials.ed25519 is not None and not self._exchange else MINOR_UPGRADE

    def _greet_first(self) -> None:
        try:
            self._credentials = self._find_credentials(self._expected_name)
        except PeerError as error:
            self._fail(error)
            return
        self._send(Id(self._my_name, minor=self._minor_for(self._credentials)))

    def _step(self, events: list[MetaEvent], now: float) -> bool:
        if self._chosen is not None or self._state is MetaState.CONTROL:
            return False
        line = self._framing.take_line()
        if line is None:
            return False
        if self._is_special(events, line):
            return False
        number = request_number(line)
        if number != Id.NUMBER:
            raise PeerError(f"{request_title(number)} where {request_title(Id.NUMBER)} is expected")
        request = parse_request(line)
        assert isinstance(request, Id)
        self._check_id(request)
        self._choose(events, request, now)
        return False

    def _is_special(self, events: list[MetaEvent], line: str) -> bool:
        """Greetings that are no ID of a node: a control client's, an invited node's."""
        fields = line.split()
        if self.outgoing or len(fields) < 2 or fields[0] != "0" or fields[1][0] not in "^?":
            return False
        if not line.isascii():
            raise PeerError("the greeting is no ASCII text")
        self._state = MetaState.CONTROL
        word = fields[1][1:]
        events.append(ControlRequested(word) if fields[1][0] == "^" else InvitationRequested(word))
        return True

    def _check_id(self, request: Id) -> None:
        if request.name == self._my_name:
            raise PeerError(f"the peer calls itself {request.name}, which is our own name")
        if self._expected_name and request.name != self._expected_name:
            raise PeerError(f"the peer is {request.name} instead of {self._expected_name}")
        if request.major != PROTOCOL_MAJOR:
            raise PeerError(f"{request.name} speaks protocol version {request.major} instead of {PROTOCOL_MAJOR}")

    def _choose(self, events: list[MetaEvent], request: Id, now: float) -> None:
        if self._credentials is None:
            self._credentials = self._find_credentials(request.name)
        self.name = request.name
        ours, peer_key, theirs = self._ed25519_key is not None, self._known.ed25519, request.minor or 0
        if ours and peer_key is not None and theirs == MINOR_LEGACY:
            raise PeerError(_rollback(request.name, self._known.ed25519_file))
        minor = effective_minor(theirs, ours=ours, peer_key_known=peer_key is not None and not self._exchange)
        self._chosen = self._sptps(now) if minor > MINOR_UPGRADE else self._legacy(minor)
        if self.outgoing and self._chosen.sptps:
            self._peek = b""
        if not self.outgoing:
            self._send(Id(self._my_name, minor=self._minor_for(self._known)))
        events.append(Identified(request.name, theirs))
        self._hand_over(events, self._framing.take_rest(), now)

    def _sptps(self, now: float) -> SptpsMeta:
        assert self._ed25519_key is not None
        return SptpsMeta(
            outgoing=self.outgoing,
            my_name=self._my_name,
            private_key=self._ed25519_key,
            name=self.name,
            credentials=self._known,
            entropy=self._entropy,
            now=now,
            started=self._started,
            ping_interval=self._ping_interval,
            ping_timeout=self._ping_timeout,
            port=self._port,
            renewal_seconds=self._renewal_seconds,
        )

    def _legacy(self, minor: int) -> LegacyMeta:
        if self._rsa_key is None or self._known.public_key is None:
            raise PeerError(self._why_no_legacy(minor))
        arguments: dict[str, Any] = {
            "outgoing": self.outgoing,
            "my_name": self._my_name,
            "private_key": self._rsa_key,
            "name": self.name,
            "credentials": self._known,
            "entropy": self._entropy,
            "started": self._started,
            "ping_interval": self._ping_interval,
            "ping_timeout": self._ping_timeout,
            "meta_cipher": self._meta_cipher,
            "port": self._port,
        }
        if minor == MINOR_UPGRADE:
            assert self._ed25519_key is not None
            return UpgradeMeta(public_key=self._ed25519_key.public, **arguments)
        return LegacyMeta(**arguments)

    def _why_no_legacy(self, minor: int) -> str:
        owner = "we have no RSA key" if self._rsa_key is None else f"there is no RSA public key of {self.name}"
        if self._ed25519_key is None:
            return f"this daemon speaks only the old protocol of tinc 1.0, for which {owner}"
        if minor == MINOR_UPGRADE:
            return f"there is no Ed25519 public key of {self.name} in hosts/{self.name}, and to learn it {owner}"
        return f"{self.name} speaks only the old protocol of tinc 1.0, for which {owner}"

    def _hand_over(self, events: list[MetaEvent], data: bytes, now: float) -> None:
        """Events so far must not be lost to an error behind them; the chosen connection raises it again."""
        assert self._chosen is not None
        try:
            events += self._receive_chosen(self._chosen, data, now)
        except PeerError:
            if not events:
                raise

    def _fail(self, error: PeerError) -> None:
        super()._fail(error)
        if self._chosen is not None:
            self._chosen = None


def _rollback(name: str, file: str) -> str:
    return (
        f"{name} offers only the old protocol of tinc 1.0, but its Ed25519 key is known: refused, because somebody in "
        f"between may have asked for less than {name} can do. If {name} really went back to tinc 1.0 or has "
        f"ExperimentalProtocol = no, remove its Ed25519PublicKey from {file or 'its host file'} and run: gmesh reload"
    )
