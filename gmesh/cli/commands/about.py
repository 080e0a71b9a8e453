"""``gmesh version`` and ``gmesh help``."""

from __future__ import annotations

import sys

from gmesh.cli.about import version_text
from gmesh.cli.context import Context, expect


def version(context: Context, arguments: list[str]) -> int:
    """``version``."""
    expect(arguments, 0, 0)
    sys.stdout.write(version_text("gmesh"))
    return 0


def help_(context: Context, arguments: list[str]) -> int:
    """``help``, whatever follows."""
    from gmesh.cli.main import HELP

    sys.stdout.write(HELP)
    return 0
