"""What tests of SPTPS need again and again: keys, and two sessions with each other."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.errors import DatagramError
from gmesh.proto.sptps import SptpsEvent, StreamSession
from gmesh.proto.sptps_datagram import DatagramSession
from gmesh.proto.sptps_handshake import data_label, meta_label
from tests.vectors.legacy import counting_entropy, load

INITIATOR, RESPONDER = "alice", "bob"


@functools.cache
def ed25519_key(name: str) -> Ed25519PrivateKey:
    """The throw-away key of alice or bob, or one made for any other name."""
    recorded = load("sptps-primitives")["keys"].get(name)
    seed = bytes.fromhex(recorded["seed"]) if recorded else hashlib.sha256(name.encode()).digest()
    return Ed25519PrivateKey.from_seed(seed)


def arguments(me: str, peer: str, initiator: bool, **changes: Any) -> dict[str, Any]:
    first, second = (me, peer) if initiator else (peer, me)
    return {
        "initiator": initiator,
        "private_key": ed25519_key(me),
        "peer_public": ed25519_key(peer).public,
        "label": data_label(first, second),
        "entropy": counting_entropy(len(me) + 100 * initiator),
        "now": 0.0,
    } | changes


def datagram_pair(**changes: Any) -> tuple[DatagramSession, DatagramSession]:
    """Initiator and responder, each with its KEX waiting."""
    return (
        DatagramSession(**arguments(INITIATOR, RESPONDER, True, **changes)),
        DatagramSession(**arguments(RESPONDER, INITIATOR, False, **changes)),
    )


def stream_pair(**changes: Any) -> tuple[StreamSession, StreamSession]:
    label = {"label": meta_label(INITIATOR, RESPONDER)}
    return (
        StreamSession(**arguments(INITIATOR, RESPONDER, True, **(label | changes))),
        StreamSession(**arguments(RESPONDER, INITIATOR, False, **(label | changes))),
    )


def exchange(one: DatagramSession, other: DatagramSession, now: float = 0.0) -> list[SptpsEvent]:
    """Carry handshake records until none are left."""
    events: list[SptpsEvent] = []
    while True:
        carried = [(other, datagram) for datagram in one.data_to_send()]
        carried += [(one, datagram) for datagram in other.data_to_send()]
        if not carried:
            return events
        for receiver, datagram in carried:
            events += receiver.receive(datagram, now)


def exchange_streams(one: StreamSession, other: StreamSession, now: float = 0.0) -> list[SptpsEvent]:
    events: list[SptpsEvent] = []
    while one.pending or other.pending:
        events += other.receive(one.data_to_send(), now)
        events += one.receive(other.data_to_send(), now)
    return events


def established_pair(**changes: Any) -> tuple[DatagramSession, DatagramSession]:
    pair = datagram_pair(**changes)
    exchange(*pair)
    assert all(session.established for session in pair)
    return pair


def refused(session: DatagramSession, datagram: bytes, now: float = 0.0) -> bool:
    """Whether the session drops the datagram."""
    try:
        session.receive(datagram, now)
    except DatagramError:
        return True
    return False
