"""The requests that 1.1 added, and what travels inside REQ_KEY and ANS_KEY."""

from __future__ import annotations

import pytest

from gmesh.crypto import base64, ed25519
from gmesh.errors import PeerError
from gmesh.proto.requests import AnsKey, ReqKey, parse_request
from gmesh.proto.requests_11 import (
    AskPublicKey,
    MtuInfo,
    SessionData,
    SptpsPacket,
    StartSession,
    SubRequest,
    TellPublicKey,
    UdpInfo,
    as_req_key,
    handshake_answer,
    handshake_datagram,
    parse_newer,
    sub_request,
)
from gmesh.values import Address
from tests.vectors.sptps import ed25519_key

KEX = bytes(range(70))
PUBLIC = ed25519_key("alice").public


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("21 100", SptpsPacket(100)),
        ("22 a b 10.0.0.1 655", UdpInfo("a", "b", Address("10.0.0.1", "655"))),
        ("22 a b fe80::1 655", UdpInfo("a", "b", Address("fe80::1", "655"))),
        ("23 a b 1400", MtuInfo("a", "b", 1400)),
    ],
)
def test_lines_and_back(line: str, request_: SptpsPacket | UdpInfo | MtuInfo) -> None:
    assert parse_newer(line, request_.NUMBER) == request_
    assert parse_newer(f"{line} later extension", request_.NUMBER) == request_
    assert request_.format() == line


@pytest.mark.parametrize("number", [18, 19, 20, 24, 99])
def test_numbers_that_are_no_requests(number: int) -> None:
    assert parse_newer(f"{number} x", number) is None


@pytest.mark.parametrize(
    "line",
    [
        *("21", "21 -1", "21 16", "21 32768"),
        *("22 a b host 655", "22 a b 10.0.0.1 x", "22 a/ b 1.1.1.1 1"),
        *("23 a b 511", "23 a b -5", "23 a b x", "23 a"),
    ],
)
def test_malformed_lines(line: str) -> None:
    with pytest.raises(PeerError):
        parse_newer(line, int(line[:2]))


def test_mtu_above_the_largest_frame_is_cut() -> None:
    assert parse_newer("23 a b 9018", 23) == MtuInfo("a", "b", 1518)


@pytest.mark.parametrize(
    ("content", "extra"),
    [
        (StartSession(KEX), f"15 {base64.encode(KEX)}"),
        (AskPublicKey(), "19"),
        (TellPublicKey(PUBLIC), f"20 {ed25519.public_to_text(PUBLIC)}"),
        (SessionData(bytes(1500)), f"21 {base64.encode(bytes(1500))}"),
    ],
)
def test_sub_requests_and_back(content: SubRequest, extra: str) -> None:
    request = as_req_key("a", "b", content)
    assert request == ReqKey("a", "b", extra)
    parsed = parse_request(request.format())
    assert isinstance(parsed, ReqKey)
    assert sub_request(parsed) == content


@pytest.mark.parametrize("extra", ["", "1", "18", "22 x"])
def test_requirement_25_sub_requests_that_nobody_knows_are_nothing(extra: str) -> None:
    assert sub_request(ReqKey("a", "b", extra)) is None


@pytest.mark.parametrize(
    "extra",
    [
        "15",
        "15 AAAA",
        "15 !!!!!!!!!!",
        f"15 {base64.encode(bytes(87))}",
        "20",
        f"20 {'A' * 42}",
        f"20 {'A' * 44}",
        "21 A",
    ],
)
def test_malformed_sub_requests(extra: str) -> None:
    with pytest.raises(PeerError):
        sub_request(ReqKey("a", "b", extra))


@pytest.mark.parametrize("public", [bytes(32), (1).to_bytes(32, "little"), (2).to_bytes(32, "little")])
def test_requirement_30_keys_that_are_none_are_refused(public: bytes) -> None:
    with pytest.raises(PeerError):
        sub_request(ReqKey("a", "b", f"20 {base64.encode(public)}"))


def test_handshake_records_in_ans_key() -> None:
    answer = handshake_answer("a", "b", KEX, 9, Address("10.0.0.1", "655"))
    line = f"16 a b {base64.encode(KEX)} -1 -1 -1 9 10.0.0.1 655"
    assert answer.format() == line
    parsed = parse_request(line)
    assert parsed == answer
    assert isinstance(parsed, AnsKey)
    assert handshake_datagram(parsed) == KEX
    with pytest.raises(ValueError, match="compression"):
        handshake_answer("a", "b", KEX, 13)


@pytest.mark.parametrize(
    "answer",
    [
        AnsKey("a", "b", "AB" * 48, 427, 672, 4, 0),
        handshake_answer("a", "b", bytes(4), 0),
        handshake_answer("a", "b", bytes(87), 0),
    ],
)
def test_answers_without_a_handshake_record(answer: AnsKey) -> None:
    with pytest.raises(PeerError):
        handshake_datagram(answer)
