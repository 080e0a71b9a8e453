"""Each request's line form, and what is refused before it could be relayed."""

from __future__ import annotations

import pytest

from gmesh.errors import PeerError
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
    request_number,
)
from gmesh.values import Address, Subnet

SUBNET = Subnet.parse("10.50.0.0/16#5")
KEY = "AB" * 48

LINES: list[tuple[str, Request]] = [
    ("0 bob 17", Id("bob")),
    ("0 bob 17.7", Id("bob", 17, 7)),
    ("1 429 672 0 0 0AFF", MetaKey(429, 672, 0, 0, b"\x0a\xff")),
    ("2 00FF", Challenge(b"\0\xff")),
    ("3 AB", ChallengeReply(b"\xab")),
    ("4 655 62 c", Ack("655", 62, 12)),
    ("7", TermReq()),
    ("8", Ping()),
    ("9", Pong()),
    ("10 3dff1705 bob 10.50.0.0/16#5", AddSubnet("3dff1705", "bob", SUBNET)),
    ("11 a bob 10.50.0.0/16#5", DelSubnet("a", "bob", SUBNET)),
    ("12 a bob dave 10.1.2.3 4444 c 33", AddEdge("a", "bob", "dave", Address("10.1.2.3", "4444"), 12, 33)),
    (
        "12 a bob dave fe80::1 4444 700000c -1 192.168.7.7 655",
        AddEdge("a", "bob", "dave", Address("fe80::1", "4444"), 0x700000C, -1, Address("192.168.7.7", "655")),
    ),
    ("13 a bob dave", DelEdge("a", "bob", "dave")),
    ("14 a bob", KeyChanged("a", "bob")),
    ("15 a b", ReqKey("a", "b")),
    ("15 a b 19", ReqKey("a", "b", "19")),
    ("15 a b 15 AbC/+", ReqKey("a", "b", "15 AbC/+")),
    (f"16 a b {KEY} 427 672 4 0", AnsKey("a", "b", KEY, 427, 672, 4, 0)),
    (f"16 a b {KEY} 427 0 4 0", AnsKey("a", "b", KEY, 427, 0, 4, 0)),
    (f"16 a b {KEY} 427 672 4 0 ::1 40003", AnsKey("a", "b", KEY, 427, 672, 4, 0, Address("::1", "40003"))),
    ("16 a b AbC-_ -1 -1 -1 0", AnsKey("a", "b", "AbC-_", -1, -1, -1, 0)),
    ("17 98", Packet(98)),
]


@pytest.mark.parametrize(("line", "request_"), LINES, ids=[line[:30] for line, _ in LINES])
def test_lines_parse_and_format(line: str, request_: Request) -> None:
    assert parse_request(line) == request_
    assert request_.format() == line
    assert request_number(line) == request_.NUMBER


def test_gossip_is_what_carries_a_nonce() -> None:
    assert {request.NUMBER for _, request in LINES if request.GOSSIP} == {10, 11, 12, 13, 14}


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("10 aa bob 10.50.0.0/16#5 extra stuff", AddSubnet("aa", "bob", SUBNET)),
        ("0 bob 17 whatever", Id("bob")),
        ("12 a b c 10.1.2.3 655 c 1 10.1.1.1 655 more", parse_request("12 a b c 10.1.2.3 655 c 1 10.1.1.1 655")),
        ("10   aa  bob   10.50.0.0/16#5", AddSubnet("aa", "bob", SUBNET)),
        ("2 abCD", Challenge(b"\xab\xcd")),
        ("4 655 1 0xC", Ack("655", 1, 12)),
        ("10 aa bob 10.50.0.0/16#5", AddSubnet("aa", "bob", SUBNET)),
    ],
)
def test_what_readers_are_lenient_about(line: str, request_: Request) -> None:
    assert parse_request(line) == request_


def test_subnets_are_written_in_the_short_form() -> None:
    request = parse_request("10 1 alice fd77:0:0:0:0:0:0:1/128#10")
    assert request.format() == "10 1 alice fd77::1"


