"""Noticing changes of this machine's addresses."""

from __future__ import annotations

import errno
import struct

import gevent
import gevent.event
import gevent.socket
import pytest

from gmesh.net import addresses
from gmesh.net.addresses import interfaces_of, is_own_address, open_notifications, watch_addresses


def notification(kind: int, index: int, rest: bytes = b"") -> bytes:
    body = struct.pack("=4xi", index) + rest
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


NEW_ADDRESS, NEW_LINK, NEW_ROUTE = 20, 16, 24


def test_interfaces_are_read_from_every_notification_of_a_datagram() -> None:
    data = notification(NEW_ADDRESS, 3, b"abc") + notification(NEW_ROUTE, 9) + notification(NEW_LINK, 7, bytes(8))
    assert list(interfaces_of(data)) == [3, 7]


@pytest.mark.parametrize("data", [b"", b"\0" * 15, b"\0" * 64, notification(NEW_LINK, 1)[:-1], b"\xff" * 40])
def test_short_or_odd_datagrams_are_no_trouble(data: bytes) -> None:
    list(interfaces_of(data))


def test_own_addresses() -> None:
    assert is_own_address("127.0.0.1")
    assert not is_own_address("192.0.2.77")
    assert not is_own_address("2001:db8::77")
    assert not is_own_address("fe80::1%none7")


class FakeSocket:
    """A netlink socket that says what the test puts into it."""

    def __init__(self) -> None:
        self.pieces: list[bytes | OSError] = []
        self.ready = gevent.event.Event()
        self.timeout: float | None = None

    def __enter__(self) -> FakeSocket:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def settimeout(self, timeout: float | None) -> None:
        self.timeout = timeout

    def recv(self, size: int) -> bytes:
        if not self.pieces and not self.ready.wait(self.timeout):
            raise TimeoutError
        self.ready.clear()
        piece = self.pieces.pop(0)
        if isinstance(piece, OSError):
            raise piece
        return piece

    def put(self, *pieces: bytes | OSError) -> None:
        self.pieces += pieces
        self.ready.set()


def test_a_burst_is_one_change_and_our_own_interface_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeSocket()
    monkeypatch.setattr(addresses, "SETTLE_SECONDS", 0.02)
    changes: list[int] = []
    happened = gevent.event.Event()

    def changed() -> None:
        changes.append(len(fake.pieces))
        happened.set()

    watcher = gevent.spawn(watch_addresses, fake, changed, lambda index: index == 5)
    fake.put(notification(NEW_ADDRESS, 5))
    fake.put(notification(NEW_ADDRESS, 2), notification(NEW_ADDRESS, 5), notification(NEW_LINK, 2))
    assert happened.wait(5)
    assert changes == [0]
    happened.clear()
    # The kernel had to drop some: who knows what they were.
    fake.put(OSError(errno.ENOBUFS, "No buffer space available"))
    assert happened.wait(5)
    assert changes == [0, 0]
    watcher.kill()


def test_a_burst_without_end_is_a_change_too(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeSocket()
    monkeypatch.setattr(addresses, "LONGEST_BURST", 0.05)
    happened = gevent.event.Event()
    watcher = gevent.spawn(watch_addresses, fake, happened.set)

    def babble() -> None:
        while True:
            fake.put(notification(NEW_LINK, 2))
            gevent.sleep(0.005)

    babbler = gevent.spawn(babble)
    assert happened.wait(5)
    gevent.killall([watcher, babbler])


def test_a_fault_while_watching_is_not_taken_for_the_end_of_it() -> None:
    def changed() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    fake = FakeSocket()
    fake.put(notification(NEW_LINK, 2))
    with pytest.raises(OSError, match="Too many open files"):
        watch_addresses(fake, changed)


def test_the_kernel_can_be_asked_to_tell() -> None:
    with open_notifications() as sock:
        assert sock.getsockname()[1] == 1 | 0x10 | 0x100
