"""A hub with a real mesh, and notebooks in the places of connections, data plane and scripts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from gmesh.config.directory import Directory
from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.daemon.hub import Hub
from gmesh.daemon.known_keys import KnownKeys
from gmesh.errors import PeerError
from gmesh.mesh.settings import MeshSettings
from gmesh.proto.meta_base import PeerCredentials
from gmesh.proto.meta_events import Active, Identified, RequestReceived, Verified
from gmesh.proto.requests import parse_request
from gmesh.route.snapshot import RouteSettings, RouteSnapshot
from gmesh.values import Address, Subnet


class Plane:
    """A data plane that takes notes."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.snapshots: list[RouteSnapshot] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.calls.append((name, args))

    def set_routes(self, snapshot: RouteSnapshot) -> None:
        self.snapshots.append(snapshot)

    def counters(self, node: str) -> None:
        return None

    def totals(self) -> dict[str, int]:
        return {"device packets in": 3, "device bytes in": 300}


class Scripts:
    def __init__(self) -> None:
        self.events: list[object] = []

    def mesh_event(self, event: object) -> None:
        self.events.append(event)


class Meta:
    sptps = False
    name = ""
    credentials: PeerCredentials | None = None


class Peer:
    """What the hub uses of a connection."""

    def __init__(self, number: int, name: str = "", *, outgoing: bool = False) -> None:
        self.id = number
        self.name = name
        self.outgoing = outgoing
        self.active = False
        self.refused = False
        self.address = Address("10.1.0.2", "40000")
        self.local_host = "127.0.0.1"
        self.sent: list[str] = []
        self.frames: list[bytes] = []
        self.datagrams: list[tuple[bytes, bytes, bytes]] = []
        self.meta: Any = Meta()
        self.closed: list[str] = []
        self.pings = 0
        self.on_proceed: Any = lambda: None

    def __str__(self) -> str:
        return self.name or "<unknown>"

    def send_line(self, line: str, fact: object = None) -> None:
        self.sent.append(str(line))

    def send_frame(self, frame: bytes) -> bool:
        self.frames.append(frame)
        return True

    def send_datagram(self, destination: bytes, source: bytes, datagram: bytes) -> bool:
        self.datagrams.append((destination, source, datagram))
        return True

    def send_datagram_line(self, line: str) -> bool:
        self.sent.append(line)
        return True

    def proceed(self) -> None:
        self.on_proceed()

    def ping_now(self) -> None:
        self.pings += 1

    def close(self, reason: str) -> None:
        self.closed.append(reason)


class Lab:
    """``private_key`` is our Ed25519 key, ``base`` the directory with the host files of others; legacy only without."""

    def __init__(self, private_key: Ed25519PrivateKey | None = None, base: Path = Path("/nowhere")) -> None:
        self.scripts = Scripts()
        self.lost: list[str] = []
        self.redialled: list[str] = []
        self.dialled: list[object] = []
        self.plane = Plane()
        self.hub = Hub(
            MeshSettings("me", subnets=frozenset({Subnet.parse("10.0.0.1")})),
            route_settings=RouteSettings(),
            clock=time.monotonic,
            scripts=self.scripts,  # type: ignore[arg-type]
            keys=KnownKeys(private_key, Directory(base)),
            lookup=self.lookup,
            plane=lambda upcall: self.plane,  # type: ignore[arg-type, return-value]
            lost=self.lost.append,
            redial=self.redialled.append,
            dial=self.dialled.append,
        )

    def lookup(self, name: str) -> PeerCredentials:
        raise PeerError("unknown identity")

    def open(self, number: int, name: str = "", *, outgoing: bool = False) -> Any:
        peer = Peer(number, name, outgoing=outgoing)
        self.hub.opened(peer)  # type: ignore[arg-type]
        return peer

    def active(self, number: int, name: str) -> Any:
        peer = self.open(number)
        self.hub.event(peer, Identified(name, 0))
        self.hub.event(peer, Verified())
        peer.active = True
        self.hub.event(
            peer,
            Active(
                name=name,
                port="655",
                weight_received=1,
                weight_sent=1,
                options_received=12,
                options_sent=12,
                clamp_mss=None,
            ),
        )
        return peer

    def request(self, peer: Any, line: str) -> None:
        self.hub.event(peer, RequestReceived(parse_request(line), line))
