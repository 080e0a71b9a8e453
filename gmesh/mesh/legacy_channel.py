"""The legacy key exchange with one node: REQ_KEY, ANS_KEY, KEY_CHANGED (data-legacy 3).

Two keys, unrelated: the one we made, with which the node encrypts to us, and the one it made. An ANS_KEY never answers
an ANS_KEY, and what may answer or repeat is limited by time, so that two nodes cannot keep each other busy. Every
ANS_KEY of ours carries a fresh key: the reader starts its sequence numbers anew, replays under an old key.
Not here: relaying for others and the gossip part (`channels.py`), UDP (`udp.py`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from gmesh.crypto.nids import CIPHERS, NONE, Mode
from gmesh.errors import GmeshError, PeerError
from gmesh.mesh.actions import Action, ForgetSendKey, InstallReceiveKey, InstallSendKey, Log, SendLine
from gmesh.mesh.candidates import Source
from gmesh.mesh.channel import HELP_DELAYS, HELP_TRAFFIC
from gmesh.mesh.events import SessionEvent
from gmesh.mesh.limits import TokenBucket
from gmesh.mesh.pmtu import Overhead
from gmesh.mesh.registry import Node, Registry
from gmesh.mesh.settings import MeshSettings
from gmesh.mesh.udp import UdpPath
from gmesh.proto.compression import GROWTH
from gmesh.proto.packet import PacketKey
from gmesh.proto.requests import AnsKey, ReqKey

NEVER = math.inf
REQUEST_INTERVAL = 10.0
"""Seconds between two requests for a node's key (data-legacy 3.5)."""
REFUSED_INTERVAL = 300.0
"""The same where the node's last key could not be used: it hardly makes another kind, unless it was restarted."""
FIRST_RETRY = 1.5
"""Nodes lose lines while connections change, so the first request is repeated once soon."""
NEIGHBOUR_RETRIES = (2.0, 5.0, 10.0, 30.0)
"""Seconds after which a neighbour that owes us its key is asked for it; the last one repeats."""
ANSWER_BURST, ANSWER_INTERVAL = 4, 1.0
"""So many keys are made at once, then one every so many seconds, however often we are asked."""
WORN_INTERVAL = 10.0


def overhead_of(key: PacketKey) -> Overhead:
    """How frames grow under ``key`` (data-legacy 2). Probes are random, so compression makes them a little longer."""
    info = CIPHERS[key.cipher]
    block = info.block_size if info.mode is Mode.CBC else 1
    suffix = key.mac_length if key.digest != NONE else 0
    return Overhead(prefix=4 + (GROWTH if key.compression else 0), block=block, suffix=suffix)


