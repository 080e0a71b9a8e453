"""Makes configuration directories for tests of the config room and of the commands that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gmesh.config.directory import Directory
from gmesh.config.lexer import parse_overrides
from gmesh.config.notices import Level
from gmesh.config.server import Server


def make(base: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files, given by their path below ``base``; hosts/ is always there."""
    (base / "hosts").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return base


def server(
    base: Path,
    tinc_conf: str | bytes = "Name = a\n",
    own: str = "",
    *,
    files: Mapping[str, str | bytes] | None = None,
    overrides: Sequence[str] = (),
    netname: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Server:
    """Read a directory whose node is called ``a``."""
    make(base, {"tinc.conf": tinc_conf, "hosts/a": own, **(files or {})})
    return Directory(base, netname, parse_overrides(overrides), environ or {}).server()


def loud(found: Server, level: Level = Level.WARNING) -> list[str]:
    """The notices that are at least as loud as ``level``, as text."""
    return [str(notice) for notice in found.notices if notice.level >= level]
