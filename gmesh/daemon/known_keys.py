"""Whose Ed25519 keys we know: host files as they were read last, and what nodes told us since (`gmesh.mesh.identity`).

Answers come from memory; `keep` looks whether files have changed and writes new keys into them. Not here: what may be
believed (`gmesh.mesh`), and the form of the files (`gmesh.config`).
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import gevent
import gevent.event

from gmesh.config.directory import Directory
from gmesh.config.learned import store_public_key
from gmesh.config.notices import printable
from gmesh.crypto.ed25519 import Ed25519PrivateKey, public_to_text
from gmesh.daemon.logging_setup import log
from gmesh.errors import ConfigError, KeyFileError
from gmesh.values import is_node_name

LOOK_INTERVAL = 5.0
"""Seconds between looks whether host files have changed: a key that was put there needs no reload."""

MAX_TOLD = 5000
"""Keys that are kept without a file at most."""

_Signature = tuple[int, int, int]
_ABSENT: _Signature = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class ToldKey:
    """A key that a node told us. ``proved`` if its RSA key proved it."""

    public: bytes
    proved: bool


class KnownKeys:
    """Implements `Identity`. ``private_key`` is None where only the legacy protocol is spoken: then nothing is read."""

    def __init__(self, private_key: Ed25519PrivateKey | None, directory: Directory) -> None:
        self._private_key = private_key
        self._directory = directory
        self._files: dict[str, _Signature] = {}
        self._filed: dict[str, bytes] = {}
        self._unusable: set[str] = set()
        self._told: dict[str, ToldKey] = {}
        self._to_store: deque[str] = deque()
        self._news = gevent.event.Event()
        self.on_change: Callable[[], object] = lambda: None
        """Called when a key is known, changed or gone."""
        self.refresh()

    @property
    def private_key(self) -> Ed25519PrivateKey | None:
        return self._private_key

    def public_key(self, name: str) -> bytes | None:
        filed = self._filed.get(name)
        if filed is not None:
            return filed
        told = self._told.get(name)
        return None if told is None else told.public

    def proved_key(self, name: str) -> bytes | None:
        """A key that may let a node in although no file has it (yet): one that its RSA key proved."""
        told = self._told.get(name)
        return told.public if told is not None and told.proved else None

    # Files

    def refresh(self, *, everything: bool = False) -> list[str]:
        """Read the host files that have changed, or all; returns the nodes whose keys are others now."""
        if self._private_key is None:
            return []
        found = self._signatures()
        changed = []
        for name in [name for name in self._files if name not in found]:
            del self._files[name]
            self._unusable.discard(name)
            if self._filed.pop(name, None) is not None:
                changed.append(name)
        for name, signature in found.items():
            if everything or self._files.get(name) != signature:
                self._files[name] = signature
                if self._read(name):
                    changed.append(name)
        return changed

    def _signatures(self) -> dict[str, _Signature]:
        found = {}
        try:
            with os.scandir(self._directory.hosts) as entries:
                for entry in entries:
                    if is_node_name(entry.name):
                        try:
                            status = entry.stat()
                        except OSError:
                            continue
                        found[entry.name] = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError as error:
            log(0, logging.ERROR, f"{printable(self._directory.hosts)}: {error.strerror}", "hosts")
        return found

    def _read(self, name: str) -> bool:
        """Whether the key in the node's file is another one than before."""
        key = None
        self._unusable.discard(name)
        try:
            key = self._directory.host(name).ed25519_public_key()
        except (ConfigError, KeyFileError) as error:
            self._unusable.add(name)
            log(1, logging.WARNING, f"There is no usable Ed25519 key of {name}: {error}", f"key {name}")
        before = self._filed.pop(name, None)
        if key is not None:
            self._filed[name] = key
            # The file's word counts from now on.
            self._told.pop(name, None)
        return before != key

    # What nodes tell

    def told(self, name: str, public: bytes, *, proved: bool) -> bool:
        """A node told us its key: remember and store it, unless there is one. Returns whether it is news.

        A key that an RSA key proved takes the place of one that nothing did, as long as no file has that.
        """
        before = self._told.get(name)
        if name in self._filed or name in self._unusable or (before is not None and (before.proved or not proved)):
            return False
        if before is None and len(self._told) >= MAX_TOLD:
            return False
        self._told[name] = ToldKey(public, proved)
        if not proved:
            text = (
                f"The Ed25519 key {public_to_text(public)} of {name} came through the mesh and is trusted on first "
                f"use: nothing proves it, so compare it with {name}'s own"
            )
            log(0, logging.WARNING, text, "trust on first use")
        else:
            log(0, logging.INFO, f"{name} proved its Ed25519 key with its RSA key: SPTPS is spoken from now on")
        self._to_store.append(name)
        self._news.set()
        self.on_change()
        return True

    def keep(self) -> None:
        """Store what nodes told us and look for changed files, for ever."""
        while True:
            self._news.wait(LOOK_INTERVAL)
            self._news.clear()
            while self._to_store:
                self._store(self._to_store.popleft())
            if self.refresh():
                self.on_change()

    def _store(self, name: str) -> None:
        told = self._told.get(name)
        if told is None:
            return
        file = printable(self._directory.host_file(name))
        try:
            # The disk may take its time.
            gevent.get_hub().threadpool.apply(
                store_public_key, (self._directory, name, told.public), {"proved": told.proved}
            )
        except (OSError, ConfigError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            text = f"Could not store the Ed25519 key of {name} in {file}: {reason}. It counts until gmeshd ends"
            log(0, logging.ERROR, text, "store key")
        else:
            log(1, logging.INFO, f"The Ed25519 key of {name} is stored in {file}")
