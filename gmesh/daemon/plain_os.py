"""System calls as Python has them, for code that runs before, beside or without the event loop.

gevent replaces ``os.close`` and others by versions that finish only when the loop runs: in the parent of a fork, which
never runs it again, such a descriptor would stay open for ever. Not here: anything for code inside the loop.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def plain(name: str) -> Any:
    """The function ``os.NAME`` without gevent's changes, whether or not gevent has been imported."""
    monkey = sys.modules.get("gevent.monkey")
    return getattr(os, name) if monkey is None else monkey.get_original("os", name)
