"""Learned addresses in a mesh of several nodes: wherever hosts appear and move, all agree in the end (topology 6)."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from gmesh.dataplane.contract import FrameForPeer
from gmesh.dataplane.macs import MacAges
from gmesh.mesh.actions import Action, ForgetMac
from gmesh.mesh.events import DataEvent, FlowCounters
from gmesh.mesh.mesh import Mesh
from gmesh.mesh.settings import MeshSettings
from gmesh.route.router import Router, ToNode
from gmesh.values import MTU, Subnet, SubnetKind
from tests.sim.simnet import World
from tests.sim.simnode import SimNode
from tests.unit.route.route_frames import snapshot

EXPIRE = 40.0
NAMES = ["a", "b", "c", "d"]
HOSTS = [bytes((2, 0, 0, 0, 0, index)) for index in range(3)]
EVERYBODY = b"\xff" * 6


class Segment:
    """The network behind a node, as the node's data plane sees it."""

    def __init__(self, node: SimNode) -> None:
        self.events: list[DataEvent | FrameForPeer] = []
        self.macs = MacAges(self.events)
        self.node = node
        world = node.world
        node.mesh = Mesh(MeshSettings(name=node.name, mac_expire=EXPIRE), world.now, world.random.randbytes, self)
        node.plane.perform = self.perform  # type: ignore[method-assign]
        node.perform(node.mesh.start(world.now))

    def counters(self, node: str) -> FlowCounters | None:
        return None

    def mac_ages(self) -> Mapping[bytes, float]:
        return self.macs.last_seen

    def perform(self, action: Action, now: float) -> None:
        if isinstance(action, ForgetMac):
            self.macs.forget(action.mac)

    def frame(self, host: bytes) -> None:
        now = self.node.world.now
        self.macs.seen(EVERYBODY + host + b"\x08\x00", now)
        events, self.events[:] = self.events.copy(), []
        for event in events:
            assert not isinstance(event, FrameForPeer)
            self.node.perform(self.node.mesh.data_event(event, now))

    def owners(self, host: bytes) -> set[str]:
        """Who has the host, as this node sees it."""
        table = self.node.mesh.registry.subnet_table()
        return {owner for subnet, owner in table if subnet.address == host}


moves = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(HOSTS), st.sampled_from([0.0, 0.01, 0.1, 1.0, 30.0])), max_size=30
)


@given(moves=moves, seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_all_nodes_agree_on_where_each_host_was_last(moves: list[tuple[str, bytes, float]], seed: int) -> None:
    """Each host that goes on sending is, a moment later, where it is, and nowhere else; a silent one is nowhere."""
    world = World(seed=seed)
    for name, targets in (("a", []), ("b", ["a"]), ("c", ["b"]), ("d", ["a", "c"])):
        world.add(name, targets, subnets=[])
    segments = {name: Segment(node) for name, node in world.nodes.items()}
    for node in world.nodes.values():
        node.dial()
    world.run(20.0, until=world.agreed)
    places: dict[bytes, str] = {}
    for name, host, pause in moves:
        segments[name].frame(host)
        places[host] = name
        world.run(pause)
    for _ in range(6):  # claims cross on their way; whoever sends goes on sending
        for host, name in places.items():
            segments[name].frame(host)
        world.run(1.0)
    for segment in segments.values():
        assert {host: segment.owners(host) for host in places} == {host: {name} for host, name in places.items()}
    world.run(EXPIRE + 30)
    for segment in segments.values():
        assert not any(segment.owners(host) for host in HOSTS)


@given(frames=st.lists(st.binary(max_size=20), max_size=50))
def test_any_frame_teaches_at_most_its_senders_address_once(frames: list[bytes]) -> None:
    events: list[DataEvent | FrameForPeer] = []
    macs = MacAges(events)
    for frame in frames:
        macs.seen(frame, 1.0)
    told = [event.mac for event in events if not isinstance(event, FrameForPeer) and hasattr(event, "mac")]
    assert len(told) == len(events) == len(set(told))
    assert set(told) == set(macs.last_seen) <= {frame[6:12] for frame in frames}
    assert all(len(mac) == 6 and mac[0] % 2 == 0 and any(mac) for mac in told)


@given(
    owners=st.lists(st.tuples(st.sampled_from(HOSTS), st.sampled_from([*NAMES, "gone"])), max_size=8),
    host=st.sampled_from(HOSTS),
)
def test_a_host_is_at_its_first_reachable_owner(owners: list[tuple[bytes, str]], host: bytes) -> None:
    picture = snapshot(mode="switch")
    subnets = tuple((Subnet(SubnetKind.MAC, mac, 48), owner) for mac, owner in owners)
    router = Router(type(picture)("a", picture.options, picture.nodes, subnets, picture.settings))
    names = sorted({owner for mac, owner in owners if mac == host})
    verdicts = router.decide(host + bytes(6) + b"\x88\xb5", "a", lambda node: MTU, 0.0)
    if not names:
        assert [verdict.node for verdict in verdicts if isinstance(verdict, ToNode)] == ["b", "c"]
    elif names[0] in "bcd":
        assert verdicts == [ToNode(names[0], host + bytes(6) + b"\x88\xb5")]
    else:
        assert not any(isinstance(verdict, ToNode) for verdict in verdicts)
