"""What is said to a proxy before a meta connection begins: SOCKS 4, 4a and 5, HTTP CONNECT (meta-legacy 10.2).

Also the text of the option Proxy. Not here: sockets, names and processes, which are `gmesh.net.proxy`'s.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import StrEnum

from gmesh.errors import GmeshError

MAX_HEAD = 8192
"""Bytes of an HTTP proxy's answer, all its headers included."""

MAX_CREDENTIAL = 255
"""Bytes of a user name or password; SOCKS 5 has no room for more, and SOCKS 4 and HTTP proxies none to speak of."""

_STATUS = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: (.*))?\Z")
_HEAD_END = re.compile(rb"\r?\n\r?\n")


class ProxyKind(StrEnum):
    """The first word of the option."""

    SOCKS4 = "socks4"
    SOCKS4A = "socks4a"
    SOCKS5 = "socks5"
    HTTP = "http"
    EXEC = "exec"

    @property
    def resolves_names(self) -> bool:
        """Whether the proxy can be given a host name instead of an address."""
        return self in {ProxyKind.SOCKS4A, ProxyKind.SOCKS5, ProxyKind.HTTP}


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The option Proxy. ``command`` is exec's; ``host`` and ``port`` are where the others are.

    ``password`` is None where only a user name was given.
    """

    kind: ProxyKind
    host: str = ""
    port: str = ""
    user: str = ""
    password: str | None = field(default=None, repr=False)
    command: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> ProxySettings | None:
        """Read the option's value; None for ``none``. Raises ValueError with what is wrong."""
        word, _, rest = text.strip().partition(" ")
        rest = rest.strip()
        if word.lower() == "none":
            return None
        try:
            kind = ProxyKind(word.lower())
        except ValueError:
            raise ValueError(f"Unknown proxy type {word[:40]}!") from None
        if kind is ProxyKind.EXEC:
            if not rest:
                raise ValueError("Argument expected for proxy type exec!")
            return cls(kind, command=rest)
        words = rest.split(None, 3 if kind in {ProxyKind.SOCKS5, ProxyKind.HTTP} else 2)
        if len(words) < 2:
            raise ValueError("Host and port argument expected for proxy!")
        if not rest.isprintable():
            raise ValueError("Host and port argument expected for proxy! There are control characters in it")
        user = words[2] if len(words) > 2 else ""
        settings = cls(kind, words[0], words[1], user, words[3] if len(words) > 3 else None)
        if any(len(word.encode()) > MAX_CREDENTIAL for word in words[2:]):
            raise ValueError(f"the user name or password for the proxy is longer than {MAX_CREDENTIAL} bytes")
        if kind is ProxyKind.HTTP and ":" in settings.user:
            raise ValueError("the user name for an http proxy cannot have a colon in it")
        return settings


@dataclass(frozen=True, slots=True)
class _Read:
    """Wait for exactly ``size`` bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class _ReadHead:
    """Wait for everything up to an empty line, which is left out."""


_Talk = Generator[bytes | _Read | _ReadHead, bytes, None]
"""A conversation, step by step: bytes are sent, the other steps get what was received."""


class ProxyHandshake:
    """The conversation with a proxy about one target, without any socket.

    ``host`` is an address or a name as far as the kind allows that, ``port`` a number. Raises GmeshError for a target
    that the proxy cannot be asked for.
    """

    def __init__(self, settings: ProxySettings, host: str, port: int) -> None:
        self.done = False
        """The proxy has agreed: what follows is between us and the target."""
        self._received = bytearray()
        self._output = bytearray()
        self._talk = _TALKS[settings.kind](settings, host, port)
        self._step: _Read | _ReadHead | None = None
        self._go_on(None)

    def data_to_send(self) -> bytes:
        """What is to be sent now; each call returns only what is new."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def receive(self, data: bytes) -> None:
        """Take bytes of the proxy. Raises GmeshError with the reason where it refuses or talks nonsense."""
        self._received += data
        while self._step is not None and (answer := self._take(self._step)) is not None:
            self._go_on(answer)

    @property
    def left_over(self) -> bytes:
        """What came behind the proxy's last answer: the target's first bytes."""
        return bytes(self._received)

    def _go_on(self, answer: bytes | None) -> None:
        try:
            step = next(self._talk) if answer is None else self._talk.send(answer)
            while isinstance(step, bytes):
                self._output += step
                step = next(self._talk)
        except StopIteration:
            self._step, self.done = None, True
        else:
            self._step = step

    def _take(self, step: _Read | _ReadHead) -> bytes | None:
        received = self._received
        if isinstance(step, _Read):
            end = size = step.size
            if len(received) < size:
                return None
        else:
            found = _HEAD_END.search(received, 0, MAX_HEAD)
            if found is None:
                if len(received) >= MAX_HEAD:
                    raise GmeshError("the proxy's answer is too long")
                return None
            size, end = found.start(), found.end()
        taken = bytes(received[:size])
        del received[:end]
        return taken


_SOCKS4_REFUSALS = {
    0x5B: "the request was rejected or failed",
    0x5C: "it cannot reach an ident service here",
    0x5D: "the user name differs from what the ident service says",
}
_SOCKS5_REFUSALS = {
    1: "general failure",
    2: "its rules do not allow the connection",
    3: "the network is unreachable",
    4: "the host is unreachable",
    5: "the connection was refused",
    6: "the TTL expired",
    7: "it does not know the command",
    8: "it does not know the address type",
}
_SOCKS5_ADDRESS_SIZES = {1: 4, 4: 16}
_NO_AUTHENTICATION, _PASSWORD, _NO_METHOD = 0, 2, 0xFF


