"""Outgoing connections: rounds, order, dead addresses, waits, and who may wake a dialer (requirement 17)."""

from __future__ import annotations

import socket as std_socket
import time
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest
from meta_lab import Notes, make_peer, spawn, wait_for

from gmesh.errors import GmeshError
from gmesh.net import backoff as backoff_module
from gmesh.net.backoff import (
    ABSENT_DELAY,
    ABSENT_PERIOD,
    LONGEST_DAMPING,
    MAX_GRUDGES,
    QUICK_DELAY,
    QUICK_LOSSES,
    QUICK_PERIOD,
    STABLE_AFTER,
    Backoff,
    Grudges,
)
from gmesh.net.dialer import Dialer
from gmesh.net.listener import open_tcp
from gmesh.net.peer import PeerConnection
from gmesh.net.race import MAX_ATTEMPTS, Race
from gmesh.net.resolver import Resolved
from gmesh.values import Address


class Target:
    """beta: accepts on a loopback port, and serves unless it is told to be silent."""

    def __init__(self, port: int = 0) -> None:
        self.hub = Notes("alpha")
        self.sock = open_tcp("127.0.0.1", port)
        self.sock.settimeout(None)
        self.port = str(self.sock.getsockname()[1])
        self.greenlets = [gevent.spawn(self._accept)]
        self.accepted = 0

    def _accept(self) -> None:
        while True:
            sock, _ = self.sock.accept()
            self.accepted += 1
            peer = make_peer("beta", self.hub, sock, outgoing=False)
            self.greenlets.append(gevent.spawn(peer.run))

    def stop(self) -> None:
        gevent.killall(self.greenlets)
        self.sock.close()


class Host:
    """Implements DialerHost."""

    def __init__(self) -> None:
        self.hub = Notes("beta")
        self.addresses: list[tuple[str, str]] = []
        self.names: dict[str, list[str]] = {}
        self.resolved: list[str] = []
        self.lines: list[str] = []
        self.elsewhere = False
        self.spawn = spawn
        self.rounds = 0
        self.refuse_to_bind = False

    def candidates(self, name: str) -> list[tuple[str, str]]:
        self.rounds += 1
        if not self.addresses:
            raise GmeshError("add an Address line")
        return list(self.addresses)

    def resolve(self, host: str, port: str) -> Resolved:
        self.resolved.append(host)
        if host in self.names and not self.names[host]:
            raise GmeshError(f"cannot resolve {host}")
        return [(std_socket.AF_INET, (each, int(port))) for each in self.names.get(host, [host])]

    def connected(self, name: str) -> bool:
        return self.elsewhere or any(peer.active for peer in self.hub.open)

    def prepare(self, sock: Any, family: int) -> None:
        if self.refuse_to_bind:
            raise GmeshError("Can't bind to interface eth7")

    def connection(self, sock: Any, address: Address, name: str) -> PeerConnection:
        return make_peer("alpha", self.hub, sock, outgoing=True, peer=name, timeout=1.0)

    def log(self, debug: int, text: str, key: str = "") -> None:
        self.lines.append(text)

    def said(self, word: str) -> list[str]:
        return [line for line in self.lines if word in line]


class Lab:
    def __init__(self) -> None:
        self.host = Host()
        self.dialer = Dialer("beta", self.host, backoff=Backoff(0, 900), connect_timeout=1.0, clock=time.monotonic)
        self.greenlet: gevent.Greenlet | None = None
        self.targets: list[Target] = []

    def start(self) -> None:
        self.greenlet = gevent.spawn(self.dialer.run)

    def target(self, port: int = 0) -> Target:
        self.targets.append(Target(port))
        return self.targets[-1]

    @property
    def active(self) -> bool:
        return any(peer.active for peer in self.host.hub.open)


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab()
    yield lab
    if lab.greenlet is not None:
        lab.greenlet.kill()
    for target in lab.targets:
        target.stop()


