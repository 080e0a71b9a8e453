"""The connection on which two nodes that know only RSA keys of each other tell their Ed25519 keys (meta-sptps 4).

It is a legacy connection up to ACK, carries no gossip, and ends so that both begin again with SPTPS. Not here: storing
the key, which is for whoever takes `PublicKeyReceived`.
"""

from __future__ import annotations

import math
from typing import Any

from gmesh.crypto import ed25519
from gmesh.errors import KeyFileError, PeerError
from gmesh.proto.meta import LegacyMeta
from gmesh.proto.meta_base import MetaState
from gmesh.proto.meta_events import MetaEvent, PublicKeyReceived
from gmesh.proto.requests import Ack, TermReq, request_number, request_title

TERMREQ_SECONDS = 0.5
"""How long the peer's TERMREQ is waited for. tinc that has read ours neither sends its own nor closes (its tarpit)."""


class UpgradeMeta(LegacyMeta):
    """A legacy connection whose ACKs carry Ed25519 keys. When both keys are told it ends with a PeerError."""

    def __init__(self, *, public_key: bytes, **legacy: Any) -> None:
        """``public_key`` is our own Ed25519 key, 32 bytes; the rest is for `LegacyMeta`."""
        super().__init__(**legacy)
        self._public_key = public_key
        self._now = self._started
        self._ends_at = math.inf

    def next_timeout(self) -> float:
        return min(super().next_timeout(), self._ends_at)

    def on_timeout(self, now: float) -> None:
        if self._state is MetaState.UPGRADED and now >= self._ends_at:
            self._fail(self._end())
        super().on_timeout(now)

    def _step(self, events: list[MetaEvent], now: float) -> bool:
        self._now = now
        return super()._step(events, now)

    def _end(self) -> PeerError:
        return PeerError(f"the connection with {self.name} ends, to begin again with Ed25519 keys")

    def _send_ack(self, now: float) -> None:
        self._put(f"{Ack.NUMBER} {ed25519.public_to_text(self._public_key)}\n".encode("ascii"))

    def _handshake_line(self, events: list[MetaEvent], line: str) -> None:
        if self._state is not MetaState.UPGRADED:
            super()._handshake_line(events, line)
            return
        number = request_number(line)
        if number != TermReq.NUMBER:
            raise PeerError(f"{request_title(number)} where {request_title(TermReq.NUMBER)} is expected")
        raise self._end()

    def _is_upgrade(self, events: list[MetaEvent], line: str) -> bool:
        fields = line.split()
        if len(fields) != 2:
            raise PeerError(f"an ACK of {len(fields) - 1} fields where {self.name}'s Ed25519 key is expected")
        try:
            public = ed25519.public_from_text(fields[1])
            ed25519.require_usable(public)
        except KeyFileError as error:
            raise PeerError(f"{self.name}'s ACK: {error}") from None
        known = self._known.ed25519
        if known is not None and known != public:
            raise PeerError(
                f"{self.name} has another Ed25519 key than {self._known.ed25519_file or 'its host file'} says. If its "
                f"owner made a new one, replace Ed25519PublicKey there and run: gmesh reload"
            )
        events.append(PublicKeyReceived(self.name, public, known is not None))
        self._send(TermReq())
        self._state = MetaState.UPGRADED
        self._ends_at = self._now + TERMREQ_SECONDS
        return True
