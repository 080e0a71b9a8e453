"""Whole meshes with keys and UDP: three nodes in a line, NATs at the ends, and keys that have to fit."""

from __future__ import annotations

import itertools
import random

import pytest
from udp_world import AES, Host, World

from gmesh.mesh.actions import (
    Action,
    CloseConnection,
    ForgetFlow,
    ForgetSendKey,
    InstallReceiveKey,
    InstallSendKey,
    SendLine,
    SendProbe,
    SetPath,
)
from gmesh.mesh.events import AddressSeen, DataEvent, FlowCounters, KeyNeeded, ProbeReceived
from gmesh.mesh.mesh import Mesh
from gmesh.mesh.settings import MeshSettings
from gmesh.proto.meta_events import Active
from gmesh.proto.packet import PacketKey
from gmesh.proto.requests import parse_request
from gmesh.values import OPTION_CLAMP_MSS, OPTION_PMTU, OPTION_TCPONLY, Address

META_DELAY = 0.02
Datagram = tuple[str, PacketKey, bytes]
"""The sender, the key it was sealed with, the frame. Whoever holds the key as a receive key can open it."""


class Daemon:
    """A mesh with a model of the data plane and of the meta connections around it."""

    def __init__(self, world: World, name: str, host: Host, **settings: object) -> None:
        self.world, self.name, self.host = world, name, host
        self.mesh = self.machine = Mesh(
            MeshSettings(name, **settings),  # type: ignore[arg-type]
            world.now,
            random.Random(f"{name}{world.now}").randbytes,
            self,
        )
        self.numbers = itertools.count(1)
        self.peers: dict[int, tuple[Daemon, int]] = {}
        self.flows: dict[str, FlowCounters] = {}
        self.send_keys: dict[str, PacketKey] = {}
        self.receive_keys: dict[str, list[PacketKey]] = {}
        self.paths: dict[str, SetPath] = {}
        self.lines: list[tuple[float, str]] = []
        self.direct = self.relayed = 0
        host.receive = self.receive
        world.ends.append(self)

    def counters(self, node: str) -> FlowCounters:
        return self.flows.setdefault(node, FlowCounters())

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case SendLine(connection, line, _):
                    self.lines.append((self.world.now, line))
                    if connection in self.peers:
                        other, number = self.peers[connection]
                        self.world.later(META_DELAY, lambda o=other, n=number, text=str(line): o.line(n, text))
                case InstallSendKey(node, key):
                    self.send_keys[node] = key
                case InstallReceiveKey(node, key):
                    self.receive_keys[node] = [key, *self.receive_keys.get(node, [])][:2]
                case ForgetSendKey(node):
                    self.send_keys.pop(node, None)
                case ForgetFlow(node):
                    for table in (self.send_keys, self.receive_keys, self.paths):
                        table.pop(node, None)  # type: ignore[attr-defined]
                case SetPath(node):
                    self.paths[node] = action
                case SendProbe(node, frame, address, ttl):
                    assert address is not None
                    self.send(node, frame, address, ttl)
                case CloseConnection(connection):
                    self.peers.pop(connection)

    def send(self, node: str, frame: bytes, address: Address, ttl: int = 0) -> None:
        if node in self.send_keys:
            datagram = (self.name, self.send_keys[node], frame)
            self.host.send(datagram, AES.datagram(len(frame)), address, ttl)

    def line(self, connection: int, line: str) -> None:
        if connection in self.peers:
            self.perform(self.mesh.request_received(connection, parse_request(line), line, self.world.now))

    def event(self, event: DataEvent) -> None:
        self.perform(self.mesh.data_event(event, self.world.now))

    def receive(self, datagram: Datagram, length: int, source: Address) -> None:
        sender, key, frame = datagram
        if key not in self.receive_keys.get(sender, []):
            return
        self.counters(sender).last_authentic = self.world.now
        if sender in self.paths and self.paths[sender].address != source:
            self.event(AddressSeen(sender, source))
        if frame[12:14] == b"\0\0":
            self.event(ProbeReceived(sender, frame, source))

    def send_data(self, node: str, size: int = 98) -> None:
        counters, path = self.counters(node), self.paths.get(node)
        counters.wanted += 1
        if node not in self.send_keys:
            self.relayed += 1
            self.event(KeyNeeded(node))
        elif path is None or not path.udp or path.address is None or size > path.min_mtu:
            self.relayed += 1
        else:
            self.direct += 1
            counters.udp_out += 1
            self.send(node, bytes(12) + b"\x08\0" + bytes(size - 14), path.address)

    def stream(self, node: str, every: float = 0.2) -> None:
        def tick() -> None:
            self.send_data(node)
            self.world.later(every, tick)

        tick()

    def confirmed(self, node: str) -> bool:
        return self.mesh.channels.status(node).udp_confirmed


