"""``gmesh log``: the daemon's log lines as they come (control 4)."""

from __future__ import annotations

import re
import sys

from gmesh.cli.context import Context, expect
from gmesh.proto.control import ControlCode

_FOLLOW = -1


def run(context: Context, arguments: list[str]) -> int:
    """``log [LEVEL]``, until interrupted or the daemon ends."""
    expect(arguments, 0, 1)
    level = _FOLLOW
    if arguments:
        digits = re.match(r"\s*[+-]?[0-9]{1,9}", arguments[0])
        level = int(digits[0]) if digits else 0
    connection = context.connect()
    connection.send(ControlCode.LOG, level, int(sys.stdout.isatty()))
    try:
        for block in connection.stream(ControlCode.LOG):
            sys.stdout.buffer.write(block + b"\n")
            sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        return 0
    finally:
        context.disconnect()
    return 0
