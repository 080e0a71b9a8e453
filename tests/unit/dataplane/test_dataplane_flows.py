"""Flows and their indexes: whose an address is, and how that changes."""

from __future__ import annotations

from dataplane_lab import make_key

from gmesh.dataplane.endpoints import endpoint_of
from gmesh.dataplane.flows import MAX_SOURCES, Flow, FlowTable, ReceiveKey
from gmesh.dataplane.strangers import CHECKS_PER_SECOND, StrangerSearch
from gmesh.mesh.actions import SetPath
from gmesh.proto.packet import PacketSealer
from gmesh.values import Address

FRAME = bytes(12) + b"\x08\x00" + bytes(40)
SOCKET, OTHER_SOCKET = object(), object()


def place(table: FlowTable, name: str, host: str, port: int = 655, candidates: tuple[Address, ...] = ()) -> Flow:
    flow = table.get_or_add(name)
    address = Address(host, str(port))
    table.set_path(flow, SetPath(name, address, True, 0, 1518, candidates), SOCKET, endpoint_of(address))
    return flow


def test_a_path_makes_the_source_known() -> None:
    table = FlowTable()
    flow = place(table, "beta", "192.0.2.2")
    assert table.by_source == {("192.0.2.2", 655): flow}
    assert list(table.at_host("192.0.2.2")) == [flow]
    assert flow.socket is SOCKET


def test_the_address_before_is_recognised_for_what_is_on_its_way() -> None:
    table = FlowTable()
    flow = place(table, "beta", "192.0.2.2")
    place(table, "beta", "192.0.2.22")
    assert table.by_source[("192.0.2.2", 655)] is flow
    assert table.by_source[("192.0.2.22", 655)] is flow


def test_hearsay_does_not_take_an_address_from_who_was_heard_there() -> None:
    table = FlowTable()
    beta = table.get_or_add("beta")
    table.heard(beta, ("192.0.2.2", 655), SOCKET)
    gamma = place(table, "gamma", "192.0.2.2")
    assert table.by_source[("192.0.2.2", 655)] is beta
    table.heard(gamma, ("192.0.2.2", 655), SOCKET)
    assert table.by_source[("192.0.2.2", 655)] is gamma
    # And beta's end does not take it from gamma.
    table.forget(beta)
    assert table.by_source[("192.0.2.2", 655)] is gamma


def test_sources_per_node_are_bounded_but_the_path_stays() -> None:
    table = FlowTable()
    flow = place(table, "beta", "192.0.2.2")
    for port in range(100):
        table.heard(flow, ("198.51.100.1", 1000 + port), SOCKET)
    assert len(table.by_source) == MAX_SOURCES + 1
    assert table.by_source[("192.0.2.2", 655)] is flow


def test_the_socket_on_which_a_node_was_heard_is_used_to_reach_it() -> None:
    table = FlowTable()
    flow = place(table, "beta", "192.0.2.2")
    table.heard(flow, ("192.0.2.22", 700), OTHER_SOCKET)
    assert flow.socket is SOCKET
    place(table, "beta", "192.0.2.22", 700)
    assert flow.socket is OTHER_SOCKET
    address = Address("192.0.2.22", "700")
    table.set_path(flow, SetPath("beta", address, False, 0, 1518), SOCKET, endpoint_of(address))
    assert flow.socket is OTHER_SOCKET


def test_candidates_count_as_hosts_until_they_change() -> None:
    table = FlowTable()
    flow = place(table, "beta", "192.0.2.2", candidates=(Address("10.1.1.1", "655"), Address("no.number", "655")))
    assert list(table.at_host("10.1.1.1")) == [flow]
    place(table, "beta", "192.0.2.2", candidates=())
    assert list(table.at_host("10.1.1.1")) == []
    table.forget(flow)
    assert not table._by_host
    assert not table.by_source


def test_a_third_key_within_ten_seconds_keeps_the_two_before() -> None:
    table = FlowTable()
    flow = table.get_or_add("beta")
    keys = [ReceiveKey(make_key(), 16) for _ in range(4)]
    for now, key in enumerate(keys):
        table.add_receive_key(flow, key, float(now))
    assert flow.receive_keys == (keys[3], keys[2], keys[1])
    last = ReceiveKey(make_key(), 16)
    table.add_receive_key(flow, last, 12.5)
    # The key of second 2 was replaced at second 3 and ends at 13, the one before it has ended.
    assert flow.receive_keys == (last, keys[3], keys[2])


def test_strangers_use_up_their_budget_and_no_more() -> None:
    """Requirement 28: whatever comes, MACs per second are bounded, and nobody is tried for free."""
    table = FlowTable()
    for number in range(100):
        table.add_receive_key(table.get_or_add(f"member{number}"), ReceiveKey(make_key(), 16), 0.0)
    search = StrangerSearch(table)
    garbage = bytes(120)
    for number in range(1000):
        assert search.find(garbage, (f"203.0.113.{number % 250}", number), 0.0, None) is None
    assert search.walks.left < 1
    assert search.find(garbage, ("203.0.113.251", 1), 0.25, None) is None
    assert search.walks.left == CHECKS_PER_SECOND / 4 - 100
    assert search.at_host.left == CHECKS_PER_SECOND


def test_a_node_is_found_in_the_next_walk_when_the_budget_ended_before_it() -> None:
    table = FlowTable()
    key = make_key()
    for number in range(int(CHECKS_PER_SECOND) + 500):
        mine = number == CHECKS_PER_SECOND + 100
        table.add_receive_key(table.get_or_add(f"m{number}"), ReceiveKey(key if mine else make_key(), 16), 0.0)
    search = StrangerSearch(table)
    datagram = PacketSealer(key).seal(FRAME)
    assert search.find(datagram, ("203.0.113.1", 1), 0.0, None) is None
    found = search.find(datagram, ("203.0.113.1", 1), 1.0, None)
    assert found is not None
    assert found[0].name == f"m{int(CHECKS_PER_SECOND) + 100}"


def test_one_host_that_floods_leaves_a_walk_to_others() -> None:
    table = FlowTable()
    key = make_key()
    for name in ("beta", "gamma"):
        table.add_receive_key(table.get_or_add(name), ReceiveKey(key if name == "gamma" else make_key(), 16), 0.0)
    search = StrangerSearch(table)
    for port in range(5000):
        search.find(bytes(120), ("203.0.113.1", port), 0.0, None)
    found = search.find(PacketSealer(key).seal(FRAME), ("198.51.100.7", 655), 0.0, None)
    assert found is not None
    assert found[0].name == "gamma"


def test_garbage_from_a_members_forged_host_leaves_a_walk_to_others() -> None:
    table = FlowTable()
    key = make_key()
    for name in ("beta", "gamma"):
        table.add_receive_key(table.get_or_add(name), ReceiveKey(key if name == "gamma" else make_key(), 16), 0.0)
    place(table, "beta", "192.0.2.2")
    search = StrangerSearch(table)
    for port in range(5000):
        search.find(bytes(120), ("192.0.2.2", port), 0.0, None)
    assert search.at_host.left < 1
    found = search.find(PacketSealer(key).seal(FRAME), ("198.51.100.7", 655), 0.0, None)
    assert found is not None
    assert found[0].name == "gamma"


def test_without_a_mac_nobody_is_recognised_by_the_key() -> None:
    table = FlowTable()
    key = make_key(mac_length=0)
    flow = table.get_or_add("beta")
    table.add_receive_key(flow, ReceiveKey(key, 16), 0.0)
    assert StrangerSearch(table).find(PacketSealer(key).seal(FRAME), ("203.0.113.1", 1), 0.0, None) is None
