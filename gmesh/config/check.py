"""Looking a directory over without starting anything: what a daemon would complain about, and what it could not see.

The parts are in `check_options`, `check_keys` and `check_files`. Not here: showing what was found, and mending it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from gmesh.config import check_files, check_keys, check_options, lexer
from gmesh.config.check_options import Source
from gmesh.config.directory import Directory
from gmesh.config.findings import Finding
from gmesh.config.notices import Level, Notice, printable
from gmesh.config.server import Server
from gmesh.errors import ConfigError


def check(directory: Directory) -> list[Finding]:
    """Everything there is to say about a directory, in tinc's order: keys, scripts, then lines.

    Never raises: what cannot be read is a problem like any other.
    """
    unreadable = _server_file(directory)
    if unreadable is not None:
        return [unreadable]
    server = directory.read_server()
    found = [*_name(server)]
    if server.name:
        found += _own_host_file(directory, server)
        found += check_keys.own_keys(server)
    found += check_files.scripts(directory, server)
    sources = [*_server_sources(directory, found), *_host_sources(directory, server, found)]
    for source in sources:
        found += check_options.settings(directory, source, server.name)
    found += check_options.subnets(sources)
    for name in directory.host_names():
        found += _peer(directory, name) if name != server.name else ()
    found += check_files.hosts(directory)
    found += check_files.writable(directory)
    return found + _rest(server, found)


def _server_file(directory: Directory) -> Finding | None:
    path = directory.server_file
    try:
        lexer.load(path)
    except OSError as error:
        text = f"cannot read {printable(path)}: {error.strerror}"
        missing = not os.path.lexists(path)
        if missing:
            explanation = "No tinc configuration found. Create a new one with:"
        elif os.geteuid() != 0:
            explanation = "You are currently not running tinc as root. Use sudo?"
        else:
            explanation = f"Check the permissions of each component of the path {printable(path)}."
        commands = ("init NAME",) if missing else ()
        return Finding(Level.ERROR, text, printable(path), explanation=explanation, commands=commands, fails=True)
    except (ConfigError, ValueError) as error:
        return Finding(Level.ERROR, str(error), printable(path), fails=True)
    return None


def _name(server: Server) -> Iterator[Finding]:
    """Whether there is a name. Without one, what belongs to a name is not looked at."""
    if server.name:
        return
    reason = next((error for error in server.errors if error.key == "Name"), None)
    file = printable(server.directory.server_file)
    explanation = f"Could not find Name in {file}." if reason is None or not reason.line else reason.message
    yield Finding(
        Level.ERROR,
        "tinc cannot run without a valid Name.",
        file,
        reason.line if reason else 0,
        "Name",
        explanation,
        ("set Name NAME",),
        fails=True,
    )


def _own_host_file(directory: Directory, server: Server) -> Iterator[Finding]:
    path = directory.host_file(server.name)
    if not os.path.lexists(path):
        explanation = "This is our own host file: it tells the others our Address, Subnet and keys."
        yield Finding(
            Level.WARNING,
            f"cannot read {printable(path)}",
            printable(path),
            explanation=explanation,
            commands=("fsck --fix",),
        )


def _server_sources(directory: Directory, found: list[Finding]) -> Iterator[Source]:
    for path in directory.server_files():
        try:
            yield Source(path, lexer.read(path))
        except ConfigError as error:
            found.append(_cannot_open(error))


def _host_sources(directory: Directory, server: Server, found: list[Finding]) -> Iterator[Source]:
    for name in directory.host_names():
        try:
            yield Source(directory.host_file(name), lexer.read(directory.host_file(name)), name, name == server.name)
        except ConfigError as error:
            found.append(_cannot_open(error))


def _cannot_open(error: ConfigError) -> Finding:
    return Finding(Level.ERROR, error.message, error.file, explanation="Nothing in it counts.", fails=True)


def _peer(directory: Directory, name: str) -> Iterator[Finding]:
    try:
        host = directory.host(name)
    except ConfigError:
        return
    yield from check_keys.peer_keys(host)


def _rest(server: Server, found: list[Finding]) -> list[Finding]:
    """What reading the server's own files had to say about lines that nothing was found about yet."""
    seen = {(finding.file, finding.line) for finding in found if finding.line}
    # A repeated option is complained about once, not for each of its lines.
    repeated = {(finding.file, finding.key.lower()) for finding in found if "multiple instances" in finding.text}
    rest = []
    for notice in [*map(Notice.from_error, server.errors), *server.notices]:
        place = (notice.file, notice.line)
        if not notice.line or place in seen or (notice.file, notice.key.lower()) in repeated:
            continue
        seen.add(place)
        text = f"{notice.text} in {notice.file} line {notice.line}"
        fails = any(error.message == notice.text for error in server.errors)
        rest.append(Finding(notice.level, text, notice.file, notice.line, notice.key, fails=fails))
    return rest
