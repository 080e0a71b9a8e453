"""Poly1305 by the OpenSSL that Python's own hashlib has loaded already.

The package `cryptography` sets a new context up for each tag, which costs four times the tag itself; here one context
gets new keys. Not here: ciphers. One thread at a time may use the function, as is true of everything that seals.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_KEY_SIZE = 32
_TAG_SIZE = 16

Tag = Callable[[bytes, bytes, int], bytes]

# RFC 8439, 2.5.2
_SAMPLE_KEY = bytes.fromhex("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
_SAMPLE_TEXT = b"Cryptographic Forum Research Group"
_SAMPLE_TAG = bytes.fromhex("a8061dc1305136c6c22b8baf0c0127a9")


def make_tag() -> Tag | None:
    """A function from a one-time key, a text and a size to the tag (16 bytes); None where it cannot be had.

    The key is the first 32 bytes of its argument, and the text the first ``size`` ones of its: they must be there.
    """
    try:
        import _hashlib

        # Not CDLL, which would let other threads run around each of the calls.
        library = ctypes.PyDLL(_hashlib.__file__)
        fetch, new = library.EVP_MAC_fetch, library.EVP_MAC_CTX_new
        begin, update, finish = library.EVP_MAC_init, library.EVP_MAC_update, library.EVP_MAC_final
    except (ImportError, AttributeError, OSError):
        # A Python without OpenSSL, with one before 3.0, or with one linked into itself.
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    fetch.restype = new.restype = pointer
    fetch.argtypes = [pointer, ctypes.c_char_p, ctypes.c_char_p]
    new.argtypes = [pointer]
    begin.argtypes = [pointer, ctypes.c_char_p, size, pointer]
    update.argtypes = [pointer, ctypes.c_char_p, size]
    finish.argtypes = [pointer, pointer, pointer, size]
    algorithm = fetch(None, b"POLY1305", None)
    address = new(algorithm) if algorithm else None
    if not address:
        return None
    context = pointer(address)
    output, written = ctypes.create_string_buffer(_TAG_SIZE), size()
    # References, not mere addresses: what OpenSSL writes to must live as long as the function does.
    output_at, written_at = ctypes.byref(output), ctypes.byref(written)

    def tag(key: bytes, text: bytes, length: int) -> bytes:
        if not (
            begin(context, key, _KEY_SIZE, None)
            and update(context, text, length)
            and finish(context, output_at, written_at, _TAG_SIZE)
        ):
            raise RuntimeError("OpenSSL refuses to make a tag")
        return output.raw

    return tag if _works(tag) else None


def _works(tag: Tag) -> bool:
    """Whether it makes the tag of the sample, with other keys before and between."""
    keys = (bytes(_KEY_SIZE), _SAMPLE_KEY) * 2
    try:
        tags = [tag(key, _SAMPLE_TEXT, len(_SAMPLE_TEXT)) for key in keys]
    except RuntimeError:
        return False
    return [made == _SAMPLE_TAG for made in tags] == [False, True] * 2
