"""Addresses in the form that sockets use, and the sockets' options."""

from __future__ import annotations

import os
import socket as std_socket
from collections.abc import Iterator

import gevent.socket
import pytest
from dataplane_lab import wait_until

from gmesh.dataplane.endpoints import Endpoint, address_of, endpoint_of, normal_endpoint
from gmesh.dataplane.local_address import local_address
from gmesh.dataplane.sockets import UdpSockets
from gmesh.dataplane.udp_sockets import UdpOptions, open_udp
from gmesh.errors import ConfigError
from gmesh.values import UNKNOWN_ADDRESS, Address

LOOPBACK = std_socket.if_nametoindex("lo")
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        (Address("192.0.2.1", "655"), ("192.0.2.1", 655)),
        (Address("2001:DB8:0::1", "655"), ("2001:db8::1", 655, 0, 0)),
        (Address("::ffff:192.0.2.1", "655"), ("192.0.2.1", 655)),
        (Address("fe80::1%lo", "655"), ("fe80::1", 655, 0, LOOPBACK)),
        (Address(f"fe80::1%{LOOPBACK}", "655"), ("fe80::1", 655, 0, LOOPBACK)),
        (Address("fe80::1%nosuchdev", "655"), None),
        (Address("fe80::1%99999999999", "655"), None),
        (Address("vpn.example.org", "655"), None),
        (Address("192.0.2.1", "0"), None),
        (Address("192.0.2.1", "99999"), None),
        (UNKNOWN_ADDRESS, None),
    ],
)
def test_endpoint_of(address: Address, endpoint: Endpoint | None) -> None:
    assert endpoint_of(address) == endpoint


@pytest.mark.parametrize(
    ("source", "endpoint"),
    [
        (("192.0.2.1", 655), ("192.0.2.1", 655)),
        (("::ffff:192.0.2.1", 655, 0, 0), ("192.0.2.1", 655)),
        (("2001:db8::1", 655, 7, 0), ("2001:db8::1", 655, 0, 0)),
        (("fe80::1", 655, 0, 3), ("fe80::1", 655, 0, 3)),
    ],
)
def test_normal_endpoint(source: Endpoint, endpoint: Endpoint) -> None:
    assert normal_endpoint(source) == endpoint


def test_address_of_keeps_the_scope() -> None:
    assert address_of(("192.0.2.1", 655)) == Address("192.0.2.1", "655")
    assert address_of(("fe80::1", 655, 0, LOOPBACK)) == Address("fe80::1%lo", "655")
    assert address_of(("fe80::1", 655, 0, 99999)) == Address("fe80::1%99999", "655")
    assert endpoint_of(address_of(("fe80::1", 655, 0, LOOPBACK))) == ("fe80::1", 655, 0, LOOPBACK)


@pytest.fixture
def opened() -> Iterator[list[gevent.socket.socket]]:
    sockets: list[gevent.socket.socket] = []
    yield sockets
    for sock in sockets:
        sock.close()


def test_sockets_forbid_fragmentation_and_keep_families_apart(opened: list[gevent.socket.socket]) -> None:
    ipv4 = open_udp(Address("127.0.0.1", "0"), UdpOptions(receive_buffer=50_000, send_buffer=40_000))
    opened.append(ipv4)
    ipv6 = open_udp(Address("::", str(ipv4.getsockname()[1])), UdpOptions())
    opened.append(ipv6)
    assert ipv4.getsockopt(std_socket.IPPROTO_IP, IP_MTU_DISCOVER) == PMTUDISC_PROBE
    assert ipv6.getsockopt(std_socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER) == PMTUDISC_PROBE
    assert ipv6.getsockopt(std_socket.IPPROTO_IPV6, std_socket.IPV6_V6ONLY) == 1
    # Linux doubles what it is asked for.
    assert ipv4.getsockopt(std_socket.SOL_SOCKET, std_socket.SO_RCVBUF) == 100_000
    assert ipv4.getsockopt(std_socket.SOL_SOCKET, std_socket.SO_SNDBUF) == 80_000
    assert ipv4.getsockopt(std_socket.SOL_SOCKET, std_socket.SO_BROADCAST) == 1


def test_an_address_in_use_raises_and_leaks_nothing(opened: list[gevent.socket.socket]) -> None:
    opened.append(open_udp(Address("127.0.0.1", "0"), UdpOptions()))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="in use"):
        open_udp(Address.from_sockaddr(opened[0].getsockname()), UdpOptions())
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("options", "key"),
    [(UdpOptions(interface="nosuchdev"), "BindToInterface"), (UdpOptions(mark=2**40), "FWMark")],
)
def test_refused_options_name_the_option(options: UdpOptions, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_udp(Address("127.0.0.1", "0"), options)
    assert caught.value.key == key


def test_marks_are_32_bits_and_impossible_buffers_are_no_error(opened: list[gevent.socket.socket]) -> None:
    opened.append(open_udp(Address("127.0.0.1", "0"), UdpOptions(mark=0xFFFFFFFE, receive_buffer=2**40)))
    mark = opened[0].getsockopt(std_socket.SOL_SOCKET, std_socket.SO_MARK)
    assert mark & 0xFFFFFFFF == 0xFFFFFFFE


def test_no_numeric_address() -> None:
    with pytest.raises(ConfigError, match="no address to listen on"):
        open_udp(Address("vpn.example.org", "655"), UdpOptions())


def test_an_ipv6_socket_for_both_families_stands_in_for_a_missing_ipv4_one(opened: list[gevent.socket.socket]) -> None:
    both = gevent.socket.socket(std_socket.AF_INET6, std_socket.SOCK_DGRAM)
    opened.append(both)
    both.setsockopt(std_socket.IPPROTO_IPV6, std_socket.IPV6_V6ONLY, 0)
    both.bind(("::", 0))
    listener = gevent.socket.socket(std_socket.AF_INET, std_socket.SOCK_DGRAM)
    opened.append(listener)
    listener.bind(("127.0.0.1", 0))
    listener.setblocking(False)
    sockets = UdpSockets([both])
    endpoint = listener.getsockname()
    sock = sockets.for_endpoint(endpoint)
    assert sock is both
    sock.sendto(b"hello", sockets.target(sock, endpoint))
    received: list[bytes] = []

    def arrived() -> bool:
        try:
            received.append(listener.recv(100))
        except BlockingIOError:
            return False
        return True

    wait_until(arrived)
    assert received == [b"hello"]


def test_families_have_their_own_sockets(opened: list[gevent.socket.socket]) -> None:
    opened.append(open_udp(Address("::1", "0"), UdpOptions()))
    only_ipv6 = UdpSockets(opened)
    assert only_ipv6.for_endpoint(("192.0.2.1", 655)) is None
    opened.append(open_udp(Address("127.0.0.1", "0"), UdpOptions()))
    both = UdpSockets(opened)
    assert both.for_endpoint(("192.0.2.1", 655)) is opened[1]
    assert both.for_endpoint(("2001:db8::1", 655, 0, 0)) is opened[0]


def test_local_address() -> None:
    assert local_address(bytes([127, 0, 0, 1])) == bytes([127, 0, 0, 1])
    assert local_address(bytes(15) + b"\x01") == bytes(15) + b"\x01"
    assert local_address(bytes([0, 0, 0])) is None
