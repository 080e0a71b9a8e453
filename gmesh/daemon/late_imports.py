"""Modules that are otherwise imported only when they are needed: under chroot, or as another user, that is too late.

Not here: when to import them, which is before rights are dropped.
"""

from __future__ import annotations

import contextlib
import importlib

LATE_MODULES = (
    "Crypto.Cipher.ChaCha20",
    "Crypto.Cipher._mode_cbc",
    "Crypto.Cipher._mode_cfb",
    "Crypto.Cipher._mode_ctr",
    "Crypto.Cipher._mode_ecb",
    "Crypto.Cipher._mode_ofb",
    "Crypto.Hash.Poly1305",
    "Crypto.Hash.RIPEMD160",
    "Crypto.Protocol.DH",
    "Crypto.Util.asn1",
    "_hashlib",
    "base64",
    "configobj",
    "configobj.validate",
    "cryptography.exceptions",
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    "cryptography.hazmat.primitives.asymmetric.x25519",
    "cryptography.hazmat.primitives.ciphers",
    "cryptography.hazmat.primitives.poly1305",
    "encodings.idna",
    "gmesh.config.directory",
    "gmesh.config.write",
    "gmesh.crypto.ed25519",
    "gmesh.crypto.rsa",
    "gmesh.proto.proxy",
    "lz4.block",
    "lzallright",
    "socket",
    "traceback",
)
"""All that is imported within functions of the daemon's rooms, and what libraries import so."""


def import_late_modules() -> None:
    """Import them all; those that are not installed are left out, as they would be later."""
    for name in LATE_MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
