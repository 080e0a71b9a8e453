"""The part of `check` about files as such: scripts that never run, names that nobody reads, who may write."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from gmesh.config.directory import Directory
from gmesh.config.findings import Finding
from gmesh.config.notices import Level, printable
from gmesh.config.server import Server
from gmesh.values import is_node_name

SCRIPTS = ("tinc-up", "tinc-down", "host-up", "host-down", "subnet-up", "subnet-down")
INVITATION_SCRIPTS = ("invitation-created", "invitation-accepted")
_WAYS = ("-up", "-down")


def scripts(directory: Directory, server: Server) -> Iterator[Finding]:
    """Scripts that are not executable, and files that look like scripts and are none."""
    extension = server.get_str("ScriptsExtension")
    known = tuple(f"{name}{extension}" for name in (*SCRIPTS, *INVITATION_SCRIPTS))
    explained = False
    for name in _listed(directory.base):
        path = directory.base / name
        if not path.is_file():
            continue
        if name in known:
            yield from _runs(path, server)
        elif name.endswith(_WAYS) or (extension and name.endswith(tuple(f"{way}{extension}" for way in _WAYS))):
            # Once is enough, as tinc does.
            yield _unknown(path, "" if explained else _the_only(directory, extension))
            explained = True
    for name in _listed(directory.hosts):
        way = next((way for way in _WAYS if name.endswith(way + extension)), "")
        if not way:
            continue
        if is_node_name(name.removesuffix(way + extension)):
            yield from _runs(directory.hosts / name, server)
        else:
            yield _unknown(directory.hosts / name, "No node can have that name.")


def _listed(path: Path) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def _the_only(directory: Directory, extension: str) -> str:
    names = [f"{name}{extension}" for name in SCRIPTS]
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    return f"The only scripts in {printable(directory.base)} executed by tinc are: {listed}."


def _unknown(path: Path, explanation: str) -> Finding:
    return Finding(Level.WARNING, f"Unknown script {printable(path)} found.", printable(path), explanation=explanation)


def _runs(path: Path, server: Server) -> Iterator[Finding]:
    interpreted = bool(server.get_str("ScriptsInterpreter"))
    if os.access(path, os.R_OK if interpreted else os.R_OK | os.X_OK):
        return

    def fix() -> str:
        path.chmod(0o755)
        return f"Made {printable(path)} executable."

    yield Finding(
        Level.WARNING,
        f"cannot read and execute {printable(path)}: Permission denied",
        printable(path),
        explanation="The script does not run.",
        commands=(f"$ chmod 755 {shlex.quote(str(path))}",),
        fix=fix,
    )


def hosts(directory: Directory) -> Iterator[Finding]:
    """Whether hosts/ can be listed, and files in it that nobody reads."""
    try:
        names = sorted(os.listdir(directory.hosts))
    except OSError as error:
        yield Finding(
            Level.ERROR,
            f"cannot read directory {printable(directory.hosts)}: {error.strerror}",
            printable(directory.hosts),
            explanation="Nothing is known about any node, ourselves included.",
            commands=(f"$ mkdir {shlex.quote(str(directory.hosts))}",) if isinstance(error, FileNotFoundError) else (),
            fails=True,
        )
        return
    for name in names:
        if not is_node_name(name) and not any(way in name for way in _WAYS):
            path = directory.hosts / name
            text = f"{printable(path)} is no node's name; the file is ignored"
            yield Finding(Level.NOTICE, text, printable(path), commands=(f"$ rm {shlex.quote(str(path))}",))


def writable(directory: Directory) -> Iterator[Finding]:
    """Whoever may write one of these files controls the node."""
    paths = [directory.base, directory.hosts, *directory.server_files()]
    paths += [directory.host_file(name) for name in directory.host_names()]
    paths += [directory.base / script for script in (*SCRIPTS, *INVITATION_SCRIPTS)]
    for path in paths:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            yield Finding(
                Level.WARNING,
                f"anyone may write {printable(path)} (mode {mode:04o})",
                printable(path),
                explanation="Whoever can write it controls this node.",
                commands=(f"$ chmod o-w {shlex.quote(str(path))}",),
                fix=_no_more(path, mode),
            )


def _no_more(path: Path, mode: int) -> Callable[[], str]:
    def fix() -> str:
        path.chmod(mode & ~stat.S_IWOTH)
        return f"Fixed permissions of {printable(path)}."

    return fix
