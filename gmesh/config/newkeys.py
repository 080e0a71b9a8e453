"""Saving new keys in a directory, tinc 1.1's way: appended, after the old ones have been disabled with ``#``
(config 5, control-cli 5).

Not here: asking, printing, or reading keys back.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gmesh.config.directory import Directory
from gmesh.config.keys import ED25519_PUBLIC_LABEL, RSA_PUBLIC_LABELS
from gmesh.config.lexer import parse_setting
from gmesh.config.write import NewFile, replace_file, replace_files
from gmesh.errors import ConfigError

if TYPE_CHECKING:
    from gmesh.crypto.ed25519 import Ed25519PrivateKey
    from gmesh.crypto.rsa import RsaPrivateKey

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644

_RSA_PRIVATE_LABELS = ("RSA PRIVATE KEY", "PRIVATE KEY")
_RSA_PUBLIC_OPTIONS = ("publickey", "publickeyfile")
_ED25519_PUBLIC_OPTIONS = ("ed25519publickey", "ed25519publickeyfile")


@dataclass(frozen=True, slots=True)
class KeyPlaces:
    """Where a new pair goes. ``in_host_file`` says that ``public`` is a host file, not a file of the key alone."""

    private: Path
    public: Path
    in_host_file: bool

    def moved(self, private: Path | None, public: Path | None) -> KeyPlaces:
        """The same with other files, where given."""
        if public is None or public == self.public:
            return KeyPlaces(private or self.private, self.public, self.in_host_file)
        return KeyPlaces(private or self.private, public, public.parent.name == "hosts")


def places(directory: Directory, kind: str) -> KeyPlaces:
    """The usual places of the ``rsa`` or ``ed25519`` keys: without a valid Name the public one gets its own file."""
    option = {"rsa": "privatekeyfile", "ed25519": "ed25519privatekeyfile"}[kind]
    documents, _ = directory.server_documents()
    entries = [entry for document in documents for entry in document.entries]
    given = next((entry.value for entry in entries if entry.key.lower() == option), None)
    private = directory.base / (given or f"{kind}_key.priv")
    try:
        name = directory.own_name()
    except ConfigError:
        return KeyPlaces(private, directory.base / f"{kind}_key.pub", False)
    return KeyPlaces(private, directory.host_file(name), True)


def prepare(where: KeyPlaces) -> None:
    """See to it that the files' directories exist; only hosts/ is made. Raises ConfigError or OSError."""
    if where.in_host_file and where.public.parent.parent.is_dir():
        where.public.parent.mkdir(mode=0o755, exist_ok=True)
    for path in (where.private, where.public):
        if not path.parent.is_dir():
            raise ConfigError(f"there is no directory {path.parent}")


def save_rsa(key: RsaPrivateKey, where: KeyPlaces) -> list[Path]:
    """Append the pair to its files. Returns the files in which old keys were disabled. Raises OSError."""
    options = _RSA_PUBLIC_OPTIONS if where.in_host_file else ()
    return _save(
        _Addition(where.private, key.to_pem(), PRIVATE_MODE, _RSA_PRIVATE_LABELS),
        _Addition(where.public, key.public.to_pem(), PUBLIC_MODE, RSA_PUBLIC_LABELS, options),
    )


def save_ed25519(key: Ed25519PrivateKey, where: KeyPlaces) -> list[Path]:
    """Append the pair to its files. Returns the files in which old keys were disabled. Raises OSError."""
    from gmesh.crypto.ed25519 import public_to_pem, public_to_text

    text = f"Ed25519PublicKey = {public_to_text(key.public)}\n" if where.in_host_file else public_to_pem(key.public)
    options = _ED25519_PUBLIC_OPTIONS if where.in_host_file else ()
    return _save(
        _Addition(where.private, key.to_pem(), PRIVATE_MODE, ("ED25519 PRIVATE KEY",)),
        _Addition(where.public, text, PUBLIC_MODE, (ED25519_PUBLIC_LABEL,), options),
    )


def save_public(key: RsaPrivateKey | Ed25519PrivateKey, host_file: Path) -> bool:
    """Put the public half of one of our keys into our host file, as PEM. Raises OSError.

    Returns whether an old one was disabled.
    """
    from gmesh.crypto.ed25519 import Ed25519PrivateKey, public_to_pem

    if isinstance(key, Ed25519PrivateKey):
        labels, text, options = (ED25519_PUBLIC_LABEL,), public_to_pem(key.public), _ED25519_PUBLIC_OPTIONS
        return bool(_save(_Addition(host_file, text, PUBLIC_MODE, labels, options)))
    text = key.public.to_pem()
    return bool(_save(_Addition(host_file, text, PUBLIC_MODE, RSA_PUBLIC_LABELS, _RSA_PUBLIC_OPTIONS)))


def make_skeleton(directory: Directory, name: str) -> None:
    """Make what a new node's directory needs before its keys: CONFBASE, hosts/, and tinc.conf with the Name.

    What exists stays as it is; a tinc.conf with another Name is a ConfigError. Raises OSError.
    """
    directory.hosts.mkdir(mode=0o755, parents=True, exist_ok=True)
    file = directory.server_file
    text = ""
    with contextlib.suppress(FileNotFoundError):
        text = _read(file)
    try:
        present = directory.own_name()
    except ConfigError as error:
        if any(parse_setting(line)[0].lower() == "name" for line in text.splitlines()):
            raise ConfigError(f"{file} already has a Name, but a bad one: {error.message}") from None
        replace_file(file, _encode(_joined(text, f"Name = {name}\n")), PUBLIC_MODE)
    else:
        if present != name:
            raise ConfigError(f"{file} already names this node {present}; it does not become {name}")


def disable_old(text: str, labels: tuple[str, ...], options: tuple[str, ...] = ()) -> str:
    """Put ``#`` before every line of PEM blocks with these labels, and of these (lower case) options' settings."""
    lines: list[str] = []
    inside = old = False
    for line in text.split("\n"):
        start = line.lstrip(" \t")
        if not inside:
            inside = start.startswith("-----BEGIN")
            label = start.removeprefix("-----BEGIN").partition("-----")[0].strip()
            old = label in labels if inside else parse_setting(line)[0].lower() in options
        lines.append(f"#{line}" if old else line)
        if inside and start.startswith("-----END"):
            inside = False
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Addition:
    """What is to be appended to a file once old keys with these labels, and these settings, are disabled."""

    path: Path
    text: str = field(repr=False)
    mode: int = PUBLIC_MODE
    labels: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def _save(*additions: _Addition) -> list[Path]:
    """Make all of the additions, or where one cannot be made, none. Returns the files with disabled keys."""
    new: list[NewFile] = []
    changed: list[Path] = []
    for addition in additions:
        old = ""
        with contextlib.suppress(FileNotFoundError):
            old = _read(addition.path)
        disabled = disable_old(old, addition.labels, addition.options)
        if disabled != old:
            changed.append(addition.path)
        data = _encode(_joined(disabled, addition.text))
        new.append(NewFile(addition.path, data, addition.mode, exact_mode=addition.mode == PRIVATE_MODE))
    replace_files(new)
    return changed


def append_text(path: Path, addition: str) -> None:
    """Add whole lines to a public file, which is made where there is none. Raises OSError."""
    old = ""
    with contextlib.suppress(FileNotFoundError):
        old = _read(path)
    replace_file(path, _encode(_joined(old, addition)), PUBLIC_MODE)


def _joined(text: str, addition: str) -> str:
    end = "\n" if text and not text.endswith("\n") else ""
    return f"{text}{end}{addition}"


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
