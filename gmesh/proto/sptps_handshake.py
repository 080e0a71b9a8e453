"""The handshake of SPTPS, message by message: KEX, SIG, ACK, first and renewed (sptps 1, 4, 5).

It takes the payload of handshake records and answers with steps for whoever keeps the keys and the record numbers: a
session of this process, or another engine. Nonces come from outside, and both nonces are looked at when the cipher of
the records is chosen, so that an extension can negotiate there. Not here: records and their numbers, time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from gmesh.crypto import chacha_poly, curve, ed25519
from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.crypto.prf import expand
from gmesh.errors import DatagramError, PeerError

Entropy = Callable[[int], bytes]

NONCE_SIZE = 32
KEX_SIZE = 1 + NONCE_SIZE + curve.POINT_SIZE
SIG_SIZE = ed25519.SIGNATURE_SIZE
VERSION = 0

_HALF = 64
"""Bytes of key material for each direction; a cipher takes what it needs from the front."""

INVITATION_LABEL = b"tinc invitation"


def meta_label(initiator: str, responder: str) -> bytes:
    """The label of a meta connection that ``initiator`` opened. The byte 0 at the end is part of it."""
    return f"tinc TCP key expansion {initiator} {responder}\0".encode("ascii")


def data_label(initiator: str, responder: str) -> bytes:
    """The label of a session for VPN packets that ``initiator`` asked for, with a byte 0 too."""
    return f"tinc UDP key expansion {initiator} {responder}\0".encode("ascii")


class RecordCipher(Protocol):
    """One key. Records are numbered by the caller; ``open`` gives None where the tag of 16 bytes is wrong."""

    def seal(self, number: int, plain: bytes) -> bytes: ...

    def open(self, number: int, sealed: bytes) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class RecordSuite:
    """A way to protect records: its name for whoever takes over a flow, bytes of key, and how to make the cipher."""

    name: str
    key_size: int
    make: Callable[[bytes], RecordCipher]


TINC_SUITE = RecordSuite("chacha20-poly1305-tinc", chacha_poly.KEY_SIZE, chacha_poly.ChaChaPoly)
"""What every tinc speaks."""


@dataclass(frozen=True, slots=True)
class TrafficKey:
    """The key of one direction, ``suite.key_size`` bytes."""

    suite: RecordSuite
    secret: bytes = field(repr=False)

    def cipher(self) -> RecordCipher:
        return self.suite.make(self.secret)


@dataclass(frozen=True, slots=True)
class SendHandshake:
    """Send a handshake record under the sending key now in force, or plain where there is none yet."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class UseSendKey:
    """From here on this key is the one to send with."""

    key: TrafficKey


@dataclass(frozen=True, slots=True)
class StageReceiveKey:
    """The peer's next sending key. Records under it may come before the peer's word that it uses it."""

    key: TrafficKey


@dataclass(frozen=True, slots=True)
class ConfirmReceiveKey:
    """The peer sends with the staged key from here on."""


@dataclass(frozen=True, slots=True)
class HandshakeFinished:
    """Both ends have the same new keys. ``first`` unless it was a renewal."""

    first: bool


Step = SendHandshake | UseSendKey | StageReceiveKey | ConfirmReceiveKey | HandshakeFinished


class HandshakeState(Enum):
    """What the next handshake record is."""

    KEX = auto()
    SIG = auto()
    ACK = auto()
    READY = auto()


def tinc_only(my_nonce: bytes, peer_nonce: bytes) -> RecordSuite:
    """The choice where nothing was negotiated."""
    return TINC_SUITE


WRONG_SIGNATURE = "the signature of the handshake is wrong"


