"""The Ed25519 key of one node: what is on file, or what the node tells of it by way of others (meta-sptps 7.1).

Nothing proves what is told: it is believed only where we asked, where nothing is known, with a warning (requirement 4).
Not here: the lines that ask and tell (`sptps_channel.py`), and the host files (the daemon).
"""

from __future__ import annotations

import logging
import math

from gmesh.mesh.actions import Action, Log, StorePublicKey
from gmesh.mesh.identity import Identity
from gmesh.mesh.limits import TokenBucket

ASKED_SECONDS = 30.0
"""How long after we asked what the node tells is believed."""
TOLD_BURST, TOLD_INTERVAL = 3, 5.0
"""So many lines about keys at once in answer to the node's, then one every so many seconds."""


class PeerKey:
    """``public`` is None while nothing is known."""

    def __init__(self, node: str, identity: Identity) -> None:
        self._node = node
        self._identity = identity
        self._learned: bytes | None = None
        """As it was told, until the host file has it."""
        self._used: bytes | None = None
        self._asked_at = -math.inf
        self._lines = TokenBucket(TOLD_BURST, 1 / TOLD_INTERVAL, 0.0)

    @property
    def public(self) -> bytes | None:
        """The 32 bytes."""
        return self._identity.public_key(self._node) or self._learned

    @property
    def learned(self) -> bool:
        """Whether the node told the key, so that it counts without any file."""
        return self._learned is not None

    @property
    def outdated(self) -> bool:
        """Whether the file has another key than the one that was used."""
        known = self._identity.public_key(self._node)
        return known is not None and self._used is not None and known != self._used

    def used(self, public: bytes) -> None:
        """A session is made with it."""
        self._used = public

    def asked(self, now: float) -> None:
        """We ask the node for it."""
        self._asked_at = now

    def may_answer(self, now: float) -> bool:
        """Whether the node's lines may have another one of ours in return."""
        return self._lines.take(now)

    def told(self, public: bytes, now: float, *, sptps: bool, trust: bool) -> tuple[bool, list[Action]]:
        """The node tells its key; the flag says whether it is taken. ``sptps``: it speaks SPTPS; a node that does not
        would be locked out by a key that is known (requirement 30). ``trust``: the administrator lets us."""
        name = self._node
        known = self.public
        if known is not None:
            text = f"{name} tells another Ed25519 key than the one that is known; it is ignored"
            return False, [] if known == public else [self._warning(text)]
        if not sptps or now - self._asked_at > ASKED_SECONDS:
            return False, [Log(logging.DEBUG, 3, f"Ignoring a key of {name} that nobody asked for", f"unasked {name}")]
        if not trust:
            text = f"{name} tells its Ed25519 key, which nothing proves: TrustOnFirstUse = no refuses it"
            return False, [self._warning(text)]
        self._learned = public
        text = (
            f"Ed25519 key of {name} learned by way of other nodes and trusted from now on; "
            f"nothing but these nodes vouches for it"
        )
        return True, [self._warning(text), StorePublicKey(name, public, proved=False)]

    def _warning(self, text: str) -> Log:
        return Log(logging.WARNING, 0, text, f"public key {self._node}")
