"""The packet engine as Python sees it. Peers are numbers that `Engine.add_peer` gives; endpoints are as sockets have
them. Commands are queued and done in order; nothing waits for the engine but `Engine.stop`.
"""

from typing import Literal, Self, TypedDict, final

__version__: str

Endpoint = tuple[str, int] | tuple[str, int, int, int]

class Offloads(TypedDict):
    """What a device can do: virtio headers, and large packets of TCP and UDP."""

    virtio: bool
    tcp4: bool
    tcp6: bool
    udp: bool

class Granted(Offloads):
    """What the kernel grants: also trains of datagrams (UDP_SEGMENT, UDP_GRO) on any of the sockets."""

    sends_trains: bool
    receives_trains: bool

class SessionState(TypedDict):
    """As `Engine.install_session` takes it. ``late`` is the window's number, little-endian, ``window`` bytes."""

    send: bytes
    next_number: int
    receive: bytes
    staged: bytes | None
    previous: bytes | None
    previous_seconds: float
    window: int
    expected: int
    late: bytes
    far_future: int

Event = (
    tuple[Literal["frame"], bytes]
    | tuple[Literal["datagram"], Endpoint, int, bytes]
    | tuple[Literal["from_peer"], int, Endpoint | None, bytes]
    | tuple[Literal["record"], int, Endpoint | None, int, bytes]
    | tuple[Literal["refused"], int, int, bytes]
    | tuple[Literal["relay"], int, bytes]
    | tuple[Literal["unopened"], int, Endpoint | None, int | None, bytes]
    | tuple[Literal["too_big"], int, int]
    | tuple[Literal["probe"], int, Endpoint, bytes]
    | tuple[Literal["address_seen"], int, Endpoint, int]
    | tuple[Literal["key_needed"], int]
    | tuple[Literal["doubted"], int]
    | tuple[Literal["confirmed"], int, int]
    | tuple[Literal["relayed"], int, bool]
    | tuple[Literal["worn"], int]
    | tuple[Literal["handshake_opened"], int, int, bytes]
    | tuple[Literal["handshake_sealed"], int, int, bytes]
    | tuple[Literal["sealed"], int, int, bytes]
    | tuple[Literal["session_state"], int, int, SessionState]
    | tuple[Literal["mac_seen"], bytes]
    | tuple[Literal["path_too_narrow"], Endpoint, int]
    | tuple[Literal["device_failed"], int]
)
"""
frame: of the own device, link header and all, to be routed. datagram (endpoint, socket): of nobody that is known.
from_peer (peer, endpoint or None by TCP): authentic, counted, to be routed. record (peer, endpoint, type, data):
authentic, to be unpacked (compressed, or an unexpected header), not counted as a packet. refused (owner, hop, frame):
too big for the path of hop, whose min_mtu has sunk; owner's counters have it. relay (sender, datagram with ids): has
to go on by TCP. unopened (peer, endpoint, socket, datagram): its key may come; without ids, endpoint and socket where
it came by TCP. too_big (peer, bytes of data): of a relayed datagram, which comes as relay too. probe (peer, endpoint,
frame). address_seen (peer, endpoint, socket): told once, and not followed. relayed (peer, whether by TCP), key_needed,
doubted: at most once a second each. sealed (peer, token, datagram without ids). path_too_narrow (target, bytes of the
largest datagram). device_failed (errno): it is read no longer.
"""