class Handshake:
    """One session's handshakes, in the role it has for life.

    A message that is refused raises ``error`` and changes nothing, so the caller may go on as if it had never come.
    """

    def __init__(
        self,
        *,
        initiator: bool,
        private_key: Ed25519PrivateKey,
        peer_public: bytes,
        label: bytes,
        entropy: Entropy,
        error: type[PeerError] | type[DatagramError],
        make_nonce: Callable[[], bytes] | None = None,
        choose_suite: Callable[[bytes, bytes], RecordSuite] = tinc_only,
    ) -> None:
        """``make_nonce`` gives 32 bytes, different each time; without it they come from ``entropy``.

        ``choose_suite`` is called with our nonce and the peer's once the peer's signature over both is verified.
        """
        self.initiator = initiator
        self.state = HandshakeState.READY
        self.established = False
        self._private_key = private_key
        self._peer_public = peer_public
        self._label = label
        self._entropy = entropy
        self._error = error
        self._make_nonce = make_nonce
        self._choose_suite = choose_suite
        self._ephemeral: Ed25519PrivateKey | None = None
        self._my_kex = b""
        self._peer_kex = b""

    def __repr__(self) -> str:
        role = "initiator" if self.initiator else "responder"
        return f"Handshake({role}, {self.state.name}, established={self.established})"

    def start(self) -> list[Step]:
        """Begin the first handshake, or a renewal; nothing happens while one is under way."""
        if self.state is not HandshakeState.READY:
            return []
        nonce = self._make_nonce() if self._make_nonce is not None else self._entropy(NONCE_SIZE)
        self._ephemeral = Ed25519PrivateKey.from_seed(self._entropy(ed25519.SEED_SIZE))
        self._my_kex = bytes([VERSION]) + nonce + self._ephemeral.public
        self.state = HandshakeState.KEX
        return [SendHandshake(self._my_kex)]

    def receive(self, data: bytes) -> list[Step]:
        """Take the payload of a handshake record, already authentic where records are encrypted."""
        title, size, handle = _TABLE[self.state]
        if len(data) != size:
            raise self._error(f"a handshake record of {len(data)} bytes where {title} of {size} is expected")
        return handle(self, data)

    def _on_renewal(self, data: bytes) -> list[Step]:
        self._check_kex(data)
        return self.start() + self._on_kex(data)

    def _on_kex(self, data: bytes) -> list[Step]:
        self._check_kex(data)
        self._peer_kex = data
        self.state = HandshakeState.SIG
        return [SendHandshake(self._sign())] if self.initiator else []

    def _on_sig(self, data: bytes) -> list[Step]:
        signed = self._signed(not self.initiator, self._peer_kex, self._my_kex)
        if not ed25519.verify(self._peer_public, signed, data):
            raise self._error(WRONG_SIGNATURE)
        sending, receiving = self._derive()
        steps: list[Step] = []
        if not self.initiator:
            steps.append(SendHandshake(self._sign()))
        if self.established:
            steps.append(SendHandshake(b""))
        steps += [UseSendKey(sending), StageReceiveKey(receiving)]
        self._ephemeral = None
        self._my_kex = self._peer_kex = b""
        if self.established:
            self.state = HandshakeState.ACK
            return steps
        self.state = HandshakeState.READY
        self.established = True
        return [*steps, ConfirmReceiveKey(), HandshakeFinished(first=True)]

    def _on_ack(self, data: bytes) -> list[Step]:
        self.state = HandshakeState.READY
        return [ConfirmReceiveKey(), HandshakeFinished(first=False)]

    def _check_kex(self, data: bytes) -> None:
        if data[0] != VERSION:
            raise self._error(f"the handshake has version {data[0]} instead of {VERSION}")
        try:
            curve.check_order(data[1 + NONCE_SIZE :])
        except curve.BadPoint as error:
            raise self._error(f"the handshake's public key is {error}") from None

    def _signed(self, by_initiator: bool, own: bytes, other: bytes) -> bytes:
        return bytes([by_initiator]) + own + other + self._label

    def _sign(self) -> bytes:
        return self._private_key.sign(self._signed(self.initiator, self._my_kex, self._peer_kex))

    def _derive(self) -> tuple[TrafficKey, TrafficKey]:
        """Our sending and our receiving key."""
        assert self._ephemeral is not None
        try:
            secret = bytearray(curve.shared_secret(self._ephemeral.scalar, self._peer_kex[1 + NONCE_SIZE :]))
        except curve.BadPoint as error:
            raise self._error(f"the handshake gives {error}") from None
        mine, theirs = (kex[1 : 1 + NONCE_SIZE] for kex in (self._my_kex, self._peer_kex))
        first, second = (mine, theirs) if self.initiator else (theirs, mine)
        material = expand(secret, b"key expansion" + first + second + self._label, 2 * _HALF)
        suite = self._choose_suite(mine, theirs)
        of_responder, of_initiator = (TrafficKey(suite, bytes(material[at : at + suite.key_size])) for at in (0, _HALF))
        # Copies that are Python's own cannot be cleared; these can.
        secret[:] = bytes(len(secret))
        material[:] = bytes(len(material))
        return (of_initiator, of_responder) if self.initiator else (of_responder, of_initiator)


_TABLE: dict[HandshakeState, tuple[str, int, Callable[[Handshake, bytes], list[Step]]]] = {
    HandshakeState.READY: ("a KEX", KEX_SIZE, Handshake._on_renewal),
    HandshakeState.KEX: ("a KEX", KEX_SIZE, Handshake._on_kex),
    HandshakeState.SIG: ("a SIG", SIG_SIZE, Handshake._on_sig),
    HandshakeState.ACK: ("an ACK", 0, Handshake._on_ack),
}
"""What is expected in each state, how long it is, and what happens then (sptps 5)."""
