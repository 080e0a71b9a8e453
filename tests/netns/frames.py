"""Ethernet frames for the namespace tests: made by hand, and seen at an interface.

usage: frames.py send INTERFACE SOURCE TARGET TOKEN [count=N] [vlan=N] [kind=dhcp] [size=N]
       frames.py listen INTERFACE TOKEN SECONDS
       frames.py watch INTERFACE TARGET SECONDS

"listen" prints "listening", then one line "TARGET SOURCE VLAN SIZE" for each frame with the token in it that the
daemon gives to the interface (not those that the interface gives to the daemon). "watch" does the same for all frames
with that destination. VLAN is "-" where there is no tag.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

SOL_PACKET, PACKET_AUXDATA, PACKET_OUTGOING, TAG_VALID = 263, 8, 4, 0x10


def mac(text: str) -> bytes:
    return bytes(int(part, 16) for part in text.split(":"))


def text(address: bytes) -> str:
    return address.hex(":")


def packet_socket(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    sock.bind((interface, 3))
    return sock


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def dhcp(payload: bytes) -> bytes:
    """IPv4 and UDP as of a host that has no address yet."""
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 1, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return header + struct.pack("!HHHH", 68, 67, 8 + len(payload), 0) + payload


def send(interface: str, source: str, target: str, token: str, *options: str) -> None:
    chosen = dict(option.split("=") for option in options)
    payload = token.encode().ljust(int(chosen.get("size", "60")), b".")
    kind = b"\x88\xb5"  # for local experiments
    if chosen.get("kind") == "dhcp":
        kind, payload = b"\x08\x00", dhcp(payload)
    tag = struct.pack("!HH", 0x8100, int(chosen["vlan"])) if "vlan" in chosen else b""
    with packet_socket(interface) as sock:
        for _ in range(int(chosen.get("count", "1"))):
            sock.send(mac(target) + mac(source) + tag + kind + payload)


def receive(interface: str, seconds: str, token: bytes, target: bytes) -> None:
    with packet_socket(interface) as sock:
        print("listening", flush=True)
        end = time.monotonic() + float(seconds)
        while (left := end - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                frame, control, _, address = sock.recvmsg(2048, 128)
            except TimeoutError:
                return
            if address[2] == PACKET_OUTGOING or token not in frame or not frame.startswith(target):
                continue
            vlan = "-"
            for _, kind, data in control:
                if kind == PACKET_AUXDATA and struct.unpack_from("=I", data)[0] & TAG_VALID:
                    vlan = str(struct.unpack_from("=H", data, 16)[0])
            print(text(frame[:6]), text(frame[6:12]), vlan, len(frame), flush=True)


if __name__ == "__main__":
    command, words = sys.argv[1], sys.argv[2:]
    if command == "send":
        send(*words)
    elif command == "listen":
        receive(words[0], words[2], words[1].encode(), b"")
    else:
        receive(words[0], words[2], b"", mac(words[1]))