@final
class Engine:
    """Packets between a tun or tap device and UDP sockets, on a thread of its own."""

    def __new__(cls, node_id: bytes) -> Self: ...
    def start(self, device: int, sockets: list[int], *, tap: bool = False, trains: bool = True) -> None:
        """Begin to read. The descriptors stay the caller's. Raises OSError."""

    def stop(self) -> None: ...
    @property
    def running(self) -> bool:
        """False after a fault of the engine, too."""

    def fileno(self) -> int:
        """Readable while there are events; -1 before `start`."""

    def granted(self) -> Granted: ...
    def take(self, limit: int = 256) -> list[Event]:
        """Events that are no packets come first. While some are left the descriptor stays readable."""

    def add_peer(self, node_id: bytes) -> int: ...
    def remove_peer(self, peer: int) -> None: ...
    def forget_peer(self, peer: int) -> None:
        """Keys, sessions, path, sources and replay state are void; counters go on."""

    def set_send_key(self, peer: int, cipher: int, digest: int, mac_length: int, material: bytes) -> bool:
        """False, and nothing done, for algorithms that the engine does not have."""

    def clear_send_key(self, peer: int) -> None: ...
    def add_receive_key(
        self, peer: int, cipher: int, digest: int, mac_length: int, material: bytes, replay_window: int
    ) -> bool: ...
    def install_session(
        self,
        peer: int,
        session: int,
        *,
        send: bytes,
        next_number: int,
        receive: bytes,
        staged: bytes | None = None,
        previous: bytes | None = None,
        previous_seconds: float = 0.0,
        window: int,
        expected: int,
        late: bytes,
        far_future: int = 0,
    ) -> None: ...
    def use_session(self, peer: int, session: int) -> None: ...
    def drop_session(self, peer: int, session: int) -> None: ...
    def step(
        self,
        peer: int,
        session: int,
        what: Literal["send", "use_send_key", "stage_receive_key", "confirm_receive_key"],
        data: bytes | None = None,
    ) -> None: ...
    def export_session(self, peer: int, session: int) -> None: ...
    def set_path(
        self,
        peer: int,
        endpoint: Endpoint | None,
        *,
        socket: int = 0,
        udp: bool,
        min_mtu: int,
        mtu: int,
        ids: bool = True,
    ) -> None:
        """``min_mtu`` bounds frames, link header included; for a peer without PMTU discovery give the largest frame.
        ``ids``: whether its datagrams bear node ids."""

    def heard(self, peer: int, endpoint: Endpoint, socket: int) -> None: ...
    def set_table(
        self,
        mode: Literal["router", "switch", "other"],
        lanes: list[tuple[int, int | None, list[int], bool]],
        prefixes: list[tuple[bytes, int, int | None]],
        relays: list[tuple[bytes, list[int]]],
        *,
        kernel_forwards: bool = False,
        inherit: bool = False,
    ) -> None:
        """Lanes: owner, peer to seal for (None: the own device), up to two peers whose paths may carry it, clamp.
        Prefixes: address (4, 6 or 16 bytes), bits, lane (None: hand up), each range once and for its first reachable
        owner; leave ranges out whose owners are all unreachable. Relays: node id and peers, the best first."""

    def open_handshake(self, peer: int, datagram: bytes) -> None: ...
    def open_from_tcp(self, peer: int, datagram: bytes) -> None: ...
    def seal_for_tcp(self, peer: int, token: int, kind: int, data: bytes) -> None: ...
    def datagram(self, endpoint: Endpoint, socket: int, datagram: bytes) -> None: ...
    def send(
        self,
        owner: int,
        seal: int,
        hop: int,
        frame: bytes,
        *,
        endpoint: Endpoint | None = None,
        socket: int = 0,
        ttl: int = 0,
        kind: int | None = None,
    ) -> None:
        """By UDP to ``hop``, whatever its path says. Only ``hop``'s udp_out is counted."""

    def forward(self, hop: int, datagram: bytes) -> None: ...
    def write(self, frame: bytes) -> None: ...
    def counters(self, peer: int) -> tuple[int, int, int, int, int, int, float, float] | None:
        """Packets and bytes in, packets and bytes out, wanted, udp_out, last_authentic, last_opened."""

    def totals(self) -> dict[str, int]: ...
    def mac_ages(self) -> dict[bytes, float]: ...
    def forget_mac(self, mac: bytes) -> None: ...

def open_device(
    path: str, name: str, *, tap: bool = False, offload: bool = True, multi_queue: bool = False
) -> tuple[int, str, Offloads]:
    """Descriptor, interface name, and what it can do. Raises OSError."""

def has_legacy(cipher: int, digest: int) -> bool: ...
def record_cipher() -> Literal["portable", "avx2", "avx512"]: ...
