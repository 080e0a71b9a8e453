"""What waits for a session: frames to be sealed in it, and datagrams that were sealed in it and came before it.

Bounded per node, in all, and in time. Not here: what is done with it then.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class WaitingRoom(Generic[Item]):
    """Items by node, oldest first. ``seconds`` is how long one may wait; times are the loop's."""

    def __init__(self, *, per_node: int, total: int, seconds: float) -> None:
        self._per_node = per_node
        self._total = total
        self._seconds = seconds
        self._count = 0
        self._swept_at = float("-inf")
        self._queues: dict[str, deque[tuple[float, Item]]] = {}

    def __len__(self) -> int:
        return self._count

    def nodes(self) -> list[str]:
        """The nodes for which something waits."""
        return list(self._queues)

    def add(self, node: str, item: Item, now: float) -> bool:
        """Let an item wait; False where there is no room. Who came first goes first, so the newest is turned away."""
        if self._count >= self._total:
            self._sweep(now)
            if self._count >= self._total:
                return False
        queue = self._queues.get(node)
        if queue is None:
            queue = self._queues[node] = deque()
        else:
            self._drop_old(queue, now)
            if len(queue) >= self._per_node:
                return False
        queue.append((now, item))
        self._count += 1
        return True

    def take(self, node: str, now: float) -> list[Item]:
        """Everything that waits for the node and is not too old."""
        queue = self._queues.pop(node, None)
        if queue is None:
            return []
        self._count -= len(queue)
        return [item for since, item in queue if now - since < self._seconds]

    def forget(self, node: str) -> None:
        self.take(node, 0.0)

    def _drop_old(self, queue: deque[tuple[float, Item]], now: float) -> None:
        while queue and now - queue[0][0] >= self._seconds:
            queue.popleft()
            self._count -= 1

    def _sweep(self, now: float) -> None:
        """Throw out what is too old, at most once a second: whoever fills the room must not make it work."""
        if now - self._swept_at < 1.0:
            return
        self._swept_at = now
        for node, queue in list(self._queues.items()):
            self._drop_old(queue, now)
            if not queue:
                del self._queues[node]
