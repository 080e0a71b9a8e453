"""The new directory of a node that joins by an invitation: all its files, or none (invitations 5).

Nothing that exists is touched. Not here: what the files are to hold (`joining`), keys other than the Ed25519 one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gmesh.config.write import NewFile, replace_file, replace_files
from gmesh.errors import ConfigError

if TYPE_CHECKING:
    from gmesh.config.joining import Joining
    from gmesh.crypto.ed25519 import Ed25519PrivateKey

SCRIPT_MODE = 0o755
PLAIN_MODE = 0o644
PRIVATE_MODE = 0o600


class NewDirectory:
    """CONFBASE at ``base``; ``mask`` are the mode bits that nothing gets (umask)."""

    def __init__(self, base: Path, mask: int = 0o022) -> None:
        self.base = base
        self.skipped: list[Path] = []
        """Host files that were there already, and so stay as they are."""
        self._mask = mask
        self._files: list[Path] = []
        self._directories: list[Path] = []

    @property
    def hosts(self) -> Path:
        return self.base / "hosts"

    @property
    def proposed_script(self) -> Path:
        """The generated tinc-up while nobody has agreed to it."""
        return self.base / "tinc-up.invitation"

    @property
    def script(self) -> Path:
        return self.base / "tinc-up"

    def write(self, joining: Joining, key: Ed25519PrivateKey, received: bytes) -> None:
        """Make everything. Raises OSError or ConfigError; then nothing is left of it."""
        with self._undone_on_failure():
            for path in (self.base, self.hosts, self.base / "cache"):
                self._make_directory(path)
            self._write_files(list(self._new_files(joining, key, received)))

    def undo(self) -> None:
        """Remove what was made."""
        for path in reversed(self._files):
            with contextlib.suppress(OSError):
                path.unlink()
        for path in reversed(self._directories):
            with contextlib.suppress(OSError):
                path.rmdir()

    def enable_script(self) -> None:
        """The proposed tinc-up counts from now on. Raises OSError."""
        self.proposed_script.chmod(SCRIPT_MODE & ~self._mask)
        self.proposed_script.rename(self.script)

    def write_script(self, text: str) -> None:
        """Make a tinc-up where there is none. Raises OSError."""
        if not os.path.lexists(self.script):
            replace_file(self.script, text.encode("ascii"), SCRIPT_MODE & ~self._mask)

    def move(self, base: Path) -> None:
        """Give the directory another name. Raises OSError."""
        self.base.rename(base)
        self.base = base

    # Inside

    @contextlib.contextmanager
    def _undone_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.undo()
            raise

    def _make_directory(self, path: Path) -> None:
        missing = [one for one in (path, *path.parents) if not os.path.lexists(one)]
        for one in reversed(missing):
            one.mkdir(mode=0o755)
            self._directories.append(one)

    def _new_files(self, joining: Joining, key: Ed25519PrivateKey, received: bytes) -> Iterator[NewFile]:
        """tinc.conf comes last: without it there is no network here."""
        from gmesh.crypto.ed25519 import public_to_text

        for name, text in joining.hosts.items():
            path = self.hosts / name
            if os.path.lexists(path):
                self.skipped.append(path)
            else:
                yield self._text(path, text)
        own = [*joining.host, f"Ed25519PublicKey = {public_to_text(key.public)}"]
        yield NewFile(self.base / "ed25519_key.priv", key.to_pem().encode("ascii"), PRIVATE_MODE)
        yield self._text(self.hosts / joining.name, _lines(own))
        yield NewFile(self.base / "invitation-data", received, PRIVATE_MODE)
        if joining.commands:
            yield self._text(self.proposed_script, joining.script)
        yield self._text(self.base / "tinc.conf", _lines([f"Name = {joining.name}", *joining.server]))

    def _text(self, path: Path, text: str) -> NewFile:
        return NewFile(path, text.encode("utf-8", "surrogateescape"), PLAIN_MODE & ~self._mask)

    def _write_files(self, files: list[NewFile]) -> None:
        for new in files:
            # Also a symbolic link: it may lead anywhere.
            if os.path.lexists(new.path):
                raise ConfigError(f"Configuration file {new.path} already exists!")
        self._files += [new.path for new in files]
        replace_files(files)


def _lines(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
