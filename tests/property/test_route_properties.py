"""What holds of routing for any frame, any packet, any set of subnets."""

from __future__ import annotations

import ipaddress
import struct

from hypothesis import assume, given
from hypothesis import strategies as st

from gmesh.route.checksum import checksum, updated
from gmesh.route.fragments import fragments
from gmesh.route.mss import clamped
from gmesh.route.router import Drop, Router, ToDevice, ToNode
from gmesh.route.subnets import SubnetTable
from gmesh.route.ttl import decremented
from gmesh.values import MTU, Subnet, SubnetKind
from tests.unit.route.route_frames import internet_sum, ipv4, ipv6, packed, pseudo, snapshot, tcp

A4, B4, A6, B6 = "10.0.1.1", "10.0.2.2", "fd00:1::1", "fd00:2::2"
BITS = {SubnetKind.MAC: 48, SubnetKind.IPV4: 32, SubnetKind.IPV6: 128}
NAMES = "abcdefgh"

ipv4_texts = st.sampled_from([A4, B4, "10.0.4.1", "10.0.9.1", "10.9.9.9", "224.0.0.1", "255.255.255.255", "0.0.0.0"])
ipv6_texts = st.sampled_from([A6, B6, "fd00:4::1", "fd00:9::1", "fe80::1", "ff02::1", "::"])


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """Frames that look right at first, of all the kinds that somebody reads further, then perhaps damaged."""
    payload = draw(st.binary(max_size=100)) + bytes(draw(st.sampled_from([0, 500, 1300, 1500])))
    protocol = draw(st.sampled_from([1, 4, 6, 17, 58, 44, 0, 43, 60]))
    tag = draw(st.sampled_from([b"", b"\x81\x00\x00\x01"]))
    if draw(st.booleans()):
        options = bytes(draw(st.sampled_from([0, 4, 40])))
        flags = draw(st.sampled_from([0, 0x4000, 0x2000, 0x1FFF]))
        ttl = draw(st.integers(0, 3))
        source, destination = draw(ipv4_texts), draw(ipv4_texts)
        frame = ipv4(source, destination, payload, protocol=protocol, ttl=ttl, flags=flags, options=options, tag=tag)
    else:
        hops = draw(st.integers(0, 3))
        frame = ipv6(draw(ipv6_texts), draw(ipv6_texts), payload, following=protocol, hops=hops, tag=tag)
    if draw(st.booleans()):
        damaged = bytearray(frame)
        for at in draw(st.lists(st.integers(12, min(len(frame), 120) - 1), max_size=4)):
            damaged[at] = draw(st.integers(0, 255))
        frame = bytes(damaged)
    return frame[: draw(st.integers(0, len(frame)))] if draw(st.booleans()) else frame


headed = st.builds(
    lambda kind, rest: bytes(12) + kind + rest,
    st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x81\x00\x08\x00"]),
    st.binary(max_size=200),
)


@given(
    frame=st.one_of(packets(), headed, st.binary(max_size=80)),
    source=st.sampled_from(["a", "b", "c", "d", "gone", "stranger"]),
    mtu=st.integers(0, 9018),
    forwarding=st.sampled_from(["internal", "off", "kernel"]),
    broadcast=st.sampled_from(["mst", "direct", "no"]),
    switches=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
)
def test_no_frame_raises(
    frame: bytes,
    source: str,
    *,
    mtu: int,
    forwarding: str,
    broadcast: str,
    switches: tuple[bool, bool, bool, bool],
) -> None:
    """And every verdict is fit to be carried out: a known node that is not the source's own self, bytes as a frame."""
    direct, decrement, tunnel, tap = switches
    router = Router(
        snapshot(
            forwarding=forwarding,
            broadcast=broadcast,
            direct_only=direct,
            decrement_ttl=decrement,
            tunnel_server=tunnel,
            tap=tap,
        )
    )
    verdicts = router.decide(frame, source, lambda node: mtu, 0.0)
    assert verdicts
    for verdict in verdicts:
        assert isinstance(verdict, ToDevice | ToNode | Drop)
        if isinstance(verdict, ToNode):
            assert verdict.node != "a"
            assert verdict.node in {"b", "c", "d", source}
        if not isinstance(verdict, Drop):
            assert len(verdict.frame) <= max(len(frame), 590)
            assert len(verdict.frame) >= 14


