"""The recorded legacy vectors, read once, and what tests of the legacy protocol need again and again."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gmesh.crypto.rsa import RsaPrivateKey
from gmesh.errors import PeerError
from gmesh.proto.meta_base import PeerCredentials
from gmesh.proto.meta_events import MetaEvent, Verified
from gmesh.proto.meta_start import MetaStart

DATA = Path(__file__).parent / "data"


@functools.cache
def load(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


@functools.cache
def private_key(name: str) -> RsaPrivateKey:
    """The throw-away key of alice or bob."""
    return RsaPrivateKey.from_pem(load("legacy-keys")["keys"][name]["private_pem"])


def counting_entropy(start: int = 0) -> Callable[[int], bytes]:
    """Bytes that differ from call to call and are the same in every run."""
    counter = itertools.count(start)
    return lambda size: bytes((next(counter) * 151 + 17) & 0xFF for _ in range(size))


def scripted_entropy(*answers: bytes) -> Callable[[int], bytes]:
    """Exactly these answers, in order, each of the length that is asked for."""
    left = list(answers)

    def entropy(size: int) -> bytes:
        answer = left.pop(0)
        assert len(answer) == size
        return answer

    return entropy


def legacy_meta(me: str, peer: str, *, outgoing: bool, **changes: Any) -> MetaStart:
    """A connection object for alice or bob with sensible arguments; ``changes`` replace some."""

    def credentials(name: str) -> PeerCredentials:
        if name != peer:
            raise PeerError(f"{name} is unknown")
        return PeerCredentials(private_key(peer).public, 0xC)

    arguments: dict[str, Any] = {
        "outgoing": outgoing,
        "my_name": me,
        "rsa_key": private_key(me),
        "ed25519_key": None,
        "expected_name": peer if outgoing else "",
        "credentials": credentials,
        "entropy": counting_entropy(3 if outgoing else 77),
        "now": 0.0,
        "ping_interval": 60.0,
        "ping_timeout": 5.0,
        "port": "655",
    }
    return MetaStart(**(arguments | changes))


def pieces(data: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    """``data`` cut into pieces of these sizes."""
    at = 0
    while at < len(data):
        size = next(sizes)
        yield data[at : at + size]
        at += size


def deliver(sender: MetaStart, receiver: MetaStart, sizes: Iterator[int], now: float) -> list[MetaEvent]:
    """Carry everything that waits from one to the other, and let a verified handshake go on."""
    events: list[MetaEvent] = []
    for piece in pieces(sender.data_to_send(), sizes):
        for event in receiver.receive(piece, now):
            events.append(event)
            if isinstance(event, Verified):
                events += receiver.proceed(now)
    return events


def connect(initiator: MetaStart, responder: MetaStart, now: float = 0.0) -> None:
    """Run the whole handshake."""
    whole = itertools.repeat(1 << 20)
    for _ in range(6):
        deliver(initiator, responder, whole, now)
        deliver(responder, initiator, whole, now)
    assert initiator.active
    assert responder.active
