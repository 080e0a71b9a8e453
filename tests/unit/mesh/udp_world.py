"""A small world for UDP machines on a fake clock: ends, a link between them, NATs, and a model of tinc 1.0.36.

A model, so that seconds of network take milliseconds; real daemons are for tests/interop and tests/netns.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gmesh.mesh.actions import Action, SendProbe, SetPath
from gmesh.mesh.candidates import Source
from gmesh.mesh.events import FlowCounters
from gmesh.mesh.pmtu import Overhead
from gmesh.mesh.udp import UdpPath
from gmesh.values import MTU, Address

AES = Overhead(prefix=4, block=16, suffix=4)
NAT_MEMORY = 30.0


class World:
    """Time, and what happens when."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 1000.0
        self.random = random.Random(seed)
        self.ends: list[End] = []
        self.hosts: dict[Address, Host] = {}
        self._count = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []

    def later(self, delay: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + delay, next(self._count), what))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let ``seconds`` pass, or less if ``until`` becomes true. Returns whether it did."""
        end = self.now + seconds
        turns = 0
        while until is None or not until():
            timers = [(each.machine.next_timeout(), each) for each in self.ends]
            due, first = min(timers, key=lambda pair: pair[0], default=(float("inf"), None))
            event = self._queue[0][0] if self._queue else float("inf")
            if min(due, event) > end:
                self.now = end
                return False
            turns += 1
            assert turns < 400_000, "the world does not come to rest"
            if event <= due:
                self.now = max(self.now, event)
                heapq.heappop(self._queue)[2]()
            else:
                self.now = max(self.now, due)
                assert first is not None
                first.perform(first.machine.on_timeout(self.now))
        return True

    def entropy(self, count: int) -> bytes:
        return self.random.randbytes(count)


@dataclass(eq=False)
class Host:
    """One end's network: link values for what it sends, and maybe a NAT before it. ``mtu`` is bytes of datagram."""

    world: World
    address: Address
    receive: Callable[[Any, int, Address], None] = lambda *_: None
    delay: float = 0.01
    loss: float = 0.0
    mtu: int = 1472
    local_mtu: int | None = None
    down: bool = False
    nat: bool = False
    nat_is_spoiled_by_strangers: bool = False
    sent: list[tuple[float, int, Address]] = field(default_factory=list)
    _opened: dict[Address, tuple[float, Address]] = field(default_factory=dict)
    _strangers: dict[Address, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world.hosts[self.address] = self

    def send(self, frame: Any, length: int, target: Address, ttl: int = 0) -> bool:
        """Returns False where the kernel refuses the datagram of ``length`` bytes, whatever is in it."""
        if self.local_mtu is not None and length > self.local_mtu:
            return False
        self.sent.append((self.world.now, length, target))
        source = self._outside(target)
        lost = self.down or length > self.mtu or self.world.random.random() < self.loss or 0 < ttl < 8
        receiver = self.world.hosts.get(target)
        if not lost and receiver is not None:
            self.world.later(self.delay, lambda: receiver.arrive(frame, length, source))
        return True

    def _outside(self, target: Address) -> Address:
        """The source address that the target sees."""
        now = self.world.now
        if not self.nat:
            return self.address
        source = self.address
        opened = self._opened.get(target)
        if opened is not None and now - opened[0] < NAT_MEMORY:
            source = opened[1]
        elif now - self._strangers.get(target, -1e9) < NAT_MEMORY:
            # The tuple is taken by the stranger's half-open entry, so the NAT has to choose another port.
            source = Address(self.address.host, str(50000 + self.world.random.randrange(10000)))
            self.world.hosts[source] = self
        self._opened[target] = (now, source)
        return source

    def arrive(self, frame: Any, length: int, source: Address) -> None:
        if self.nat:
            opened = self._opened.get(source)
            if opened is None or self.world.now - opened[0] >= NAT_MEMORY:
                if self.nat_is_spoiled_by_strangers:
                    self._strangers[source] = self.world.now
                return
        self.receive(frame, length, source)


class Timed(Protocol):
    """Something with timers."""

    def next_timeout(self) -> float: ...
    def on_timeout(self, now: float) -> list[Action]: ...


class End(Protocol):
    """Something that the world's clock drives."""

    @property
    def machine(self) -> Timed: ...
    def perform(self, actions: list[Action]) -> None: ...


class GmeshEnd:
    """A `UdpPath` with the data plane around it that it expects."""

    def __init__(self, world: World, name: str, peer: str, host: Host, overhead: Overhead = AES) -> None:
        self.world, self.name, self.host, self.overhead = world, name, host, overhead
        self.flow = FlowCounters()
        self.machine = UdpPath(peer, name, world.entropy, self, limit=MTU)
        self.path: SetPath | None = None
        self.history: list[tuple[float, bool, int]] = []
        self.probes: list[tuple[float, int]] = []
        self.data_in = 0
        self.tcp_out = 0
        host.receive = self.receive
        world.ends.append(self)

    def counters(self, node: str) -> FlowCounters:
        return self.flow

    def up(self, address: Address | None, *, neighbour: bool = True, pmtu: bool = True) -> None:
        now = self.world.now
        self.perform(self.machine.offer(address, Source.EDGE, now))
        self.perform(self.machine.set_policy(usable=True, pmtu=pmtu, neighbour=neighbour, now=now))

    def key(self) -> None:
        self.perform(self.machine.key_installed(self.overhead, self.world.now))

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, SetPath):
                assert 0 <= action.min_mtu <= action.mtu <= MTU
                self.path = action
                self.history.append((self.world.now, action.udp, action.min_mtu))
            elif isinstance(action, SendProbe):
                self.probes.append((self.world.now, len(action.frame)))
                target = action.address or self.machine.address
                assert target is not None
                length = self.overhead.datagram(len(action.frame))
                if not self.host.send(action.frame, length, target, action.ttl):
                    self._refused(len(action.frame))

    def receive(self, frame: bytes, length: int, source: Address) -> None:
        self.flow.last_authentic = self.world.now
        self.flow.packets_in += 1
        if source != self.machine.address:
            self.perform(self.machine.address_seen(source, self.world.now))
        if frame[12:14] == b"\0\0":
            self.perform(self.machine.probe_received(frame, source, self.world.now))
        else:
            self.data_in += 1

    def send_data(self, size: int) -> None:
        self.flow.wanted += 1
        path = self.path
        if path is None or not path.udp or path.address is None or size > path.min_mtu:
            self.tcp_out += 1
            return
        self.flow.udp_out += 1
        frame = bytes(12) + b"\x08\0" + bytes(size - 14)
        if not self.host.send(frame, self.overhead.datagram(size), path.address):
            self._refused(size)

    def _refused(self, size: int) -> None:
        self.world.later(0, lambda: self.perform(self.machine.too_big(size, self.world.now)))

    def stream(self, every: float, size: int = 98) -> None:
        """Send a data frame every ``every`` seconds from now on."""

        def tick() -> None:
            self.send_data(size)
            self.world.later(every, tick)

        tick()

    @property
    def udp(self) -> bool:
        return self.path is not None and self.path.udp

    @property
    def min_mtu(self) -> int:
        return 0 if self.path is None else self.path.min_mtu