@given(
    data=st.binary(min_size=1, max_size=3000),
    mtu=st.integers(590, 1518),
    offset=st.integers(0, 0x1FFF),
    more=st.booleans(),
    tag=st.sampled_from([b"", b"\x81\x00\x00\x01"]),
)
def test_fragments_reassemble_to_the_original(data: bytes, mtu: int, offset: int, more: bool, tag: bytes) -> None:
    if more:
        data = data[: len(data) // 8 * 8]
        assume(data)
    assume(offset * 8 + len(data) <= 0xFFFF)
    start = 14 + len(tag)
    frame = ipv4(payload=data, flags=offset | (0x2000 if more else 0), tag=tag)
    pieces = fragments(frame, mtu)
    whole = bytearray()
    for number, piece in enumerate(pieces):
        assert len(piece) <= mtu
        length, _, word = struct.unpack_from("!HHH", piece, start + 2)
        assert length == len(piece) - start
        assert internet_sum(piece[start : start + 20]) == 0
        assert (word & 0x1FFF) * 8 == offset * 8 + len(whole)
        assert bool(word & 0x2000) == (more or number < len(pieces) - 1)
        assert piece[:start] == frame[:start]
        assert piece[start + 12 : start + 20] == frame[start + 12 : start + 20]
        whole += piece[start + 20 :]
    assert whole == data


@given(st.binary(max_size=200))
def test_checksum_is_the_textbook_one(data: bytes) -> None:
    assert checksum(data) == internet_sum(data)


@given(data=st.binary(min_size=4, max_size=60), at=st.integers(0, 28), new=st.integers(0, 0xFFFF))
def test_incremental_checksums_equal_full_ones(data: bytes, at: int, new: int) -> None:
    data = b"\x45\0" + data[: len(data) // 2 * 2]  # as in a header: never nothing but zeros
    at = 2 + at % ((len(data) - 2) // 2) * 2
    old = int.from_bytes(data[at : at + 2], "big")
    changed = data[:at] + new.to_bytes(2, "big") + data[at + 2 :]
    assert updated(internet_sum(data), old, new) == internet_sum(changed)


@given(ttl=st.integers(2, 255), payload=st.binary(max_size=8), source=st.integers(0, 2**32 - 1))
def test_decremented_headers_have_the_full_sum(ttl: int, payload: bytes, source: int) -> None:
    address = str(ipaddress.IPv4Address(source))
    frame = ipv4(address, payload=payload, ttl=ttl)
    assert decremented(frame) == ipv4(address, payload=payload, ttl=ttl - 1)


@given(
    before=st.sampled_from([b"", b"\1", b"\1\1", b"\x03\x03\x07", b"\x08\x0a" + bytes(8)]),
    mss=st.integers(0, 0xFFFF),
    mtu=st.integers(100, 1518),
    data=st.binary(max_size=9),
    six=st.booleans(),
)
def test_clamped_segments_have_the_full_sum(before: bytes, mss: int, mtu: int, data: bytes, six: bool) -> None:
    def frame(value: int) -> bytes:
        options = before + b"\x02\x04" + struct.pack("!H", value)
        if six:
            return ipv6(A6, B6, tcp(A6, B6, options, data), following=6)
        return ipv4(A4, B4, tcp(A4, B4, options, data), protocol=6)

    limit = mtu - (54 if six else 34) - 20
    result = clamped(frame(mss), mtu)
    assert result == frame(min(mss, limit))
    segment = result[54 if six else 34 :]
    assert internet_sum(pseudo(A6 if six else A4, B6 if six else B4, len(segment), 6) + segment) == 0


@st.composite
def ranges(draw: st.DrawFn) -> tuple[Subnet, str]:
    """Subnets of few distinct bits, so that they overlap, host bits and all."""
    kind = draw(st.sampled_from(list(SubnetKind)))
    bits = BITS[kind]
    prefix = (
        bits if kind is SubnetKind.MAC else draw(st.sampled_from([0, 1, bits // 2, bits - 8, bits - 2, bits - 1, bits]))
    )
    address = draw(addresses(kind))
    return Subnet(kind, address, prefix, draw(st.sampled_from([-5, 1, 10, 20]))), draw(st.sampled_from(NAMES))


def addresses(kind: SubnetKind) -> st.SearchStrategy[bytes]:
    size = BITS[kind] // 8
    return st.builds(
        lambda first, last: bytes([first]) + bytes(size - 2) + bytes([last]),
        st.sampled_from([10, 11, 200]),
        st.integers(0, 7),
    )


def naive_owner(subnets: list[tuple[Subnet, str]], address: bytes, kind: SubnetKind, reachable: set[str]) -> str | None:
    """Topology 5.1 word by word: sorted, walked, first reachable match, else the last match."""
    ordered = sorted(subnets, key=lambda pair: (-pair[0].prefix, pair[0].address, pair[0].weight, pair[1]))
    matches = [owner for subnet, owner in ordered if subnet.kind is kind and subnet.matches(address)]
    return next((owner for owner in matches if owner in reachable), matches[-1] if matches else None)


@given(
    subnets=st.lists(ranges(), max_size=25, unique=True),
    reachable=st.sets(st.sampled_from(NAMES)),
    asked=st.lists(
        st.sampled_from(list(SubnetKind)).flatmap(lambda k: st.tuples(st.just(k), addresses(k))), min_size=1
    ),
)
def test_lookup_equals_a_walk_in_order(
    subnets: list[tuple[Subnet, str]], reachable: set[str], asked: list[tuple[SubnetKind, bytes]]
) -> None:
    table = SubnetTable(subnets)
    for kind, address in asked:
        assert table.owner(kind, address, reachable) == naive_owner(subnets, address, kind, reachable)


@given(mtu=st.integers(0, 1518), size=st.integers(0, 1484), flags=st.sampled_from([0, 0x4000]))
def test_the_short_way_from_the_device_obeys_the_mtu(mtu: int, size: int, flags: int) -> None:
    frame = ipv4(A4, B4, bytes(size), flags=flags)
    verdicts = Router(snapshot()).decide(frame, "a", lambda node: mtu if node == "b" else MTU, 0.0)
    if len(frame) <= max(mtu, 590):
        assert verdicts == [ToNode("b", frame)]
    elif flags:
        (verdict,) = verdicts
        assert isinstance(verdict, ToDevice)
        assert verdict.frame[26:30] == packed(B4)
    else:
        assert len(verdicts) > 1
        assert all(isinstance(verdict, ToNode) and verdict.exact for verdict in verdicts)
