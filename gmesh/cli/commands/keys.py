"""``gmesh generate-keys``, ``generate-rsa-keys`` and ``generate-ed25519-keys`` (control-cli 5)."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gmesh.cli.context import CommandError, Context, expect

if TYPE_CHECKING:
    from gmesh.config.newkeys import KeyPlaces
    from gmesh.crypto.ed25519 import Ed25519PrivateKey
    from gmesh.crypto.rsa import RsaPrivateKey

DEFAULT_BITS = 2048
SMALLEST_BITS = 1024
LARGEST_BITS = 8192
STRONG_BITS = 2048


def both(context: Context, arguments: list[str]) -> int:
    """``generate-keys [BITS]``."""
    expect(arguments, 0, 1)
    _rsa(context, _bits(arguments))
    _ed25519(context)
    return _advise(context)


def rsa(context: Context, arguments: list[str]) -> int:
    """``generate-rsa-keys [BITS]``."""
    expect(arguments, 0, 1)
    _rsa(context, _bits(arguments))
    return _advise(context)


def ed25519(context: Context, arguments: list[str]) -> int:
    """``generate-ed25519-keys``."""
    expect(arguments, 0, 0)
    _ed25519(context)
    return _advise(context)


def make_rsa(bits: int) -> RsaPrivateKey:
    """A new key, with what tinc says meanwhile."""
    from gmesh.crypto.rsa import RsaPrivateKey

    if bits < STRONG_BITS:
        sys.stderr.write(
            f"WARNING: generating a weak {bits} bits RSA key! {STRONG_BITS} or more bits are recommended.\n"
        )
    sys.stderr.write(f"Generating {bits} bits keys:\n")
    sys.stderr.flush()
    key = RsaPrivateKey.generate(bits)
    sys.stderr.write("Done.\n")
    return key


def make_ed25519() -> Ed25519PrivateKey:
    """A new key, with what tinc says meanwhile."""
    from gmesh.crypto.ed25519 import SEED_SIZE, Ed25519PrivateKey

    sys.stderr.write("Generating Ed25519 key pair:\n")
    key = Ed25519PrivateKey.from_seed(os.urandom(SEED_SIZE))
    sys.stderr.write("Done.\n")
    return key


def _bits(arguments: list[str]) -> int:
    if not arguments:
        return DEFAULT_BITS
    digits = re.match(r"\s*[+-]?[0-9]{1,9}", arguments[0], re.ASCII)
    bits = (int(digits[0]) if digits else 0) // 8 * 8
    if not SMALLEST_BITS <= bits <= LARGEST_BITS:
        raise CommandError(
            f"Invalid key size {bits} specified! It should be between {SMALLEST_BITS} and {LARGEST_BITS} bits."
        )
    return bits


def _rsa(context: Context, bits: int) -> None:
    from gmesh.config import newkeys

    where = _places(context, "rsa", "RSA")
    key = make_rsa(bits)
    _saved(newkeys.save_rsa(key, where))


def _ed25519(context: Context) -> None:
    from gmesh.config import newkeys

    where = _places(context, "ed25519", "Ed25519")
    key = make_ed25519()
    _saved(newkeys.save_ed25519(key, where))


def _places(context: Context, kind: str, title: str) -> KeyPlaces:
    """Where the pair goes, asked for on a terminal. Raises CommandError before anything slow is begun."""
    from gmesh.cli.keygen import ask_on_terminal
    from gmesh.config import newkeys

    where = newkeys.places(context.directory, kind)
    if context.may_ask:
        where = where.moved(
            ask_on_terminal(f"private {title} key", where.private), ask_on_terminal(f"public {title} key", where.public)
        )
    for path in (where.private, where.public):
        if path.parent != context.hosts and not path.parent.is_dir():
            raise CommandError(f"Error opening file `{path}': No such file or directory")
    newkeys.prepare(where)
    return where


def _saved(disabled: list[Path]) -> None:
    for path in disabled:
        sys.stderr.write(f"Warning: old key(s) found and disabled. ({path})\n")


def _advise(context: Context) -> int:
    sys.stderr.write(
        f"Now give the host file to the other nodes (`{context.command_line('export')}' prints it), and restart the "
        "daemon if it runs.\n"
    )
    return 0
