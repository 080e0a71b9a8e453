"""Whether a UDP path lives: outstanding probes, measured round trips, and when silence is death.

Two clocks, because a path may die in one direction only. Data that went out while nothing authentic came back raises a
question within a quarter of a second; and while data flows at all, a question goes out every second even if plenty
comes in. Unanswered questions are repeated quickly, and when the oldest has waited long enough (by the measured round
trip; longer while authentic data still arrives) the path is dead. Not here: what follows from that (`udp.py`).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from gmesh.proto import probe
from gmesh.proto.probe import ProbeKind
from gmesh.values import Address

NEVER = math.inf
MAX_OUTSTANDING = 64
TOKEN = slice(14, 30)
"""The random bytes of a probe by which its answer is recognised."""
SHORT_TOKEN = slice(14, 18)
"""What a short reply has of them."""
EPSILON = 1e-6
"""Timers are set to sums of floats and may fire a rounding error early."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, unless the name says otherwise. The defaults meet requirement 13; experiments may vary them."""

    poll_active: float = 0.2
    poll_idle: float = 0.5
    active_for: float = 5.0
    """How long after its last frame a flow counts as one with traffic."""
    quiet_question: float = 0.25
    """Data sent and nothing authentic back for so long: ask."""
    proof_interval: float = 1.0
    """A round trip is proved so often while data flows."""
    patience_low: float = 0.6
    patience_high: float = 1.9
    one_way_patience: float = 1.7
    """Authentic data from the node doubles the patience, but not beyond this."""
    sending_for: float = 2.5
    """How long after the last datagram of data a path counts as in use."""
    used_for: float = 1.0
    """How long after its last datagram of data a path is questioned as soon as it is quiet, since whoever answers on it
    would otherwise begin to doubt it only with the next packet, a second after the other end."""
    questions: int = 3
    """The least number of unanswered questions before a path is dead."""
    search_interval: float = 2.0
    """The longest time between the probes of a phase of search that sends any."""
    dead_interval: float = 0.5
    keepalive: float = 10.0
    """For nodes with traffic in the last `keepalive_for` seconds and for neighbours; others: the ping interval."""
    keepalive_for: float = 120.0
    verify_interval: float = 3.0
    verify_tries: int = 5
    search_tries: int = 3
    grow_interval: float = 12.0
    answer_lifetime: float = 5.0
    late_wakeup: float = 0.2
    """Woken later than this: we were not running, so the peer's answers may still wait in the socket."""
    sighting_gap: float = 0.2
    """The least time between probes that the peer's own datagrams provoke."""


@dataclass(frozen=True, slots=True)
class Question:
    """An outstanding probe of ``size`` bytes."""

    size: int
    address: Address
    sent: float


class Questions:
    """Outstanding probes, at most `MAX_OUTSTANDING`, and the round trip that their answers measure (seconds)."""

    def __init__(self, entropy: Callable[[int], bytes], lifetime: float) -> None:
        self.round_trip: float | None = None
        self._variation = 0.0
        self._entropy = entropy
        self._lifetime = lifetime
        self._open: OrderedDict[bytes, Question] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def reply_time(self) -> float:
        """How long an answer takes at most, as far as we know."""
        return 0.15 if self.round_trip is None else self.round_trip + 4 * self._variation

    def ask(self, size: int, address: Address, now: float) -> bytes:
        """A new request frame, remembered until it is answered or too old."""
        frame = probe.make_request(size, self._entropy)
        while len(self._open) >= MAX_OUTSTANDING:
            self._open.popitem(last=False)
        self._open[frame[TOKEN]] = Question(size, address, now)
        return frame

    def take(self, frame: bytes, answer: probe.Probe, now: float) -> Question | None:
        """The question that ``frame`` answers, measured and forgotten. Short replies have its length and four bytes of
        it; those that answer no question, as stock nodes send now and then, tell nothing that is needed here."""
        question: Question | None = None
        if answer.kind is ProbeKind.REPLY:
            found = self._open.get(frame[TOKEN])
            if found is not None and found.size == answer.length:
                question = self._open.pop(frame[TOKEN])
        elif len(frame) >= SHORT_TOKEN.stop:
            short = frame[SHORT_TOKEN]
            for token, other in reversed(self._open.items()):
                if other.size == answer.length and token[: len(short)] == short:
                    question = self._open.pop(token)
                    break
        if question is not None:
            self._measure(max(now - question.sent, 0.0))
        return question

    def drop_old(self, now: float) -> None:
        while self._open:
            token, oldest = next(iter(self._open.items()))
            if now - oldest.sent < self._lifetime:
                return
            del self._open[token]

    def forget(self) -> None:
        self._open.clear()

    def restart(self) -> None:
        """Another path: what was measured counts no more."""
        self._open.clear()
        self.round_trip = None
        self._variation = 0.0

    def _measure(self, sample: float) -> None:
        """Smoothed round trip and its variation, as TCP does (RFC 6298)."""
        if self.round_trip is None:
            self.round_trip, self._variation = sample, sample / 2
        else:
            self._variation += (abs(sample - self.round_trip) - self._variation) / 4
            self.round_trip += (sample - self.round_trip) / 8


