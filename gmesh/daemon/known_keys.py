"""Whose Ed25519 keys we know: host files as they were read last, and what nodes told us since (`gmesh.mesh.identity`).

Answers come from memory; `keep` looks whether files have changed and writes new keys into them. Not here: what may be
believed (`gmesh.mesh`), and the form of the files (`gmesh.config`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import gevent
import gevent.event

from gmesh.config.directory import Directory
from gmesh.config.learned import store_public_key
from gmesh.config.notices import printable
from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.daemon.logging_setup import log
from gmesh.errors import ConfigError, KeyFileError
from gmesh.values import is_node_name

LOOK_INTERVAL = 5.0
"""Seconds between looks whether host files have changed: a key that was put there needs no reload."""

MAX_TOLD = 5000
"""Keys that are kept without a file, and that wait to be stored, at most."""

MAX_UNPROVED = 64
"""Nodes whose keys are stored though nothing proves them, at most, as long as the daemon runs: names are easily made
up, and what is on disk stays."""

_Signature = tuple[int, int, int]
_ABSENT: _Signature = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class ToldKey:
    """A key that is to be stored. ``proved`` if its owner's RSA key proved it."""

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
        self._proved: dict[str, bytes] = {}
        """Keys that count although no file has them, yet or at all."""
        self._to_store: dict[str, ToldKey] = {}
        self._unproved: set[str] = set()
        """Whose keys were to be stored though nothing proves them."""
        self._warned = False
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
        return self._proved.get(name)

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
            self._proved.pop(name, None)
        return before != key

    # What nodes tell

    def told(self, name: str, public: bytes, *, proved: bool) -> None:
        """A node told us its key, which is to be stored. One that its RSA key proved counts from now on; of others only
        the file's word counts, once it has them, so that nobody is kept out by what anybody may have said."""
        if name in self._filed or name in self._unusable or len(self._to_store) >= MAX_TOLD:
            return
        waiting = self._to_store.get(name)
        if waiting is not None and waiting.proved:
            return
        if proved and len(self._proved) < MAX_TOLD:
            self._proved[name] = public
            log(0, logging.INFO, f"{name} proved its Ed25519 key by its RSA key: SPTPS is spoken from now on")
            self.on_change()
        if not proved and not self._may_store_unproved(name):
            return
        self._to_store[name] = ToldKey(public, proved)
        self._news.set()

    def _may_store_unproved(self, name: str) -> bool:
        """Otherwise the mesh alone remembers the key, as long as the node is reachable."""
        if name in self._unproved:
            return True
        if len(self._unproved) < MAX_UNPROVED:
            self._unproved.add(name)
            return True
        if not self._warned:
            self._warned = True
            text = (
                f"{MAX_UNPROVED} nodes told Ed25519 keys that nothing proves: further ones are not stored until gmeshd "
                f"is started anew. TrustOnFirstUse = no refuses them all"
            )
            log(0, logging.WARNING, text)
        return False

    def keep(self) -> None:
        """Store what nodes told us and look for changed files, for ever."""
        while True:
            self._news.wait(LOOK_INTERVAL)
            self._news.clear()
            while self._to_store:
                name, told = next(iter(self._to_store.items()))
                self._store(name, told)
                # Meanwhile there may be something better to store.
                if self._to_store[name] is told:
                    del self._to_store[name]
            if self.refresh():
                self.on_change()

    def _store(self, name: str, told: ToldKey) -> None:
        file = printable(self._directory.host_file(name))
        try:
            # The disk may take its time.
            gevent.get_hub().threadpool.apply(
                store_public_key, (self._directory, name, told.public), {"proved": told.proved}
            )
        except (OSError, ConfigError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            text = f"The Ed25519 key that {name} told is not stored in {file}: {reason}"
            debug, level = (0, logging.ERROR) if told.proved or isinstance(error, OSError) else (1, logging.INFO)
            log(debug, level, text, "store key")
        else:
            log(1, logging.INFO, f"The Ed25519 key of {name} is stored in {file}")
