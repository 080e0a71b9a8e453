"""Two nodes of one name, each of which replaces the other's connection: told apart from restarts by their pace.

Only the pace is ours to change: each newcomer has to wait a little longer. Not here: the rest of a connection's life
(`connections.py`), and what our own dialers do when it is our name (`gmesh.net.backoff`).
"""

from __future__ import annotations

from dataclasses import dataclass

CALM = 10.0
"""Seconds without a replacement after which those before are forgotten."""

UNSUSPICIOUS = 3
"""Replacements in a row that a node may have because it is restarted, or comes by another way."""

SHORTEST_HOLD = 0.25
LONGEST_HOLD = 1.0
"""Seconds; a handshake has at least that long, whatever PingTimeout says."""

MAX_NAMES = 100


@dataclass(slots=True)
class _Record:
    count: int
    at: float


class Twins:
    """Counts, per name, connections that replaced one that was active."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def hold(self, name: str, now: float) -> float:
        """A connection is about to replace the active one of ``name``: how many seconds it has to wait, mostly 0."""
        record = self._records.pop(name, None)
        if record is None or now - record.at > CALM:
            record = _Record(0, now)
        record.count += 1
        record.at = now
        # The latest is always the last, so that the first is the one to forget.
        self._records[name] = record
        if len(self._records) > MAX_NAMES:
            del self._records[next(iter(self._records))]
        if record.count <= UNSUSPICIOUS:
            return 0.0
        return min(SHORTEST_HOLD * 2.0 ** min(record.count - UNSUSPICIOUS - 1, 10), LONGEST_HOLD)
