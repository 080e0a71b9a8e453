"""Keeping an Ed25519 key that a node told us: appended to its host file, never in the place of anything (requirements 4
and 30).

Not here: whether the key may be believed, and what is known without any file; see `gmesh.daemon.known_keys`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gmesh.config import edit
from gmesh.config.keys import ED25519_PUBLIC_LABEL, RSA_PUBLIC_LABELS
from gmesh.config.lexer import Document, parse
from gmesh.config.notices import printable
from gmesh.config.write import replace_file
from gmesh.errors import ConfigError
from gmesh.values import is_node_name

if TYPE_CHECKING:
    from gmesh.config.directory import Directory

OPTIONS = ("Ed25519PublicKey", "Ed25519PublicKeyFile")

_PROVED = "# told by the node itself, which proved it with its RSA key"
_UNPROVED = "# told through the mesh and proved by nothing: compare it with the node's own"


def has_rsa_key(document: Document) -> bool:
    return any(entry.key.lower() in ("publickey", "publickeyfile") for entry in document.entries) or any(
        block.label in RSA_PUBLIC_LABELS for block in document.blocks
    )


def store_public_key(directory: Directory, name: str, public: bytes, *, proved: bool) -> None:
    """Append the Ed25519 key (32 bytes, a usable one) to hosts/NAME, which is made where there is none.

    Raises ConfigError where the file names a key already or would not be read as it should, and OSError. A key that
    nothing proves is not put beside an RSA key either: a false one would keep out a node of tinc 1.0 (requirement 30).
    """
    from gmesh.crypto import ed25519

    if not is_node_name(name) or len(public) != ed25519.PUBLIC_SIZE:
        raise ConfigError(f"no key of {name!r} can be stored")
    path = directory.host_file(name)
    line = f"{OPTIONS[0]} = {ed25519.public_to_text(public)}\n"
    addition = f"{_PROVED if proved else _UNPROVED}\n{line}"

    def append(text: str) -> str:
        document = parse(text.encode("utf-8", "surrogateescape"), printable(path))
        if any(entry.key.lower() == option.lower() for entry in document.entries for option in OPTIONS) or any(
            block.label == ED25519_PUBLIC_LABEL for block in document.blocks
        ):
            raise ConfigError("there is an Ed25519 key already", printable(path))
        if not proved and has_rsa_key(document):
            raise ConfigError("nothing proves it, while the file has an RSA key that could", printable(path))
        end = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{end}{addition}"

    if path.exists():
        edit.change(path, append)
    else:
        directory.hosts.mkdir(mode=0o755, exist_ok=True)
        replace_file(path, append("").encode("ascii"), edit.NEW_FILE_MODE)
