"""A member of a multicast group in which datagrams are Ethernet frames, for the namespace tests.

usage: group.py listen GROUP PORT OWN_ADDRESS SECONDS
       group.py send GROUP PORT OWN_ADDRESS SOURCE_MAC TOKEN
"""

from __future__ import annotations

import socket
import sys
import time

command, group, port, own, *words = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    if command == "send":
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
        source = bytes.fromhex(words[0].replace(":", ""))
        sock.sendto(b"\xff" * 6 + source + b"\x88\xb5" + words[1].encode().ljust(60, b"."), (group, int(port)))
    else:
        sock.bind((group, int(port)))
        member = socket.inet_aton(group) + socket.inet_aton(own)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        print("listening", flush=True)
        end = time.monotonic() + float(words[0])
        while (left := end - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                frame = sock.recv(2048)
            except TimeoutError:
                break
            print(frame[6:12].hex(":"), frame[14:].rstrip(b".").decode(errors="replace"), flush=True)