class StockEnd:
    """tinc 1.0.36 as data-legacy 8.1 and 9 describe it: random sizes, a batch per second, answers at full length."""

    def __init__(self, world: World, host: Host, overhead: Overhead = AES, ping_interval: float = 60.0) -> None:
        self.world, self.host, self.overhead, self.ping_interval = world, host, overhead, ping_interval
        self.address: Address | None = None
        self.min, self.max, self.mtu, self.count = 0, MTU, MTU, 0
        self.requests = 0
        self.has_key = True
        host.receive = self.receive

    def start(self, address: Address) -> None:
        self.address = address
        self.world.later(0, self.tick)

    def send(self, frame: bytes) -> None:
        if self.address is None or not self.has_key:
            return
        if not self.host.send(frame, self.overhead.datagram(len(frame)), self.address):
            self.max = min(self.max, len(frame) - 1)
            self.mtu = min(self.mtu, len(frame) - 1)

    def tick(self) -> None:
        self.count += 1
        if self.count > 32 and self.min == 0:
            self.count = 31
            self.world.later(self.ping_interval, self.tick)
            return
        if self.count > 32:
            self.count, self.min, self.max = 1, 0, MTU
        if 10 <= self.count <= 31 and self.min == 0:
            self.count = 31
        if self.count == 30 or (self.count < 30 and self.min >= self.max):
            self.min = self.max = self.mtu = min(self.min, self.max)
            self.count = 31
        if self.count == 31:
            self.world.later(self.ping_interval, self.tick)
            return
        sizes = [
            self.max if self.max <= self.min else self.world.random.randint(self.min + 1, self.max) for _ in range(3)
        ]
        if self.count >= 30 and self.max + 8 < MTU:
            sizes.insert(0, self.max + 8)
        for size in sizes:
            self.send(bytes(14) + self.world.entropy(max(size, 64) - 14))
        self.world.later(5 if self.count == 32 else 1, self.tick)

    def receive(self, frame: bytes, length: int, source: Address) -> None:
        self.address = source
        if frame[12:14] != b"\0\0":
            return
        if frame[0] == 0:
            self.requests += 1
            self.send(b"\1" + frame[1:])
            return
        size = len(frame)
        if self.count > 30:
            if size == self.max + 8:
                self.max, self.count = MTU, 10
                return
            self.count = 30 if self.min else 1
        self.min = max(self.min, min(size, self.max))


@dataclass
class Pair:
    """Two gmesh ends, ``left`` with the smaller name, and their hosts."""

    world: World
    left: GmeshEnd
    right: GmeshEnd


def make_pair(*, delay: float = 0.01, mtu: int = 1472, loss: float = 0.0, seed: int = 1, **host: bool) -> Pair:
    world = World(seed)
    first, second = Address("192.0.2.1", "655"), Address("192.0.2.2", "655")
    left = GmeshEnd(world, "alice", "bob", Host(world, first, delay=delay, mtu=mtu, loss=loss, **host))
    right = GmeshEnd(world, "bob", "alice", Host(world, second, delay=delay, mtu=mtu, loss=loss, **host))
    return Pair(world, left, right)


def connect(pair: Pair, *, neighbour: bool = True, pmtu: bool = True) -> None:
    """Both ends know each other's address and get their keys a moment apart."""
    pair.left.up(pair.right.host.address, neighbour=neighbour, pmtu=pmtu)
    pair.right.up(pair.left.host.address, neighbour=neighbour, pmtu=pmtu)
    pair.left.key()
    pair.world.later(0.005, pair.right.key)


def most_per_second(times: list[float]) -> int:
    """The most events within any second."""
    most = start = 0
    for index, time in enumerate(times):
        while time - times[start] >= 1:
            start += 1
        most = max(most, index - start + 1)
    return most
