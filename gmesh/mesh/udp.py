"""Whether and how UDP reaches one node: discovery of its address, health of the path, size of its frames.

One machine for both generations: it sends probe frames, reads the answers and the flow's counters, and says by
`SetPath` what may be used. Not here: keys (`legacy_channel.py`, `sptps_channel.py`), which node is used as relay
(routing), when an unproved address is probed (`discovery.py`), when a size is tried (`size_search.py`), when a path
counts as dead (`health.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum, auto

from gmesh.errors import GmeshError
from gmesh.mesh.actions import Action, Log, SendProbe, SetPath
from gmesh.mesh.candidates import EVERYBODY_NEAR, Candidates, Source, is_probeable
from gmesh.mesh.discovery import Ask, Discovery
from gmesh.mesh.events import FlowCounters, FlowReader
from gmesh.mesh.health import NEVER, Health, Question, Questions, Timing, Verdict
from gmesh.mesh.limits import TokenBucket
from gmesh.mesh.pmtu import SMALL_PROBE, Overhead, PathMtu
from gmesh.mesh.size_search import SizeSearch
from gmesh.proto import probe
from gmesh.proto.probe import ProbeKind
from gmesh.values import Address

HEARSAY_BURST, HEARSAY_RATE = 60, 15.0
"""Probes (and per second) to addresses of one node of which only others say that it is there: a member can name anybody
in any number of keys and edges, and must not make us an amplifier (data-legacy 12)."""


class State(Enum):
    """What UDP to the node may do; `_MOVES` has the moves."""

    OFF = auto()
    """Nothing goes to the node by UDP: unreachable, TCP only, or reached through another."""
    WAITING = auto()
    """No sending key yet."""
    SEARCHING = auto()
    """Never answered: probes to all candidates, data by TCP."""
    CONFIRMED = auto()
    """A probe was answered: data up to the proved size by UDP."""
    DEAD = auto()
    """Was confirmed, then silent: data by TCP, probes go on."""
    TRUSTED = auto()
    """The node does no PMTU discovery: UDP from the start without any proof (data-legacy 6)."""


_MOVES: dict[State, frozenset[State]] = {
    # Policy.
    State.OFF: frozenset({State.WAITING, State.SEARCHING, State.TRUSTED}),
    # A key.
    State.WAITING: frozenset({State.SEARCHING, State.OFF}),
    # An answer; or the key is lost.
    State.SEARCHING: frozenset({State.CONFIRMED, State.WAITING, State.OFF}),
    # Silence.
    State.CONFIRMED: frozenset({State.DEAD, State.OFF}),
    # An answer.
    State.DEAD: frozenset({State.CONFIRMED, State.OFF}),
    State.TRUSTED: frozenset({State.CONFIRMED, State.OFF}),
}
"""Where each state may lead, and what moves it there; policy, or the node's end, leads anything to OFF."""