@pytest.fixture
def silent() -> Iterator[str]:
    """A port on loopback that answers no SYN, because its backlog is full."""
    sock = std_socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(0)
    fillers = []
    for _ in range(4):
        filler = std_socket.socket()
        filler.setblocking(False)
        filler.connect_ex(sock.getsockname())
        fillers.append(filler)
    yield str(sock.getsockname()[1])
    for each in [sock, *fillers]:
        each.close()


def closed_port() -> str:
    with std_socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


def test_addresses_are_tried_in_their_order_and_names_anew_in_each_round(lab: Lab) -> None:
    port = closed_port()
    lab.host.addresses = [("first.example", port), ("127.0.0.3", port), ("second.example", port)]
    lab.host.names = {"first.example": ["127.0.0.2", "127.0.0.1"], "second.example": ["127.0.0.4"]}
    lab.start()
    wait_for(lambda: lab.host.rounds >= 2)
    tried = [line.partition("(")[2].partition(" ")[0] for line in lab.host.said("Trying to connect")]
    assert tried[:4] == ["127.0.0.2", "127.0.0.1", "127.0.0.3", "127.0.0.4"]
    # The name moved meanwhile: the next round sees it.
    target = lab.target()
    lab.host.names["first.example"] = ["127.0.0.1"]
    lab.host.addresses = [("first.example", target.port)]
    wait_for(lambda: lab.active)
    assert lab.host.resolved.count("first.example") >= 3


def test_requirement_17_a_silent_address_does_not_hold_up_the_next(lab: Lab, silent: str) -> None:
    target = lab.target()
    lab.host.addresses = [("127.0.0.1", silent), ("127.0.0.1", target.port)]
    began = time.monotonic()
    lab.start()
    wait_for(lambda: lab.active)
    assert time.monotonic() - began < 0.9


def test_a_name_that_cannot_be_resolved_does_not_end_the_round(lab: Lab) -> None:
    target = lab.target()
    lab.host.names = {"gone.example": []}
    lab.host.addresses = [("gone.example", "655"), ("127.0.0.1", target.port)]
    lab.start()
    wait_for(lambda: lab.active)
    assert lab.host.said("cannot resolve gone.example")


def test_requirement_17_a_connector_finds_a_target_that_starts_later(lab: Lab) -> None:
    port = closed_port()
    lab.host.addresses = [("127.0.0.1", port)]
    lab.start()
    wait_for(lambda: len(lab.host.said("Could not connect")) >= 2)
    began = time.monotonic()
    lab.target(int(port))
    wait_for(lambda: lab.active)
    assert time.monotonic() - began < 1.0


def test_requirement_17_a_lost_peer_is_back_within_a_second_of_its_return(lab: Lab) -> None:
    target = lab.target()
    lab.host.addresses = [("127.0.0.1", target.port)]
    lab.start()
    wait_for(lambda: lab.active)
    target.stop()
    wait_for(lambda: not lab.active)
    lab.dialer.lost()
    gone = len(lab.host.said("Trying to connect"))
    wait_for(lambda: len(lab.host.said("Trying to connect")) > gone)
    began = time.monotonic()
    lab.target(int(target.port))
    wait_for(lambda: lab.active)
    assert time.monotonic() - began < 1.0


def test_requirement_17_a_peer_that_closes_at_once_is_not_stormed(lab: Lab) -> None:
    target = lab.target()

    def slam(peer: PeerConnection, event: object) -> None:
        if type(event).__name__ == "Active":
            peer.close("go away")

    target.hub.on_event = slam
    lab.host.addresses = [("127.0.0.1", target.port)]
    lab.start()
    wait_for(lambda: target.accepted >= 1)
    began, before = time.monotonic(), target.accepted
    wait_for(lambda: time.monotonic() - began > 1.2)
    assert 1 <= target.accepted - before <= 4


