"""Requests: what is formatted parses to the same value, and nothing else than PeerError ever comes out."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from gmesh.crypto.nids import CIPHERS, DIGESTS
from gmesh.errors import PeerError
from gmesh.proto.control import ControlRequest, parse_control_request
from gmesh.proto.requests import (
    Ack,
    AddEdge,
    AddSubnet,
    AnsKey,
    Challenge,
    ChallengeReply,
    DelEdge,
    DelSubnet,
    Id,
    KeyChanged,
    MetaKey,
    Packet,
    Ping,
    Pong,
    ReqKey,
    Request,
    TermReq,
    parse_request,
)
from gmesh.values import Address, Subnet, SubnetKind

NAME_CHARACTERS = "ABCXYZabcxyz019_"
names = st.text(NAME_CHARACTERS, min_size=1, max_size=20)
nonces = st.integers(0, 2**32 - 1).map(lambda number: f"{number:x}")
integers = st.integers(-(2**31), 2**31 - 1)
edge_weights = st.integers(-(2**30) + 1, 2**30 - 1)
options = st.integers(0, 2**32 - 1)
ports = st.integers(0, 65535).map(str)
hosts = st.ip_addresses().map(str)
words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
addresses = st.builds(Address, hosts, ports)
base64_texts = st.text("ABCabc019+/-_", min_size=1, max_size=100)

WIDTHS = {SubnetKind.MAC: 6, SubnetKind.IPV4: 4, SubnetKind.IPV6: 16}


@st.composite
def subnets(draw: st.DrawFn) -> Subnet:
    kind = draw(st.sampled_from(SubnetKind))
    width = WIDTHS[kind]
    prefix = 48 if kind is SubnetKind.MAC else draw(st.integers(0, 8 * width))
    weight = draw(st.integers(-(2**31) + 1, 2**31 - 1))
    return Subnet(kind, draw(st.binary(min_size=width, max_size=width)), prefix, weight)


@st.composite
def edges(draw: st.DrawFn) -> AddEdge:
    source, target = draw(st.lists(names, min_size=2, max_size=2, unique=True))
    local = draw(st.none() | addresses)
    return AddEdge(draw(nonces), source, target, draw(addresses), draw(options), draw(edge_weights), local)


@st.composite
def key_answers(draw: st.DrawFn) -> AnsKey:
    source, target = draw(names), draw(names)
    address = draw(st.none() | addresses)
    compression = draw(st.integers(0, 12))
    if draw(st.booleans()):
        return AnsKey(source, target, draw(base64_texts), -1, -1, -1, compression, address)
    cipher, digest = draw(st.sampled_from(list(CIPHERS))), draw(st.sampled_from(list(DIGESTS)))
    size = CIPHERS[cipher].material_size
    key = draw(st.binary(min_size=size, max_size=size)).hex().upper()
    mac_length = draw(st.integers(0, DIGESTS[digest].size or 64))
    return AnsKey(source, target, key, cipher, digest, mac_length, compression, address)


@st.composite
def key_requests(draw: st.DrawFn) -> ReqKey:
    extra = draw(st.sampled_from(["", "19", "15 ", "20 ", "21 ", "30 "]))
    return ReqKey(draw(names), draw(names), extra + draw(base64_texts) if extra.endswith(" ") else extra)


@st.composite
def del_edges(draw: st.DrawFn) -> DelEdge:
    source, target = draw(st.lists(names, min_size=2, max_size=2, unique=True))
    return DelEdge(draw(nonces), source, target)


requests = st.one_of(
    st.builds(Id, names, st.integers(0, 99), st.none() | st.integers(0, 999)),
    st.builds(MetaKey, integers, integers, st.integers(0, 64), integers, st.binary(min_size=1, max_size=1024)),
    st.builds(Challenge, st.binary(min_size=1, max_size=1024)),
    st.builds(ChallengeReply, st.binary(min_size=1, max_size=64)),
    st.builds(Ack, ports, integers, options),
    st.sampled_from([TermReq(), Ping(), Pong()]),
    st.builds(AddSubnet, nonces, names, subnets()),
    st.builds(DelSubnet, nonces, names, subnets()),
    edges(),
    del_edges(),
    st.builds(KeyChanged, nonces, names),
    key_requests(),
    key_answers(),
    st.builds(Packet, st.integers(0, 2176)),
)


@given(requests)
def test_format_and_parse_are_inverse(request: Request) -> None:
    line = request.format()
    assert parse_request(line) == request
    assert line.isascii()
    assert "\n" not in line


@given(requests, st.lists(words, max_size=3))
def test_trailing_fields_change_nothing(request: Request, extra: list[str]) -> None:
    # These three take further fields of their own.
    if isinstance(request, AddEdge | AnsKey | ReqKey | Id):
        return
    assert parse_request(" ".join([request.format(), *extra])) == request


numbered = st.builds(lambda number, rest: f"{number} {rest}", st.integers(0, 20), st.text(max_size=200))
shuffled = st.builds(
    lambda number, fields: " ".join([str(number), *fields]),
    st.integers(0, 20),
    st.lists(st.one_of(words, names, nonces, ports, hosts, integers.map(str)), max_size=12),
)


@given(st.one_of(st.text(max_size=300), numbered, shuffled))
def test_garbage_is_a_peer_error_and_nothing_else(line: str) -> None:
    with contextlib.suppress(PeerError):
        # What does parse can be formatted and read again.
        request = parse_request(line)
        assert parse_request(request.format()) == request


@given(requests, st.data())
def test_a_changed_line_is_a_peer_error_or_parses(request: Request, data: st.DataObject) -> None:
    line = request.format()
    at = data.draw(st.integers(0, len(line)))
    changed = line[:at] + data.draw(st.text(max_size=3)) + line[at + data.draw(st.integers(0, 3)) :]
    with contextlib.suppress(PeerError):
        parse_request(changed)


@given(st.one_of(st.text(max_size=100), st.text("18 0x-", max_size=30)))
def test_control_requests_are_peer_errors_or_parse(line: str) -> None:
    with contextlib.suppress(PeerError):
        request = parse_control_request(line)
        assert parse_control_request(request.format()) == request


@given(st.integers(-99, 99), st.lists(words, max_size=4))
def test_control_requests_format_and_parse(code: int, arguments: list[str]) -> None:
    request = ControlRequest(code, tuple(arguments))
    assert parse_control_request(request.format()) == request