def _socks4(settings: ProxySettings, host: str, port: int) -> _Talk:
    address = _numeric(host)
    name = b""
    if address is None:
        if settings.kind is not ProxyKind.SOCKS4A:
            raise GmeshError(f"a {settings.kind} proxy cannot look up {host}")
        packed, name = b"\0\0\0\1", _host_name(host) + b"\0"
    elif address.version == 4:
        packed = address.packed
    else:
        raise GmeshError(f"a {settings.kind} proxy cannot connect to an IPv6 address")
    yield b"\x04\x01" + port.to_bytes(2, "big") + packed + settings.user.encode() + b"\0" + name
    answer = yield _Read(8)
    if answer[0] not in (0, 4):
        raise GmeshError("the proxy does not speak SOCKS 4")
    if answer[1] != 0x5A:
        raise GmeshError(f"the proxy refuses: {_SOCKS4_REFUSALS.get(answer[1], f'code {answer[1]}')}")


def _socks5(settings: ProxySettings, host: str, port: int) -> _Talk:
    request = b"\x05\x01\x00" + _socks5_target(host) + port.to_bytes(2, "big")
    if settings.password is not None:
        methods = bytes((_PASSWORD,))
    elif settings.user:
        methods = bytes((_NO_AUTHENTICATION, _PASSWORD))
    else:
        methods = bytes((_NO_AUTHENTICATION,))
    yield bytes((5, len(methods))) + methods
    version, method = yield _Read(2)
    if version != 5:
        raise GmeshError("the proxy does not speak SOCKS 5")
    if method == _NO_METHOD and _PASSWORD not in methods:
        raise GmeshError("the proxy wants a user name and a password, or something else that we do not have")
    if method not in methods:
        raise GmeshError("the proxy does not take a user name and a password")
    if method == _PASSWORD:
        user, password = settings.user.encode(), (settings.password or "").encode()
        yield bytes((1, len(user))) + user + bytes((len(password),)) + password
        version, status = yield _Read(2)
        # RFC 1929 says 1; some proxies, and tinc 1.0, have 5 here.
        if version not in (1, 5):
            raise GmeshError("the proxy's answer to the password makes no sense")
        if status != 0:
            raise GmeshError("the proxy does not accept the user name and the password")
    yield request
    version, status, _, kind = yield _Read(4)
    if version != 5:
        raise GmeshError("the proxy does not speak SOCKS 5")
    if status != 0:
        raise GmeshError(f"the proxy refuses: {_SOCKS5_REFUSALS.get(status, f'code {status}')}")
    if kind == 3:
        size = (yield _Read(1))[0]
    elif kind in _SOCKS5_ADDRESS_SIZES:
        size = _SOCKS5_ADDRESS_SIZES[kind]
    else:
        raise GmeshError(f"the proxy names an address of unknown type {kind}")
    yield _Read(size + 2)


def _socks5_target(host: str) -> bytes:
    address = _numeric(host)
    if address is None:
        name = _host_name(host)
        return bytes((3, len(name))) + name
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed


def _http(settings: ProxySettings, host: str, port: int) -> _Talk:
    address = _numeric(host)
    name = _host_name(host) if address is None else str(address).encode()
    if address is not None and address.version == 6:
        name = b"[" + name + b"]"
    where = name + b":%d" % port
    request = b"CONNECT " + where + b" HTTP/1.1\r\nHost: " + where + b"\r\n"
    if settings.user:
        secret = base64.b64encode(f"{settings.user}:{settings.password or ''}".encode())
        request += b"Proxy-Authorization: Basic " + secret + b"\r\n"
    yield request + b"\r\n"
    head = yield _ReadHead()
    status = _STATUS.match(head.split(b"\n", 1)[0].rstrip(b"\r"))
    if status is None:
        raise GmeshError("the proxy's answer is not HTTP/1")
    code, reason = status.group(1), _printable(status.group(2) or b"")
    if code == b"407":
        raise GmeshError(f"the proxy wants another user name and password than it got ({reason})")
    if code != b"200":
        raise GmeshError(f"the proxy refuses: {code.decode()} {reason}".rstrip())


def _exec(settings: ProxySettings, host: str, port: int) -> _Talk:
    """Nothing is said: what the command relays is the target's from the first byte on."""
    yield from ()


_TALKS: dict[ProxyKind, Callable[[ProxySettings, str, int], _Talk]] = {
    ProxyKind.SOCKS4: _socks4,
    ProxyKind.SOCKS4A: _socks4,
    ProxyKind.SOCKS5: _socks5,
    ProxyKind.HTTP: _http,
    ProxyKind.EXEC: _exec,
}


def _numeric(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, without a scope, which means nothing at the proxy; None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _host_name(host: str) -> bytes:
    """The name as DNS has it. Raises GmeshError where it cannot be one."""
    try:
        name = host.encode("ascii" if host.isascii() else "idna")
    except UnicodeError:
        raise GmeshError(f"{host[:80]} cannot be a host name") from None
    if not 1 <= len(name) <= 255 or not re.fullmatch(rb"[!-~]+", name):
        raise GmeshError(f"{host[:80]} cannot be a host name")
    return name


def _printable(text: bytes) -> str:
    """The beginning of a proxy's words, fit for a log."""
    return "".join(char if char.isprintable() else "?" for char in text[:80].decode("latin-1"))
