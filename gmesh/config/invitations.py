"""The inviter's side on disk: invitations/ with its key and one file per open invitation (invitations 2, 3).

An invitation is used up in three steps, `claim`, writing the host file, `Claim.consume`, so that one whose joiner does
not get to the end stays open (requirement 6). Not here: what is said on the wire, the joiner's files (`joining`).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gmesh.config import edit
from gmesh.config.keys import read_key_file
from gmesh.config.lexer import parse_setting
from gmesh.config.netname import check_netname
from gmesh.config.notices import printable
from gmesh.config.write import replace_file
from gmesh.errors import ConfigError, KeyFileError
from gmesh.proto.invitation import COOKIE_SIZE, FILE_NAME_LENGTH, MAX_FILE, file_name
from gmesh.values import DEFAULT_PORT, is_node_name

if TYPE_CHECKING:
    from gmesh.config.directory import Directory
    from gmesh.crypto.ed25519 import Ed25519PrivateKey

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
SEPARATOR = "#---------------------------------------------------------------#"
USED = ".used"
"""What a file's name ends with while the key of its joiner is being stored; tinc leaves such files behind."""

_NAME = re.compile(rf"[A-Za-z0-9_-]{{{FILE_NAME_LENGTH}}}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Invitation:
    """One file in invitations/. ``node`` is empty where the file does not say whom it invites; ``created`` is seconds
    of the wall clock."""

    path: Path
    node: str
    created: float

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(USED)

    def expired(self, now: float, lifetime: float) -> bool:
        return self.created + lifetime < now


def invited_node(data: bytes) -> str:
    """Whom an invitation's text invites: its first line is a Name. Empty where it is not, or is no valid one."""
    key, value = parse_setting(data.partition(b"\n")[0].removesuffix(b"\r").decode("utf-8", "replace"))
    return value if key.lower() == "name" and is_node_name(value) else ""


class Claim:
    """An invitation that is ours to use up; no second one can be had of it."""

    def __init__(self, path: Path, used: Path) -> None:
        self._path = path
        self._used = used

    def consume(self) -> None:
        """It has served its purpose. Raises OSError."""
        self._used.unlink(missing_ok=True)

    def give_back(self) -> None:
        """It was of no use, and is open again."""
        with contextlib.suppress(OSError):
            os.rename(self._used, self._path)


class InvitationFiles:
    """The invitations of one node's directory. Nothing is kept: every call looks at what is there now."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    @property
    def path(self) -> Path:
        return self._directory.base / "invitations"

    def host_file(self, node: str) -> Path:
        """Where the key of an invited node belongs."""
        return self._directory.host_file(node)

    @property
    def key_file(self) -> Path:
        return self.path / "ed25519_key.priv"

    def private_key(self) -> Ed25519PrivateKey | None:
        """The invitation key; None where there is none, so that nobody can join. Raises KeyFileError."""
        from gmesh.crypto.ed25519 import Ed25519PrivateKey

        if not os.path.lexists(self.key_file):
            return None
        text = read_key_file(self.key_file, "Ed25519 private key")
        try:
            return Ed25519PrivateKey.from_pem(text)
        except KeyFileError as error:
            raise KeyFileError(
                f"Error reading Ed25519 private key file `{printable(self.key_file)}': {error}"
            ) from None

    def all(self) -> list[Invitation]:
        """The open invitations, expired ones among them, by name. Raises OSError; a missing directory is empty."""
        return self._listed("")

    def used(self) -> list[Invitation]:
        """Those that are being used up, or were left behind so."""
        return self._listed(USED)

    def read(self, name: str) -> tuple[Invitation, bytes] | None:
        """An open invitation and its text; None where there is none of this name. Raises OSError, or ConfigError for
        one that is far too large."""
        if _NAME.match(name) is None:
            return None
        try:
            with open(self.path / name, "rb") as file:
                created = os.fstat(file.fileno()).st_mtime
                data = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            return None
        if len(data) > MAX_FILE:
            raise ConfigError(f"an invitation is at most {MAX_FILE // 1024} KiB", printable(self.path / name))
        return Invitation(self.path / name, invited_node(data), created), data

    def claim(self, name: str) -> Claim | None:
        """Make an open invitation one's own; None if somebody was faster, or took it back. Raises OSError."""
        path = self.path / name
        used = path.with_name(f"{name}{USED}")
        try:
            os.rename(path, used)
        except FileNotFoundError:
            return None
        return Claim(path, used)

    # For the one who invites

    def prepare(self) -> None:
        """Make the directory, or mend its mode. Raises OSError."""
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=DIRECTORY_MODE)
        if stat.S_IMODE(self.path.stat().st_mode) != DIRECTORY_MODE:
            self.path.chmod(DIRECTORY_MODE)

    def prune(self, now: float, lifetime: float) -> list[Invitation]:
        """Delete what has expired; returns what is still open. Raises OSError."""
        for invitation in (*self.all(), *self.used()):
            if invitation.expired(now, lifetime):
                invitation.path.unlink(missing_ok=True)
        return self.all()

    def drop_key(self) -> None:
        """Nobody can join any more: no invitation is left. Raises OSError."""
        self.key_file.unlink(missing_ok=True)

    def save_key(self, key: Ed25519PrivateKey) -> None:
        self._save(self.key_file, key.to_pem().encode("ascii"))

    def create(self, cookie: bytes, public: bytes, text: str) -> Path:
        """Write an invitation; returns its file. Raises OSError."""
        if len(cookie) != COOKIE_SIZE:
            raise ValueError("no cookie")
        path = self.path / file_name(cookie, public)
        self._save(path, text.encode("utf-8", "surrogateescape"))
        return path

    def revoke(self, which: str) -> list[Invitation]:
        """Delete the invitation of this name, or all that invite this node; returns them. Raises OSError."""
        found = [one for one in (*self.all(), *self.used()) if which in (one.name, one.node)]
        for invitation in found:
            invitation.path.unlink(missing_ok=True)
        return found

    # Inside

    def _listed(self, ending: str) -> list[Invitation]:
        try:
            names = sorted(os.listdir(self.path))
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            if name.endswith(ending) and _NAME.match(name.removesuffix(ending)) is not None:
                path = self.path / name
                try:
                    with open(path, "rb") as file:
                        created = os.fstat(file.fileno()).st_mtime
                        found.append(Invitation(path, invited_node(file.readline(1024)), created))
                except FileNotFoundError:
                    continue
        return found

    def _save(self, path: Path, data: bytes) -> None:
        replace_file(path, data, FILE_MODE, exact_mode=True)
        # A daemon that has given up root's rights owns the directory, and has to read what root puts there.
        owner = self.path.stat()
        if owner.st_uid != os.geteuid():
            with contextlib.suppress(PermissionError):
                os.chown(path, owner.st_uid, owner.st_gid)


