"""A descriptor opened by somebody else: by its number, or through a unix socket (config 7)."""

from __future__ import annotations

import array
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gmesh.device.choose import open_device
from gmesh.errors import ConfigError, GmeshError

IPV4 = b"\x45" + bytes(39)


class Notes:
    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []

    def __call__(self, debug: int, text: str) -> None:
        self.lines.append((debug, text))


@contextmanager
def pair() -> Iterator[tuple[socket.socket, int]]:
    """The far end, and the number of the near end, which belongs to whoever uses it."""
    far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with far:
        yield far, near.detach()


def test_packets_through_an_inherited_descriptor() -> None:
    notes = Notes()
    with pair() as (far, number):
        device = open_device("fd", "router", str(number), "", "vpn", note=notes)
        assert device.description == f"fd/{number} adapter set up."
        assert (device.name, device.interface) == (str(number), f"fd/{number}")
        assert device.read() is None
        far.send(b"\x15garbage")
        far.send(IPV4)
        assert device.read() == bytes(12) + b"\x08\x00" + IPV4
        assert notes.lines == [(5, f"Unknown IP version while reading packet from fd/{number}!")]
        assert device.write(bytes(12) + b"\x08\x00" + IPV4)
        assert far.recv(2000) == IPV4
        assert not os.get_inheritable(number)
        device.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)


def test_the_far_end_is_closed() -> None:
    with pair() as (far, number):
        device = open_device("fd", "router", str(number), "", "vpn")
        far.close()
        with pytest.raises(OSError, match="closed"):
            device.read()
        device.close()


@pytest.mark.parametrize(
    ("device", "mode", "error", "message"),
    [
        ("", "router", ConfigError, "Could not read device from configuration!"),
        ("x" * 110, "router", ConfigError, "Unix socket path too long!"),
        ("5", "switch", ConfigError, r"Switch mode not supported \(requires unsupported TAP device\)!"),
        ("/dev/null", "router", GmeshError, r"Could not connect to Unix socket \(error -1\)!"),
        ("@gmesh-nobody-listens", "router", GmeshError, r"Could not connect to Unix socket \(error -1\)!"),
        ("-1", "router", GmeshError, "Could not open -1: Bad file descriptor!"),
        ("999999", "router", GmeshError, "Could not open 999999: Bad file descriptor!"),
        ("99999999999999", "router", GmeshError, "Could not open 99999999999999: Bad file descriptor!"),
    ],
)
def test_messages(device: str, mode: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_device("fd", mode, device, "", "vpn")


def serve(path: str | bytes, send: Callable[[socket.socket], None]) -> threading.Thread:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    server.listen(1)

    def answer() -> None:
        with server, server.accept()[0] as client:
            send(client)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


def descriptors(*numbers: int, data: bytes = b"x") -> Callable[[socket.socket], None]:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", numbers).tobytes())] if numbers else []
    return lambda client: client.sendmsg([data], rights) and None


@pytest.mark.parametrize("abstract", [False, True])
def test_a_descriptor_through_a_unix_socket(tmp_path: Path, *, abstract: bool) -> None:
    path = f"@gmesh-test-{os.getpid()}" if abstract else str(tmp_path / "s")
    notes = Notes()
    with pair() as (far, number):
        thread = serve(b"\0" + path[1:].encode() if abstract else path, descriptors(number))
        device = open_device("fd", "router", path, "", "vpn", note=notes)
        thread.join()
        os.close(number)
        assert notes.lines == [(0, f"Receiving fd from Unix socket at {path}.")]
        far.send(IPV4)
        assert device.read() == bytes(12) + b"\x08\x00" + IPV4
        device.close()


def test_what_is_no_descriptor_is_refused_and_leaks_nothing(tmp_path: Path) -> None:
    with pair() as (_, number):
        before = len(os.listdir("/proc/self/fd"))
        for index, (answer, message) in enumerate(
            [
                (lambda client: None, r"Could not read from unix socket \(error 0\)!"),
                (descriptors(), "it sent 0 descriptors"),
                (descriptors(number, number), "it sent 2 descriptors"),
            ]
        ):
            path = str(tmp_path / str(index))
            thread = serve(path, answer)
            with pytest.raises(GmeshError, match=message):
                open_device("fd", "router", path, "", "vpn")
            thread.join()
        assert len(os.listdir("/proc/self/fd")) == before
        os.close(number)
