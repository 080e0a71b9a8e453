"""The name of a network: which are refused, which are only unwise (config 2)."""

from __future__ import annotations

import re

from gmesh.errors import ConfigError

_REFUSED = re.compile(r"[/\\\x00-\x1f\x7f]")
_UNSAFE = re.compile(r'[ $%<>:`"|?*]')


def check_netname(name: str) -> tuple[str | None, str]:
    """The netname to use (None for ``.`` and the empty text: no netname) and a warning, or an empty text.

    Raises ConfigError for names that could leave the configuration directory.
    """
    if name in ("", "."):
        return None, ""
    if name.startswith(".") or _REFUSED.search(name):
        raise ConfigError(f"Invalid character in netname! {name!r} may not start with a dot or contain a slash")
    if _UNSAFE.search(name):
        return name, f"Warning: unsafe character in netname! {name!r} needs quoting in shells and scripts"
    return name, ""
