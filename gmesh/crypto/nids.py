"""Ciphers and digests as the wire numbers them: OpenSSL's NIDs and names (meta-legacy 5).

Not here: the algorithms themselves, which are `stream` and `packet_cipher`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

NONE = 0
AES_256_CBC = 427
AES_256_CFB = 429
SHA256 = 672


class Mode(Enum):
    """How a cipher is used. Only CBC is fit for data packets, whose IV never changes (data-legacy 2)."""

    NONE = "none"
    CBC = "cbc"
    CFB = "cfb"
    OFB = "ofb"
    CTR = "ctr"


@dataclass(frozen=True, slots=True)
class CipherInfo:
    """One cipher. Sizes are bytes; ``names`` are OpenSSL's, lower case, the preferred one first.

    ``family`` names the block cipher: aes, blowfish, des3, cast5, camellia, aria, sm4, or none.
    """

    nid: int
    names: tuple[str, ...]
    family: str
    mode: Mode
    key_size: int
    iv_size: int
    block_size: int

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def material_size(self) -> int:
        """Bytes of key material in ANS_KEY: key and IV, or one byte for cipher none (data-legacy 3)."""
        return self.key_size + self.iv_size

    @property
    def byte_budget(self) -> int:
        """How many bytes one direction may encrypt under one key (meta-legacy 7)."""
        length = self.block_size if self.block_size > 1 else self.iv_size if self.iv_size > 1 else 8
        return int(1 << (4 * length - 1))


@dataclass(frozen=True, slots=True)
class DigestInfo:
    """One digest. ``size`` is bytes; ``hash_name`` is hashlib's name, empty for none."""

    nid: int
    names: tuple[str, ...]
    hash_name: str
    size: int

    @property
    def name(self) -> str:
        return self.names[0]


CIPHERS: dict[int, CipherInfo] = {
    info.nid: info
    for info in (
        CipherInfo(NONE, ("none",), "none", Mode.NONE, 1, 0, 1),
        CipherInfo(421, ("aes-128-cfb", "aes-128-cfb128", "aes128-cfb"), "aes", Mode.CFB, 16, 16, 1),
        CipherInfo(425, ("aes-192-cfb", "aes-192-cfb128", "aes192-cfb"), "aes", Mode.CFB, 24, 16, 1),
        CipherInfo(AES_256_CFB, ("aes-256-cfb", "aes-256-cfb128", "aes256-cfb"), "aes", Mode.CFB, 32, 16, 1),
        CipherInfo(419, ("aes-128-cbc", "aes128"), "aes", Mode.CBC, 16, 16, 16),
        CipherInfo(423, ("aes-192-cbc", "aes192"), "aes", Mode.CBC, 24, 16, 16),
        CipherInfo(AES_256_CBC, ("aes-256-cbc", "aes256"), "aes", Mode.CBC, 32, 16, 16),
        CipherInfo(91, ("bf-cbc", "blowfish", "bf"), "blowfish", Mode.CBC, 16, 8, 8),
        CipherInfo(44, ("des-ede3-cbc", "des3", "3des"), "des3", Mode.CBC, 24, 8, 8),
        CipherInfo(108, ("cast5-cbc", "cast", "cast-cbc", "cast5"), "cast5", Mode.CBC, 16, 8, 8),
        CipherInfo(751, ("camellia-128-cbc", "camellia128"), "camellia", Mode.CBC, 16, 16, 16),
        CipherInfo(752, ("camellia-192-cbc", "camellia192"), "camellia", Mode.CBC, 24, 16, 16),
        CipherInfo(753, ("camellia-256-cbc", "camellia256"), "camellia", Mode.CBC, 32, 16, 16),
        CipherInfo(1076, ("aria-256-cbc", "aria256"), "aria", Mode.CBC, 32, 16, 16),
        CipherInfo(1134, ("sm4-cbc", "sm4"), "sm4", Mode.CBC, 16, 16, 16),
        CipherInfo(420, ("aes-128-ofb",), "aes", Mode.OFB, 16, 16, 1),
        CipherInfo(428, ("aes-256-ofb",), "aes", Mode.OFB, 32, 16, 1),
        CipherInfo(904, ("aes-128-ctr",), "aes", Mode.CTR, 16, 16, 1),
        CipherInfo(906, ("aes-256-ctr",), "aes", Mode.CTR, 32, 16, 1),
    )
}

DIGESTS: dict[int, DigestInfo] = {
    info.nid: info
    for info in (
        DigestInfo(NONE, ("none",), "", 0),
        DigestInfo(4, ("md5", "ssl3-md5"), "md5", 16),
        DigestInfo(64, ("sha1", "ssl3-sha1", "sha-1"), "sha1", 20),
        DigestInfo(117, ("ripemd160", "ripemd", "rmd160"), "ripemd160", 20),
        DigestInfo(675, ("sha224", "sha-224", "sha2-224"), "sha224", 28),
        DigestInfo(SHA256, ("sha256", "sha-256", "sha2-256"), "sha256", 32),
        DigestInfo(673, ("sha384", "sha-384", "sha2-384"), "sha384", 48),
        DigestInfo(674, ("sha512", "sha-512", "sha2-512"), "sha512", 64),
        DigestInfo(804, ("whirlpool",), "whirlpool", 64),
        DigestInfo(1097, ("sha3-256",), "sha3_256", 32),
        DigestInfo(1099, ("sha3-512",), "sha3_512", 64),
        DigestInfo(1056, ("blake2b512", "blake2b-512"), "blake2b", 64),
        DigestInfo(1057, ("blake2s256", "blake2s-256"), "blake2s", 32),
    )
}

_CIPHERS_BY_NAME = {name: info for info in CIPHERS.values() for name in info.names}
_DIGESTS_BY_NAME = {name: info for info in DIGESTS.values() for name in info.names}

MAX_DIGEST_SIZE = max(info.size for info in DIGESTS.values())


def cipher_by_name(name: str) -> CipherInfo | None:
    """Look up a value of the option Cipher, in any case; None where the name is unknown."""
    return _CIPHERS_BY_NAME.get(name.lower())


def digest_by_name(name: str) -> DigestInfo | None:
    """Look up a value of the option Digest, in any case; None where the name is unknown."""
    return _DIGESTS_BY_NAME.get(name.lower())