@pytest.mark.parametrize("extra", ["0", "0 AAAA", "word", "-1", "", "15", "15 $$$", "20", "21 a=b", "1x", "9999999999"])
def test_requirement_25_req_key_with_a_bad_sub_request(extra: str) -> None:
    line = f"15 a b {extra}"
    if not extra:
        # Nothing after the names is the legacy form, which is fine.
        assert parse_request(line) == ReqKey("a", "b")
        return
    with pytest.raises(PeerError, match="REQ_KEY"):
        parse_request(line)


IMPOSSIBLE = [
    # keys
    f"16 a b {KEY}A 427 672 4 0",
    f"16 a b {KEY}AB 427 672 4 0",
    "16 a b AB 427 672 4 0",
    "16 a b XYZ 427 672 4 0",
    f"16 a b {'AB' * 129} 9999 672 4 0",
    "16 a b A=B -1 -1 -1 0",
    f"16 a b {KEY} -1 672 4 0",
    f"16 a b {KEY} 427 -1 4 0",
    f"16 a b {KEY} 427 672 -1 0",
    f"16 a b {KEY} 427 672 33 0",
    f"16 a b {KEY} 427 672 4 13",
    f"16 a b {KEY} 427 672 4 -1",
    f"16 a b {KEY} 427 672 4",
    f"16 a b {KEY} 427 672 4 0 host 655",
    f"16 a b {KEY} 427 672 4 0 10.0.0.1 port",
    f"16 a b {KEY} 427 672 4 0 10.0.0.1",
    f"16 a b {KEY} 99999999999 672 4 0",
    # addresses
    "12 a b c host 655 c 1",
    "12 a b c unknown unknown c 1",
    "12 a b c 10.0.0.1 port c 1",
    "12 a b c fe80::1%eth0 655 c 1",
    "12 a b c 10.0.0.1 655 c 1 unspec unspec",
    f"12 a b c {'x' * 65} 655 c 1",
    "12 a b c 10.0.0.1 65536 c 1",
    "12 a b c 10.0.0.1 655 c 1 10.0.0.2",
    # names
    "12 a b b 10.0.0.1 655 c 1",
    "13 a b b",
    "10 a bo-b 10.0.0.0/8",
    f"10 a {'b' * 256} 10.0.0.0/8",
    "14 a ../b",
    "15 a! b",
    # numbers
    "12 a b c 10.0.0.1 655 zz 1",
    "12 a b c 10.0.0.1 655 c 2147483648",
    "12 a b c 10.0.0.1 655 c 1073741824",
    "12 a b c 10.0.0.1 655 c -2147483648",
    "12 a b c 10.0.0.1 655 123456789 1",
    "12 a b c 10.0.0.1 655 c one",
    "12 nonce! b c 10.0.0.1 655 c 1",
    # subnets
    "10 a b 10.0.0.0/33",
    "10 a b 300.0.0.0/8",
    "10 a b nothing",
    f"10 a b {'1' * 64}",
    # missing fields
    "10 a b",
    "11 a",
    "12 a b c 10.0.0.1 655 c",
    "13 a b",
    "14 a",
    "15 a",
    # characters that no honest line holds
    "14 a b\x01",
    "14 a b \xe9",
    "14\ta b",
]


@pytest.mark.parametrize("line", IMPOSSIBLE, ids=range(len(IMPOSSIBLE)))
def test_requirement_27_what_has_no_possible_form_does_not_parse(line: str) -> None:
    with pytest.raises(PeerError, match="bad "):
        parse_request(line)


@pytest.mark.parametrize(
    "line", ["", " ", "x", "-1", "8x", "1234567890", "5", "6", "18 0", "17", "17 -1", "17 2177", "17 x", "4 655 1"]
)
def test_other_bad_lines_are_peer_errors(line: str) -> None:
    with pytest.raises(PeerError):
        parse_request(line)


def test_fields_and_lines_are_bounded() -> None:
    assert parse_request("2 " + "AB" * 1024) == Challenge(b"\xab" * 1024)
    with pytest.raises(PeerError, match="longer than 2048"):
        parse_request("2 " + "AB" * 1025)
    with pytest.raises(PeerError, match="below 2176"):
        parse_request("8" + " " * 2175)


def test_requirement_9_keys_are_in_no_repr() -> None:
    assert KEY not in repr(parse_request(f"16 a b {KEY} 427 672 4 0"))
