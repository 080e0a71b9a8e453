"""Devices without a kernel: a tun device over a socket pair, the dummy, and the choice between kinds."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from gmesh.device.base import Device
from gmesh.device.choose import open_device
from gmesh.device.dummy import DummyDevice
from gmesh.device.tun import TunDevice, open_tun
from gmesh.errors import ConfigError, GmeshError

IPV4 = b"\x45" + bytes(39)
IPV6 = b"\x60" + bytes(47)


class Handle:
    """What pytun would give, over one end of a datagram socket pair, which keeps packet boundaries as tun does."""

    name = "gmt0"

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


def test_frames_have_zero_addresses_and_the_right_ethertype(handle: Handle) -> None:
    device = TunDevice(handle, "/dev/net/tun")
    handle.kernel.send(IPV4)
    handle.kernel.send(IPV6)
    assert device.read() == bytes(12) + b"\x08\x00" + IPV4
    assert device.read() == bytes(12) + b"\x86\xdd" + IPV6
    assert device.read() is None
    assert (device.statistics.packets_in, device.statistics.bytes_in) == (2, 54 + 62)


def test_what_is_no_frame_is_discarded_and_the_next_is_read(handle: Handle) -> None:
    device = TunDevice(handle, "/dev/net/tun")
    handle.kernel.send(b"\x15" + bytes(40))
    handle.kernel.send(b"\x45" + bytes(1504))
    handle.kernel.send(IPV4)
    assert device.read() == bytes(12) + b"\x08\x00" + IPV4
    assert device.statistics.discarded == 2


def test_write_strips_the_header_and_counts(handle: Handle) -> None:
    device = TunDevice(handle, "/dev/net/tun")
    assert device.write(bytes(12) + b"\x08\x00" + IPV4)
    assert handle.kernel.recv(2000) == IPV4
    assert device.statistics.bytes_out == 54


def test_a_device_that_takes_nothing_is_counted_not_raised(handle: Handle) -> None:
    device = TunDevice(handle, "/dev/net/tun")
    handle.kernel.close()
    assert not device.write(bytes(12) + b"\x08\x00" + IPV4)
    assert device.statistics.failed == 1


def test_close_twice(handle: Handle) -> None:
    device = TunDevice(handle, "/dev/net/tun")
    device.close()
    device.close()
    assert handle.ours.fileno() == -1


def test_dummy_reads_nothing_and_counts_what_it_drops() -> None:
    device: Device = DummyDevice()
    assert device.fileno() is None
    assert device.read() is None
    assert device.write(bytes(60))
    assert device.statistics.bytes_out == 60
    assert (device.name, device.interface) == ("dummy", "dummy")
    assert device.description == "dummy (dummy) is a dummy device"


def test_device_type_is_compared_without_case() -> None:
    assert isinstance(open_device("Dummy", "router", "", "", "vpn"), DummyDevice)


@pytest.mark.parametrize(
    ("device_type", "mode", "message", "key"),
    [
        ("bogus", "router", "Unknown device type bogus!", "DeviceType"),
        ("uml", "switch", "Unknown device type uml!", "DeviceType"),
        ("tun", "switch", "Mode switch needs Ethernet frames", "Mode"),
    ],
)
def test_kinds_that_cannot_be_opened_say_so(device_type: str, mode: str, message: str, key: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_device(device_type, mode, "", "", "vpn")
    assert caught.value.key == key


def test_missing_device_node_says_what_to_do() -> None:
    with pytest.raises(
        GmeshError, match=r"Could not open /nonexistent/tun: No such file or directory \(.*modprobe tun"
    ):
        open_tun("/nonexistent/tun", "gmt0")


def test_a_node_that_is_no_tun_device() -> None:
    with pytest.raises(GmeshError, match=r"Could not create a tun/tap interface from /dev/null: Inappropriate ioctl"):
        open_device("", "router", "/dev/null", "gmt0", "vpn")


def test_no_descriptor_leaks_when_opening_fails() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in ("/dev/null", "/nonexistent/tun"):
        with pytest.raises(GmeshError):
            open_tun(path, "gmt0")
    assert len(os.listdir("/proc/self/fd")) == before
