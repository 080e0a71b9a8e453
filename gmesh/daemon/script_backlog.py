"""Scripts that wait for their turn: in order, and bounded by what they are about.

Pure. Not here: running them (`scripts`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ScriptJob:
    """One run of one script.

    ``name`` is the file's name below CONFBASE without its extension (``hosts/beta-up``); ``variables`` are those of
    its event (scripts 3). ``subject`` is what goes up or down, None where that cannot be undone; ``up`` says which.
    """

    name: str
    variables: Mapping[str, str] = field(default_factory=dict)
    subject: Hashable = None
    up: bool = True


class ScriptBacklog:
    """First in, first out. Beyond ``soft_limit`` jobs, pairs that undo each other are struck out, oldest first.

    What is left then is at most one job per living object. Beyond ``hard_limit`` new jobs are refused.
    """

    def __init__(self, soft_limit: int = 4096, hard_limit: int = 131_072) -> None:
        self._jobs: deque[ScriptJob] = deque()
        self._soft_limit = soft_limit
        self._compact_at = soft_limit
        self._hard_limit = hard_limit

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: ScriptJob) -> int:
        """Append a job. Returns how many jobs were given up for it: struck-out ones, or 1 when it is refused itself."""
        if len(self._jobs) >= self._hard_limit:
            return 1
        self._jobs.append(job)
        if len(self._jobs) <= self._compact_at:
            return 0
        struck = self._compact()
        # Doubling keeps the cost per job constant when there is little to strike out.
        self._compact_at = max(self._soft_limit, 2 * len(self._jobs))
        return struck

    def pop(self) -> ScriptJob:
        """The oldest job. Raises IndexError when there is none."""
        job = self._jobs.popleft()
        if not self._jobs:
            self._compact_at = self._soft_limit
        return job

    def keep_last(self) -> int:
        """Drop all but the newest job; returns how many."""
        dropped = max(0, len(self._jobs) - 1)
        for _ in range(dropped):
            self._jobs.popleft()
        return dropped

    def _compact(self) -> int:
        waiting: dict[Hashable, int] = {}
        struck: set[int] = set()
        jobs = list(self._jobs)
        for index, job in enumerate(jobs):
            if job.subject is None:
                continue
            earlier = waiting.get(job.subject)
            if earlier is not None and jobs[earlier].up != job.up:
                struck |= {earlier, index}
                del waiting[job.subject]
            else:
                waiting[job.subject] = index
        self._jobs = deque(job for index, job in enumerate(jobs) if index not in struck)
        return len(struck)
