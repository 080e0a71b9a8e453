"""Devices that carry whole Ethernet frames, over socket pairs and on the loopback interface."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gmesh.device.choose import follow_mode, open_device
from gmesh.device.dummy import DummyDevice
from gmesh.device.multicast import MulticastDevice, open_multicast
from gmesh.device.raw_socket import RawSocketDevice
from gmesh.device.tap import LOOK_INTERVAL, TapDevice
from gmesh.device.tun import TunDevice
from gmesh.device.tuntap import why_invalid
from gmesh.errors import ConfigError, GmeshError

OWN = bytes.fromhex("020000000001")
OTHER = bytes.fromhex("020000000002")


def frame(target: bytes = OTHER, source: bytes = OWN, length: int = 60) -> bytes:
    return (target + source + b"\x08\x00").ljust(length, b"x")


class Handle:
    """What pytun would give for a tap interface, over a socket pair."""

    name = "gmt0"
    hwaddr = OWN

    def __init__(self) -> None:
        self.ours, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def fileno(self) -> int:
        return self.ours.fileno()

    def close(self) -> None:
        self.ours.close()


@pytest.fixture
def handle() -> Iterator[Handle]:
    handle = Handle()
    yield handle
    handle.ours.close()
    handle.kernel.close()


@pytest.mark.parametrize("routed", [False, True])
def test_tap_frames_go_in_as_they_are(handle: Handle, *, routed: bool) -> None:
    device = TapDevice(handle, "/dev/net/tun", routed=routed)
    for length in (13, 1519, 14, 1518):
        handle.kernel.send(frame(length=length)[:length])
    assert device.read() == frame(length=14)
    assert device.read() == frame(length=1518)
    assert device.read() is None
    assert (device.statistics.packets_in, device.statistics.bytes_in, device.statistics.discarded) == (2, 1532, 2)
    assert device.description == "/dev/net/tun is a Linux tun/tap device (tap mode)"
    assert (device.name, device.interface) == ("/dev/net/tun", "gmt0")


def test_switched_frames_go_out_as_they_are(handle: Handle) -> None:
    device = TapDevice(handle, "/dev/net/tun", routed=False)
    assert device.write(frame())
    assert handle.kernel.recv(2000) == frame()


def test_routed_frames_bear_the_interfaces_own_address(handle: Handle) -> None:
    device = TapDevice(handle, "/dev/net/tun", routed=True)
    tun_frame = bytes(12) + b"\x08\x00" + bytes(46)
    assert device.write(tun_frame)
    assert handle.kernel.recv(2000) == OWN + tun_frame[6:]


def test_a_new_hardware_address_is_noticed(handle: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    device = TapDevice(handle, "/dev/net/tun", routed=True)
    handle.hwaddr = OTHER
    device.write(frame())
    assert handle.kernel.recv(2000)[:6] == OWN, "nobody asks for each frame"
    later = time.monotonic() + LOOK_INTERVAL
    monkeypatch.setattr(time, "monotonic", lambda: later)
    device.write(frame())
    assert handle.kernel.recv(2000)[:6] == OTHER


def test_a_device_follows_the_mode_if_it_can(handle: Handle) -> None:
    tap = TapDevice(handle, "/dev/net/tun", routed=True)
    assert follow_mode(tap, "switch")
    assert not tap.routed
    assert follow_mode(tap, "router")
    assert tap.routed
    tun = TunDevice(handle, "/dev/net/tun")
    assert [follow_mode(tun, mode) for mode in ("router", "hub", "switch")] == [True, True, False]
    assert follow_mode(DummyDevice(), "switch")


def test_a_full_queue_loses_frames_and_raises_nothing(handle: Handle) -> None:
    device = TapDevice(handle, "/dev/net/tun", routed=False)
    while device.write(frame()):
        pass
    assert device.statistics.failed == 1


@pytest.mark.parametrize(
    ("flags", "tap", "words"),
    [
        (None, False, "'vpn' is no name for a tun interface"),
        (0, True, "neither tun nor tap"),
        (0x1802, False, "is a tap interface, but a tun interface is needed"),
        (0x1801, True, "is a tun interface, but a tap interface is needed"),
        (0x1901, False, "made with multi_queue.*ip link del vpn; ip tuntap add dev vpn mode tun"),
        (0x1902, True, "made with multi_queue.*mode tap"),
        (0x5801, False, "options that differ"),
    ],
)
def test_why_an_interface_cannot_be_opened(flags: int | None, *, tap: bool, words: str) -> None:
    with pytest.raises(GmeshError, match=words):
        raise GmeshError(why_invalid("vpn", flags, tap=tap))


class PacketSocket:
    """A packet socket as far as the device uses it, with the control messages of a tagged frame."""

    def __init__(self, *received: tuple[bytes, list[Any]] | OSError) -> None:
        self.received = list(received)
        self.file, self._other = socket.socketpair()

    def fileno(self) -> int:
        return self.file.fileno()

    def recvmsg(self, size: int, control: int) -> tuple[bytes, list[Any], int, Any]:
        if not self.received:
            raise BlockingIOError
        item = self.received.pop(0)
        if isinstance(item, OSError):
            raise item
        return item[0], item[1], 0, None

    def close(self) -> None:
        self.file.close()
        self._other.close()


def auxdata(status: int, tag: int, tag_type: int) -> tuple[int, int, bytes]:
    return 263, 8, struct.pack("=IIIHHHH", status, 60, 60, 0, 14, tag, tag_type)


@pytest.mark.parametrize(("status", "tag_type"), [(0x50, 0x8100), (0x10, 0)])
def test_raw_socket_puts_the_vlan_tag_back(status: int, tag_type: int) -> None:
    sock = PacketSocket((frame(), [auxdata(status, 0x2005, tag_type)]), (frame(), [auxdata(0, 0, 0)]))
    device = RawSocketDevice(sock, "eth7", "eth7")
    assert device.read() == frame()[:12] + b"\x81\x00\x20\x05" + frame()[12:]
    assert device.read() == frame()
    assert device.description == "eth7 is a raw_socket"
    device.close()


def test_raw_socket_outlives_an_interface_that_is_down() -> None:
    sock = PacketSocket(OSError(100, "Network is down"), (frame(), []))
    device = RawSocketDevice(sock, "label", "eth7")
    assert device.read() is None
    assert device.read() == frame()
    device.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="packet sockets need CAP_NET_RAW")
def test_raw_socket_names_the_missing_interface() -> None:
    with pytest.raises(GmeshError, match=r"^Can't find interface nosuchinterfac: No such device$"):
        open_device("raw_socket", "switch", "", "nosuchinterfac", "vpn")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("", "Device variable required for multicast socket"),
        ("239.7.7.7", "Port number required for multicast socket"),
        ("239.7.7.7 4000 many", "TTL of a multicast socket"),
        ("239.7.7.7 4000 256", "TTL of a multicast socket"),
    ],
)
def test_multicast_says_what_device_must_be(device: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_device("multicast", "switch", device, "", "vpn")


@pytest.mark.parametrize(("group", "port"), [("192.0.2.77", "4000"), ("239.7.7.7", "nosuchservice"), ("::1:2:3", "9")])
def test_multicast_cannot_bind(group: str, port: str) -> None:
    with pytest.raises(GmeshError, match=f"^Can't bind to {group} {port}: [A-Z]"):
        open_multicast(f"{group} {port}")


def test_multicast_drops_the_echo_of_its_own_frames() -> None:
    ours, group = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    class Connected:
        """`sendto` with a target as on a socket of the internet."""

        fileno, close = ours.fileno, ours.close

        @staticmethod
        def sendto(data: bytes, target: object) -> int:
            assert target == ("239.7.7.7", 4000)
            return ours.send(data)

    device = MulticastDevice(Connected(), "239.7.7.7 4000", ("239.7.7.7", 4000))
    group.send(frame())
    assert device.read() == frame(), "nothing has been sent yet"
    assert device.write(frame(source=OWN))
    assert group.recv(2000) == frame()
    group.send(frame(source=OWN))
    group.send(frame(source=OTHER))
    assert device.read() == frame(source=OTHER)
    assert device.read() is None
    assert device.description == "239.7.7.7 4000 is a multicast socket"
    group.close()
    device.close()
