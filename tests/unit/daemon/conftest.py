"""What several tests of the daemon room need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gmesh.daemon.logging_setup import DaemonLog


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """What the daemon logs at debug level 2."""
    daemon_log = DaemonLog("tinc", 2)
    lines: list[str] = []
    daemon_log.subscribe(-1, lambda level, created, text: lines.append(text))
    yield lines
    daemon_log.close()
