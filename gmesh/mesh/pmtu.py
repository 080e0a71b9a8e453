"""The size of the frames that pass to a node by UDP: bounds, and which sizes to try next.

Pure arithmetic on answers and silences. Not here: when probes are sent and whether the path lives at all (`udp.py`).
tinc tries random sizes for up to 30 s (data-legacy 8.1); here each round tries three sizes that split what is unknown,
so that four rounds find any MTU, and a first guess at a 1500-byte path usually ends it at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

SMALL_PROBE = 64
"""Length of the frames that only ask whether a path lives; no peer sends shorter ones (data-legacy 8.1)."""
FLOOR = 512
"""Upper bounds never sink below this many bytes of frame (data-legacy 6)."""
SPLITS = 3
PATH_1500 = {4: 1472, 6: 1452}
"""Datagram bytes that a path of 1500 bytes carries, by address family."""


@dataclass(frozen=True, slots=True)
class Overhead:
    """How a sealed frame grows: padded with ``prefix`` to whole blocks (at least one byte), then ``suffix`` bytes.

    ``block`` is 1 where nothing is padded. `fit` and `below` work in classes of frames whose datagrams have the same
    length, because trying two sizes of one class tells nothing new.
    """

    prefix: int = 4
    block: int = 1
    suffix: int = 0

    def datagram(self, frame: int) -> int:
        """Bytes of the datagram that carries a frame of ``frame`` bytes."""
        inner = frame + self.prefix
        if self.block > 1:
            inner = self.block * (inner // self.block + 1)
        return inner + self.suffix

    def largest_frame(self, datagram: int) -> int:
        """The largest frame whose datagram has at most ``datagram`` bytes; may be negative."""
        inner = datagram - self.suffix
        if self.block > 1:
            inner = inner // self.block * self.block - 1
        return inner - self.prefix

    def fit(self, frame: int) -> int:
        """The largest frame of the same class as ``frame``."""
        return self.largest_frame(self.datagram(frame))

    def below(self, frame: int) -> int:
        """The largest frame of the class before the one of ``frame``."""
        return self.largest_frame(self.datagram(frame) - 1)


class Purpose(Enum):
    """What a round of probes is for."""

    SEARCH = auto()
    """Find the MTU between the bounds."""
    VERIFY = auto()
    """Does the size in use still pass?"""
    GROW = auto()
    """Does a larger one pass by now?"""


@dataclass(slots=True)
class Round:
    """Sizes being tried together; ``targets`` ascend. ``tries`` counts how often they were sent."""

    purpose: Purpose
    targets: list[int]
    started: float
    tries: int = 0


class PathMtu:
    """Bounds of one path: ``min`` was proved, above ``max`` nothing passes, ``mtu`` is the bound for fragmentation.

    0 <= min <= max <= limit, min <= mtu <= limit. ``settled`` says that the search came to an end.
    """

    def __init__(self, limit: int) -> None:
        self.limit = max(limit, SMALL_PROBE)
        self.overhead = Overhead()
        self.min = 0
        self.max = self.mtu = self.limit
        self.settled = False
        self.round: Round | None = None

    def restart(self, limit: int | None = None) -> None:
        """Forget everything that was found."""
        if limit is not None:
            self.limit = max(limit, SMALL_PROBE)
        self.min = 0
        self.max = self.mtu = self.limit
        self.settled = False
        self.round = None

    def first_guess(self, family: int) -> int:
        """The largest frame that a path of 1500 bytes carries."""
        guess = self.overhead.largest_frame(PATH_1500.get(family, PATH_1500[4]))
        return max(SMALL_PROBE, min(guess, self.max))

    @property
    def measured(self) -> bool:
        """Whether exactly this size passes, as far as we know."""
        return self.settled and self.min == self.max

    def begin(self, now: float, purpose: Purpose, family: int = 4) -> Round | None:
        """Start a round for ``purpose``; None where there is nothing to try."""
        if purpose is Purpose.VERIFY:
            targets = [self.min] if self.min > SMALL_PROBE else []
        elif purpose is Purpose.GROW:
            targets = [min(self.overhead.fit(self.max + 1), self.limit)] if self.max < self.limit else []
        else:
            targets = self._search_targets(family)
        self.round = Round(purpose, targets, now) if targets else None
        if purpose is Purpose.SEARCH and self.round is None:
            self._settle()
        return self.round

    def _search_targets(self, family: int) -> list[int]:
        low, high = max(self.min, self._floor - 1), self.max
        if self.settled or low >= high:
            return []
        guess = self.first_guess(family)
        if self.min <= SMALL_PROBE and high == self.limit and low < guess:
            return sorted({guess, high})
        steps = (low + -(-(high - low) * part // (SPLITS + 1)) for part in range(1, SPLITS + 1))
        return sorted({min(self.overhead.fit(step), high) for step in steps})

    def proved(self, size: int) -> bool:
        """A frame of ``size`` bytes was answered. Returns whether that ended the round.

        A size above ``max`` reopens the search up to the limit.
        """
        size = min(size, self.limit)
        if size > self.max:
            self.max = self.limit
            self.settled = False
        self.min = max(self.min, size)
        self.mtu = max(self.mtu, self.min)
        if self.round is None:
            return False
        self.round.targets = [target for target in self.round.targets if target > size]
        if not self.round.targets:
            self.round = None
            return True
        return False

    def told(self, mtu: int) -> None:
        """Others say that frames of ``mtu`` bytes pass: believed until it is found out."""
        if not self.settled:
            self.mtu = max(min(mtu, self.max), self.min, self._floor)

    def failed(self, path_lives: bool) -> Purpose | None:
        """The round's tries are used up. ``path_lives``: small probes were answered meanwhile, else nothing is learnt.

        Returns what the round was for.
        """
        current, self.round = self.round, None
        if current is None:
            return None
        if path_lives:
            if current.purpose is Purpose.SEARCH:
                self._lower(current.targets[0])
            elif current.purpose is Purpose.VERIFY:
                self._shrunk(current.targets[0])
        return current.purpose

    def too_big(self, size: int) -> None:
        """The kernel refused a frame of ``size`` bytes. Only ever lowers, and never below `FLOOR`."""
        if size > self.max:
            self._drop_targets()
            if self.round is not None and self.round.purpose is Purpose.GROW and size <= self.round.targets[0]:
                self.round = None
            return
        if size <= self.min:
            self._shrunk(size)
        else:
            self._lower(size)
        self._drop_targets()

    def _drop_targets(self) -> None:
        """A search does not repeat what cannot pass any more."""
        if self.round is not None and self.round.purpose is not Purpose.GROW:
            self.round.targets = [target for target in self.round.targets if target <= self.max]
            if not self.round.targets:
                self.round = None

    @property
    def _floor(self) -> int:
        return min(FLOOR, self.limit)

    def _lower(self, size: int) -> None:
        below = self.overhead.below(size)
        if below < self._floor:
            self.settled = True
        self.max = min(self.max, max(below, self.min, self._floor))
        self.mtu = max(min(self.mtu, self.max), self.min)

    def _shrunk(self, size: int) -> None:
        """What was proved holds no longer: only small frames do, and the search starts again below ``size``."""
        self.min = min(self.min, SMALL_PROBE)
        self.settled = False
        self.round = None
        self._lower(size)

    def _settle(self) -> None:
        """Nothing lies between the bounds. Where not even `FLOOR` passes, ``min`` stays what it was."""
        self.settled = True
        if self.min >= self._floor:
            self.max = self.min
        self.mtu = self.max
