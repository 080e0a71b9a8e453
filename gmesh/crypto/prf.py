"""The key expansion of SPTPS: a TLS-like PRF with HMAC-SHA512 (sptps 4.2).

Not here: what goes into the seed, and who uses which part of the output.
"""

from __future__ import annotations

import hmac

_BLOCK = 64


def expand(secret: bytes | bytearray, seed: bytes, length: int) -> bytearray:
    """``length`` bytes made from a shared ``secret`` and a public ``seed``, in a buffer that the caller may clear.

    The first chaining value is made from a block of zeros; every later one is output too.
    """
    output = bytearray()
    chain = bytes(_BLOCK)
    chain = hmac.digest(secret, chain + seed, "sha512")
    while len(output) < length:
        chain = hmac.digest(secret, chain + seed, "sha512")
        output += chain
    del output[length:]
    return output
