"""Sends a stream through the mesh, has it echoed, and compares: both directions at once, for many clients."""

from __future__ import annotations

import random
import socket
import sys
import threading
import time

PORT = 7001
PIECES = 150


def stream() -> bytes:
    """Noise, text and zeros in turn, so that compression has all it may meet."""
    chance = random.Random(22)
    text = b"The quick brown fox jumps over the lazy dog, line %d.\n"
    parts = []
    for number in range(PIECES):
        parts += [chance.randbytes(1500), text % number * 20, bytes(700)]
    return b"".join(parts)


def echo(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)


def serve(address: str) -> None:
    with socket.create_server((address, PORT), backlog=50) as server:
        print("serving", flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=echo, args=(connection,), daemon=True).start()


def compare(address: str, seconds: float) -> bool:
    sent = stream()
    end = time.monotonic() + seconds
    received = bytearray()
    with socket.create_connection((address, PORT), timeout=seconds) as connection:
        threading.Thread(target=send, args=(connection, sent), daemon=True).start()
        while len(received) < len(sent) and time.monotonic() < end:
            data = connection.recv(65536)
            if not data:
                break
            received += data
    return bytes(received) == sent


def send(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def main() -> None:
    role, address = sys.argv[1:3]
    if role == "serve":
        serve(address)
    elif not compare(address, float(sys.argv[3])):
        sys.exit("what came back is not what was sent")


if __name__ == "__main__":
    main()
