"""Proxies for the namespace tests: SOCKS 4, 4a and 5 and HTTP CONNECT on one port each, and the relay of an exec proxy.

usage: proxy.py serve ADDRESS     ports 1080 (socks4, socks4a), 1081 (socks5), 8080 (http)
       proxy.py relay FILE        relays standard input and output to REMOTEADDRESS; its environment goes to FILE
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from collections.abc import Callable

USER, PASSWORD = b"joe", b"secret"
NAMES = {b"b.example": os.environ.get("B_ADDRESS", "")}


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def read_until(sock: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        data += read(sock, 1)
    return data


def socks4(sock: socket.socket) -> tuple[str, int]:
    head = read(sock, 8)
    if read_until(sock, b"\0") != USER + b"\0":
        raise EOFError
    host = socket.inet_ntoa(head[4:8])
    if host == "0.0.0.1":
        host = NAMES[read_until(sock, b"\0")[:-1]]
    sock.sendall(b"\0\x5a" + bytes(6))
    return host, int.from_bytes(head[2:4], "big")


def socks5(sock: socket.socket) -> tuple[str, int]:
    read(sock, read(sock, 2)[1])
    sock.sendall(b"\x05\x02")
    user = read(sock, read(sock, 2)[1])
    if (user, read(sock, read(sock, 1)[0])) != (USER, PASSWORD):
        raise EOFError
    # As tinc 1.0 wants it; RFC 1929 has 1 here.
    sock.sendall(b"\x05\x00")
    kind = read(sock, 4)[3]
    if kind == 3:
        host = NAMES[read(sock, read(sock, 1)[0])]
    else:
        family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
        host = socket.inet_ntop(family, read(sock, size))
    port = int.from_bytes(read(sock, 2), "big")
    sock.sendall(b"\x05\0\0\x01\x0a\0\0\x01\x12\x34")
    return host, port


def http(sock: socket.socket) -> tuple[str, int]:
    host, _, port = read_until(sock, b"\r\n\r\n").split()[1].rpartition(b":")
    sock.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 lab\r\n\r\n")
    return NAMES.get(host) or host.strip(b"[]").decode(), int(port)


def relay(one: int, other: int, sock: socket.socket) -> None:
    """Between a socket and a pair of descriptors, to read and to write."""
    while True:
        for ready in select.select([one, sock], [], [])[0]:
            data = os.read(one, 65536) if ready == one else sock.recv(65536)
            if not data:
                return
            if ready == one:
                sock.sendall(data)
            else:
                os.write(other, data)


def serve_one(sock: socket.socket, talk: Callable[[socket.socket], tuple[str, int]]) -> None:
    with sock:
        try:
            with socket.create_connection(talk(sock)) as target:
                relay(sock.fileno(), sock.fileno(), target)
        except (OSError, EOFError, KeyError):
            return


def serve(address: str, port: int, talk: Callable[[socket.socket], tuple[str, int]]) -> None:
    with socket.create_server((address, port)) as server:
        print(f"serving {port}", flush=True)
        while True:
            threading.Thread(target=serve_one, args=(server.accept()[0], talk), daemon=True).start()


def main() -> None:
    role, where = sys.argv[1:]
    if role == "serve":
        for port, talk in ((1080, socks4), (1081, socks5)):
            threading.Thread(target=serve, args=(where, port, talk), daemon=True).start()
        serve(where, 8080, http)
    else:
        with open(where, "w", encoding="utf-8") as file:
            print(
                *(f"{key}={os.environ.get(key)}" for key in ("NAME", "NODE", "REMOTEADDRESS", "REMOTEPORT")), file=file
            )
        with socket.create_connection((os.environ["REMOTEADDRESS"], int(os.environ["REMOTEPORT"]))) as target:
            relay(0, 1, target)


if __name__ == "__main__":
    main()