class Verdict(Enum):
    """What the clocks say."""

    FINE = auto()
    ASK = auto()
    DEAD = auto()


class Health:
    """The two clocks of a confirmed path."""

    def __init__(self, timing: Timing, questions: Questions) -> None:
        self.proved_at = -NEVER
        """When a probe was answered last."""
        self.timing = timing
        self._questions = questions
        self._last_sent = -NEVER
        self._silent_since: float | None = None
        self._asked_since: float | None = None
        self._asked_at = -NEVER
        self._asked = 0

    @property
    def doubtful(self) -> bool:
        """Whether a question about the path is unanswered."""
        return self._asked_since is not None

    def asked(self, now: float) -> None:
        """A question went out whose silence counts."""
        if self._asked_since is None:
            self._asked_since = now
        self._asked_at = now
        self._asked += 1

    def expect_use(self, now: float) -> None:
        """Data is about to come: be as impatient as if it had."""
        self._last_sent = now

    def proved(self, now: float) -> None:
        """A question was answered."""
        self.proved_at = now
        self.clear()

    def clear(self) -> None:
        """Nothing is held against the path."""
        self._silent_since = self._asked_since = None
        self._asked = 0

    def restart(self) -> None:
        self.proved_at = self._last_sent = self._asked_at = -NEVER
        self.clear()

    def forgive(self, lateness: float) -> None:
        """We did not run for so long, and silence meanwhile proves nothing."""
        if self._silent_since is not None:
            self._silent_since += lateness
        if self._asked_since is not None:
            self._asked_since += lateness

    def observe(self, authentic: float, *, sent: bool, since: float, keepalive: float, now: float) -> Verdict:
        """Look at the counters: ``sent`` says whether data went out after ``since``, ``authentic`` when the last
        authentic datagram came in, ``keepalive`` after how many seconds even an idle path is asked."""
        timing = self.timing
        if sent:
            self._last_sent = now
        if self._silent_since is not None and authentic > self._silent_since:
            self._silent_since = None
        if sent and self._silent_since is None:
            self._silent_since = max(since, min(authentic, now))
        if self._asked_since is not None:
            if self._asked >= timing.questions and now >= self._asked_since + self._patience(authentic, now) - EPSILON:
                return Verdict.DEAD
            return Verdict.ASK if now >= self._asked_at + self._spacing(now) - EPSILON else Verdict.FINE
        age = now - self.proved_at
        silence = self._silent_since
        if silence is None and now - self._last_sent <= timing.used_for:
            # The last word came after our last packet, but more of them may be about to follow.
            silence = authentic
        quiet = silence is not None and now - silence >= timing.quiet_question - EPSILON
        due = quiet or (sent and age >= timing.proof_interval) or age >= keepalive - EPSILON
        return Verdict.ASK if due else Verdict.FINE

    def wake(self, authentic: float, keepalive: float, now: float) -> float:
        """When `observe` has to look next."""
        if self._asked_since is not None:
            wake = min(self._asked_at + self._spacing(now), self._asked_since + self._patience(authentic, now))
        elif self._silent_since is not None:
            wake = self._silent_since + self.timing.quiet_question
        elif now - self._last_sent <= self.timing.used_for:
            wake = min(authentic + self.timing.quiet_question, self.proved_at + keepalive)
        else:
            wake = self.proved_at + keepalive
        return max(wake, now + 0.02)

    def _in_use(self, now: float) -> bool:
        return now - self._last_sent <= self.timing.sending_for

    def _spacing(self, now: float) -> float:
        """Seconds between repeated questions."""
        return min(max(0.1, self._questions.reply_time / 2), 0.4) if self._in_use(now) else 0.5

    def _patience(self, authentic: float, now: float) -> float:
        """How long the oldest question may stay unanswered."""
        timing, reply_time = self.timing, self._questions.reply_time
        if not self._in_use(now):
            return max(timing.patience_high, 2 * reply_time)
        patience = max(timing.patience_low, min(4 * reply_time, timing.patience_high))
        if self._asked_since is not None and authentic > self._asked_since:
            patience = min(2 * patience, timing.one_way_patience)
        return max(patience, 1.5 * reply_time)