class LegacyChannel:
    """Keys with one node. It tells ``path`` when there is a sending key and when that is gone."""

    sptps = False
    outdated = False

    def __init__(
        self, node: Node, registry: Registry, settings: MeshSettings, entropy: Callable[[int], bytes], path: UdpPath
    ) -> None:
        self.node = node
        self.settings = settings
        self.send_key: PacketKey | None = None
        self.receive_key: PacketKey | None = None
        """The last key that we gave the node, None while it holds none that counts."""
        self.made_at = 0.0
        self._registry = registry
        self._entropy = entropy
        self._path = path
        self._requested_at = -NEVER
        self._requests = 0
        self._refused = ""
        """Why the last key that the node gave us cannot be used."""
        self._retry_at = NEVER
        self._answer_at = NEVER
        self._answers = TokenBucket(ANSWER_BURST, 1 / ANSWER_INTERVAL, 0.0)
        self._worn_at = -NEVER
        self._help_at = NEVER
        self._helped = 0
        self._exchanged_at = -NEVER

    # What others read

    @property
    def valid_key(self) -> bool:
        """Whether we can encrypt to the node."""
        return self.send_key is not None

    @property
    def valid_key_in(self) -> bool:
        return self.receive_key is not None

    @property
    def holds_our_key(self) -> bool:
        return self.receive_key is not None

    @property
    def compression(self) -> int:
        return 0 if self.send_key is None else self.send_key.compression

    @property
    def waiting_for_key(self) -> bool:
        return self.send_key is None and self._requests > 0

    # Reachability

    def node_up(self, now: float) -> list[Action]:
        """The node became reachable. A neighbour gets its key unasked and owes us ours."""
        if self.node.connection is None:
            return []
        self._retry_at = now + NEIGHBOUR_RETRIES[0]
        return self._answer(now)

    def node_down(self) -> list[Action]:
        """The node is unreachable. Whoever calls drops the flow and this object."""
        self._retry_at = self._answer_at = self._help_at = NEVER
        return []

    def neighbour_up(self, now: float) -> list[Action]:
        """A node that could be reached before has what it asked for."""
        return []

    # Requests

    def request_received(self, request: ReqKey, now: float) -> list[Action]:
        """The node wants our key. Extended requests are another generation's, which we do not announce."""
        if request.extra:
            return []
        return self._answer_or_wait(now)

    def answer_received(self, request: AnsKey, now: float) -> list[Action]:
        """The node gave us its key; the last one counts."""
        if request.is_sptps:
            return []
        try:
            key = PacketKey.from_answer(
                request.key, request.cipher, request.digest, request.mac_length, request.compression
            )
        except PeerError as error:
            return self._refuse(str(error), now)
        actions: list[Action] = []
        if request.address is not None:
            actions += self._path.offer(request.address, Source.REFLEXIVE, now)
        if key == self.send_key:
            return actions
        self.send_key = key
        self._refused = ""
        self._requests = 0
        self._retry_at = NEVER
        self._exchanged_at = now
        self.help_wanted(now)
        actions.append(InstallSendKey(self.node.name, key))
        actions += self._path.key_installed(overhead_of(key), now)
        return actions

    def key_needed(self, now: float) -> list[Action]:
        """Something is to be sent to the node and there is no key for it."""
        interval = REFUSED_INTERVAL if self._refused else REQUEST_INTERVAL
        if self.send_key is not None or now - self._requested_at < interval:
            return []
        return self._request(now)

    def key_changed(self, now: float) -> list[Action]:
        """The node threw its keys away: ours for it is void and a new one may be asked for at once."""
        actions = self._drop_send_key(now)
        self._requested_at, self._requests = -NEVER, 0
        if self.node.connection is not None:
            self._retry_at = now + NEIGHBOUR_RETRIES[0]
        elif actions and self._path.recent_traffic(now, HELP_TRAFFIC):
            actions += self._request(now)
        return actions

    def reconnected(self, now: float) -> list[Action] | None:
        """Keys and numbers of a process that is gone would be of no use."""
        return None

    def session_event(self, event: SessionEvent, now: float) -> list[Action]:
        """Of a session that was another channel's."""
        return []

    # Our own keys

    def renew(self, now: float) -> list[Action]:
        """All keys that we made are void (KEY_CHANGED is out): neighbours get fresh ones, the others will ask."""
        if self.receive_key is None:
            return []
        self.receive_key = None
        return self._answer(now) if self.node.connection is not None else []

    def worn(self, now: float) -> list[Action]:
        """The node used up our key's sequence numbers: a fresh one for it alone is enough."""
        if now - self._worn_at < WORN_INTERVAL:
            return []
        self._worn_at = now
        return self._answer(now)

    # Time

    def next_timeout(self) -> float:
        return min(self._retry_at, self._answer_at, self._help_at)

    def on_timeout(self, now: float) -> list[Action]:
        actions: list[Action] = []
        if self._answer_at <= now:
            self._answer_at = NEVER
            actions += self._answer_or_wait(now)
        if self._retry_at <= now:
            self._retry_at = NEVER
            if self.send_key is None:
                actions += self._request(now)
        if self._help_at <= now:
            actions += self._help(now)
        return actions

    # Helpers

    def _line(self, line: str) -> list[Action]:
        connection = self._registry.next_connection(self.node)
        return [] if connection is None else [SendLine(connection.id, line)]

    def _refuse(self, reason: str, now: float) -> list[Action]:
        """Do without a key; said once, however often the node repeats it."""
        actions = self._drop_send_key(now)
        if reason != self._refused:
            self._refused = reason
            text = f"Packets for {self.node.name} go by TCP, its key cannot be used: {reason}"
            actions.append(Log(logging.WARNING, 0, text, f"bad key {self.node.name}"))
        self._requests = 0
        self._retry_at = NEVER
        return actions

    def _drop_send_key(self, now: float) -> list[Action]:
        if self.send_key is None:
            return []
        self.send_key = None
        return [ForgetSendKey(self.node.name), *self._path.key_lost(now)]

    def _request(self, now: float) -> list[Action]:
        """Ask for the key, and give ours where the node has none: one exchange serves both directions."""
        self._plan_retry(now)
        if not self._may_request():
            return []
        self._requested_at = now
        self._requests += 1
        actions = self._answer(now) if self.receive_key is None else []
        return [*actions, *self._line(ReqKey(self._registry.me.name, self.node.name).format())]

    def _may_request(self) -> bool:
        """A neighbour that has not told us its edge does not know us yet, and stock ones die of the request."""
        return self.node.reachable and (self.node.connection is None or self._registry.knows_us(self.node))

    def _plan_retry(self, now: float) -> None:
        if self.node.connection is not None:
            self._retry_at = now + NEIGHBOUR_RETRIES[min(self._requests + 1, len(NEIGHBOUR_RETRIES) - 1)]
        elif self._requests == 0:
            self._retry_at = now + FIRST_RETRY

    def _answer_or_wait(self, now: float) -> list[Action]:
        if self._answers.take(now):
            return self._answer(now)
        if self._answer_at == NEVER:
            # A little later than the token, lest a rounding error finds it missing.
            self._answer_at = self._answers.available_at(now) + 0.01
        return []

    def _answer(self, now: float) -> list[Action]:
        """Make a fresh key for packets to us and send it."""
        algorithms = self.settings.algorithms
        try:
            key = PacketKey.generate(
                cipher=algorithms.cipher,
                digest=algorithms.digest,
                mac_length=algorithms.mac_length,
                compression=algorithms.compression,
                entropy=self._entropy,
            )
        except GmeshError as error:
            return [Log(logging.ERROR, 0, f"Cannot make a packet key: {error}", "make key")]
        line = AnsKey(
            self._registry.me.name,
            self.node.name,
            key.text,
            key.cipher,
            key.digest,
            key.mac_length,
            key.compression,
        ).format()
        sent = self._line(line)
        if not sent:
            return []
        self.receive_key = key
        self.made_at = now
        return [InstallReceiveKey(self.node.name, key), *sent]

    def help_wanted(self, now: float) -> None:
        """There is traffic and UDP does not work: addresses or keys may be out of date."""
        if self.send_key is not None and self._help_at == NEVER:
            fresh = now - self._exchanged_at <= HELP_DELAYS[-1]
            self._helped = 0
            self._help_at = now + HELP_DELAYS[0] if fresh else now

    def _help(self, now: float) -> list[Action]:
        """Repeat the exchange, so that relays get another chance to add addresses, and lost lines are made good."""
        self._help_at = NEVER
        if not self._path.wants_help or not self._may_request():
            return []
        if not self._path.recent_traffic(now, HELP_TRAFFIC):
            return []
        self._helped += 1
        self._exchanged_at = now
        self._help_at = now + HELP_DELAYS[min(self._helped, len(HELP_DELAYS) - 1)]
        self._requested_at = now
        return [*self._answer(now), *self._line(ReqKey(self._registry.me.name, self.node.name).format())]
