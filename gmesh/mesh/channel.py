"""A node's data channel, whatever its generation (contract 6), and what dumps say of it.

Not here: the implementations (`legacy_channel.py`, `sptps_channel.py`), and the choice between them (`channels.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gmesh.mesh.actions import Action
from gmesh.mesh.events import SessionEvent
from gmesh.mesh.settings import MeshSettings
from gmesh.proto.packet import PacketKey
from gmesh.proto.requests import AnsKey, ReqKey
from gmesh.values import MTU, Address

HELP_DELAYS = (2.0, 3.0, 10.0, 30.0)
"""Seconds between repeated exchanges while UDP is wanted and unproved (data-legacy 3.3); the last one repeats."""
HELP_TRAFFIC = 15.0
"""Only while frames for the node were seen within so many seconds."""


class Channel(Protocol):
    """Keys with one node, whatever the generation. Times are the loop's seconds."""

    settings: MeshSettings

    @property
    def sptps(self) -> bool: ...
    @property
    def outdated(self) -> bool:
        """Whether it rests on a key of the node that is not the one that is known now."""

    @property
    def send_key(self) -> PacketKey | None: ...
    @property
    def compression(self) -> int: ...
    @property
    def holds_our_key(self) -> bool:
        """Whether the node has a key that KEY_CHANGED takes from it."""

    @property
    def valid_key(self) -> bool: ...
    @property
    def valid_key_in(self) -> bool: ...
    @property
    def waiting_for_key(self) -> bool: ...

    def node_up(self, now: float) -> list[Action]: ...
    def node_down(self) -> list[Action]: ...
    def neighbour_up(self, now: float) -> list[Action]:
        """A connection to the node became active, which was reachable before."""

    def request_received(self, request: ReqKey, now: float) -> list[Action]: ...
    def answer_received(self, request: AnsKey, now: float) -> list[Action]: ...
    def key_needed(self, now: float) -> list[Action]: ...
    def key_changed(self, now: float) -> list[Action]: ...
    def renew(self, now: float) -> list[Action]: ...
    def worn(self, now: float) -> list[Action]: ...
    def reconnected(self, now: float) -> list[Action] | None:
        """A new connection to a neighbour took the place of one that was active until now, perhaps because its process
        is a new one. None where only a new channel will do."""

    def session_event(self, event: SessionEvent, now: float) -> list[Action]: ...
    def help_wanted(self, now: float) -> None: ...
    def next_timeout(self) -> float: ...
    def on_timeout(self, now: float) -> list[Action]: ...


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """A node's channel for dumps. The four algorithm fields are those of the sending key, 0 without one; SPTPS has only
    the last of them.

    ``mtu``, ``min_mtu`` and ``max_mtu`` are bytes of frame; ``round_trip_us`` is microseconds, -1 where never measured.
    """

    cipher: int = 0
    digest: int = 0
    mac_length: int = 0
    compression: int = 0
    valid_key: bool = False
    waiting_for_key: bool = False
    valid_key_in: bool = False
    udp_confirmed: bool = False
    mtu: int = MTU
    min_mtu: int = 0
    max_mtu: int = MTU
    address: Address | None = None
    round_trip_us: int = -1
    sptps: bool = False
