"""Planes to experiment with: fake devices and real UDP sockets on the loopback interface, or remembering ones."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import gevent
import gevent.socket

from gmesh.dataplane.contract import PlaneEvent
from gmesh.dataplane.slow import SlowDataPlane
from gmesh.dataplane.udp_sockets import UdpOptions, open_udp
from gmesh.device.base import DeviceStatistics
from gmesh.mesh.actions import InstallSession, SetPath, UseSession
from gmesh.proto.packet import PacketKey
from gmesh.proto.sptps_flow import DEFAULT_REPLAY_WINDOW, DatagramFlow, FlowState, WindowState
from gmesh.proto.sptps_handshake import TINC_SUITE, TrafficKey
from gmesh.route.snapshot import RouteNode, RouteSettings, RouteSnapshot
from gmesh.values import MTU, OPTION_PMTU, OPTION_VERSION_SHIFT, Address, Subnet

MSG_ERRQUEUE = 0x2000


class Build(Protocol):
    """Makes planes that are closed when the test ends."""

    def __call__(self, name: str, host: str = "127.0.0.1", replay_window: int = 16) -> PlaneUnderTest: ...


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Let the loop run until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        gevent.sleep(0.001)


def settle() -> None:
    """Let the loop run until what is on the loopback interface has been read."""
    for _ in range(5):
        gevent.sleep(0.002)


def make_key(mac_length: int = 4, digest: int = 672, compression: int = 0) -> PacketKey:
    return PacketKey(427, digest, mac_length, compression, os.urandom(48))


def ipv4_frame(source: str, target: str, payload: bytes = b"", protocol: int = 253) -> bytes:
    """An Ethernet frame with zero addresses around an IPv4 packet; checksum and contents do not matter to routing."""
    header = struct.pack(
        "!BBHHHBBH4s4s",
        *(0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0),
        *(gevent.socket.inet_aton(source), gevent.socket.inet_aton(target)),
    )
    return bytes(12) + b"\x08\x00" + header + payload


def probe_frame(size: int = 64) -> bytes:
    return bytes(14) + os.urandom(size - 14)


class FakeDevice:
    """A device whose other end is in the test's hands."""

    def __init__(self) -> None:
        self.name = self.interface = "fake"
        self.description = "fake is a fake device"
        self.statistics = DeviceStatistics()
        self.written: list[bytes] = []
        self._ours, self._kernel = gevent.socket.socketpair(gevent.socket.AF_UNIX, gevent.socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)

    def inject(self, frame: bytes) -> None:
        """What the kernel would send into the VPN."""
        self._kernel.sendall(frame)

    def fileno(self) -> int | None:
        return int(self._ours.fileno())

    def read(self) -> bytes | None:
        try:
            frame: bytes = self._ours.recv(4096)
        except BlockingIOError:
            return None
        self.statistics.packets_in += 1
        self.statistics.bytes_in += len(frame)
        return frame

    def write(self, frame: bytes) -> bool:
        self.written.append(frame)
        self.statistics.packets_out += 1
        self.statistics.bytes_out += len(frame)
        return True

    def close(self) -> None:
        self._ours.close()
        self._kernel.close()


class FakeSocket:
    """Remembers what is sent; ``error`` is raised instead if set. Nothing is ever received."""

    family = gevent.socket.AF_INET

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []
        self.options: list[tuple[int, int, int]] = []
        self.error: OSError | None = None
        self.reported: list[OSError] = []
        """Raised once each instead of sending."""
        self.queue: list[tuple[list[tuple[int, int, bytes]], Any]] = []
        """The error queue: ancillary data and target."""

    def fileno(self) -> int:
        return 99

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options.append((level, option, value))

    def sendto(self, datagram: bytes, target: Any) -> int:
        if self.reported:
            raise self.reported.pop(0)
        if self.error is not None:
            raise self.error
        self.sent.append((datagram, target))
        return len(datagram)

    def recvmsg(self, size: int, ancillary_size: int, flags: int) -> tuple[bytes, Any, int, Any]:
        assert flags == MSG_ERRQUEUE
        if not self.queue:
            raise BlockingIOError
        ancillary, target = self.queue.pop(0)
        return b"", ancillary, flags, target


