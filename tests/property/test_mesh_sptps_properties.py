"""Two nodes whose lines and datagrams are lost, delayed, repeated and out of order: they always find together again."""

from __future__ import annotations

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gmesh.mesh.events import ReceiveKeyWorn, SessionDoubted
from gmesh.mesh.sptps_channel import SptpsChannel
from gmesh.mesh.sptps_sessions import MAX_OPEN
from tests.unit.mesh.sptps_world import META_DELAY, Node, connect, disconnect, pair

PEER = {"alice": "bob", "bob": "alice"}

events = st.one_of(
    st.tuples(st.just("send"), st.sampled_from(["alice", "bob"]), st.integers(1, 5)),
    st.tuples(st.just("renew"), st.sampled_from(["alice", "bob"])),
    st.tuples(st.just("renew both")),
    st.tuples(st.just("begin"), st.sampled_from(["alice", "bob"])),
    st.tuples(st.just("begin both")),
    st.tuples(st.just("worn"), st.sampled_from(["alice", "bob"])),
    st.tuples(st.just("doubt"), st.sampled_from(["alice", "bob"])),
    st.tuples(st.just("nonsense"), st.sampled_from(["alice", "bob"]), st.binary(max_size=90)),
    st.tuples(st.just("replace")),
    st.tuples(st.just("restart"), st.sampled_from(["alice", "bob"])),
    st.tuples(st.just("repeat"), st.sampled_from(["alice", "bob"]), st.integers(1, 20)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.01, 0.02, 0.03, 0.05, 0.3, 1.1, 3.0, 11.0])),
)


class Trouble:
    """What becomes of lines while there is trouble: fates are drawn in turn, and usually order is kept."""

    def __init__(self, seed: int, loss: float, repeats: float, disorder: float) -> None:
        self.random = random.Random(seed)
        self.loss, self.repeats, self.disorder = loss, repeats, disorder
        self.on = True

    def __call__(self, node: Node, line: str) -> list[float] | None:
        if not self.on or line[:3] not in ("15 ", "16 "):
            return None
        if self.random.random() < self.loss:
            return []
        copies = 2 if self.random.random() < self.repeats else 1
        return [
            META_DELAY * (1 + 10 * self.random.random() if self.random.random() < self.disorder else 1)
            for _ in range(copies)
        ]


def channel(node: Node) -> SptpsChannel | None:
    peer = node.mesh.channels._peers.get(PEER[node.name])
    return peer.channel if peer is not None and isinstance(peer.channel, SptpsChannel) else None


def renew(node: Node) -> None:
    known = channel(node)
    if known is not None and known.sessions.used is not None:
        known.sessions.used.session.renew(node.world.now)
        node.perform(known._steps(known.sessions.used, node.world.now))


def begin(node: Node) -> None:
    known = channel(node)
    if known is not None:
        node.perform(known.reconnected(node.world.now) or [])


def check(ends: dict[str, Node]) -> None:
    for node in ends.values():
        peer = PEER[node.name]
        received = node.received.get(peer, [])
        assert len(received) == len(set(received)), "delivered twice"
        assert len(node.sessions.get(peer, {})) <= MAX_OPEN
        known = channel(node)
        if known is not None:
            assert {each.number for each in known.sessions.open} == set(node.sessions.get(peer, {}))
            used = known.sessions.used
            assert node.sending.get(peer) == (None if used is None else used.number)


def restart(ends: dict[str, Node], name: str) -> None:
    """A new process in its place, with a count of packets that goes on."""
    old, other = ends[name], ends[PEER[name]]
    world = old.world
    disconnect(old, other)
    world.ends.remove(old)
    new = Node(world, name, old.host)
    new.packets, new.line_rule = old.packets, old.line_rule
    new.knows(other)
    new.received, new.sent = old.received, old.sent
    ends[name] = new
    connect(*ends.values())


def act(ends: dict[str, Node], event: tuple[object, ...]) -> None:
    world = ends["alice"].world
    match event:
        case ("send", str(name), int(count)):
            for _ in range(count):
                ends[name].send_data(PEER[name])
        case ("renew", str(name)):
            renew(ends[name])
        case ("renew both",):
            for node in ends.values():
                renew(node)
        case ("begin", str(name)):
            begin(ends[name])
        case ("begin both",):
            for node in ends.values():
                begin(node)
        case ("worn", str(name)):
            ends[name].event(ReceiveKeyWorn(PEER[name]))
        case ("doubt", str(name)):
            ends[name].event(SessionDoubted(PEER[name]))
        case ("nonsense", str(name), bytes(data)):
            ends[name]._open(PEER[name], data, None, direct=False)
        case ("replace",):
            connect(*ends.values())
        case ("restart", str(name)):
            restart(ends, name)
        case ("repeat", str(name), int(back)):
            node, other = ends[name], ends[PEER[name]]
            old = [line for _, line in node.lines if line[:3] in ("15 ", "16 ")][-back:]
            if old and other.peers:
                other.line(max(other.peers), old[0])
        case ("wait", float(seconds)):
            world.run(seconds)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(events, max_size=30),
    st.builds(
        Trouble,
        st.integers(0, 2**32),
        loss=st.sampled_from([0.0, 0.0, 0.1, 0.4]),
        repeats=st.sampled_from([0.0, 0.2]),
        disorder=st.sampled_from([0.0, 0.2]),
    ),
    st.sampled_from([0.0, 0.1, 1.0]),
)
@example([("wait", 0.3), ("begin both",)], Trouble(4688581, 0.0, 0.2, 0.2), 1.0)  # each used another one
def test_requirement_2_nodes_find_together_whatever_happened(
    happened: list[tuple[object, ...]], trouble: Trouble, udp_loss: float
) -> None:
    """After the trouble both directions work within the time of one retry, and nothing ever arrives twice."""
    ends = dict(zip(("alice", "bob"), pair(key_expire=20.0), strict=True))
    world = ends["alice"].world
    for node in ends.values():
        node.line_rule = trouble
        node.host.loss = udp_loss
    connect(*ends.values())
    for event in happened:
        act(ends, event)
        check(ends)
    trouble.on = False
    for node in ends.values():
        node.host.loss = 0.0
    until = world.now + 40
    for name, node in ends.items():
        node.stream(PEER[name], 0.1, until)
    world.run(20)
    fresh = {name: len(node.sent[PEER[name]]) for name, node in ends.items()}
    world.run(25)
    check(ends)
    for name, node in ends.items():
        arrived = set(ends[PEER[name]].received.get(name, []))
        assert not [number for number in node.sent[PEER[name]][fresh[name] :] if number not in arrived], name


@settings(max_examples=20, deadline=None)
@given(st.lists(events.filter(lambda event: event[0] not in ("restart", "replace", "doubt", "nonsense")), max_size=25))
def test_requirement_1_nothing_is_lost_while_lines_arrive(happened: list[tuple[object, ...]]) -> None:
    """Renewals, new sessions and old lines, at any moment and in any order, under traffic."""
    ends = dict(zip(("alice", "bob"), pair(key_expire=20.0), strict=True))
    world = ends["alice"].world
    connect(*ends.values())
    world.run(0.5)
    until = world.now + 1000
    for name, node in ends.items():
        node.stream(PEER[name], 0.013, until)
    for event in happened:
        act(ends, event)
        world.run(0.015)
    world.run(5)
    sent = {name: list(node.sent[PEER[name]]) for name, node in ends.items()}
    world.run(1)
    check(ends)
    for name in ends:
        arrived = set(ends[PEER[name]].received.get(name, []))
        assert not [number for number in sent[name] if number not in arrived], name
