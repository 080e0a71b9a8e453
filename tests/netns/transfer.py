"""Send or receive a stream of random bytes by TCP and print its checksum, for a shell test to compare both ends."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time

PORT = 7000


def receive(address: str) -> str:
    checksum = hashlib.md5(usedforsecurity=False)
    with socket.create_server((address, PORT)) as server:
        connection, _ = server.accept()
        with connection:
            while data := connection.recv(65536):
                checksum.update(data)
            connection.sendall(b"done")
    return checksum.hexdigest()


def send(address: str, megabytes: int) -> str:
    data = os.urandom(megabytes * 1_000_000)
    connection = connect(address)
    with connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(4)
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def connect(address: str) -> socket.socket:
    """The receiver may not listen yet: try until it does (the caller limits the time)."""
    while True:
        try:
            return socket.create_connection((address, PORT), timeout=60)
        except ConnectionRefusedError:
            time.sleep(0.05)


def main() -> None:
    role, address, *rest = sys.argv[1:]
    print(receive(address) if role == "receive" else send(address, int(rest[0])))


if __name__ == "__main__":
    main()
