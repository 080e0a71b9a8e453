"""The data path of a datagram session: keys, record numbers and replay window, and nothing else (sptps 2.2, 5.3).

This is what another engine can take over and give back. Not here: the handshake that makes the keys.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gmesh.errors import DatagramError
from gmesh.proto.packet import NotAuthentic
from gmesh.proto.sptps_handshake import RecordCipher, TrafficKey

HANDSHAKE_RECORD = 128
APPLICATION_RECORDS = 128
"""Types below this number belong to the user of the session."""

LAST_NUMBER = 2**32 - 1
WORN_NUMBER = 2**31
"""Past this number a new session is due: a renewal changes keys and does not begin to count again."""

NUMBER_SIZE = 4
TAG_SIZE = 16
OVERHEAD = NUMBER_SIZE + 1 + TAG_SIZE
DEFAULT_REPLAY_WINDOW = 16
"""Bytes, where the option ReplayWindow is absent."""

_KINDS = [bytes((kind,)) for kind in range(256)]

_FIRST_ENCRYPTED = 2
"""KEX and SIG of the first handshake are numbers 0 and 1."""

OLD_KEY_SECONDS = 5.0
"""How long the receiving key before the present one still opens late datagrams."""


@dataclass(frozen=True, slots=True)
class WindowState:
    """``size`` is in bytes. Bit i of ``late`` says that the number ``expected`` - 1 - i has not come yet."""

    size: int
    expected: int
    late: int
    far_future: int


class ReplayWindow:
    """Which record numbers are new. `acceptable` asks, `accept` remembers; only authentic numbers may be asked for."""

    __slots__ = ("_far_future", "_far_limit", "_late", "_mask", "_width", "expected", "size")

    def __init__(self, state: WindowState) -> None:
        self.size = state.size
        self.expected = state.expected
        self._width = 8 * state.size
        self._mask = (1 << self._width) - 1
        self._late = state.late & self._mask
        self._far_future = state.far_future
        self._far_limit = state.size // 4

    def state(self) -> WindowState:
        return WindowState(self.size, self.expected, self._late, self._far_future)

    def acceptable(self, number: int) -> bool:
        """Whether the record of this number is to be taken. Numbers far ahead are counted, and refused at first."""
        ahead = number - self.expected
        if ahead == 0 or not self._width:
            return True
        if ahead < 0:
            return ahead >= -self._width and self._late >> (-1 - ahead) & 1 == 1
        if ahead < self._width or self._far_future >= self._far_limit:
            return True
        # A few wild numbers may be accidents; a row of them means that we lost the sender's count.
        self._far_future += 1
        return False

    def accept(self, number: int) -> None:
        """The record of an acceptable number was taken."""
        ahead = number - self.expected
        self._far_future = 0
        if ahead == 0:  # as nearly always
            self.expected = number + 1
            if self._late:
                self._late = self._late << 1 & self._mask
            return
        if ahead < 0:
            self._late &= ~(1 << (-1 - ahead))
            return
        self.expected = number + 1
        if ahead >= self._width:
            self._late = self._mask & ~1
        else:
            self._late = (self._late << (ahead + 1) | ((1 << ahead) - 1) << 1) & self._mask


@dataclass(frozen=True, slots=True)
class FlowState:
    """All that an engine needs to go on with a flow. ``previous`` opens until ``previous_until`` (the loop's time)."""

    send: TrafficKey | None
    next_number: int
    receive: TrafficKey | None
    staged: TrafficKey | None
    previous: TrafficKey | None
    previous_until: float
    window: WindowState


class _Key:
    """A key and what its cipher does, made once."""

    __slots__ = ("key", "open", "seal")

    def __init__(self, key: TrafficKey) -> None:
        self.key = key
        cipher: RecordCipher = key.cipher()
        self.seal = cipher.seal
        self.open = cipher.open


class DatagramFlow:
    """Seals and opens the datagrams of one session, plain as long as there are no keys."""

    __slots__ = ("_previous", "_previous_until", "_receive", "_send", "_staged", "next_number", "window")

    def __init__(self, state: FlowState) -> None:
        self.next_number = state.next_number
        self.window = ReplayWindow(state.window)
        self._send = _make(state.send)
        self._receive = _make(state.receive)
        self._staged = _make(state.staged)
        self._previous = _make(state.previous)
        self._previous_until = state.previous_until

    @classmethod
    def new(cls, replay_window: int) -> DatagramFlow:
        """A flow at its beginning; ``replay_window`` is in bytes, 0 to accept every number."""
        return cls(FlowState(None, 0, None, None, None, -math.inf, WindowState(replay_window, 0, 0, 0)))

    def state(self) -> FlowState:
        keys = (None if key is None else key.key for key in (self._send, self._receive, self._staged, self._previous))
        send, receive, staged, previous = keys
        return FlowState(send, self.next_number, receive, staged, previous, self._previous_until, self.window.state())

    @property
    def worn(self) -> bool:
        """Whether either direction has used so many numbers that a new session is due."""
        return self.next_number > WORN_NUMBER or self.window.expected > WORN_NUMBER

    @property
    def receives_encrypted(self) -> bool:
        return self._receive is not None

    def seal(self, kind: int, data: bytes, head: bytes = b"") -> bytes:
        """The next datagram, behind ``head``. Raises DatagramError when the numbers are used up.

        They never start again.
        """
        number = self.next_number
        if number > LAST_NUMBER:
            raise DatagramError("the record numbers of the session are used up")
        self.next_number = number + 1
        record = _KINDS[kind] + data
        if self._send is not None:
            record = self._send.seal(number, record)
        return head + number.to_bytes(NUMBER_SIZE, "big") + record

    def open(self, datagram: bytes, now: float, start: int = 0) -> tuple[int, bytes, int]:
        """Type, data and number of a record that is authentic and new; it counts as taken after `accept` only.

        The record begins at byte ``start``. Raises NotAuthentic, or DatagramError for a number that was there or is
        far off.
        """
        receive = self._receive
        if receive is None:
            return self._open_plain(datagram[start:])
        if len(datagram) < start + OVERHEAD:
            raise NotAuthentic("too short")
        text = start + NUMBER_SIZE
        number = int.from_bytes(datagram[start:text], "big")
        sealed = datagram[text:]
        record = receive.open(number, sealed)
        if record is None:
            record = self._open_otherwise(number, sealed, now)
        window = self.window
        if number != window.expected and not window.acceptable(number):
            raise DatagramError("replayed or far out of order")
        return record[0], record[1:], number

    def take(self, datagram: bytes, now: float, start: int = 0) -> tuple[int, bytes, int]:
        """`open`, and the record counts as taken."""
        opened = self.open(datagram, now, start)
        self.window.accept(opened[2])
        return opened

    def accept(self, number: int) -> None:
        """The record of this number was taken, so it is not taken again."""
        self.window.accept(number)

    def use_send_key(self, key: TrafficKey) -> None:
        self._send = _Key(key)

    def stage_receive_key(self, key: TrafficKey) -> None:
        """Open with this key as well, where the present one does not fit."""
        self._staged = _Key(key)

    def confirm_receive_key(self, now: float) -> None:
        """The staged key is the present one; the one before stays for a few seconds, for datagrams that are late."""
        self._previous, self._receive, self._staged = self._receive, self._staged, None
        self._previous_until = now + OLD_KEY_SECONDS

    def _open_plain(self, datagram: bytes) -> tuple[int, bytes, int]:
        if len(datagram) <= NUMBER_SIZE:
            raise NotAuthentic("too short")
        number = int.from_bytes(datagram[:NUMBER_SIZE], "big")
        if number >= _FIRST_ENCRYPTED:
            raise NotAuthentic("encrypted before the handshake was finished")
        if number != self.window.expected:
            raise DatagramError(f"record {number} where {self.window.expected} is expected")
        return datagram[NUMBER_SIZE], datagram[NUMBER_SIZE + 1 :], number

    def _open_otherwise(self, number: int, sealed: bytes, now: float) -> bytes:
        """Around a renewal datagrams are on their way under the key before or after the present one."""
        if self._previous is not None and now >= self._previous_until:
            self._previous = None
        for key in (self._staged, self._previous):
            record = None if key is None else key.open(number, sealed)
            if record is not None:
                return record
        raise NotAuthentic("wrong tag")


def _make(key: TrafficKey | None) -> _Key | None:
    return None if key is None else _Key(key)
