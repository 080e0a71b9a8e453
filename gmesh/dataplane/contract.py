"""The one contract for every data plane (contract 5): the slow path in Python is the reference for it.

Not here: policy. What a snapshot cannot answer is handed up once, as an event, through the upcall.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gmesh.mesh.actions import (
    DatagramByTcp,
    DropSession,
    InstallSession,
    OpenHandshake,
    SendProbe,
    SessionStep,
    SetPath,
    UseSession,
)
from gmesh.mesh.events import DataEvent, FlowCounters
from gmesh.proto.packet import PacketKey
from gmesh.route.snapshot import RouteSnapshot


@dataclass(frozen=True, slots=True)
class FrameForPeer:
    """A frame that has to travel as PACKET over the meta connection of the neighbour ``node`` (data-legacy 6)."""

    node: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class DatagramForPeer:
    """An SPTPS datagram from ``source`` to ``target`` that has to travel over the meta connection of the neighbour
    ``node``: as SPTPS_PACKET, or within a REQ_KEY where that one knows no better (data-sptps 5)."""

    node: str
    source: str
    target: str
    datagram: bytes


PlaneEvent = DataEvent | FrameForPeer | DatagramForPeer
Upcall = Callable[[list[PlaneEvent]], None]


class DataPlane(Protocol):
    """A packet's whole way, device and UDP sockets included."""

    def start(self) -> None:
        """Begin to read from the device and the UDP sockets."""

    def stop(self) -> None:
        """End every reader. The device and the sockets are closed by whoever opened them."""

    def set_routes(self, snapshot: RouteSnapshot) -> None: ...

    def install_send_key(self, node: str, key: PacketKey) -> None: ...

    def install_receive_key(self, node: str, key: PacketKey) -> None: ...

    def forget_send_key(self, node: str) -> None: ...

    def install_session(self, action: InstallSession) -> None: ...

    def use_session(self, action: UseSession) -> None: ...

    def drop_session(self, action: DropSession) -> None: ...

    def session_step(self, action: SessionStep) -> None: ...

    def hold_frames(self, node: str) -> None:
        """Let frames and probes for the node wait until the key of its sending session changes."""

    def open_handshake(self, action: OpenHandshake) -> None: ...

    def forget_flow(self, node: str) -> None: ...

    def set_path(self, path: SetPath) -> None: ...

    def send_probe(self, probe: SendProbe) -> None: ...

    def frame_from_peer(self, node: str, frame: bytes) -> None:
        """A frame that arrived as PACKET from the neighbour ``node``; relayed frames stay on TCP as specified."""

    def datagram_from_peer(self, neighbour: str, destination: bytes, source: bytes, datagram: bytes) -> None:
        """The body of an SPTPS_PACKET from ``neighbour``: node ids of 6 bytes each, and what those nodes exchange."""

    def datagram_by_tcp(self, action: DatagramByTcp) -> None:
        """The same, where names were given instead of ids."""

    def counters(self, node: str) -> FlowCounters | None:
        """Counters of a node's flow, or None where it never had one."""

    def mac_ages(self) -> Mapping[bytes, float]:
        """When each MAC address of the own device was last seen (loop's seconds); kept in switch mode only."""

    def forget_mac(self, mac: bytes) -> None:
        """Forget one of them, so that its next frame is told of as new."""

    def set_capture(self, capture: Callable[[bytes], None] | None) -> None:
        """Show each frame to ``capture`` before it is routed, whether the device or another node sent it. It neither
        yields nor raises. None, as at the start: nobody wants to see them."""

    def totals(self) -> dict[str, int]:
        """Counters of the whole plane by name: packets and bytes at the device, drops by reason."""
