"""Looking a directory over without starting anything: what a daemon would complain about, and what it could not see.

Not here: repairs.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from gmesh.config.directory import Directory
from gmesh.config.keys import load_private_ed25519, load_private_rsa
from gmesh.config.notices import Level, Notice, printable
from gmesh.config.server import Server
from gmesh.config.settings import all_options
from gmesh.config.view import OptionView
from gmesh.errors import ConfigError, KeyFileError
from gmesh.values import is_node_name

_SCRIPTS = ("tinc-up", "tinc-down", "host-up", "host-down", "subnet-up", "subnet-down")
_HOST_SCRIPT = re.compile(r"[A-Za-z0-9_]+-(up|down)")


def check(directory: Directory) -> list[Notice]:
    """Everything there is to say about a directory. ERROR means that a start fails or something is of no use.

    Never raises: what cannot be read is a problem like any other.
    """
    server = directory.read_server()
    found = [Notice.from_error(error) for error in server.errors]
    found += server.notices
    found += _obsolete(server)
    if server.name:
        found += [*_own_rsa(server), *_own_ed25519(server)]
    for name in directory.host_names():
        found += _host(directory, name, own=name == server.name)
    found += _strange_names(directory)
    found += _writable(directory)
    found += _scripts(directory, server)
    return found


def _obsolete(options: OptionView) -> Iterator[Notice]:
    for option in all_options().values():
        if option.obsolete:
            for entry in options.entries(option.name):
                yield Notice(Level.NOTICE, f"{option.name} is obsolete", entry.file, entry.line, option.name)


def _own_ed25519(server: Server) -> Iterator[Notice]:
    host_file = printable(server.directory.host_file(server.name))
    try:
        private = load_private_ed25519(server)
        public = server.ed25519_public_key()
    except KeyFileError as error:
        yield Notice(Level.ERROR, str(error), printable(server.ed25519_private_file))
        return
    if private is not None and public is None:
        text = "there is no Ed25519 public key here, although there is a private one"
        yield Notice(Level.ERROR, text, host_file)
    elif private is not None and public != private.public:
        text = f"the Ed25519 public key does not belong to the private key in {printable(server.ed25519_private_file)}"
        yield Notice(Level.ERROR, text, host_file)


def _own_rsa(server: Server) -> Iterator[Notice]:
    host_file = printable(server.directory.host_file(server.name))
    try:
        private = load_private_rsa(server)
    except KeyFileError as error:
        yield Notice(Level.ERROR, str(error), printable(server.rsa_private_file))
        return
    try:
        public = server.rsa_public_key()
    except KeyFileError as error:
        yield Notice(Level.ERROR, f"{error}; without it nobody can connect to this node", host_file)
        return
    if public != private.public:
        text = f"the RSA public key does not belong to the private key in {printable(server.rsa_private_file)}"
        yield Notice(Level.ERROR, text, host_file)


def _host(directory: Directory, name: str, *, own: bool) -> Iterator[Notice]:
    try:
        host = directory.host(name)
    except ConfigError as error:
        if not own:
            yield Notice.from_error(error)
        return
    if own:
        return
    yield from host.notices
    yield from _obsolete(host.options)
    # A node of tinc 1.1 may have an Ed25519 key only, with which there is no legacy connection.
    for read in (host.rsa_public_key, host.ed25519_public_key):
        try:
            read()
        except KeyFileError as error:
            yield Notice(Level.WARNING, str(error), host.file)


def _strange_names(directory: Directory) -> Iterator[Notice]:
    try:
        names = sorted(os.listdir(directory.hosts))
    except OSError as error:
        yield Notice(Level.ERROR, f"cannot list the host files: {error.strerror}", printable(directory.hosts))
        return
    for name in names:
        if not is_node_name(name) and not _HOST_SCRIPT.match(name):
            yield Notice(Level.NOTICE, "this is no node's name; the file is ignored", printable(directory.hosts / name))


def _writable(directory: Directory) -> Iterator[Notice]:
    """Whoever may write one of these files controls the node."""
    paths = [directory.base, directory.hosts, *directory.server_files()]
    paths += [directory.host_file(name) for name in directory.host_names()]
    paths += [directory.base / script for script in _SCRIPTS]
    for path in paths:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            yield Notice(Level.WARNING, f"anyone may write here (mode {mode:04o})", printable(path))


def _scripts(directory: Directory, server: Server) -> Iterator[Notice]:
    if server.get_str("ScriptsInterpreter"):
        return
    extension = server.get_str("ScriptsExtension")
    hosts = [f"hosts/{name}-{way}" for name in directory.host_names() for way in ("up", "down")]
    for script in (*_SCRIPTS, *hosts):
        path = directory.base / (script + extension)
        if path.is_file() and not os.access(path, os.X_OK):
            yield Notice(Level.WARNING, "this script is not executable and will fail", printable(path))
