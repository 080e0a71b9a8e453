"""Who we are and whose Ed25519 keys we know: what the mesh asks the daemon for, so that it reads no files itself.

Not here: meta connections, whose keys come with their credentials.
"""

from __future__ import annotations

from typing import Protocol

from gmesh.crypto.ed25519 import Ed25519PrivateKey


class Identity(Protocol):
    """Answers come from memory: both are asked in the middle of graph runs."""

    @property
    def private_key(self) -> Ed25519PrivateKey | None:
        """None where this node speaks only the legacy protocol."""

    def public_key(self, name: str) -> bytes | None:
        """The 32 bytes of a node's Ed25519 key, as its host file has it; None where none is known."""


class LegacyOnly:
    """A node without an Ed25519 key, or with ExperimentalProtocol = no."""

    private_key = None

    def public_key(self, name: str) -> bytes | None:
        return None