def spawn(name: str, function: Callable[..., object], *args: object, policy: str) -> gevent.Greenlet:
    return gevent.spawn(function, *args)


class PlaneUnderTest:
    """A plane with its device, socket, clock and everything that it handed up."""

    def __init__(self, name: str, host: str = "127.0.0.1", replay_window: int = 16) -> None:
        self.name = name
        self.device = FakeDevice()
        self.socket = open_udp(Address(host, "0"), UdpOptions(receive_buffer=1 << 20))
        self.address = Address.from_sockaddr(self.socket.getsockname())
        self.events: list[PlaneEvent] = []
        self.shift = 0.0
        """Seconds by which the plane's clock is ahead of the real one."""
        self.plane = SlowDataPlane(
            name=name,
            device=self.device,
            sockets=[self.socket],
            upcall=self.events.extend,
            clock=lambda: time.monotonic() + self.shift,
            replay_window=replay_window,
            spawn=spawn,
        )
        self.plane.start()

    def close(self) -> None:
        self.plane.stop()
        self.device.close()
        self.socket.close()

    def routes(
        self,
        *nodes: RouteNode,
        subnets: Iterable[tuple[str, str]] = (),
        options: int = OPTION_PMTU,
        **settings: Any,
    ) -> None:
        me = RouteNode(self.name, True, via=self.name, next_hop=self.name, options=options)
        table = tuple((Subnet.parse(text), owner) for text, owner in subnets)
        self.plane.set_routes(
            RouteSnapshot(
                self.name, options, {node.name: node for node in (me, *nodes)}, table, RouteSettings(**settings)
            )
        )

    def path(self, node: str, address: Address | None, min_mtu: int = MTU, **more: Any) -> None:
        self.plane.set_path(SetPath(node, address, min_mtu=min_mtu, mtu=MTU, **({"udp": True} | more)))

    def flow_of(self, peer: str, number: int = 1) -> DatagramFlow:
        """What this plane would seal and open with, for a test that does so in its place."""
        state = self.plane.session_state(peer, number)
        assert state is not None
        return DatagramFlow(state)

    def seen(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def neighbour(name: str, options: int = OPTION_PMTU) -> RouteNode:
    return RouteNode(name, True, via=name, next_hop=name, options=options, neighbour=True, tree=True)


def sealed(
    name: str, *, via: str = "", next_hop: str = "", options: int = OPTION_PMTU, minor: int = 7, tree: bool = False
) -> RouteNode:
    """A node of the second generation: a neighbour unless it lies behind ``next_hop``."""
    options |= minor << OPTION_VERSION_SHIFT
    return RouteNode(
        name,
        True,
        via=via or name,
        next_hop=next_hop or name,
        options=options,
        neighbour=not next_hop,
        tree=tree or not next_hop,
        sptps=True,
    )


def make_flows() -> tuple[FlowState, FlowState]:
    """What both ends of a session hold after a handshake."""
    keys = [TrafficKey(TINC_SUITE, os.urandom(TINC_SUITE.key_size)) for _ in range(2)]
    window = WindowState(DEFAULT_REPLAY_WINDOW, 2, 0, 0)
    first, second = (FlowState(keys[me], 2, keys[1 - me], None, None, 0.0, window) for me in range(2))
    return first, second


def join_session(one: PlaneUnderTest, other: PlaneUnderTest, number: int = 1, level: int = 0) -> None:
    """Give both planes one end each of a new session with each other, which they use."""
    for (me, peer), flow in zip(((one, other), (other, one)), make_flows(), strict=True):
        me.plane.install_session(InstallSession(peer.name, number, flow, level, level))
        me.plane.use_session(UseSession(peer.name, number))


SUBNETS = (("10.0.0.1", "alpha"), ("10.0.0.2", "beta"), ("10.0.0.3", "gamma"))


def join(one: PlaneUnderTest, other: PlaneUnderTest) -> None:
    """Give both planes keys and paths to each other; what they route is up to the test."""
    for receiver, sender in ((one, other), (other, one)):
        key = make_key()
        receiver.plane.install_receive_key(sender.name, key)
        sender.plane.install_send_key(receiver.name, key)
        sender.path(receiver.name, receiver.address)
