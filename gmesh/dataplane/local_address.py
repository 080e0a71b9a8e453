"""Which own address the kernel would use towards another, for ICMP messages that name their sender (topology 9.4).

Not here: when such a message is due.
"""

from __future__ import annotations

import socket as std_socket


def local_address(remote: bytes) -> bytes | None:
    """The own address, packed like ``remote`` (4 or 16 bytes), or None where there is no route. Sends nothing."""
    family = std_socket.AF_INET if len(remote) == 4 else std_socket.AF_INET6
    try:
        # Connecting a datagram socket only looks up the route.
        with std_socket.socket(family, std_socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((std_socket.inet_ntop(family, remote), 9))
            return std_socket.inet_pton(family, sock.getsockname()[0].partition("%")[0])
    except (OSError, ValueError):
        return None
