"""Key files of a directory: where keys lie, in which order they are looked for, what to say when one is missing
(config 5). Not here: the keys' mathematics, see `gmesh.crypto`; making keys, see `gmesh.cli.keygen`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gmesh.config.lexer import Block
from gmesh.config.notices import Level, Notice, printable
from gmesh.config.view import OptionView
from gmesh.errors import KeyFileError

if TYPE_CHECKING:
    from gmesh.config.server import Server
    from gmesh.crypto.ed25519 import Ed25519PrivateKey
    from gmesh.crypto.rsa import RsaPrivateKey, RsaPublicKey

MAX_KEY_FILE = 1024 * 1024
"""Bytes read of a key file at most."""

RSA_PUBLIC_LABELS = ("RSA PUBLIC KEY", "PUBLIC KEY")
ED25519_PUBLIC_LABEL = "ED25519 PUBLIC KEY"


def read_key_file(path: Path, what: str) -> str:
    """A key file's text. Raises KeyFileError naming ``what`` (as in ``RSA private key``) and the path."""
    try:
        if path.is_fifo():
            raise KeyFileError(f"Error reading {what} file `{printable(path)}': not a regular file")
        with open(path, "rb") as file:
            return file.read(MAX_KEY_FILE).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise KeyFileError(f"Error reading {what} file `{printable(path)}': {error.strerror}") from None
    except ValueError:
        raise KeyFileError(f"Error reading {what} file `{printable(path)}': impossible name") from None


def load_private_rsa(server: Server) -> RsaPrivateKey:
    """Our RSA key: inline PrivateKey, else PrivateKeyFile, else rsa_key.priv. Raises KeyFileError with a hint."""
    from gmesh.crypto.rsa import RsaPrivateKey

    exponent = server.given_str("PrivateKey")
    if exponent is not None:
        modulus = server.given_str("PublicKey")
        if modulus is None:
            raise KeyFileError("PrivateKey is used but no PublicKey found in the same configuration")
        return RsaPrivateKey.from_hex(modulus, exponent)
    path = server.rsa_private_file
    try:
        text = read_key_file(path, "RSA private key")
    except KeyFileError as error:
        hint = "" if path.exists() else f"; create a key pair with `{server.keygen_command}'"
        raise KeyFileError(f"{error}{hint}") from None
    try:
        return RsaPrivateKey.from_pem(text)
    except KeyFileError as error:
        raise KeyFileError(f"Error reading RSA private key file `{printable(path)}': {error}") from None


def rsa_public_key(options: OptionView, blocks: Iterable[Block], base: Path, file: str) -> RsaPublicKey:
    """The RSA key of a host file: PublicKey (hex), else PublicKeyFile, else the first PEM block. Raises KeyFileError.

    ``base`` is where a relative PublicKeyFile starts, ``file`` the host file's path for messages.
    """
    from gmesh.crypto.rsa import RsaPublicKey

    modulus = options.given_str("PublicKey")
    if modulus is not None:
        try:
            return RsaPublicKey.from_hex(modulus)
        except KeyFileError as error:
            raise KeyFileError(f"PublicKey in {file}: {error}") from None
    key_file = options.given_str("PublicKeyFile")
    if key_file is not None:
        path = base / key_file
        text = read_key_file(path, "RSA public key")
        try:
            return RsaPublicKey.from_pem(text)
        except KeyFileError as error:
            raise KeyFileError(f"Error reading RSA public key file `{printable(path)}': {error}") from None
    block = next((block for block in blocks if block.label in RSA_PUBLIC_LABELS), None)
    if block is None:
        raise KeyFileError(f"No RSA public key in {file}; the node's administrator has to send one")
    try:
        return RsaPublicKey.from_pem(block.text)
    except KeyFileError as error:
        raise KeyFileError(f"RSA public key in {file} line {block.line}: {error}") from None


def load_private_ed25519(server: Server) -> Ed25519PrivateKey | None:
    """Our Ed25519 key, or None where there is no such file. Raises KeyFileError for one that cannot be used."""
    from gmesh.crypto.ed25519 import Ed25519PrivateKey

    path = server.ed25519_private_file
    if not path.exists():
        return None
    text = read_key_file(path, "Ed25519 private key")
    try:
        return Ed25519PrivateKey.from_pem(text)
    except KeyFileError as error:
        raise KeyFileError(f"Error reading Ed25519 private key file `{printable(path)}': {error}") from None


def ed25519_public_key(options: OptionView, blocks: Iterable[Block], base: Path, file: str) -> bytes | None:
    """The Ed25519 public key, 32 bytes; None where a host file gives none. Raises KeyFileError.

    The order is Ed25519PublicKey, Ed25519PublicKeyFile, a PEM block in the host file. Raises KeyFileError.
    """
    from gmesh.crypto.ed25519 import public_from_pem, public_from_text

    inline = options.given_str("Ed25519PublicKey")
    if inline is not None:
        try:
            return public_from_text(inline)
        except KeyFileError as error:
            raise KeyFileError(f"Ed25519PublicKey in {file}: {error}") from None
    key_file = options.given_str("Ed25519PublicKeyFile")
    if key_file is not None:
        file = printable(base / key_file)
        text: str | None = read_key_file(base / key_file, "Ed25519 public key")
    else:
        text = next((block.text for block in blocks if block.label == ED25519_PUBLIC_LABEL), None)
    if text is None:
        return None
    try:
        return public_from_pem(text)
    except KeyFileError as error:
        raise KeyFileError(f"Ed25519 public key in {file}: {error}") from None


def permission_notice(path: Path, what: str) -> Notice | None:
    """A warning where others than the owner may do anything with a private key; the key is used all the same."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, ValueError):
        return None
    if mode & ~0o700 == 0:
        return None
    file = printable(path)
    text = f"Warning: insecure file permissions for {what} private key file `{file}'! Mode {mode:04o}, should be 0600"
    return Notice(Level.WARNING, text, file)
