"""Whether and how UDP reaches one node: discovery of its address, health of the path, size of its frames.

One machine for both generations: it sends probe frames, reads the answers and the flow's counters, and says by
`SetPath` what may be used. Not here: keys (`legacy_channel.py`), which node is used as relay (routing), when an
unproved address is probed (`punching.py`), which sizes are tried (`pmtu.py`), when a path counts as dead (`health.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum, auto

from gmesh.mesh.actions import Action, Log, SendProbe, SetPath
from gmesh.mesh.candidates import EVERYBODY_NEAR, Candidates, Source, is_probeable
from gmesh.mesh.events import FlowCounters, FlowReader
from gmesh.mesh.health import NEVER, Health, Question, Questions, Timing, Verdict
from gmesh.mesh.limits import TokenBucket
from gmesh.mesh.pmtu import SMALL_PROBE, Overhead, PathMtu, Purpose, Round
from gmesh.mesh.punching import Step, step
from gmesh.proto import probe
from gmesh.proto.probe import ProbeKind
from gmesh.values import Address

IDLE = 30.0
"""Without traffic for so many seconds a search only goes on at the ping interval."""
NEARBY_FOR, NEARBY_INTERVAL = 10.0, 1.0
"""LocalDiscovery: how long after a search began everybody in our own network is asked, and how often."""
OTHERS_INTERVAL = 2.0
"""How often the addresses of a dead path that were not in use are tried."""

HEARSAY_BURST, HEARSAY_RATE = 60, 15.0
"""Probes (and per second) to addresses of one node of which only others say that it is there: a member can name anybody
in any number of keys and edges, and must not make us an amplifier (data-legacy 12)."""


class State(Enum):
    """What UDP to the node may do; the moves are in `UdpPath`'s docstring."""

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


