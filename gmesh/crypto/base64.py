"""tinc's base64: the usual alphabet in another bit order, without padding (sptps 7).

Three bytes are one little-endian number of 24 bits, and its lowest six bits come first. That is ordinary base64 read
backwards, which is how it is done here.
"""

from __future__ import annotations

import base64

_TO_URL_SAFE = str.maketrans("+/", "-_")
_TO_STANDARD = str.maketrans("-_", "+/")


def encode(data: bytes, *, url_safe: bool = False) -> str:
    """The text form, ceil(len * 4 / 3) characters; ``url_safe`` writes - and _ for + and /."""
    backwards = base64.b64encode((data + bytes(-len(data) % 3))[::-1]).decode("ascii")
    text = backwards[::-1][: (len(data) * 8 + 5) // 6]
    return text.translate(_TO_URL_SAFE) if url_safe else text


def decode(text: str) -> bytes:
    """The bytes of either alphabet, also mixed. Raises ValueError on any other character.

    A single leftover character and unused bits of the last one are ignored, as tinc does.
    """
    padded = text.translate(_TO_STANDARD) + "A" * (-len(text) % 4)
    try:
        if "=" in padded:
            raise ValueError
        data = base64.b64decode(padded[::-1], validate=True)
    except ValueError:
        raise ValueError("a character that base64 does not have") from None
    return data[::-1][: len(text) * 6 // 8]
