"""Opens a tun interface and gives its descriptor to whoever connects to a unix socket, for the namespace tests.

usage: give_tun.py INTERFACE SOCKET SECONDS

SOCKET may be "@name" for an abstract one. Prints "waiting" once it can be connected to, and ends after so many seconds
or when it has given the descriptor away.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x1, 0x1000

interface, path, seconds = sys.argv[1:]
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", interface.encode(), IFF_TUN | IFF_NO_PI))
with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
    server.settimeout(float(seconds))
    server.bind("\0" + path[1:] if path.startswith("@") else path)
    server.listen(1)
    print("waiting", flush=True)
    client, _ = server.accept()
    with client:
        socket.send_fds(client, [b"x"], [tun])
