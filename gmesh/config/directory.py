"""One network's directory on disk: which files there are, and the objects made from them (config 1, 4).

Nothing is kept: every call reads what is there now. Not here: writing, see `write`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from gmesh.config import lexer
from gmesh.config.host import Host
from gmesh.config.lexer import Block, Document, Override
from gmesh.config.notices import Level, Notice, printable, raise_all
from gmesh.config.ownname import own_name
from gmesh.config.paths import CONFDIR
from gmesh.config.server import Server
from gmesh.errors import ConfigError
from gmesh.values import is_node_name

_MIN_CONF_NAME = 6
"""Characters of the shortest name in conf.d that counts: something before ``.conf``."""


class Directory:
    """CONFBASE with its netname and the ``-o`` options that change what its files say."""

    def __init__(
        self,
        base: Path,
        netname: str | None = None,
        overrides: Sequence[Override] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.base = base
        self.netname = netname
        self.overrides = tuple(overrides)
        self.environ: Mapping[str, str] = os.environ if environ is None else environ

    @property
    def server_file(self) -> Path:
        return self.base / "tinc.conf"

    @property
    def hosts(self) -> Path:
        return self.base / "hosts"

    def host_file(self, name: str) -> Path:
        return self.hosts / name

    @property
    def keygen_command(self) -> str:
        """The command that makes keys for this directory, for hints."""
        if self.netname and self.base == CONFDIR / self.netname:
            return f"gmesh-keygen -n {self.netname}"
        return f"gmesh-keygen -c {printable(self.base)}"

    def host_names(self) -> list[str]:
        """The nodes that have a host file, sorted. Files whose names are no node names are left out."""
        try:
            found = [entry.name for entry in os.scandir(self.hosts) if is_node_name(entry.name) and entry.is_file()]
        except OSError:
            return []
        return sorted(found)

    def host_exists(self, name: str) -> bool:
        return is_node_name(name) and self.host_file(name).is_file()

    def host(self, name: str) -> Host:
        """Read hosts/NAME. Raises ConfigError when ``name`` is no node name or the file cannot be read."""
        if not is_node_name(name):
            raise ConfigError(f"{name!r} is no node name")
        overrides = [override.entry for override in self.overrides if override.node == name]
        return Host(name, self.base, lexer.read(self.host_file(name)), overrides)

    def server_documents(self) -> tuple[list[Document], list[ConfigError]]:
        """tinc.conf and the files of conf.d sorted by name, as far as they can be read, and what is wrong in them."""
        documents: list[Document] = []
        errors: list[ConfigError] = []
        for path in self.server_files():
            try:
                document = lexer.read(path)
            except ConfigError as error:
                errors.append(error)
            else:
                documents.append(document)
                errors += document.errors
        return documents, errors

    def own_name(self) -> str:
        """Our node's name by the command line and the server's files, whatever else is wrong there.

        Raises ConfigError without a valid one.
        """
        documents, _ = self.server_documents()
        entries = [override.entry for override in self.overrides if not override.node]
        return own_name(entries + [entry for document in documents for entry in document.entries], self.environ)

    def server(self) -> Server:
        """Read everything that is ours. Raises ConfigError (`ConfigErrors` for several) when no start is possible."""
        server = self.read_server()
        raise_all(server.errors)
        return server

    def read_server(self) -> Server:
        """The same, with the errors that forbid a start left in ``Server.errors``, for those who only look."""
        documents, errors = self.server_documents()
        notices = [notice for document in documents for notice in document.notices]
        entries = [override.entry for override in self.overrides if not override.node]
        file_entries = [entry for document in documents for entry in document.entries]
        name = ""
        if documents and documents[0].file == printable(self.server_file):
            try:
                name = own_name(entries + file_entries, self.environ)
            except ConfigError as error:
                errors.append(error if error.file else ConfigError(error.message, documents[0].file, 0, "Name"))
        blocks: tuple[Block, ...] = ()
        if name:
            entries += [override.entry for override in self.overrides if override.node == name]
            try:
                document = lexer.read(self.host_file(name))
            except ConfigError as error:
                notices.append(Notice.from_error(error, Level.WARNING))
            else:
                file_entries += document.entries
                notices += [*document.notices, *map(Notice.from_error, document.errors)]
                blocks = document.blocks
        server = Server(self, name, entries + file_entries, blocks, notices)
        server.errors[:0] = errors
        return server

    def server_files(self) -> list[Path]:
        """tinc.conf and the files of conf.d that count, sorted by name."""
        try:
            names = os.listdir(self.base / "conf.d")
        except OSError:
            names = []
        return [self.server_file] + [
            self.base / "conf.d" / name
            for name in sorted(names)
            if len(name) >= _MIN_CONF_NAME and name.endswith(".conf")
        ]
