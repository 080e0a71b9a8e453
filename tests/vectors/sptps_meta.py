"""Two meta connections of 1.1 with each other, without a network."""

from __future__ import annotations

import itertools
from typing import Any

from gmesh.errors import PeerError
from gmesh.proto.meta_base import PeerCredentials
from gmesh.proto.meta_events import MetaEvent, Verified
from gmesh.proto.meta_start import MetaStart
from tests.vectors.legacy import counting_entropy, pieces, private_key
from tests.vectors.sptps import ed25519_key

WHOLE = itertools.repeat(1 << 20)
MY_OPTIONS = 0x700000C


def start(me: str, peer: str, *, outgoing: bool, knows: bool = True, **changes: Any) -> MetaStart:
    """A connection of alice or bob; ``knows`` says whether the peer's Ed25519 key is on file."""

    def credentials(name: str) -> PeerCredentials:
        if name != peer:
            raise PeerError(f"{name} is unknown")
        public = ed25519_key(peer).public if knows else None
        return PeerCredentials(private_key(peer).public, MY_OPTIONS, ed25519=public, ed25519_file=f"hosts/{peer}")

    arguments: dict[str, Any] = {
        "outgoing": outgoing,
        "my_name": me,
        "rsa_key": private_key(me),
        "ed25519_key": ed25519_key(me),
        "expected_name": peer if outgoing else "",
        "credentials": credentials,
        "entropy": counting_entropy(3 if outgoing else 77),
        "now": 0.0,
        "ping_interval": 60.0,
        "ping_timeout": 5.0,
        "port": "655",
    }
    return MetaStart(**(arguments | changes))


def deliver(
    sender: MetaStart, receiver: MetaStart, now: float = 0.0, sizes: Any = WHOLE, proceed: bool = True
) -> list[MetaEvent]:
    events: list[MetaEvent] = []
    for piece in pieces(sender.data_to_send(), sizes):
        for event in receiver.receive(piece, now):
            events.append(event)
            if isinstance(event, Verified) and proceed:
                events += receiver.proceed(now)
    return events


def run(
    one: MetaStart, other: MetaStart, now: float = 0.0, sizes: Any = WHOLE
) -> tuple[list[MetaEvent], list[MetaEvent]]:
    """Carry bytes until none are left; the events of either end."""
    of_one: list[MetaEvent] = []
    of_other: list[MetaEvent] = []
    while one.pending or other.pending:
        of_other += deliver(one, other, now, sizes)
        of_one += deliver(other, one, now, sizes)
    return of_one, of_other


def pair(**changes: Any) -> tuple[MetaStart, MetaStart]:
    return start("alice", "bob", outgoing=True, **changes), start("bob", "alice", outgoing=False, **changes)


def active_pair(**changes: Any) -> tuple[MetaStart, MetaStart]:
    alice, bob = pair(**changes)
    run(alice, bob)
    assert alice.active
    assert bob.active
    return alice, bob
