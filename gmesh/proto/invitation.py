"""What inviter and joiner have in common: the URL, names made of hashes, record types (invitations 1, 2, 4).

Not here: the two ends of the conversation (`invitation_guest.py`, `invitation_host.py`), files.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from gmesh.crypto import base64
from gmesh.crypto.ed25519 import public_to_text
from gmesh.values import DEFAULT_PORT, ip_version

COOKIE_SIZE = 18
HASH_SIZE = 18
FILE_NAME_LENGTH = 24
"""Characters of an invitation's file name, and of each half of the secret part of a URL."""

RECORD_DATA = 0
"""The joiner's cookie; a piece of the file."""

RECORD_END = 1
"""The joiner's key; the end of the file."""

RECORD_ACCEPTED = 2
PIECE_SIZE = 1024
MAX_FILE = 1024 * 1024
"""Bytes of an invitation's file, far above any real one: neither end believes the other that it needs more."""

_URL = re.compile(r"(?:\[([^\[\]/]*:[^\[\]/]*)\]|([^\[\]:/]+))(?::([0-9]{1,5}))?/([A-Za-z0-9+/_-]{48})\Z", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}\Z", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}\Z", re.ASCII)


def is_url_place(host: str, port: str) -> bool:
    """Whether an inviter can be there: a host name, or an address (IPv6 without brackets), and a port's number."""
    if _PORT.match(port) is None or not 0 < int(port) < 65536:
        return False
    return ip_version(host) == 6 if ":" in host else _NAME.match(host) is not None


def _short_hash(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()[:HASH_SIZE]


def key_hash(public: bytes) -> bytes:
    """18 bytes that stand for an invitation key: of its text, not of its 32 bytes."""
    return _short_hash(public_to_text(public).encode("ascii"))


def file_name(cookie: bytes, public: bytes) -> str:
    """The file of the invitation with this cookie, 24 characters that are safe in a path."""
    return base64.encode(_short_hash(cookie + public_to_text(public).encode("ascii")), url_safe=True)


@dataclass(frozen=True, slots=True)
class InvitationUrl:
    """An invitation as it is handed over: where the inviter is, the hash of its key, and the secret cookie.

    ``host`` is a name or an address, IPv6 without brackets; ``port`` is text.
    """

    host: str
    port: str
    key_hash: bytes
    cookie: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> InvitationUrl:
        """Both alphabets of base64 are fine. Raises ValueError."""
        match = _URL.match(text)
        if match is None:
            raise ValueError("not of the form HOST:PORT/ and 48 characters")
        bracketed, plain, port, secret = match.groups()
        host = bracketed or plain
        port = port or str(DEFAULT_PORT)
        if not is_url_place(host, port):
            raise ValueError("there can be no such host or port")
        half = FILE_NAME_LENGTH
        return cls(host, port, base64.decode(secret[:half]), base64.decode(secret[half:]))

    def format(self) -> str:
        """The text that `parse` and tinc's join take."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        secret = "".join(base64.encode(half, url_safe=True) for half in (self.key_hash, self.cookie))
        return f"{host}:{self.port}/{secret}"