def test_requirement_17_a_stable_connection_is_dialled_at_once_when_lost(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff_module, "STABLE_AFTER", 0.1)
    target = lab.target()
    lab.host.addresses = [("127.0.0.1", target.port)]
    lab.start()
    wait_for(lambda: lab.active)
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > 0.2)
    lost = time.monotonic()
    target.hub.open[0].close("restart")
    wait_for(lambda: target.accepted == 2 and lab.active)
    assert time.monotonic() - lost < 0.3


def test_a_node_connected_otherwise_is_not_dialled_until_it_is_lost(lab: Lab) -> None:
    target = lab.target()
    lab.host.addresses = [("127.0.0.1", target.port)]
    lab.host.elsewhere = True
    lab.start()
    lab.dialer.nudge()
    gevent.sleep(0)
    assert lab.host.rounds == 0
    lab.host.elsewhere = False
    lab.dialer.lost()
    wait_for(lambda: lab.active)


def test_a_connection_that_comes_too_late_is_not_used(lab: Lab) -> None:
    target = lab.target()
    lab.host.addresses = [("127.0.0.1", target.port)]
    original = lab.host.log

    def log(debug: int, text: str, key: str = "") -> None:
        original(debug, text, key)
        if "Connected to" in text:
            lab.host.elsewhere = True

    lab.host.log = log  # type: ignore[method-assign]
    lab.start()
    wait_for(lambda: target.accepted == 1 and target.hub.ended)
    assert not target.hub.active


def test_a_nudge_ends_a_long_wait(lab: Lab) -> None:
    target = lab.target()
    lab.dialer.backoff = Backoff(600, 900)
    lab.start()
    wait_for(lambda: lab.host.said("re-establish"))
    lab.host.addresses = [("127.0.0.1", target.port)]
    lab.dialer.nudge()
    wait_for(lambda: lab.active)


def test_hang_up_closes_what_it_opened(lab: Lab) -> None:
    target = lab.target()
    lab.host.addresses = [("127.0.0.1", target.port)]
    lab.start()
    wait_for(lambda: lab.active)
    lab.dialer.hang_up("it is no longer in the configuration")
    assert lab.greenlet is not None
    lab.greenlet.join(5)
    assert lab.greenlet.dead
    assert lab.host.hub.reasons == ["it is no longer in the configuration"]
    assert not lab.host.said("re-establish")


def test_killing_a_dialer_leaves_nothing_open(lab: Lab, silent: str) -> None:
    lab.host.addresses = [("127.0.0.1", silent)]
    lab.start()
    wait_for(lambda: lab.host.said("Trying to connect"))
    assert lab.greenlet is not None
    lab.greenlet.kill()
    race = lab.dialer._race
    assert not race.running
    assert race.take() is None


def test_a_socket_that_cannot_be_prepared_is_said_and_tried_again(lab: Lab) -> None:
    target = lab.target()
    lab.host.refuse_to_bind = True
    lab.host.addresses = [("127.0.0.1", target.port)]
    lab.start()
    wait_for(lambda: lab.host.said("Can't bind to interface eth7"))
    lab.host.refuse_to_bind = False
    wait_for(lambda: lab.active)


def test_requirement_17_where_nothing_can_be_tried_the_waits_grow_at_once(lab: Lab) -> None:
    """No address at all, or one that our own system refuses: waiting quickly would help nobody."""
    lab.start()
    wait_for(lambda: lab.host.said("re-establish"))
    assert float(lab.host.said("re-establish")[0].split()[-2]) >= 3.5
    lab.host.addresses = [("fe80::1", "655")]
    lab.host.resolve = lambda host, port: [(std_socket.AF_INET6, (host, int(port)))]  # type: ignore[method-assign]
    lab.dialer.nudge()
    wait_for(lambda: len(lab.host.said("re-establish")) == 2)
    assert lab.host.said("Could not connect")
    assert float(lab.host.said("re-establish")[1].split()[-2]) >= 3.5


