"""``gmesh sign`` and ``gmesh verify``: files that prove which node they are from (control-cli 10)."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

from gmesh.cli.context import CommandError, Context, expect, nearest
from gmesh.errors import ConfigError, KeyFileError
from gmesh.values import is_node_name

_HEADER = re.compile(rb"Signature = (\S+) ([0-9]{1,19}) (\S{86})\s*\Z")
_LONGEST_HEADER = 2048


def sign(context: Context, arguments: list[str]) -> int:
    """``sign [FILE]``: the file with a header line in front, on standard output."""
    expect(arguments, 0, 1)
    from gmesh.config.keys import read_key_file
    from gmesh.config.newkeys import places
    from gmesh.crypto import base64
    from gmesh.crypto.ed25519 import Ed25519PrivateKey

    name = context.own_name()
    path = places(context.directory, "ed25519").private
    if not os.path.lexists(path):
        raise CommandError(f"Could not open {path}: No such file or directory")
    try:
        key = Ed25519PrivateKey.from_pem(read_key_file(path, "Ed25519 private key"))
    except KeyFileError as error:
        raise CommandError(f"Could not read private key from {path}: {error}") from None
    data = _read(arguments)
    seconds = int(time.time())
    signature = base64.encode(key.sign(_signed(data, name, seconds)))
    _write(f"Signature = {name} {seconds} {signature}\n".encode("ascii") + data)
    return 0


def verify(context: Context, arguments: list[str]) -> int:
    """``verify NODE [FILE]``: what was signed, on standard output, if NODE signed it (``.``: we, ``*``: anybody)."""
    expect(arguments, 1, 2)
    from gmesh.crypto import base64, ed25519

    wanted = context.own_name() if arguments[0] == "." else arguments[0]
    if wanted != "*" and not is_node_name(wanted):
        raise CommandError("Invalid node name")
    header, newline, data = _read(arguments[1:]).partition(b"\n")
    fields = _HEADER.match(header) if newline and len(header) < _LONGEST_HEADER else None
    signer = fields[1].decode("ascii", "replace") if fields else ""
    if fields is None or not int(fields[2]) or not is_node_name(signer):
        raise CommandError("Invalid input")
    if wanted not in ("*", signer):
        raise CommandError(f"Signature is not made by {wanted}")
    try:
        signature = base64.decode(fields[3].decode("ascii", "replace"))
    except ValueError:
        raise CommandError("Invalid input") from None
    message = _signed(data, signer, int(fields[2]))
    if not ed25519.verify(_public_key(context, signer), message, signature):
        raise CommandError("Invalid signature")
    _write(data)
    return 0


def _signed(data: bytes, name: str, seconds: int) -> bytes:
    return data + f" {name} {seconds}".encode("ascii")


def _public_key(context: Context, name: str) -> bytes:
    path = context.hosts / name
    if not os.path.exists(path):
        near = nearest(name, context.directory.host_names())
        raise CommandError(f"Could not open {path}: No such file or directory{'.' if near else ''}{near}")
    try:
        key = context.directory.host(name).ed25519_public_key()
    except (ConfigError, KeyFileError) as error:
        raise CommandError(f"Could not read public key from {path}: {error}") from None
    if key is None:
        raise CommandError(f"Could not read public key from {path}")
    return key


def _read(arguments: list[str]) -> bytes:
    if not arguments:
        return sys.stdin.buffer.read()
    try:
        return Path(arguments[0]).read_bytes()
    except OSError as error:
        raise CommandError(f"Could not open {arguments[0]}: {error.strerror}") from None


def _write(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