def connect(a: Daemon, b: Daemon, options: int = OPTION_PMTU | OPTION_CLAMP_MSS) -> None:
    """Both handshakes are done. Each sees the other at the host it sends from, with the port that it announces."""
    numbers = {end: next(end.numbers) for end in (a, b)}
    for here, there, outgoing in ((a, b, True), (b, a, False)):
        number = numbers[here]
        here.peers[number] = (there, numbers[there])
        now, mesh = here.world.now, here.mesh
        here.perform(mesh.connection_opened(number, there.name, outgoing, now))
        here.perform(mesh.peer_identified(number, there.name, now))
        mesh.peer_verified(number, now)
        ack = Active(there.name, "655", 10, 10, options, options)
        here.perform(mesh.peer_active(number, ack, Address(there.host.address.host, "50123"), now))


def line_of_three(*, nat: bool = True, spoiled: bool = False, bob_deaf: bool = False) -> tuple[Daemon, Daemon, Daemon]:
    """alice - bob - carol. With ``nat`` the ends are seen with another port than announced, and take no strangers."""
    world = World()
    port = "40001" if nat else "655"
    alice = Daemon(
        world,
        "alice",
        Host(world, Address("198.51.100.1", port), nat=nat, nat_is_spoiled_by_strangers=spoiled),
    )
    carol = Daemon(
        world,
        "carol",
        Host(world, Address("198.51.100.3", port), nat=nat, nat_is_spoiled_by_strangers=spoiled),
    )
    bob = Daemon(world, "bob", Host(world, Address("192.0.2.2", "655"), down=bob_deaf))
    connect(alice, bob)
    connect(carol, bob)
    return alice, bob, carol


def test_neighbours_find_each_other_without_any_traffic() -> None:
    alice, bob, carol = line_of_three()
    assert alice.world.run(0.5, lambda: alice.confirmed("bob") and carol.confirmed("bob"))
    assert alice.world.run(0.5, lambda: bob.confirmed("alice") and bob.confirmed("carol"))
    assert bob.mesh.channels.status("alice").address == alice.host.address, "the port of the NAT, not the announced one"


@pytest.mark.parametrize("spoiled", [False, True])
@pytest.mark.parametrize("start", [0.0, 4.0, 30.0])
def test_requirement_15_nodes_behind_nats_talk_directly_within_two_seconds(start: float, spoiled: bool) -> None:
    """Data-legacy 3.3: stock nodes that start after 4 s stay relayed for good in some versions."""
    alice, _, carol = line_of_three(spoiled=spoiled)
    alice.world.run(start)
    begun = alice.world.now
    alice.stream("carol")
    carol.stream("alice")
    assert alice.world.run(2.0, lambda: alice.confirmed("carol") and carol.confirmed("alice"))
    alice.world.run(5)
    assert alice.mesh.channels.status("carol").min_mtu == 1451
    exchanged = [line for time, line in [*alice.lines, *carol.lines] if time >= begun and line[:2] in ("15", "16")]
    assert len(exchanged) <= 8, exchanged


def test_one_sided_traffic_is_enough() -> None:
    alice, _, carol = line_of_three()
    alice.stream("carol")
    assert alice.world.run(2.0, lambda: alice.confirmed("carol"))
    assert alice.world.run(2.0, lambda: carol.confirmed("alice"))


def test_a_relay_that_was_not_ready_gets_another_chance() -> None:
    alice, bob, carol = line_of_three(bob_deaf=True)
    alice.stream("carol")
    alice.world.run(3)
    assert not alice.confirmed("carol")
    bob.host.down = False
    assert alice.world.run(15.0, lambda: alice.confirmed("carol") and carol.confirmed("alice"))