def test_attempts_at_one_address_are_bounded(silent: str) -> None:
    host = Host()
    news = gevent.event.Event()
    race = Race("beta", host, news, 5.0)
    for _ in range(3 * MAX_ATTEMPTS):
        race.start(std_socket.AF_INET, ("127.0.0.1", int(silent)))
    wait_for(lambda: host.said("Trying"))
    gevent.sleep(0)
    assert len(host.said("Trying")) == MAX_ATTEMPTS
    race.abandon()
    assert not race.running


def test_impossible_addresses_are_failures_like_others() -> None:
    host = Host()
    race = Race("beta", host, gevent.event.Event(), 1.0)
    race.start(std_socket.AF_INET, ("127.0.0.1", 99999))
    wait_for(lambda: not race.running)
    assert host.said("Could not connect")


def test_requirement_17_who_is_somebody_else_is_not_pestered(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address rests, while the node's other address is tried at the quick pace."""
    monkeypatch.setattr(backoff_module, "FIRST_REFUSAL", 60.0)
    stranger, port = lab.target(), closed_port()
    lab.host.hub.known.add("gamma")
    lab.dialer.name = lab.dialer._race._name = "gamma"
    lab.host.addresses = [("127.0.0.1", stranger.port), ("127.0.0.2", port)]
    began = time.monotonic()
    lab.start()
    wait_for(lambda: len(lab.host.said("Could not connect")) >= 3)
    assert stranger.accepted == 1
    assert time.monotonic() - began >= 2 * 0.7 * QUICK_DELAY
    assert any("beta instead of gamma" in reason for reason in lab.host.hub.reasons)


def test_a_refusal_alone_makes_the_waits_grow(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff_module, "FIRST_REFUSAL", 0.6)
    monkeypatch.setattr(backoff_module, "STEP", 900.0)
    stranger = lab.target()
    lab.dialer.name = lab.dialer._race._name = "gamma"
    lab.host.addresses = [("127.0.0.1", stranger.port)]
    began = time.monotonic()
    lab.start()
    wait_for(lambda: stranger.accepted == 2)
    assert time.monotonic() - began >= 0.4
    wait_for(lambda: len(lab.host.said("Trying to re-establish")) == 2)
    assert float(lab.host.said("Trying to re-establish")[1].split()[-2]) > 600
    # Whoever has a reason to believe that it works now is believed.
    lab.dialer.nudge()
    wait_for(lambda: stranger.accepted == 3)


def test_two_nodes_of_one_name_are_damped_and_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requirement 17: without storms."""
    monkeypatch.setattr(backoff_module, "QUICK_DELAY", 0.05)
    monkeypatch.setattr(backoff_module, "LONGEST_DAMPING", 900.0)
    target = lab.target()

    def replaced(peer: PeerConnection, event: object) -> None:
        if type(event).__name__ == "Active":
            peer.close("replaced by a newer connection")

    target.hub.on_event = replaced
    lab.host.addresses = [("127.0.0.1", target.port)]
    lab.start()
    wait_for(lambda: target.accepted == 6)
    waits = [float(line.split()[-2]) for line in lab.host.said("Trying to re-establish")]
    assert waits[4] > 3 * waits[1]
    assert any("perhaps another node uses our name" in line for line in lab.host.lines)


def test_requirement_17_what_only_kept_silent_has_set_its_own_pace(lab: Lab) -> None:
    """A frozen peer's kernel takes our connection; the daemon answers the next one once it has thawed."""
    frozen = std_socket.create_server(("127.0.0.1", 0))
    port = frozen.getsockname()[1]
    lab.host.addresses = [("127.0.0.1", str(port))]
    lab.start()
    wait_for(lambda: lab.host.hub.ended)
    frozen.close()
    began = time.monotonic()
    lab.target(port)
    wait_for(lambda: lab.active)
    assert time.monotonic() - began < 1.0


# Waits


def test_requirement_17_waits_are_quick_first_then_grow_to_the_maximum() -> None:
    backoff = Backoff(0, 12)
    backoff.restart(100.0)
    assert [backoff.delay(100.0 + QUICK_PERIOD / 2, jitter) for jitter in (0.0, 1.0)] == [
        pytest.approx(0.7 * QUICK_DELAY),
        QUICK_DELAY,
    ]
    late = 100.0 + QUICK_PERIOD
    assert [backoff.delay(late, 1.0) for _ in range(4)] == [5.0, 10.0, 12.0, 12.0]
    backoff.restart(late)
    assert backoff.delay(late, 1.0) == QUICK_DELAY
    assert [backoff.delay(late, 1.0, futile=True) for _ in range(3)] == [5.0, 10.0, 12.0]


def test_requirement_17_where_only_the_daemon_is_gone_its_return_costs_a_second_for_an_hour() -> None:
    backoff = Backoff(0, 900)
    backoff.restart(0.0)
    now, waits = QUICK_PERIOD, []
    while now < ABSENT_PERIOD:
        waits.append(backoff.delay(now, 1.0, absent=True))
        now += waits[-1]
    assert set(waits) == {ABSENT_DELAY}
    assert backoff.delay(now, 1.0, absent=True) == 5.0
    # And the administrator's bounds hold all the time.
    assert Backoff(3, 900).delay(100.0, 1.0, absent=True) == 3.0
    assert Backoff(0, 0.1).delay(100.0, 1.0, absent=True) == pytest.approx(0.1)


def test_the_minimum_counts_in_the_quick_period_too() -> None:
    backoff = Backoff(3, 900)
    backoff.restart(0.0)
    assert backoff.delay(1.0, 1.0) == 3.0
    assert backoff.after_loss(1.0, 1.0, 1.0) == 3.0


def test_short_lives_are_damped_and_long_ones_forgive() -> None:
    backoff = Backoff(0, 900)
    backoff.restart(0.0)
    assert backoff.after_loss(STABLE_AFTER, 10.0, 1.0) == 0.0
    waits = [backoff.after_loss(1.0, 10.0, 1.0) for _ in range(12)]
    assert waits[:QUICK_LOSSES] == [QUICK_DELAY] * QUICK_LOSSES
    assert waits[QUICK_LOSSES : QUICK_LOSSES + 3] == [2 * QUICK_DELAY, 4 * QUICK_DELAY, 8 * QUICK_DELAY]
    assert waits[-1] == LONGEST_DAMPING
    assert backoff.disagrees
    # A life no longer than the other one's wait is no sign of peace.
    assert backoff.after_loss(LONGEST_DAMPING, 100.0, 1.0) == LONGEST_DAMPING
    assert backoff.after_loss(2 * LONGEST_DAMPING, 200.0, 1.0) == 0.0
    assert not backoff.disagrees


def test_requirement_17_a_daemon_that_was_gone_in_between_did_not_disagree() -> None:
    backoff = Backoff(0, 900)
    backoff.restart(0.0)
    for _ in range(10):
        assert backoff.after_loss(1.0, 10.0, 1.0) == QUICK_DELAY
        assert backoff.delay(10.0, 1.0, absent=True) == QUICK_DELAY


def test_grudges_grow_and_are_bounded() -> None:
    grudges = Grudges(lambda: 7.0)
    here, there = Address("10.0.0.1", "655"), Address("10.0.0.2", "655")
    waits = []
    for _ in range(4):
        grudges.note(here, 100.0, 1.0)
        waits.append(grudges.until(here) - 100.0)
    assert waits == [1.0, 5.0, 7.0, 7.0]
    assert grudges.until(there) == 0.0
    for number in range(2 * MAX_GRUDGES):
        grudges.note(Address("10.1.0.1", str(number + 1)), 100.0, 1.0)
    assert len(grudges._held) == MAX_GRUDGES
    grudges.forget()
    assert grudges.until(here) == 0.0
