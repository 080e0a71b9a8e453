"""What ``--version`` says. Scripts look for ``version NUMBER`` and for the words of the ``Features`` line."""

from __future__ import annotations

import sys

from gmesh import __version__

FEATURES = ("legacy_protocol", "watchdog")
"""Words as tinc 1.1 uses them (daemon-cli 1), only for what works; a checker knows no others."""


def version_text(program: str) -> str:
    """The text of ``--version``, with its last newline."""
    from gmesh.proto.requests import PROTOCOL_VERSION

    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"{program} version {__version__} (Python {python}, protocol {PROTOCOL_VERSION})\n"
        f"Features: {' '.join(FEATURES)}\n\n"
        "gmesh is free software under the Apache License, version 2.0.\n"
    )


def try_line(program: str) -> str:
    """What follows every complaint about a command line, with its newline."""
    return f"Try `{program} --help' for more information.\n"