def invitation_text(directory: Directory, node: str, address: str, port: str) -> str:
    """What tinc writes for a new node (invitations 3), and whatever it needs to reach us.

    ``address`` is the value of our Address option, ``port`` where we listen. Raises ConfigError where our own files
    cannot be read.
    """
    own = directory.own_name()
    lines = [f"Name = {node}"]
    if directory.netname and _is_safe(directory.netname):
        lines.append(f"NetName = {directory.netname}")
    lines.append(f"ConnectTo = {own}")
    documents, _ = directory.server_documents()
    copied = [entry for document in documents for entry in document.entries if entry.key.lower() in _COPIED]
    lines += [f"{_COPIED[entry.key.lower()]} = {entry.value}" for entry in copied]
    lines += [SEPARATOR, f"Name = {own}"]
    path = directory.host_file(own)
    try:
        text = edit.read_text(path).removeprefix("\ufeff")
    except OSError as error:
        raise ConfigError(f"Could not open {path}: {error.strerror}") from None
    # To the joiner such a line would be the beginning of somebody else's file.
    text, _ = edit.delete_value(text, "Name")
    if not edit.values(text, "Address"):
        text = f"Address = {address}\n{text}"
    if edit.values(text, "Port") or port != str(DEFAULT_PORT):
        text, _ = edit.set_value(text, "Port", port)
    end = "" if text.endswith("\n") else "\n"
    return "\n".join(lines) + f"\n{text}{end}"


_COPIED = {"mode": "Mode", "broadcast": "Broadcast"}
"""Options of our tinc.conf that a node has to have in common with us."""


def _is_safe(netname: str) -> bool:
    try:
        return check_netname(netname) == (netname, "")
    except ConfigError:
        return False