class UdpPath:
    """The machine for one node.

    A lost key suspends probing; only a search that never had an answer has to wait for the next. All times are the
    loop's seconds; `on_timeout` is called at `next_timeout`.
    """

    def __init__(
        self,
        node: str,
        own_name: str,
        entropy: Callable[[int], bytes],
        flows: FlowReader,
        *,
        limit: int,
        ping_interval: float = 60.0,
        timing: Timing | None = None,
        hearsay: TokenBucket | None = None,
    ) -> None:
        """``hearsay`` limits, for all nodes together, the probes to addresses from which nothing authentic came."""
        self.node = node
        self.state = State.OFF
        self.address: Address | None = None
        self.candidates = Candidates()
        self.mtu = PathMtu(limit)
        self.has_key = False
        self.last_wanted = -NEVER
        self._flows = flows
        self._timing = timing = timing or Timing()
        self._ping_interval = ping_interval
        self._sizes = SizeSearch(self.mtu, timing, ping_interval)
        self._discovery = Discovery(self.candidates, timing, ping_interval, smaller=own_name.encode() < node.encode())
        self._questions = Questions(entropy, self._timing.answer_lifetime)
        self._health = Health(self._timing, self._questions)
        self._pmtu = True
        self._neighbour = False
        self._short_replies = False
        self._discover = True
        self._published: SetPath | None = None
        self._seen: Address | None = None
        self._authentic: Address | None = None
        """Where something authentic came from last, as far as that was told."""
        self._guessed_at = NEVER
        """When others last said where data is to go."""
        self._counters = FlowCounters()
        self._polled_at = 0.0
        self._next_poll = NEVER
        self._hearsay = [TokenBucket(HEARSAY_BURST, HEARSAY_RATE, 0.0)]
        if hearsay is not None:
            self._hearsay.append(hearsay)

    @property
    def local_discovery(self) -> bool:
        """Whether everybody in our own network is asked for the node."""
        return self._discovery.local

    @local_discovery.setter
    def local_discovery(self, on: bool) -> None:
        self._discovery.local = on

    # What others read

    @property
    def round_trip(self) -> float | None:
        """Smoothed round trip in seconds, None where never measured."""
        return self._questions.round_trip

    @property
    def reply_time(self) -> float:
        """Seconds that an answer takes at most, as far as we know."""
        return self._questions.reply_time

    @property
    def confirmed(self) -> bool:
        """Whether the node answered probes and still does."""
        return self.state is State.CONFIRMED

    @property
    def carries_data(self) -> bool:
        return self.state in (State.CONFIRMED, State.TRUSTED)

    @property
    def _proved_address(self) -> bool:
        """Whether data goes where something authentic came from: what others say does not lead it elsewhere."""
        heard = self.address == self._authentic or self._read().last_authentic >= self._guessed_at
        return self.confirmed or (self.carries_data and heard)

    @property
    def wants_help(self) -> bool:
        """Whether UDP is wanted here and does not work, so that another exchange of keys and addresses may help."""
        return self.state in (State.SEARCHING, State.DEAD)

    @property
    def min_mtu(self) -> int:
        """The largest frame (bytes) proved to arrive, 0 while UDP is not confirmed; what usually arrives, where UDP is
        taken for granted."""
        if self.state is State.TRUSTED and not self._discover:
            return self.mtu.first_guess(self._family)
        return self.mtu.min if self.confirmed else 0

    def recent_traffic(self, now: float, seconds: float) -> bool:
        return now - self.last_wanted <= seconds

    # What happens to it

    def set_policy(
        self,
        *,
        usable: bool,
        pmtu: bool,
        neighbour: bool,
        now: float,
        nats: bool | None = None,
        short_replies: bool = False,
        discovery: bool = True,
    ) -> list[Action]:
        """What the graph says: UDP may be used to the node itself, it does PMTU discovery, it is a neighbour, NATs may
        be before both of us (None: unless it is a neighbour), it understands short replies. What the administrator
        says: whether UDP is looked for, or taken for granted."""
        self._neighbour = neighbour
        self._discovery.nats = not neighbour if nats is None else nats
        self._short_replies = short_replies
        if usable and self.state is State.OFF:
            self._pmtu, self._discover = pmtu, discovery
            self._counters, self._polled_at = self._read(), now
            self._begin(now)
        elif not usable and self.state is not State.OFF:
            self._end()
        elif usable and (pmtu, discovery) != (self._pmtu, self._discover):
            self._pmtu, self._discover = pmtu, discovery
            self._end()
            self._begin(now)
        return self._publish()

    def set_timing(self, timing: Timing) -> None:
        """Settings changed."""
        self._timing = self._health.timing = self._sizes.timing = self._discovery.timing = timing

    def down(self) -> list[Action]:
        """The node is unreachable: addresses and everything found are forgotten."""
        self.has_key = False
        self.address = None
        self.candidates.clear()
        self._end()
        self._published = None
        return []

    def set_limit(self, limit: int, ping_interval: float, now: float) -> list[Action]:
        """Settings changed: the largest frame (bytes) ever tried, and the ping interval."""
        self._ping_interval = self._sizes.ping_interval = self._discovery.ping_interval = ping_interval
        if limit != self.mtu.limit:
            self.mtu.restart(limit)
            if self.state in (State.CONFIRMED, State.DEAD) and self._pmtu:
                self.mtu.proved(SMALL_PROBE)
                self._sizes.hurry(now)
        return self._publish()

    def key_installed(self, overhead: Overhead, now: float) -> list[Action]:
        """There is a sending key whose datagrams grow by ``overhead``: probe at once."""
        if overhead != self.mtu.overhead:
            known = self.mtu.min > SMALL_PROBE
            self.mtu.overhead = overhead
            if known:
                self.mtu.restart()
                self.mtu.proved(SMALL_PROBE)
        self.has_key = True
        self._forget_questions()
        if self.state is State.OFF:
            return []
        if self.state is State.SEARCHING:
            self._discovery.resume(now, self.last_wanted)
        if self.state is State.WAITING:
            self._move(State.SEARCHING)
            self._discovery.begin(now)
        self._next_poll = min(self._next_poll, now + self._timing.poll_active)
        self._sizes.hurry(now)
        actions = self._probe_now(now)
        return [*actions, *self._publish()]

    def key_lost(self, now: float) -> list[Action]:
        """The sending key is void; what is known of the path stays."""
        self.has_key = False
        self._forget_questions()
        self._sizes.stop()
        if self.state is State.SEARCHING:
            self._move(State.WAITING)
        self._next_poll = self._discovery.next_probe = NEVER
        return self._publish()

    def offer(self, address: Address | None, source: Source, now: float) -> list[Action]:
        """Someone says that the node may be at ``address``. It is probed while UDP is not confirmed."""
        if address is None or not is_probeable(address):
            return []
        new = self.candidates.add(address, source, self.address)
        if self.address is None or (source is Source.REFLEXIVE and new and not self._proved_address):
            self.address = address
            self._guessed_at = now
        actions: list[Action] = []
        if new and self.has_key and self.state is State.DEAD:
            actions += self._ask(address, SMALL_PROBE, now)
        elif new and self.has_key and self.state is State.SEARCHING:
            self._discovery.renew(now)
            actions += self._probe_now(now)
        return [*actions, *self._publish()]

    def address_seen(self, address: Address, now: float) -> list[Action]:
        """An authentic datagram came from ``address``."""
        if self.state is State.OFF or address.endpoint is None:
            return []
        self._authentic = address
        if address == self.address:
            self._seen = None
            return []
        self.candidates.add(address, Source.SEEN, self.address)
        self._seen = address
        if self.state is not State.CONFIRMED or self._health.doubtful:
            self.address = address
            self._sizes.moved()
        actions: list[Action] = []
        if self.has_key and self._may_provoke(address, now):
            actions += self._ask(address, SMALL_PROBE, now)
        return [*actions, *self._publish()]

    def probe_received(self, frame: bytes, address: Address, now: float) -> list[Action]:
        """An authentic probe frame came from ``address`` by UDP: answer a request, take an answer as proof."""
        parsed = probe.parse(frame)
        if parsed is None:
            return []
        if parsed.kind is ProbeKind.REQUEST:
            return self._request_received(frame, address, now)
        question = self._questions.take(frame, parsed, now)
        if question is None or self.state is State.OFF:
            return []
        actions: list[Action] = []
        if address != self.address:
            actions += self.address_seen(address, now)
        if question.address.host in EVERYBODY_NEAR:
            # Where the answer came from is worth a question of its own; this one proves nothing about it.
            return [*actions, *self._publish()]
        actions += self._answered(question, now)
        return [*actions, *self._publish()]

    def too_big(self, size: int, now: float) -> list[Action]:
        """The kernel refused a frame of ``size`` bytes to the node."""
        if self.state is State.OFF or not self._pmtu:
            return []
        self.mtu.too_big(size)
        if self.mtu.round is None:
            self._sizes.hurry(now)
        return self._publish()

    @property
    def doubtful(self) -> bool:
        """Whether the path is in use and a question about it is unanswered."""
        return self.state is State.CONFIRMED and self._health.doubtful

    def examine(self, now: float) -> list[Action]:
        """Another path is in doubt, and its traffic would come this way: find out now whether this one lives."""
        if self.state is not State.CONFIRMED or not self.has_key or self._health.doubtful:
            return []
        if now - self._health.proved_at < self._timing.quiet_question:
            return []
        self._health.expect_use(now)
        self._next_poll = min(self._next_poll, now + 0.1)
        return self._question_path(now)

    def woken(self, now: float) -> None:
        """What the node sent came another way, or keys were exchanged anew: both ends look for each other now."""
        if self.wants_help and self.has_key:
            if not self.recent_traffic(now, self._timing.active_for):
                self._traffic_resumed(now)
            self.last_wanted = now

    def told_mtu(self, mtu: int) -> list[Action]:
        """MTU_INFO: others say that frames of ``mtu`` bytes reach the node (meta-sptps 7.5)."""
        self.mtu.told(mtu)
        return self._publish()

    def retry(self, now: float) -> list[Action]:
        """The network may have changed: look at once."""
        if self.state in (State.OFF, State.WAITING) or not self.has_key:
            return []
        self._sizes.grow(now)
        self._discovery.renew(now)
        return [*self._probe_now(now), *self._publish()]

    # Time

    def next_timeout(self) -> float:
        """When `on_timeout` is due; infinity where nothing is."""
        return min(self._next_poll, self._discovery.next_probe, self._sizes.next_round)

    def on_timeout(self, now: float) -> list[Action]:
        due = self.next_timeout()
        if due > now:
            return []
        if now - due > self._timing.late_wakeup:
            self._health.forgive(now - due)
        actions: list[Action] = []
        if self._next_poll <= now:
            actions += self._poll(now)
        if self._discovery.next_probe <= now:
            actions += self._probe_now(now)
        if self._sizes.next_round <= now:
            actions += self._drive_sizes(now)
        return [*actions, *self._publish()]

    # States

    def _move(self, state: State) -> None:
        """Change the state. Raises GmeshError for a step that nothing should lead to."""
        if state not in _MOVES[self.state]:
            raise GmeshError(f"the path to {self.node} cannot go from {self.state.name} to {state.name}")
        self.state = state

    def _begin(self, now: float) -> None:
        self._discovery.begin(now)
        if not (self._pmtu and self._discover):
            self._move(State.TRUSTED)
        else:
            self._move(State.SEARCHING if self.has_key else State.WAITING)
        if self.has_key:
            self._discovery.next_probe = self._next_poll = now
            self._sizes.hurry(now)

    def _end(self) -> None:
        if self.state is not State.OFF:
            self._move(State.OFF)
        self._sizes.restart()
        self._questions.restart()
        self._health.restart()
        self._seen = self._authentic = None
        self._guessed_at = NEVER
        self._next_poll = self._discovery.next_probe = NEVER

    def _confirm(self, address: Address, now: float) -> list[Action]:
        what = "again" if self.state is State.DEAD else "directly"
        self._move(State.CONFIRMED)
        self.address = address
        self._sizes.confirmed(now)
        self._next_poll = min(self._next_poll, now + self._timing.poll_active)
        return [Log(logging.INFO, 3, f"{self.node} is reached {what} by UDP at {address}", f"udp-up {self.node}")]

    def _die(self, now: float) -> list[Action]:
        self._move(State.DEAD)
        self._sizes.stop()
        self._health.clear()
        self._discovery.died(now)
        return [Log(logging.INFO, 3, f"UDP to {self.node} is silent, its packets go by TCP", f"udp-down {self.node}")]

    def _publish(self) -> list[Action]:
        """The path as it is now, if that is news."""
        if self.state is State.OFF and self._published is None and self.mtu.mtu == self.mtu.limit:
            return []
        known, address, udp = self._published, self.address, self.carries_data
        bounds = (self.min_mtu, self.mtu.mtu)
        if (
            known is not None
            and not self.candidates.changed
            and (known.address, known.udp, known.min_mtu, known.mtu) == (address, udp, *bounds)
        ):
            return []
        self.candidates.changed = False
        others = tuple(other for other in self.candidates if other != address)
        path = SetPath(self.node, address, udp, *bounds, others)
        if path == known:
            return []
        self._published = path
        return [path]

    # Questions and answers

    def _ask(self, address: Address, size: int, now: float, ttl: int = 0) -> list[Action]:
        candidate = self.candidates.get(address)
        known = (self.confirmed and address == self.address) or (
            candidate is not None and candidate.source is Source.SEEN
        )
        if not known and not all(bucket.take(now) for bucket in self._hearsay):
            return []
        frame = self._questions.ask(size, address, now)
        if candidate is not None:
            candidate.probed_at = now
        return [SendProbe(self.node, frame, address, ttl)]

    def _question_path(self, now: float) -> list[Action]:
        """A question whose silence counts against the path in use."""
        if self.address is None:
            return []
        self._health.asked(now)
        return self._ask(self.address, SMALL_PROBE, now)

    def _request_received(self, frame: bytes, address: Address, now: float) -> list[Action]:
        actions: list[Action] = []
        if self.has_key:
            reply = probe.make_short_reply(frame) if self._short_replies else probe.make_reply(frame)
            actions.append(SendProbe(self.node, reply, address))
        return [*actions, *self.address_seen(address, now), *self._answer_in_kind(address, now)]

    def _answer_in_kind(self, address: Address, now: float) -> list[Action]:
        """The peer's probes reach us: now is the time for ours, while its NAT lets them in."""
        if not self.has_key or not self.wants_help or not self._may_provoke(address, now):
            return []
        return self._ask(address, SMALL_PROBE, now)

    def _may_provoke(self, address: Address, now: float) -> bool:
        """Whether the peer's own datagrams may make us probe ``address`` again."""
        candidate = self.candidates.get(address)
        return candidate is not None and now - candidate.probed_at >= self._timing.sighting_gap

    def _answered(self, question: Question, now: float) -> list[Action]:
        """A round trip to ``question.address`` is proved for its size."""
        actions: list[Action] = []
        if self.state is not State.CONFIRMED:
            actions += self._confirm(question.address, now)
        elif question.address != self.address:
            if question.address != self._seen and not self._health.doubtful:
                return []
            self.address = question.address
            self._sizes.stop()
            self._sizes.moved()
            self._sizes.hurry(now)
        self._seen = None
        self._health.proved(now)
        if self._pmtu and self.mtu.proved(question.size):
            self._sizes.hurry(now)
        return actions

    def _forget_questions(self) -> None:
        self._questions.forget()
        self._health.clear()

    # Health

    def _read(self) -> FlowCounters:
        counters = self._flows.counters(self.node)
        if counters is None:
            return FlowCounters()
        return FlowCounters(wanted=counters.wanted, udp_out=counters.udp_out, last_authentic=counters.last_authentic)

    def _poll(self, now: float) -> list[Action]:
        """Read the counters and judge the path by them."""
        counters = self._read()
        before, self._counters = self._counters, counters
        since, self._polled_at = self._polled_at, now
        if counters.wanted != before.wanted:
            if not self.recent_traffic(now, self._timing.active_for):
                self._traffic_resumed(now)
            self.last_wanted = now
        self._questions.drop_old(now)
        active = self.recent_traffic(now, self._timing.active_for)
        self._next_poll = now + (self._timing.poll_active if active else self._timing.poll_idle)
        if self.state is not State.CONFIRMED or not self.has_key:
            return []
        keepalive, sent = self._keepalive(now), counters.udp_out != before.udp_out
        verdict = self._health.observe(counters.last_authentic, sent=sent, since=since, keepalive=keepalive, now=now)
        if verdict is Verdict.DEAD:
            return self._die(now)
        actions: list[Action] = []
        if verdict is Verdict.ASK:
            if self._health.doubtful and self._seen is not None:
                actions += self._ask(self._seen, SMALL_PROBE, now)
            actions += self._question_path(now)
        self._next_poll = min(self._next_poll, self._health.wake(counters.last_authentic, keepalive, now))
        return actions

    def _traffic_resumed(self, now: float) -> None:
        """What waited for traffic is due."""
        if self.wants_help and self.has_key:
            if self.state is State.SEARCHING:
                self._discovery.resume(now, self.last_wanted)
            self._discovery.next_probe = now
        elif self.state is State.CONFIRMED:
            self._sizes.hurry(now)

    def _keepalive(self, now: float) -> float:
        short = self._neighbour or self.recent_traffic(now, self._timing.keepalive_for)
        return min(self._timing.keepalive, self._ping_interval) if short else self._ping_interval

    # Discovery

    def _probe_now(self, now: float) -> list[Action]:
        """Probe what the state wants, and say when to do so again."""
        self._discovery.next_probe = NEVER
        if not self.has_key:
            return []
        asks: list[Ask] = []
        match self.state:
            case State.CONFIRMED:
                return [] if self._health.doubtful else self._question_path(now)
            case State.SEARCHING:
                asks = self._discovery.search(
                    now,
                    self.last_wanted,
                    neighbour=self._neighbour,
                    address=self.address,
                    first_guess=self.mtu.first_guess(self._family),
                )
            case State.DEAD:
                asks = self._discovery.revive(now, self.last_wanted, self.address)
            case State.TRUSTED if self._discover:
                asks = self._discovery.sound_out(now, self.address)
        actions: list[Action] = []
        for ask in asks:
            actions += self._ask(ask.address, ask.size, now, ask.ttl)
        return actions

    # Sizes

    @property
    def _family(self) -> int:
        return 4 if self.address is None else self.address.family

    def _drive_sizes(self, now: float) -> list[Action]:
        address = self.address
        if self.state is not State.CONFIRMED or not self._pmtu or not self.has_key or address is None:
            self._sizes.next_round = NEVER
            return []
        current = self._sizes.step(
            now,
            family=address.family,
            proved_at=self._health.proved_at,
            doubtful=self._health.doubtful,
            reply_time=self._questions.reply_time,
            active=self.recent_traffic(now, self._timing.active_for),
        )
        if current is None:
            return []
        actions: list[Action] = []
        for size in current.targets:
            actions += self._ask(address, size, now)
        if current.tries > 1:
            actions += self._question_path(now)
        return actions
