"""SPTPS with one node: REQ_KEY and ANS_KEY that carry handshakes and public keys (meta-sptps 7.1 to 7.3).

Nothing a line says ends a session that works: another one is made beside it, and replaces it when both ends have it.
What may be provoked from outside, signatures above all, is limited by time. Not here: which of several sessions is used
(`sptps_sessions.py`), relaying (`relaying.py`), UDP (`udp.py`), the flows of open sessions (the data plane).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator

from gmesh.errors import DatagramError, PeerError
from gmesh.mesh import minors
from gmesh.mesh.actions import Action, Log, OpenHandshake, SendLine
from gmesh.mesh.candidates import Source
from gmesh.mesh.channel import HELP_DELAYS, HELP_TRAFFIC
from gmesh.mesh.events import (
    FlowReader,
    HandshakeOpened,
    HandshakeSealed,
    SessionConfirmed,
    SessionDoubted,
    SessionEvent,
)
from gmesh.mesh.identity import Identity
from gmesh.mesh.key_change import KeyChange
from gmesh.mesh.limits import TokenBucket
from gmesh.mesh.peer_key import PeerKey
from gmesh.mesh.pmtu import Overhead
from gmesh.mesh.registry import Node, Registry
from gmesh.mesh.settings import MeshSettings
from gmesh.mesh.sptps_sessions import OpenSession, Pending, Sessions
from gmesh.mesh.udp import UdpPath
from gmesh.proto.requests import AnsKey, ReqKey
from gmesh.proto.requests_11 import (
    AskPublicKey,
    SessionData,
    StartSession,
    SubRequest,
    TellPublicKey,
    as_req_key,
    handshake_answer,
    handshake_datagram,
    sub_request,
)
from gmesh.proto.sptps_datagram import DatagramSession
from gmesh.proto.sptps_flow import HANDSHAKE_RECORD, NUMBER_SIZE, OVERHEAD
from gmesh.proto.sptps_handshake import KEX_SIZE, SIG_SIZE, HandshakeFinished, data_label
from gmesh.proto.sptps_packet import HEAD_SIZE
from gmesh.values import OPTION_TCPONLY

NEVER = math.inf
RETRIES = (1.5, 5.0, 10.0)
"""Seconds after which a session that did not come to life is asked for again; the last one repeats."""
RESPONDING_SECONDS = 1.5
"""So long the node may take to finish a session that it began before we begin one as well. Granted once for each
session that we want: anybody on the way can write, again and again, that the node begins one."""
WANTED_SECONDS = 30.0
"""A session that nothing is to be sent in is asked for no longer than this."""
LARGER_WAITS = 1.0
"""Of two neighbours the one with the larger name leaves the other so many seconds to begin."""
ANSWER_BURST, ANSWER_INTERVAL = 5, 1.0
"""So many sessions may the node begin at once, then one every so many seconds: each costs us a signature."""
RECORD_BURST, RECORD_RATE = 20, 5.0
"""The same for handshake records in ANS_KEY that make us sign or verify (and per second)."""
CHEAP_BURST, CHEAP_RATE = 100, 100.0
"""The same for records that cost an attempt to open them, and for answers that are sent again as they are."""
_KEX_SIZE, _SIG_SIZE = NUMBER_SIZE + 1 + KEX_SIZE, NUMBER_SIZE + 1 + SIG_SIZE
"""Of the two records of a first handshake, which are not encrypted."""
KEPT_SECONDS = 10.0
"""How long a session that the node asked for waits for its public key."""
FRESH_SECONDS = 0.5
"""What opened in a session so recently leaves no doubt of it."""
DOUBT_PATIENCE = 0.8
"""Seconds, besides the round trip, in which the node has to show that our session still works once there is doubt."""
MAX_VAIN = 2
"""So often handshake records alone may dispel a doubt while there is traffic: a node that answers those, and whose
packets we cannot open, sends in a session that we have dropped."""
DOUBT_PATIENCE_TCP = 1.5
"""The same where that goes through meta connections, whose round trip is not known."""
RENEWAL_STAGGER = 1.0
"""The responder's renewal is due so many seconds later, so that usually only one end renews."""