def test_a_search_that_failed_begins_anew_with_new_traffic() -> None:
    alice, bob, carol = line_of_three(bob_deaf=True)
    alice.world.run(1)
    alice.send_data("carol")
    alice.world.run(300)
    assert "carol" in alice.send_keys
    assert not alice.confirmed("carol")
    bob.host.down = False
    alice.world.run(100)
    alice.stream("carol")
    carol.stream("alice")
    assert alice.world.run(3.0, lambda: alice.confirmed("carol") and carol.confirmed("alice"))


def test_requirement_13_the_relay_by_udp_is_not_tried_after_the_direct_path_but_with_it() -> None:
    alice, bob, carol = line_of_three(nat=False)
    alice.stream("carol")
    carol.stream("alice")
    world = alice.world
    assert world.run(2.0, lambda: alice.confirmed("carol") and carol.confirmed("alice"))
    world.run(30.05)
    for daemon in (alice, bob, carol):
        daemon.host.down = True
    for end, peer in ((alice, "carol"), (carol, "alice")):
        assert world.run(1.0, lambda e=end, p=peer: not e.paths[p].udp and not e.paths["bob"].udp)
    for daemon in (alice, bob, carol):
        daemon.host.down = False
    assert world.run(1.0, lambda: alice.paths["carol"].udp and carol.paths["alice"].udp)


def test_requirement_24_a_restarted_node_is_talked_to_with_its_new_key() -> None:
    alice, bob, carol = line_of_three(nat=False)
    alice.stream("carol")
    assert alice.world.run(2.0, lambda: alice.confirmed("carol"))
    old_key = alice.send_keys["carol"]
    world = alice.world
    world.ends.remove(carol)
    # Without a FIN nobody notices, and the replacement is silent for alice, who never hears of a lost edge.
    again = Daemon(world, "carol", carol.host)
    connect(again, bob)
    assert world.run(3.0, lambda: alice.send_keys.get("carol") not in (None, old_key))
    assert world.run(3.0, lambda: alice.confirmed("carol") and again.confirmed("alice"))


def test_expiring_keys_interrupt_nothing_for_long() -> None:
    world = World()
    alice = Daemon(world, "alice", Host(world, Address("198.51.100.1", "655")), key_expire=20.0)
    bob = Daemon(world, "bob", Host(world, Address("192.0.2.2", "655")))
    carol = Daemon(world, "carol", Host(world, Address("198.51.100.3", "655")), key_expire=7.0)
    connect(alice, bob)
    connect(carol, bob)
    alice.stream("carol", 0.05)
    carol.stream("alice", 0.05)
    world.run(5)
    alice.direct = alice.relayed = 0
    world.run(120)
    assert alice.direct + alice.relayed >= 2399
    assert alice.relayed <= 0.1 * alice.direct
    lines = [line for time, line in alice.lines if time > world.now - 120 and line[:2] in ("15", "16")]
    assert len(lines) <= 100, "no more than a few lines per expiry"


def test_tcp_only_neighbours_are_not_probed() -> None:
    world = World()
    alice = Daemon(world, "alice", Host(world, Address("198.51.100.1", "655")))
    bob = Daemon(world, "bob", Host(world, Address("192.0.2.2", "655")))
    connect(alice, bob, OPTION_TCPONLY | 1)
    alice.stream("bob")
    world.run(60)
    assert not alice.host.sent
    assert not bob.host.sent
    assert not alice.paths or not any(path.udp for path in alice.paths.values())


def test_status_before_and_after() -> None:
    alice, _, carol = line_of_three()
    before = alice.mesh.channels.status("carol")
    assert (before.valid_key, before.udp_confirmed, before.min_mtu, before.mtu) == (False, False, 0, 1518)
    alice.stream("carol")
    alice.world.run(10)
    after = alice.mesh.channels.status("carol")
    assert (after.cipher, after.digest, after.mac_length, after.compression) == (427, 672, 4, 0)
    assert after.valid_key
    assert after.valid_key_in
    assert (after.min_mtu, after.mtu, after.max_mtu) == (1451, 1451, 1451)
    assert after.address == carol.host.address
    assert 19_000 <= after.round_trip_us <= 25_000
    assert alice.mesh.channels.status("nobody").round_trip_us == -1
