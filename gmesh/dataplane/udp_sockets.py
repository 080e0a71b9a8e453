"""Opening the UDP sockets that the data plane reads and writes.

Path MTU. The sockets forbid fragmentation with IP_PMTUDISC_PROBE. Under IP_PMTUDISC_DO, which tinc uses, the kernel
remembers for ten minutes what ICMP said about a path and refuses larger datagrams, probes included, so that nobody
notices when the path has grown. A socket of its own for probes would not help, as what they prove could not be used.
Under PROBE nothing is refused but what the interface cannot carry, and packets too big for a path would vanish until
the mesh's probes find out; so what ICMP says is read from the sockets' error queues (IP_RECVERR, `path_errors.py`).
The price: a message that waits is reported by the next call on the socket, which then has done nothing, whatever it
was about; the call has to be repeated.

Not here: TCP sockets, and which addresses to listen on.
"""

from __future__ import annotations

import contextlib
import socket as std_socket
import sys
from dataclasses import dataclass
from typing import Any

from gevent.monkey import get_original

from gmesh.dataplane.endpoints import endpoint_of
from gmesh.errors import ConfigError
from gmesh.values import Address, cut_interface_name

# Numbers of Linux that Python's socket module does not name.
IP_RECVERR = 11
IPV6_RECVERR = 25
_IP_MTU_DISCOVER = 10
_IP_FREEBIND = 15
_IPV6_MTU_DISCOVER = 23
_PMTUDISC_PROBE = 3
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_LARGEST_INT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class UdpOptions:
    """UDPRcvBuf, UDPSndBuf (bytes, 0 leaves the system's), FWMark (0: none) and BindToInterface (empty: none)."""

    receive_buffer: int = 0
    send_buffer: int = 0
    mark: int = 0
    interface: str = ""
    free_bind: bool = False
    """Allow to bind to an address that this machine does not have (yet)."""

    def prepare(self, sock: Any) -> None:
        """Set mark and interface on any socket, TCP included. Raises ConfigError with the reason."""
        if self.free_bind:
            sock.setsockopt(std_socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if self.mark:
            try:
                mark = self.mark.to_bytes(4, sys.byteorder, signed=self.mark < 0)
            except OverflowError:
                raise ConfigError(f"FWMark {self.mark} does not fit 32 bits", key="FWMark") from None
            _set_or_blame(sock, std_socket.SO_MARK, mark, "FWMark", f"Can't set SO_MARK to {self.mark}")
        if self.interface:
            name = cut_interface_name(self.interface).encode() + b"\0"
            message = f"Can't bind to interface {self.interface}"
            _set_or_blame(sock, std_socket.SO_BINDTODEVICE, name, "BindToInterface", message)


def open_udp(address: Address, options: UdpOptions) -> Any:
    """A bound, non-blocking UDP socket for a numeric address, whose port may be 0; IPv6 sockets take IPv6 only.

    It is the system's own kind even where gevent has patched the socket module: whoever reads it waits for its
    descriptor once per batch, and each call through gevent's kind would cost one more call in Python per packet.

    Raises OSError where it cannot be bound, ConfigError where mark or interface are refused.
    """
    family = std_socket.AF_INET6 if address.family == 6 else std_socket.AF_INET
    # Port 0 has no endpoint to send to, but may be bound.
    where = endpoint_of(Address(address.host, "1"))
    if where is None:
        raise ConfigError(f"{address} is no address to listen on")
    sock = get_original("socket", "socket")(family, std_socket.SOCK_DGRAM, std_socket.IPPROTO_UDP)
    try:
        prepare_udp(sock, options)
        if family == std_socket.AF_INET6:
            sock.setsockopt(std_socket.IPPROTO_IPV6, std_socket.IPV6_V6ONLY, 1)
        sock.bind((where[0], int(address.port), *where[2:]))
    except BaseException:
        sock.close()
        raise
    return sock


def prepare_udp(sock: Any, options: UdpOptions) -> None:
    """Set every option but the address on a UDP socket, which may have come from elsewhere (socket activation)."""
    sock.setblocking(False)
    # Local discovery sends to the broadcast address.
    sock.setsockopt(std_socket.SOL_SOCKET, std_socket.SO_BROADCAST, 1)
    sizes = (
        (std_socket.SO_RCVBUF, _SO_RCVBUFFORCE, options.receive_buffer),
        (std_socket.SO_SNDBUF, _SO_SNDBUFFORCE, options.send_buffer),
    )
    for option, forced, size in sizes:
        # The system's usual bound is a fifth of the default, and a flood fills that while the loop is elsewhere. A
        # system that grants less, or none, is no reason not to start.
        for each in (option, forced) if size > 0 else ():
            with contextlib.suppress(OSError):
                sock.setsockopt(std_socket.SOL_SOCKET, each, min(size, _LARGEST_INT))
    if sock.family == std_socket.AF_INET6:
        sock.setsockopt(std_socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        sock.setsockopt(std_socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    # These count for an IPv6 socket that takes both families, too.
    sock.setsockopt(std_socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
    sock.setsockopt(std_socket.IPPROTO_IP, IP_RECVERR, 1)
    options.prepare(sock)


def _set_or_blame(sock: Any, option: int, value: bytes, key: str, message: str) -> None:
    try:
        sock.setsockopt(std_socket.SOL_SOCKET, option, value)
    except OSError as error:
        raise ConfigError(f"{message}: {error.strerror}", key=key) from None
