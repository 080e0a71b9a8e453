"""Probe frames: EtherType 0, of chosen length, with which paths are tried and measured (data-legacy 8).

Not here: when probes are sent and what their answers mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from gmesh.values import ETHERNET_HEADER, MTU

PROBE_TYPE = b"\0\0"
"""The EtherType of probes, for who cannot afford to call `is_probe` for each packet."""


SHORT_REPLY_SIZE = 18


class ProbeKind(IntEnum):
    """Byte 0 of a probe."""

    REQUEST = 0
    REPLY = 1
    SHORT_REPLY = 2


@dataclass(frozen=True, slots=True)
class Probe:
    """``length`` is what the probe proves: its own bytes, or in a short reply those of the request it answers."""

    kind: ProbeKind
    length: int


def is_probe(frame: bytes) -> bool:
    """Whether the frame's EtherType is 0."""
    return frame[12:ETHERNET_HEADER] == PROBE_TYPE


def make_request(length: int, entropy: Callable[[int], bytes]) -> bytes:
    """A request of ``length`` bytes (14 to 1518): zeros up to the EtherType, then random ones."""
    if not ETHERNET_HEADER <= length <= MTU:
        raise ValueError(f"a probe of {length} bytes is no frame")
    return bytes(ETHERNET_HEADER) + entropy(length - ETHERNET_HEADER)


def make_reply(request: bytes) -> bytes:
    """The answer to a request: the same bytes as a reply, because only the full length proves the path."""
    return bytes((ProbeKind.REPLY,)) + request[1:]


def make_short_reply(request: bytes) -> bytes:
    """The answer to a request for nodes of minor version 3 and above: always 18 bytes (data-sptps 4)."""
    head = bytes((ProbeKind.SHORT_REPLY,)) + len(request).to_bytes(2, "big")
    return (head + request[len(head) :])[:SHORT_REPLY_SIZE].ljust(SHORT_REPLY_SIZE, b"\0")


def parse(frame: bytes) -> Probe | None:
    """Read a probe frame; None where it is none or of a kind that nobody defined."""
    if len(frame) < ETHERNET_HEADER or not is_probe(frame) or frame[0] > ProbeKind.SHORT_REPLY:
        return None
    kind = ProbeKind(frame[0])
    length = int.from_bytes(frame[1:3], "big") if kind is ProbeKind.SHORT_REPLY else len(frame)
    return Probe(kind, length)
