"""CBC ciphers and MACs of legacy data packets, as plain functions made once per key (data-legacy 2).

Every packet starts from the same IV, so a fresh cipher object per packet would be natural and slow. Instead one CBC
object per direction runs on for ever, and only the first block of each packet is corrected for the chaining value it
finds: the bytes are the same, for one native call per packet. Not here: sequence numbers and what is in a packet.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

from gmesh.crypto.digests import Hmac, digest_available
from gmesh.crypto.nids import CIPHERS, NONE, CipherInfo, Mode

Transform = Callable[[bytes], bytes]

_CRYPTOGRAPHY_NAMES = {
    "aes": "AES",
    "blowfish": "Blowfish",
    "des3": "TripleDES",
    "cast5": "CAST5",
    "camellia": "Camellia",
    "aria": "ARIA",
    "sm4": "SM4",
}
_PYCRYPTODOME_NAMES = {"aes": "AES", "blowfish": "Blowfish", "des3": "DES3", "cast5": "CAST"}


@functools.cache
def _cryptography_algorithm(family: str) -> Any:
    """The algorithm class of the package `cryptography`, None where it or the package is missing."""
    name = _CRYPTOGRAPHY_NAMES.get(family, "")
    # Old ciphers move to `decrepit` from version to version, and warn where they were before.
    for place in (
        "cryptography.hazmat.decrepit.ciphers.algorithms",
        "cryptography.hazmat.primitives.ciphers.algorithms",
    ):
        try:
            module = importlib.import_module(place)
        except ImportError:
            continue
        if hasattr(module, name):
            return getattr(module, name)
    return None


def _with_cryptography(info: CipherInfo, key: bytes, iv: bytes, encrypt: bool) -> Transform | None:
    algorithm = _cryptography_algorithm(info.family)
    if algorithm is None:
        return None
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    try:
        cipher = Cipher(algorithm(key), modes.CBC(iv))
        update: Transform = (cipher.encryptor() if encrypt else cipher.decryptor()).update
    except UnsupportedAlgorithm:
        return None
    return update


def _with_pycryptodome(info: CipherInfo, key: bytes, iv: bytes, encrypt: bool) -> Transform | None:
    name = _PYCRYPTODOME_NAMES.get(info.family)
    if name is None:
        return None
    module = importlib.import_module(f"Crypto.Cipher.{name}")
    cipher = module.new(key, module.MODE_CBC, iv=iv)
    update: Transform = cipher.encrypt if encrypt else cipher.decrypt
    return update


_BACKENDS = (_with_cryptography, _with_pycryptodome)
"""In order of speed. All make the same bytes."""


def _split(nid: int, material: bytes) -> tuple[CipherInfo, bytes, bytes]:
    info = CIPHERS[nid]
    if len(material) != info.material_size:
        raise ValueError(f"{len(material)} bytes of key material where cipher {nid} needs {info.material_size}")
    return info, material[: info.key_size], material[info.key_size :]


def _cbc(nid: int, material: bytes, encrypt: bool) -> tuple[Transform, int, int]:
    """The running CBC function, the block size, and the IV as a number."""
    info, key, iv = _split(nid, material)
    if info.mode is Mode.CBC:
        for backend in _BACKENDS:
            update = backend(info, key, iv, encrypt)
            if update is not None:
                return update, info.block_size, int.from_bytes(iv, "big")
    raise ValueError(f"cipher {nid} cannot encrypt data packets here")


@functools.cache
def cipher_available(nid: int) -> bool:
    """Whether packets can be encrypted with this cipher here: none, and CBC ciphers that a library has."""
    info = CIPHERS.get(nid)
    if info is None:
        return False
    try:
        # Distinct bytes, because triple DES refuses a key that is three times the same.
        make_encryptor(nid, bytes(range(info.material_size)))
    except ValueError:
        return False
    return True


def cipher_problem(nid: int) -> str:
    """Why packets cannot be encrypted with this cipher here, and what helps; empty where they can."""
    info = CIPHERS.get(nid)
    if info is None:
        return f"cipher {nid} is unknown"
    if info.mode not in {Mode.CBC, Mode.NONE}:
        return (
            f"cipher {info.name} is a stream cipher, and as all packets begin with the same IV it would hide every one "
            "behind the same key stream; choose a CBC cipher such as aes-256-cbc"
        )
    if cipher_available(nid):
        return ""
    if info.family != "aria" and not _has_cryptography():
        return (
            f"cipher {info.name} needs the Python package cryptography; install it with: pip install 'gmesh[fast]', "
            "or choose aes-256-cbc"
        )
    return f"cipher {info.name} is in no library that gmesh can use here; choose aes-256-cbc"


def _has_cryptography() -> bool:
    return importlib.util.find_spec("cryptography") is not None


def make_encryptor(nid: int, material: bytes) -> Transform:
    """A function that pads (PKCS#7) and encrypts one packet under key || IV; with cipher none it changes nothing.

    Raises ValueError for material of the wrong length, a cipher that is not available, or a key it refuses.
    """
    if nid == NONE:
        _split(nid, material)
        return bytes
    update, block, iv = _cbc(nid, material, encrypt=True)
    padding = [bytes([block - length]) * (block - length) for length in range(block)]
    from_bytes = int.from_bytes
    chain = 0

    def encrypt(plain: bytes) -> bytes:
        nonlocal chain
        padded = plain + padding[len(plain) % block]
        first = from_bytes(padded[:block], "big") ^ chain
        body = update(first.to_bytes(block, "big") + padded[block:])
        chain = from_bytes(body[-block:], "big") ^ iv
        return body

    return encrypt


def make_decryptor(nid: int, material: bytes) -> Transform:
    """The inverse of `make_encryptor`. The function raises ValueError for bodies of impossible length or padding."""
    if nid == NONE:
        _split(nid, material)
        return bytes
    update, block, iv = _cbc(nid, material, encrypt=False)
    padding = [bytes([length]) * length for length in range(block + 1)]
    from_bytes = int.from_bytes
    chain = 0

    def decrypt(body: bytes) -> bytes:
        nonlocal chain
        if not body or len(body) % block:
            raise ValueError("the body is no whole number of blocks")
        padded = update(body)
        first = from_bytes(padded[:block], "big") ^ chain
        chain = from_bytes(body[-block:], "big") ^ iv
        padded = first.to_bytes(block, "big") + padded[block:]
        length = padded[-1]
        if not 1 <= length <= block or not padded.endswith(padding[length]):
            raise ValueError("the padding is wrong")
        return padded[:-length]

    return decrypt


def make_mac(nid: int, material: bytes, length: int) -> Transform | None:
    """A function from a body to the first ``length`` bytes of its HMAC; None where the packets carry no MAC."""
    if nid == NONE or length == 0:
        return None
    if not digest_available(nid):
        raise ValueError(f"digest {nid} is not available")
    return Hmac(nid, material, length).mac
