"""Control lines as other tools parse them, in both directions."""

from __future__ import annotations

import pytest

from gmesh.errors import PeerError
from gmesh.proto import control
from gmesh.proto.control import (
    ConnectionLine,
    ConnectionStatus,
    ControlCode,
    ControlRequest,
    EdgeLine,
    NodeLine,
    NodeStatus,
    SubnetLine,
    TrafficLine,
)
from gmesh.values import UNKNOWN_ADDRESS, Address, Subnet

RECORDED = [
    (
        NodeLine,
        "18 3 bar d82c4eb5261c 127.0.0.1 port 7102 0 0 0 0 700000c da bar bar 1 1518 18 1518 1795331656 111 0 0 0 0",
    ),
    (
        NodeLine,
        "18 3 foo f7fbba6e0636 MYSELF port 7101 0 0 0 0 700000c 858 foo foo 0 1518 0 1518 1795331634 -1 0 0 0 0",
    ),
    (EdgeLine, "18 4 bar foo 127.0.0.1 port 7101 127.0.0.1 port 7102 700000c 0"),
    (EdgeLine, "18 4 bar foo 127.0.0.1 port 7101 unspec port unspec c -5"),
    (SubnetLine, "18 5 02:00:00:00:00:01 foo"),
    (SubnetLine, "18 5 ff:ff:ff:ff:ff:ff (broadcast)"),
    (SubnetLine, "18 5 10.0.3.0/24 foo"),
    (SubnetLine, "18 5 fd00:1::/64#5 foo"),
    (ConnectionLine, "18 6 bar 127.0.0.1 port 48998 700000c 15 100"),
    (ConnectionLine, "18 6 <control> localhost port unix 0 19 200"),
    (ConnectionLine, "18 6 <unknown> 127.0.0.1 port 48998 0 15 0"),
    (TrafficLine, "18 13 foo 1 2 3 18446744073709551615"),
]


@pytest.mark.parametrize(("kind", "line"), RECORDED, ids=[line[:24] for _, line in RECORDED])
def test_dump_lines_parse_and_format(kind: type[NodeLine], line: str) -> None:
    assert kind.parse(line).format() == line


def test_node_line_from_values() -> None:
    line = NodeLine(
        name="foo",
        address=UNKNOWN_ADDRESS,
        cipher=427,
        digest=672,
        mac_length=4,
        compression=0,
        options=0xC,
        status=NodeStatus.VALID_KEY | NodeStatus.REACHABLE,
        next_hop="",
        via="",
        distance=-1,
        mtu=1518,
        min_mtu=0,
        max_mtu=1518,
        last_change=0,
        round_trip_us=-1,
        packets_in=1,
        bytes_in=2,
        packets_out=3,
        bytes_out=4,
    )
    assert line.format() == (
        "18 3 foo f7fbba6e0636 unknown port unknown 427 672 4 0 c 12 - - -1 1518 0 1518 0 -1 1 2 3 4"
    )
    assert NodeLine.parse(line.format()) == line


def test_values_of_parsed_lines() -> None:
    assert SubnetLine.parse("18 5 fd00:1::/64#5 foo") == SubnetLine(Subnet.parse("fd00:1::/64#5"), "foo")
    assert ConnectionLine.parse("18 6 bar ::1 port 9 c 15 100") == ConnectionLine(
        "bar", Address("::1", "9"), 12, 15, ConnectionStatus.MST
    )


@pytest.mark.parametrize(
    "line",
    ["", "18", "18 3", "18 4 a b", "18 3 a", "17 3 a", "18 3 a b c d e", "18 3 " + "x " * 30, RECORDED[0][1][:-8]],
)
def test_lines_of_another_form_are_peer_errors(line: str) -> None:
    with pytest.raises(PeerError):
        NodeLine.parse(line)


def test_bad_subnet_line_is_a_peer_error() -> None:
    with pytest.raises(PeerError):
        SubnetLine.parse("18 5 nothing foo")


def test_node_id_is_the_start_of_sha512() -> None:
    assert control.node_id("foo").hex() == "f7fbba6e0636"


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("18 0", ControlRequest(ControlCode.STOP)),
        ("18 9 -1", ControlRequest(ControlCode.SET_DEBUG, ("-1",))),
        ("18 3 ignored words", ControlRequest(ControlCode.DUMP_NODES, ("ignored", "words"))),
        ("18 99", ControlRequest(99)),
    ],
)
def test_requests(line: str, request_: ControlRequest) -> None:
    assert control.parse_control_request(line) == request_
    assert request_.format() == line


@pytest.mark.parametrize("line", ["", "18", "17 0", "18 x", "0 ^cookie 0", "18 " + "1" * 3000])
def test_other_lines_are_no_control_requests(line: str) -> None:
    with pytest.raises(PeerError):
        control.parse_control_request(line)


def test_integer_arguments() -> None:
    request = control.parse_control_request("18 15 3 x 99999999999")
    assert request.integer(0) == 3
    for index in (1, 2, 3):
        with pytest.raises(PeerError):
            request.integer(index)


def test_greetings() -> None:
    assert control.greeting_request("3EA8") == "0 ^3EA8 0"
    answer = control.greeting_answer("foo", "17", 29528)
    assert answer == ("0 foo 17", "4 0 29528")
    assert control.parse_greeting_answer(*answer) == ("foo", "17", 29528)
    assert control.parse_greeting_answer("0 foo 17.7", "4 0 1") == ("foo", "17.7", 1)
    for bad in (("1 foo 17", "4 0 1"), ("0 foo 17", "4 1 1"), ("0 foo 17", "4 0"), ("", "")):
        with pytest.raises(PeerError):
            control.parse_greeting_answer(*bad)


def test_answers() -> None:
    assert control.result(ControlCode.RELOAD, 0) == "18 1 0"
    assert control.end_of_dump(ControlCode.DUMP_EDGES) == "18 4"
    assert control.stream_header(ControlCode.LOG, 48) == "18 15 48"
    assert control.UNSUPPORTED == "18 -1"