class UdpPath:
    """The machine for one node.

    OFF -> WAITING or TRUSTED (`set_policy`), WAITING -> SEARCHING (key), SEARCHING, DEAD, TRUSTED -> CONFIRMED
    (answer), CONFIRMED -> DEAD (silence); anything -> OFF (`down`, or policy). A lost key suspends probing without a
    change of state, except SEARCHING -> WAITING. All times are the loop's seconds; `on_timeout` is called at
    `next_timeout`.
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
        self.ping_interval = ping_interval
        self.local_discovery = False
        self.has_key = False
        self.last_wanted = -NEVER
        self._smaller = own_name.encode() < node.encode()
        self._flows = flows
        self._timing = timing or Timing()
        self._questions = Questions(entropy, self._timing.answer_lifetime)
        self._health = Health(self._timing, self._questions)
        self._pmtu = True
        self._neighbour = False
        self._short_replies = False
        self._discovery = True
        self._published: SetPath | None = None
        self._seen: Address | None = None
        self._counters = FlowCounters()
        self._polled_at = 0.0
        self._started = 0.0
        self._died = 0.0
        self._next_poll = self._next_probe = self._next_round = NEVER
        self._verified_at = self._grown_at = -NEVER
        self._nearby_at = -NEVER
        self._hearsay = [TokenBucket(HEARSAY_BURST, HEARSAY_RATE, 0.0)]
        if hearsay is not None:
            self._hearsay.append(hearsay)

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
    def wants_help(self) -> bool:
        """Whether UDP is wanted here and does not work, so that another exchange of keys and addresses may help."""
        return self.state in (State.SEARCHING, State.DEAD)

    @property
    def min_mtu(self) -> int:
        """The largest frame (bytes) proved to arrive, 0 while UDP is not confirmed; what usually arrives, where UDP is
        taken for granted."""
        if self.state is State.TRUSTED and not self._discovery:
            return self.mtu.first_guess(4 if self.address is None else self.address.family)
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
        short_replies: bool = False,
        discovery: bool = True,
    ) -> list[Action]:
        """What the graph says: UDP may be used to the node itself, it does PMTU discovery, it is a neighbour, it
        understands short replies. What the administrator says: whether UDP is looked for, or taken for granted."""
        self._neighbour = neighbour
        self._short_replies = short_replies
        if usable and self.state is State.OFF:
            self._pmtu, self._discovery = pmtu, discovery
            self._counters, self._polled_at = self._read(), now
            self._begin(now)
        elif not usable and self.state is not State.OFF:
            self._reset(State.OFF)
        elif usable and (pmtu, discovery) != (self._pmtu, self._discovery):
            self._pmtu, self._discovery = pmtu, discovery
            self._reset(State.OFF)
            self._begin(now)
        return self._publish()

    def set_timing(self, timing: Timing) -> None:
        """Settings changed."""
        self._timing = self._health.timing = timing

    def down(self) -> list[Action]:
        """The node is unreachable: addresses and everything found are forgotten."""
        self.has_key = False
        self.address = None
        self.candidates.clear()
        self._reset(State.OFF)
        self._published = None
        return []

    def set_limit(self, limit: int, ping_interval: float, now: float) -> list[Action]:
        """Settings changed: the largest frame (bytes) ever tried, and the ping interval."""
        self.ping_interval = ping_interval
        if limit != self.mtu.limit:
            self.mtu.restart(limit)
            if self.state in (State.CONFIRMED, State.DEAD) and self._pmtu:
                self.mtu.proved(SMALL_PROBE)
                self._next_round = now
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
        self._restart_stale_search(now)
        if self.state is State.WAITING:
            self.state = State.SEARCHING
            self._started = now
        self._next_poll = min(self._next_poll, now + self._timing.poll_active)
        self._next_round = now
        actions = self._probe_now(now)
        return [*actions, *self._publish()]

    def key_lost(self, now: float) -> list[Action]:
        """The sending key is void; what is known of the path stays."""
        self.has_key = False
        self._forget_questions()
        self.mtu.round = None
        if self.state is State.SEARCHING:
            self.state = State.WAITING
        self._next_poll = self._next_probe = self._next_round = NEVER
        return self._publish()

    def offer(self, address: Address | None, source: Source, now: float) -> list[Action]:
        """Someone says that the node may be at ``address``. It is probed while UDP is not confirmed."""
        if address is None or not is_probeable(address):
            return []
        new = self.candidates.add(address, source, self.address)
        if self.address is None or (source is Source.REFLEXIVE and new and not self.confirmed):
            self.address = address
        actions: list[Action] = []
        if new and self.has_key and self.state is State.DEAD:
            actions += self._ask(address, SMALL_PROBE, now)
        elif new and self.has_key and self.state is State.SEARCHING:
            actions += self._search(now)
        return [*actions, *self._publish()]

    def address_seen(self, address: Address, now: float) -> list[Action]:
        """An authentic datagram came from ``address``."""
        if self.state is State.OFF or address.endpoint is None:
            return []
        if address == self.address:
            self._seen = None
            return []
        self.candidates.add(address, Source.SEEN, self.address)
        self._seen = address
        if self.state is not State.CONFIRMED or self._health.doubtful:
            self.address = address
            self._verified_at = -NEVER
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
            self._next_round = now
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
        self._grown_at = -NEVER
        self._next_round = now
        return [*self._probe_now(now), *self._publish()]

    # Time

    def next_timeout(self) -> float:
        """When `on_timeout` is due; infinity where nothing is."""
        return min(self._next_poll, self._next_probe, self._next_round)

    def on_timeout(self, now: float) -> list[Action]:
        due = self.next_timeout()
        if due > now:
            return []
        if now - due > self._timing.late_wakeup:
            self._health.forgive(now - due)
        actions: list[Action] = []
        if self._next_poll <= now:
            actions += self._poll(now)
        if self._next_probe <= now:
            actions += self._probe_now(now)
        if self._next_round <= now:
            actions += self._drive_sizes(now)
        return [*actions, *self._publish()]

    # States

    def _begin(self, now: float) -> None:
        self._started = now
        proof = self._pmtu and self._discovery
        self.state = State.WAITING if proof else State.TRUSTED
        if self.has_key:
            if proof:
                self.state = State.SEARCHING
            self._next_probe = self._next_poll = self._next_round = now

    def _reset(self, state: State) -> None:
        self.state = state
        self.mtu.restart()
        self._questions.restart()
        self._health.restart()
        self._seen = None
        self._verified_at = self._grown_at = -NEVER
        self._next_poll = self._next_probe = self._next_round = NEVER

    def _confirm(self, address: Address, now: float) -> list[Action]:
        old, self.state, self.address = self.state, State.CONFIRMED, address
        self._verified_at = -NEVER
        self._grown_at = now
        self._next_round = now
        self._next_poll = min(self._next_poll, now + self._timing.poll_active)
        what = "again" if old is State.DEAD else "directly"
        return [Log(logging.INFO, 3, f"{self.node} is reached {what} by UDP at {address}", f"udp-up {self.node}")]

    def _die(self, now: float) -> list[Action]:
        self.state = State.DEAD
        self._died = now
        self.mtu.round = None
        self._next_round = NEVER
        self._health.clear()
        self._next_probe = now + self._timing.dead_interval / 2
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
            self._verified_at = -NEVER
            self.mtu.round = None
            self._next_round = now
        self._seen = None
        self._health.proved(now)
        if self._pmtu and self.mtu.proved(question.size):
            self._next_round = now
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
            self._restart_stale_search(now)
            self._next_probe = now
        elif self.state is State.CONFIRMED:
            self._next_round = min(self._next_round, now)

    def _keepalive(self, now: float) -> float:
        short = self._neighbour or self.recent_traffic(now, self._timing.keepalive_for)
        return min(self._timing.keepalive, self.ping_interval) if short else self.ping_interval

    # Discovery

    def _probe_now(self, now: float) -> list[Action]:
        """Probe what the state wants, and say when to do so again."""
        self._next_probe = NEVER
        if not self.has_key:
            return []
        if self.state is State.CONFIRMED:
            return [] if self._health.doubtful else self._question_path(now)
        if self.state is State.SEARCHING:
            return self._search(now)
        if self.state is State.DEAD:
            return self._revive(now)
        if self.state is State.TRUSTED:
            return self._sound_out(now)
        return []

    def _plan(self, now: float) -> Step:
        return step(now - self._started, smaller=self._smaller, reflexive=not self._neighbour)

    def _search(self, now: float) -> list[Action]:
        elapsed, plan = now - self._started, self._plan(now)
        idle = elapsed > IDLE and not self.recent_traffic(now, IDLE)
        pause = min(plan.interval, plan.remaining, self._timing.search_interval if plan.send else NEVER)
        self._next_probe = now + (self.ping_interval if idle else pause)
        if not plan.send and not idle:
            return []
        actions: list[Action] = []
        for address, candidate in list(self.candidates.items()):
            actions += self._ask(address, SMALL_PROBE, now, 0 if candidate.source is Source.LOCAL else plan.ttl)
        if self.local_discovery and elapsed < NEARBY_FOR and now - self._nearby_at >= NEARBY_INTERVAL:
            self._nearby_at = now
            for address in self.candidates.nearby():
                actions += self._ask(address, SMALL_PROBE, now)
        if self._neighbour and elapsed < 1 and self.address is not None:
            # A neighbour's address is known from TCP, so that a large datagram is no gift to a stranger.
            guess = self.mtu.first_guess(self.address.family)
            actions += self._ask(self.address, guess, now)
        return actions

    def _revive(self, now: float) -> list[Action]:
        pause = self._timing.dead_interval
        if not self.recent_traffic(now, self._timing.active_for):
            pause = min(max(pause, (now - self._died) / 4), self.ping_interval)
        self._next_probe = now + pause
        actions: list[Action] = []
        for address, candidate in list(self.candidates.items()):
            if address == self.address or now - candidate.probed_at >= OTHERS_INTERVAL:
                actions += self._ask(address, SMALL_PROBE, now)
        return actions

    def _sound_out(self, now: float) -> list[Action]:
        """Where no proof is needed: a few questions, so that a node that answers is watched from then on."""
        if not self._discovery:
            return []
        elapsed = now - self._started
        self._next_probe = now + (1.0 if elapsed < 3 else self.ping_interval)
        return [] if self.address is None else self._ask(self.address, SMALL_PROBE, now)

    def _restart_stale_search(self, now: float) -> None:
        """A search that lay idle begins anew; the exchange of keys that comes with it starts the other end's too."""
        if self.state is State.SEARCHING and now - self._started > IDLE and not self.recent_traffic(now, IDLE):
            self._started = now

    # Sizes

    def _drive_sizes(self, now: float) -> list[Action]:
        self._next_round = NEVER
        if self.state is not State.CONFIRMED or not self._pmtu or not self.has_key or self.address is None:
            return []
        if self._health.doubtful:
            # What is unanswered now says nothing about sizes; soon the path is either proved or dead.
            self._next_round = now + 0.1
            return []
        current = self.mtu.round
        if current is not None and current.tries >= self._tries(current.purpose):
            lives = self._health.proved_at >= current.started
            if self.mtu.failed(lives) is not None and not lives:
                self._next_round = now + self._timing.proof_interval
                return []
            current = None
        if current is None:
            current = self._next_purpose(now)
        if current is None:
            self._next_round = max(min(self._verify_due(now), self._grow_due(now)), now + 0.1)
            return []
        current.tries += 1
        self._next_round = now + min(max(0.1, 1.2 * self._questions.reply_time), 1.0)
        actions: list[Action] = []
        for size in current.targets:
            actions += self._ask(self.address, size, now)
        if current.tries > 1:
            actions += self._question_path(now)
        return actions

    def _tries(self, purpose: Purpose) -> int:
        return self._timing.verify_tries if purpose is Purpose.VERIFY else self._timing.search_tries

    def _next_purpose(self, now: float) -> Round | None:
        family = self.address.family if self.address is not None else 4
        if not self.mtu.settled:
            current = self.mtu.begin(now, Purpose.SEARCH, family)
            if current is not None:
                return current
        if now >= self._verify_due(now):
            self._verified_at = now
            current = self.mtu.begin(now, Purpose.VERIFY, family)
            if current is not None:
                return current
        if now >= self._grow_due(now):
            self._grown_at = now
            return self.mtu.begin(now, Purpose.GROW, family)
        return None

    def _verify_due(self, now: float) -> float:
        """An idle path need not be verified: that is done as soon as it has traffic."""
        active = self.recent_traffic(now, self._timing.active_for)
        return self._verified_at + self._timing.verify_interval if active else NEVER

    def _grow_due(self, now: float) -> float:
        active = self.recent_traffic(now, self._timing.active_for)
        return self._grown_at + (min(self._timing.grow_interval, self.ping_interval) if active else self.ping_interval)
