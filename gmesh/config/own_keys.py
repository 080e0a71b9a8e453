"""Our own keys together, and which protocols they let us speak (sptps 8). Not here: how one is read, see `keys`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gmesh.config.keys import load_private_ed25519, load_private_rsa
from gmesh.config.notices import Level, Notice, printable
from gmesh.errors import KeyFileError

if TYPE_CHECKING:
    from gmesh.config.server import Server
    from gmesh.crypto.ed25519 import Ed25519PrivateKey
    from gmesh.crypto.rsa import RsaPrivateKey


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """``rsa`` is for the legacy protocol, ``ed25519`` for SPTPS; one of them may be None, which then is not spoken.

    ``protocols`` says for the log what is spoken and why; ``notices`` are what else there is to tell.
    """

    rsa: RsaPrivateKey | None = field(repr=False)
    ed25519: Ed25519PrivateKey | None
    protocols: str = ""
    notices: tuple[Notice, ...] = ()


def load_own_keys(server: Server) -> OwnKeys:
    """Read what there is. Raises KeyFileError where nothing can be spoken, or not what ExperimentalProtocol wants."""
    notices: list[Notice] = []
    ed25519, without = _ed25519(server, notices)
    if ed25519 is None:
        rsa = load_private_rsa(server)
        return OwnKeys(rsa, None, f"Speaking the legacy protocol (tinc 1.0) only: {without}", tuple(notices))
    try:
        return OwnKeys(
            load_private_rsa(server),
            ed25519,
            "Speaking SPTPS (tinc 1.1) by our Ed25519 key, and the legacy protocol (tinc 1.0) by our RSA key",
            tuple(notices),
        )
    except KeyFileError as error:
        if server.rsa_private_file.exists():
            notices.append(Notice(Level.ERROR, str(error)))
            reason = f"{printable(server.rsa_private_file)} cannot be used"
        else:
            reason = f"there is no RSA key {printable(server.rsa_private_file)}"
        return OwnKeys(None, ed25519, f"Speaking SPTPS (tinc 1.1) only: {reason}", tuple(notices))


def _ed25519(server: Server, notices: list[Notice]) -> tuple[Ed25519PrivateKey | None, str]:
    """Our Ed25519 key, or None and why there is none."""
    wanted = server.given_bool("ExperimentalProtocol")
    if wanted is False:
        return None, "ExperimentalProtocol = no"
    path = printable(server.ed25519_private_file)
    try:
        key = load_private_ed25519(server)
    except KeyFileError as error:
        if wanted:
            raise
        notices.append(Notice(Level.ERROR, str(error)))
        return None, f"{path} cannot be used"
    if key is None:
        missing = f"there is no Ed25519 key {path}; add one with `{server.keygen_command} --ed25519'"
        if wanted:
            raise KeyFileError(f"ExperimentalProtocol = yes, but {missing}")
        return None, missing
    return key, ""