def overhead_of(minor: int) -> Overhead:
    """How frames grow on their way to a node of that minor version (data-sptps 2)."""
    ids = HEAD_SIZE if minor >= minors.NODE_IDS else 0
    return Overhead(prefix=ids, block=1, suffix=OVERHEAD)


class SptpsChannel:
    """Sessions with one node. It tells ``path`` when there is one to send in."""

    sptps = True
    send_key = None
    holds_our_key = False

    def __init__(
        self,
        node: Node,
        registry: Registry,
        settings: MeshSettings,
        path: UdpPath,
        *,
        entropy: Callable[[int], bytes],
        flows: FlowReader,
        identity: Identity,
        numbers: Iterator[int],
        answers: TokenBucket,
    ) -> None:
        """``answers`` limits, for all nodes together, the sessions that others begin."""
        self.node = node
        self.settings = settings
        self.sessions = Sessions(node.name, registry.me.name, numbers)
        self._registry = registry
        self._entropy = entropy
        self._path = path
        self._flows = flows
        self._identity = identity
        self._answers = (TokenBucket(ANSWER_BURST, 1 / ANSWER_INTERVAL, 0.0), answers)
        self._records = TokenBucket(RECORD_BURST, RECORD_RATE, 0.0)
        self._sealed_records = TokenBucket(CHEAP_BURST, CHEAP_RATE, 0.0)
        self._repeats = TokenBucket(CHEAP_BURST, CHEAP_RATE, 0.0)
        self._key = PeerKey(node.name, identity)
        self._kept: tuple[float, StartSession] | None = None
        self._announced: int | None = None
        """The compression in the node's last ANS_KEY."""
        self._wanted_at = -NEVER
        self._tries = 0
        self._next_try = -NEVER
        self._try_at = NEVER
        self._yield_until: float | None = None
        """How long the session that is wanted now is left to the node; None while it has begun none."""
        self._doubted_at = -NEVER
        self._judge_at = NEVER
        self._vain = 0
        self._packets_then = 0
        """Packets that had come in at the last doubt."""
        self._opened_at = -NEVER
        self._help_at = NEVER
        self._helped = 0
        self._change = KeyChange(node.name)

    # What others read

    @property
    def valid_key(self) -> bool:
        """Whether we can encrypt to the node."""
        return self.sessions.used is not None

    @property
    def valid_key_in(self) -> bool:
        return bool(self.sessions.open)

    @property
    def outdated(self) -> bool:
        return self._key.outdated

    @property
    def key_learned(self) -> bool:
        return self._key.learned

    @property
    def waiting_for_key(self) -> bool:
        return self.sessions.used is None and self._tries > 0

    @property
    def compression(self) -> int:
        return 0 if self.sessions.used is None else self.sessions.used.compression

    # Reachability

    def node_up(self, now: float) -> list[Action]:
        """The node became reachable. Neighbours have a session though they may have nothing to say to each other:
        without it stock ones relay nothing to us, and nobody learns where UDP reaches them."""
        return self.neighbour_up(now)

    def neighbour_up(self, now: float) -> list[Action]:
        if self.node.connection is not None and not self._tcp_only and self.sessions.used is None:
            self._wanted_at = now
            self._try_at = now if self._registry.me.name.encode() < self.node.name.encode() else now + LARGER_WAITS
        return []

    def node_down(self) -> list[Action]:
        """The node is unreachable. Whoever calls drops the flow and this object."""
        self._try_at = self._judge_at = self._help_at = NEVER
        return []

    @property
    def _tcp_only(self) -> bool:
        return bool((self.settings.options | self.node.options) & OPTION_TCPONLY)

    # Requests

    def request_received(self, request: ReqKey, now: float) -> list[Action]:
        try:
            content = sub_request(request)
        except PeerError as error:
            return [self._ignored(str(error))]
        match content:
            case StartSession():
                return self._asked_for_session(content, now)
            case AskPublicKey():
                return self._asked_for_key(now)
            case TellPublicKey():
                return self._told_key(content.public, now)
            case SessionData():
                raise AssertionError("data is the data plane's")
            case None:
                return [self._ignored("a key of the old protocol is asked for, which we do not use with it")]

    def answer_received(self, request: AnsKey, now: float) -> list[Action]:
        """A handshake record. Of a first handshake it is for one of the sessions that are being made, else for an open
        one: the numbers of records tell."""
        try:
            datagram = handshake_datagram(request)
        except PeerError as error:
            return [self._ignored(str(error))]
        actions: list[Action] = []
        if request.address is not None and not self._path.confirmed:
            actions += self._path.offer(request.address, Source.REFLEXIVE, now)
        if int.from_bytes(datagram[:NUMBER_SIZE], "big") >= 2:
            if self.sessions.open and self._sealed_records.take(now):
                self._announced = request.compression
                actions.append(OpenHandshake(self.node.name, datagram))
            return actions
        # Who floods us with what nobody waits for must not keep out what is waited for.
        waiting = [pending for pending in self.sessions.pending if _waits_for(pending, datagram)]
        if not waiting or not self._records.take(now):
            return actions
        for pending in waiting:
            try:
                pending.session.receive(datagram, now)
            except DatagramError:
                continue
            return [*actions, *self._advance(pending, request.compression, now)]
        return actions

    def _advance(self, pending: Pending, compression: int, now: float) -> list[Action]:
        """A session that is being made took a record of the node."""
        pending.taken = True
        actions: list[Action] = []
        for datagram in pending.session.data_to_send():
            actions += self._answer(datagram, pending.own_compression)
        if pending.session.established:
            actions += self.sessions.finished(pending, compression, now)
            self._announced = None
            self._try_at = NEVER
            self._tries = 0
            self._yield_until = None
            self._next_try = now + RETRIES[0]
            self._doubted_at, self._judge_at = -NEVER, NEVER
            if self._path.has_key:
                self._path.woken(now)
            else:
                actions += self._path.key_installed(overhead_of(self.node.minor), now)
        return actions

    def key_needed(self, now: float) -> list[Action]:
        """Something is to be sent to the node, or came from it, and there is no session for it."""
        self._wanted_at = now
        return [] if self.sessions.used is not None else self._begin(now)

    def key_changed(self, now: float) -> list[Action]:
        """The node threw its legacy keys away, as it does from time to time, and also when it was started anew."""
        used = self.sessions.used
        return [] if used is None or not self._path.recent_traffic(now, HELP_TRAFFIC) else self._doubt(used, now)

    def renew(self, now: float) -> list[Action]:
        """KEY_CHANGED is no matter of sessions."""
        return []

    def worn(self, now: float) -> list[Action]:
        """Record numbers of the session come to an end: only another session begins to count anew."""
        self._wanted_at = now
        return self._begin(now)

    def reconnected(self, now: float) -> list[Action]:
        """The node's process may be a new one, but it may as well be the same."""
        self._wanted_at = now
        self._next_try = -NEVER
        return self._begin(now)

    # The data plane

    def session_event(self, event: SessionEvent, now: float) -> list[Action]:
        match event:
            case SessionConfirmed():
                self.sessions.confirmed(event.session, now)
                return []
            case SessionDoubted():
                used = self.sessions.used
                return self.key_needed(now) if used is None else self._doubt(used, now)
            case HandshakeSealed():
                known = self.sessions.numbered(event.session)
                return [] if known is None else self._answer(event.datagram, known.own_compression)
            case HandshakeOpened():
                known = self.sessions.numbered(event.session)
                return [] if known is None else self._handshake(known, event.data, now)

    def _handshake(self, known: OpenSession, data: bytes, now: float) -> list[Action]:
        self._opened_at = now
        try:
            events = known.session.receive_handshake(data, now)
        except DatagramError as error:
            return [self._ignored(str(error))]
        if any(isinstance(event, HandshakeFinished) for event in events):
            known.renewed_at = now
        actions = self._steps(known, now)
        if self._announced not in (None, known.compression) and known is self.sessions.used:
            # What the node wants to receive is fixed for a session.
            actions += self.worn(now)
        return actions

    def _steps(self, session: OpenSession, now: float) -> list[Action]:
        """What the data plane has to do in a renewal."""
        reply_time = self._path.reply_time if session is self.sessions.used else None
        return self._change.steps(session.number, session.session.take_steps(), reply_time, now)

    def _doubt(self, used: OpenSession, now: float) -> list[Action]:
        """The node may have lost the session in use, or somebody else sends nonsense: find out, at no cost to it."""
        if self._judge_at < NEVER or now - self._last_opened() < FRESH_SECONDS:
            return []
        self._doubted_at = now
        counters = self._flows.counters(self.node.name)
        self._packets_then = 0 if counters is None else counters.packets_in
        if self._path.confirmed:
            self._judge_at = now + DOUBT_PATIENCE + self._path.reply_time
            return self._path.examine(now)
        self._judge_at = now + DOUBT_PATIENCE_TCP
        used.session.renew(now)
        return self._steps(used, now)

    def _judge(self, now: float) -> list[Action]:
        self._judge_at = NEVER
        if self.sessions.used is None:
            return []
        if self._last_opened() >= self._doubted_at:
            in_vain = not self._data_came() and self._path.recent_traffic(now, HELP_TRAFFIC)
            self._vain = self._vain + 1 if in_vain else 0
            if self._vain < MAX_VAIN:
                return []
        self._vain = 0
        self._wanted_at = now
        return self._begin(now)

    def _data_came(self) -> bool:
        """Whether since the last doubt something opened that was no handshake record."""
        counters = self._flows.counters(self.node.name)
        return counters is not None and (
            counters.packets_in != self._packets_then or counters.last_authentic >= self._doubted_at
        )

    def _last_opened(self) -> float:
        counters = self._flows.counters(self.node.name)
        return self._opened_at if counters is None else max(self._opened_at, counters.last_opened)

    # Time

    def next_timeout(self) -> float:
        return min(
            self._try_at,
            self._judge_at,
            self._help_at,
            self._change.next_timeout(),
            self._renew_at(),
            self.sessions.next_timeout(),
        )

    def on_timeout(self, now: float) -> list[Action]:
        actions = self._change.on_timeout(now)
        dropped, stuck = self.sessions.on_timeout(now)
        actions += dropped
        if stuck:
            actions += self.worn(now)
        if self._try_at <= now:
            self._try_at = NEVER
            if self.node.connection is not None or now - self._wanted_at <= WANTED_SECONDS:
                actions += self._begin(now)
            else:
                self._yield_until = None
        if self._judge_at <= now:
            actions += self._judge(now)
        used = self.sessions.used
        if used is not None and self._renew_at() <= now:
            used.renewed_at = now
            used.session.renew(now)
            actions += self._steps(used, now)
        if self._help_at <= now:
            actions += self._help(now)
        return actions

    def _renew_at(self) -> float:
        used = self.sessions.used
        if used is None:
            return NEVER
        stagger = 0.0 if used.session.initiator else min(RENEWAL_STAGGER, self.settings.key_expire / 4)
        return used.renewed_at + self.settings.key_expire + stagger

    def help_wanted(self, now: float) -> None:
        """There is traffic and UDP does not work. Relays that know UDP_INFO help by themselves; others add addresses to
        what an exchange sends through them."""
        hop = self.node.next_hop
        if self._help_at < NEVER or hop is None or hop is self.node or self.sessions.used is None:
            return
        if hop.minor < minors.UDP_INFO:
            self._helped = 0
            self._help_at = now + HELP_DELAYS[0]

    def _help(self, now: float) -> list[Action]:
        self._help_at = NEVER
        used = self.sessions.used
        if used is None or not self._path.wants_help or not self._path.recent_traffic(now, HELP_TRAFFIC):
            return []
        self._helped += 1
        self._help_at = now + HELP_DELAYS[min(self._helped, len(HELP_DELAYS) - 1)]
        used.session.renew(now)
        return self._steps(used, now)

    # Sessions that we begin

    def _begin(self, now: float) -> list[Action]:
        """Ask for a session, unless that was done a moment ago or the node has just begun one; and again later."""
        if now < self._next_try:
            self._try_at = min(self._try_at, self._next_try)
            return []
        responding = self.sessions.responding
        if responding is not None and self._yield_until is None:
            self._yield_until = responding.began + RESPONDING_SECONDS
        if self._yield_until is not None and now < self._yield_until:
            self._try_at = self._yield_until
            return []
        self._next_try = self._try_at = now + RETRIES[min(self._tries, len(RETRIES) - 1)]
        self._tries += 1
        if not self._may_request():
            return []
        public = self._key.public
        if public is None:
            return self._ask_for_key(now)
        pending = self.sessions.initiating
        if pending is None or pending.taken:
            # A request that is repeated unchanged cannot mix up two answers; one whose answer got stuck is hopeless.
            session = self._make(public, initiator=True, now=now)
            (kex,) = session.data_to_send()
            pending = self.sessions.begin(session, kex, self.settings.algorithms.compression, now)
        return self._request(StartSession(pending.kex))

    def _may_request(self) -> bool:
        """A neighbour that has not told us its edge does not know us yet, and stock ones die of the request."""
        return self.node.reachable and (self.node.connection is None or self._registry.knows_us(self.node))

    def _make(self, public: bytes, *, initiator: bool, now: float) -> DatagramSession:
        private = self._identity.private_key
        assert private is not None, "a node without a key has no such channel"
        names = (self._registry.me.name, self.node.name)
        self._key.used(public)
        return DatagramSession(
            initiator=initiator,
            private_key=private,
            peer_public=public,
            label=data_label(*(names if initiator else reversed(names))),
            entropy=self._entropy,
            now=now,
            replay_window=self.settings.sptps_replay_window,
        )

    # Sessions that the node begins

    def _asked_for_session(self, request: StartSession, now: float) -> list[Action]:
        public = self._key.public
        if public is None:
            self._kept = (now, request)
            return self._ask_for_key(now) if self._key.may_answer(now) else []
        pending = self.sessions.responding
        if pending is not None and pending.kex == request.datagram:
            return self._repeat_answer(pending, now)
        if not all(bucket.take(now) for bucket in self._answers):
            return []
        session = self._make(public, initiator=False, now=now)
        try:
            session.receive(request.datagram, now)
        except DatagramError as error:
            return [self._ignored(str(error))]
        (kex,) = session.data_to_send()
        pending = self.sessions.begin(session, request.datagram, self.settings.algorithms.compression, now)
        pending.answer = kex
        return self._answer(kex, pending.own_compression)

    def _repeat_answer(self, pending: Pending, now: float) -> list[Action]:
        return self._answer(pending.answer, pending.own_compression) if self._repeats.take(now) else []

    # Public keys

    def _ask_for_key(self, now: float) -> list[Action]:
        self._key.asked(now)
        return self._request(AskPublicKey())

    def _asked_for_key(self, now: float) -> list[Action]:
        """Tell the node our key; who asks for ours may have a new one of its own."""
        private = self._identity.private_key
        if private is None or not self._key.may_answer(now):
            return []
        actions = self._ask_for_key(now) if self._key.public is None else []
        return [*actions, *self._request(TellPublicKey(private.public))]

    def _told_key(self, public: bytes, now: float) -> list[Action]:
        """Where the key is taken, what waited for it goes on at once."""
        trust = self.settings.trust_on_first_use
        taken, actions = self._key.told(public, now, sptps=self.node.minor >= minors.SPTPS, trust=trust)
        if not taken:
            return actions
        self._next_try = -NEVER
        self._tries = 0
        kept, self._kept = self._kept, None
        if kept is not None and now - kept[0] <= KEPT_SECONDS:
            actions += self._asked_for_session(kept[1], now)
        if now - self._wanted_at <= WANTED_SECONDS:
            actions += self._begin(now)
        return actions

    # Lines

    def _request(self, content: SubRequest) -> list[Action]:
        return self._line(as_req_key(self._registry.me.name, self.node.name, content).format())

    def _answer(self, datagram: bytes, own_compression: int) -> list[Action]:
        return self._line(handshake_answer(self._registry.me.name, self.node.name, datagram, own_compression).format())

    def _line(self, line: str) -> list[Action]:
        connection = self._registry.next_connection(self.node)
        return [] if connection is None else [SendLine(connection.id, line)]

    def _ignored(self, reason: str) -> Log:
        return Log(logging.DEBUG, 3, f"Ignoring a key line of {self.node.name}: {reason}", f"ignored {self.node.name}")


def _waits_for(pending: Pending, datagram: bytes) -> bool:
    """Whether the record, whose number is below 2, can be the next one of that handshake; that costs nothing to see."""
    kex = pending.session.initiator and not pending.taken
    number, size = (0, _KEX_SIZE) if kex else (1, _SIG_SIZE)
    return (
        len(datagram) == size
        and datagram[NUMBER_SIZE] == HANDSHAKE_RECORD
        and int.from_bytes(datagram[:NUMBER_SIZE], "big") == number
    )
