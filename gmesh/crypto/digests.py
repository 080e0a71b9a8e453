"""Digests by NID, and HMAC with a key that is prepared once (meta-legacy 4.4, 5; data-legacy 2).

Not here: which digest is used where.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

from gmesh.crypto.nids import DIGESTS

_IPAD = bytes(byte ^ 0x36 for byte in range(256))
_OPAD = bytes(byte ^ 0x5C for byte in range(256))

# The block size that HMAC pads its key to; hash objects of pycryptodome name theirs too, but at another place.
_SHA3_BLOCK_SIZES = {1097: 136, 1099: 72}


@functools.cache
def _factory(nid: int) -> Callable[[], Any] | None:
    info = DIGESTS.get(nid)
    if info is None or not info.hash_name:
        return None
    try:
        hashlib.new(info.hash_name, usedforsecurity=False)
    except ValueError:
        return _from_pycryptodome(info.hash_name)
    return functools.partial(hashlib.new, info.hash_name, usedforsecurity=False)


def _from_pycryptodome(hash_name: str) -> Callable[[], Any] | None:
    # OpenSSL 3 has RIPEMD-160 and Whirlpool only in its legacy provider, which is seldom loaded.
    if hash_name != "ripemd160":
        return None
    from Crypto.Hash import RIPEMD160

    return RIPEMD160.new


def digest_available(nid: int) -> bool:
    """Whether the digest can be computed here. False for none."""
    return _factory(nid) is not None


def digest_problem(nid: int) -> str:
    """Why packets cannot carry codes of this digest here, and what helps; empty where they can. None is no digest."""
    info = DIGESTS.get(nid)
    if info is None:
        return f"digest {nid} is unknown"
    if digest_available(nid):
        return ""
    return (
        f"digest {info.name} is in no library here; OpenSSL has it in its legacy provider, which a file that "
        "OPENSSL_CONF names can activate; or choose sha256 or sha512"
    )


def digest(nid: int, data: bytes) -> bytes:
    """The digest of ``data``. Raises KeyError for a digest that is not available."""
    factory = _factory(nid)
    if factory is None:
        raise KeyError(nid)
    state = factory()
    state.update(data)
    return bytes(state.digest())


class Hmac:
    """HMAC with a fixed key: two hash states are prepared once and copied per message.

    ``length`` is how many bytes of the code are wanted, all of them by default.
    """

    __slots__ = ("_inner", "_length", "_outer")

    def __init__(self, nid: int, key: bytes, length: int | None = None) -> None:
        factory = _factory(nid)
        if factory is None:
            raise KeyError(nid)
        block_size = _SHA3_BLOCK_SIZES.get(nid) or int(factory().block_size)
        if len(key) > block_size:
            key = digest(nid, key)
        padded = key.ljust(block_size, b"\0")
        inner, outer = factory(), factory()
        inner.update(padded.translate(_IPAD))
        outer.update(padded.translate(_OPAD))
        self._length = length
        self._inner = inner
        self._outer = outer

    def mac(self, message: bytes) -> bytes:
        """The first bytes of the code of ``message``."""
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        code: bytes = outer.digest()[: self._length]
        return code
