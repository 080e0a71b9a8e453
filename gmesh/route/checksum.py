"""The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

Not here: where in a packet a checksum lies.
"""

from __future__ import annotations


def checksum(data: bytes) -> int:
    """The 16-bit checksum of ``data`` of any length, padded with a zero byte if odd.

    2**16 is 1 modulo 65535, so the whole block read as one number has the same remainder as the sum of its words:
    one division in C in place of a loop over words.
    """
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    remainder = number % 0xFFFF
    if remainder:
        return 0xFFFF - remainder
    return 0 if number else 0xFFFF


def updated(old_sum: int, old_word: int, new_word: int) -> int:
    """The checksum after one 16-bit word of the covered data changed from ``old_word`` to ``new_word``."""
    total = (old_sum ^ 0xFFFF) + (old_word ^ 0xFFFF) + new_word
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def pseudo_header(source: bytes, destination: bytes, length: int, next_header: int) -> bytes:
    """IPv6's pseudo header for ``length`` bytes of upper-layer packet (RFC 8200, 8.1); addresses of 16 bytes."""
    return source + destination + length.to_bytes(4, "big") + next_header.to_bytes(4, "big")
