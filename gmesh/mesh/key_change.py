"""When a renewed session goes over to its new sending key, so that nodes which hold one key at a time lose nothing.

Stock nodes open with the old key until they have our ACK, which goes over meta connections, and with nothing but the
new one from then on. So nothing is sealed from a moment before the ACK leaves, when what is under the old key still has
to arrive, until it will have been taken. Not here: the handshake itself (`gmesh.proto.sptps_handshake`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from gmesh.mesh.actions import Action, HoldFrames, SessionStep
from gmesh.proto.sptps_handshake import SendHandshake, Step, UseSendKey

NEVER = math.inf
BEFORE = (0.005, 0.015)
"""At least and at most so many seconds pass between the last packet under the old key and the ACK; and half of what
answers take at most, where that lies in between."""
AFTER = (0.012, 0.030)
"""The same between the ACK and the first packet under the new key; and all of what answers take."""


class KeyChange:
    """The steps of one node's sessions; those that have to wait come by `on_timeout`, or by `finish` at once."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._ack: tuple[Action, ...] = ()
        self._ack_at = NEVER
        self._key: tuple[Action, ...] = ()
        self._key_at = NEVER

    def steps(self, session: int, steps: Sequence[Step], reply_time: float | None, now: float) -> list[Action]:
        """What is done now of the steps of a renewal. ``reply_time`` is how many seconds answers of the node take at
        most, None for a session that sends nothing but the handshake."""
        actions = self.finish() if any(isinstance(step, SendHandshake) for step in steps) else []
        change = next((index for index, step in enumerate(steps) if isinstance(step, UseSendKey)), None)
        if change is None:
            return [*actions, *self._actions(session, steps)]
        ack, key = steps[change - 1 : change], steps[change : change + 1]
        actions += self._actions(session, [*steps[: change - 1], *steps[change + 1 :]])
        self._key = tuple(self._actions(session, key))
        if reply_time is None:
            # Still a turn of the loop after the ACK.
            self._key_at = now
            return [*actions, *self._actions(session, ack)]
        self._ack = tuple(self._actions(session, ack))
        self._ack_at = now + _between(reply_time / 2, BEFORE)
        self._key_at = self._ack_at + _between(reply_time, AFTER)
        return [*actions, HoldFrames(self._node)]

    def next_timeout(self) -> float:
        return min(self._ack_at, self._key_at)

    def on_timeout(self, now: float) -> list[Action]:
        actions: list[Action] = []
        if self._ack_at <= now:
            # Late timers must not shorten the second wait.
            self._key_at += now - self._ack_at
            actions += self._ack
            self._ack, self._ack_at = (), NEVER
        if self._key_at <= now:
            actions += self._key
            self._key, self._key_at = (), NEVER
        return actions

    def finish(self) -> list[Action]:
        """Everything that waits."""
        actions = [*self._ack, *self._key]
        self._ack, self._ack_at, self._key, self._key_at = (), NEVER, (), NEVER
        return actions

    def _actions(self, session: int, steps: Iterable[Step]) -> list[Action]:
        return [SessionStep(self._node, session, step) for step in steps]


def _between(seconds: float, bounds: tuple[float, float]) -> float:
    return min(max(seconds, bounds[0]), bounds[1])
