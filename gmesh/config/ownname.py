"""Our node's name, from settings and the environment (config 3). Light: commands that need no more load no more."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gmesh.config.lexer import Entry
from gmesh.config.notices import shown
from gmesh.errors import ConfigError
from gmesh.values import is_node_name


def own_name(entries: Sequence[Entry], environ: Mapping[str, str]) -> str:
    """The node name that these settings give, ``$VAR`` and ``$HOST`` replaced (config 3). Raises ConfigError."""
    entry = next((entry for entry in entries if entry.key.lower() == "name"), None)
    if entry is None:
        raise ConfigError("Name for tinc daemon required! Set Name in tinc.conf", key="Name")
    name = entry.value
    if name.startswith("$"):
        variable = name[1:]
        value = environ.get(variable)
        if value is None and variable == "HOST":
            import socket

            value = socket.gethostname()
        if value is None:
            raise ConfigError(
                f"Invalid Name: environment variable {shown(variable)} does not exist", entry.file, entry.line, "Name"
            )
        name = re.sub(r"[^A-Za-z0-9]", "_", value)
    if not is_node_name(name):
        raise ConfigError(
            f"Invalid name for myself! Name is '{shown(name)}'; allowed: letters, digits and _, or $VAR or $HOST",
            entry.file,
            entry.line,
            "Name",
        )
    return name
