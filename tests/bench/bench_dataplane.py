"""Packets per second through the Python data plane: device, routing, sealing, loopback UDP, opening, device.

Two planes share one process and one thread, so that the figure for both is what one relay could do. Run it with
``python tests/bench/bench_dataplane.py [--profile]``. Not here: a kernel's tun device, and the meta protocol.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import gevent

from gmesh.dataplane.slow import SlowDataPlane
from gmesh.dataplane.udp_sockets import UdpOptions, open_udp
from gmesh.device.base import DeviceStatistics
from gmesh.mesh.actions import InstallSession, SetPath, UseSession
from gmesh.proto.packet import PacketKey
from gmesh.proto.sptps_flow import DEFAULT_REPLAY_WINDOW, FlowState, WindowState
from gmesh.proto.sptps_handshake import TINC_SUITE, TrafficKey
from gmesh.route.snapshot import RouteNode, RouteSnapshot
from gmesh.values import MTU, OPTION_CLAMP_MSS, OPTION_PMTU, OPTION_VERSION_SHIFT, Address, Subnet

SECONDS = 3.0
OPTIONS = OPTION_PMTU | OPTION_CLAMP_MSS


class EndlessDevice:
    """Always has the same frame to read while it is told to; a descriptor that is always readable stands for it."""

    name = interface = "endless"
    description = "endless is a device for measuring"

    def __init__(self, frame: bytes, backlog: Callable[[], bool]) -> None:
        self.statistics = DeviceStatistics()
        self.written = 0
        self._frame = frame
        self._backlog = backlog
        self._zero = os.open("/dev/zero", os.O_RDONLY)
        self._reading, writing = os.pipe()
        os.write(writing, b"x")

    def fileno(self) -> int | None:
        return self._reading

    def read(self) -> bytes | None:
        if self._backlog():
            return None
        # The system call that a real device would cost.
        os.read(self._zero, len(self._frame))
        self.statistics.packets_in += 1
        return self._frame

    def write(self, frame: bytes) -> bool:
        self.written += 1
        return True

    def close(self) -> None:
        os.close(self._reading)


def spawn(name: str, function: Callable[..., object], *args: object, policy: str) -> gevent.Greenlet:
    return gevent.spawn(function, *args)


def ipv4_frame(payload: int) -> bytes:
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + payload, 0, 0x4000, 64, 17, 0, b"\x0a\0\0\x01", b"\x0a\0\0\x02")
    return bytes(12) + b"\x08\x00" + header + os.urandom(payload)


def sealed_flow(me: int, keys: Sequence[TrafficKey]) -> FlowState:
    """The state of one end's flow after a handshake; ``me`` is 0 or 1."""
    window = WindowState(DEFAULT_REPLAY_WINDOW, 2, 0, 0)
    return FlowState(keys[me], 2, keys[1 - me], None, None, 0.0, window)


def measure(size: int, key: PacketKey | None) -> tuple[float, float]:
    """(packets per second that arrived, share that was lost) for frames of ``size`` bytes; without ``key`` by SPTPS."""
    planes: dict[str, SlowDataPlane] = {}
    devices: dict[str, EndlessDevice] = {}
    sockets: dict[str, Any] = {}

    def backlog() -> bool:
        # Stay below what the socket's buffer holds, as losses would be measured as speed.
        return devices["alpha"].statistics.packets_in - devices["beta"].written > 60

    for name in ("alpha", "beta"):
        devices[name] = EndlessDevice(ipv4_frame(size - 34), backlog if name == "alpha" else lambda: True)
        sockets[name] = open_udp(Address("127.0.0.1", "0"), UdpOptions(1 << 20, 1 << 20))
        planes[name] = SlowDataPlane(
            name=name,
            device=devices[name],
            sockets=[sockets[name]],
            upcall=lambda events: None,
            clock=time.monotonic,
            replay_window=16,
            spawn=spawn,
        )
    subnets = ((Subnet.parse("10.0.0.1"), "alpha"), (Subnet.parse("10.0.0.2"), "beta"))
    options = OPTIONS if key is not None else OPTIONS | 7 << OPTION_VERSION_SHIFT
    nodes = {name: RouteNode(name, True, name, name, options, True, True, key is None) for name in planes}
    traffic_keys = [TrafficKey(TINC_SUITE, os.urandom(TINC_SUITE.key_size)) for _ in planes]
    for name, other in (("alpha", "beta"), ("beta", "alpha")):
        planes[name].set_routes(RouteSnapshot(name, options, nodes, subnets))
        if key is None:
            planes[name].install_session(InstallSession(other, 1, sealed_flow(int(name == "beta"), traffic_keys)))
            planes[name].use_session(UseSession(other, 1))
        else:
            planes[name].install_send_key(other, key)
            planes[name].install_receive_key(other, key)
        planes[name].set_path(SetPath(other, Address.from_sockaddr(sockets[other].getsockname()), True, MTU, MTU))
    planes["alpha"].start()
    planes["beta"].start()
    began = time.process_time()
    gevent.sleep(SECONDS)
    seconds = time.process_time() - began
    for plane in planes.values():
        plane.stop()
    sent, arrived = devices["alpha"].statistics.packets_in, devices["beta"].written
    return arrived / seconds, 1 - arrived / sent


def main() -> None:
    algorithms: dict[str, PacketKey | None] = {
        "SPTPS": None,
        "aes-256-cbc sha256 4": PacketKey(427, 672, 4, 0, os.urandom(48)),
        "none none": PacketKey(0, 0, 0, 0, b"k"),
    }
    for label, key in algorithms.items():
        for size in (98, 1434):
            rate, lost = measure(size, key)
            megabits = rate * size * 8 / 1e6
            print(f"{label:22} {size:5} bytes  {rate:8.0f} packets/s of CPU  {megabits:7.1f} Mbit/s  lost {lost:.1%}")


if __name__ == "__main__":
    if "--profile" in sys.argv:
        import cProfile

        cProfile.run("main()", sort="tottime")
    else:
        main()
