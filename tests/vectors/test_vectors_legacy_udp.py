"""Recorded datagrams of 13 combinations of algorithms, byte for byte in both directions."""

from __future__ import annotations

from typing import Any

import pytest

from gmesh.crypto import packet_cipher
from gmesh.proto.packet import PacketKey, PacketOpener, PacketSealer
from gmesh.proto.requests import AnsKey, Packet, ReqKey, parse_request
from tests.vectors.legacy import load

CASES: dict[str, Any] = {case["name"]: case for case in load("legacy-udp")["cases"]}
DIRECTIONS = ("alice_to_bob", "bob_to_alice")
PACKAGES = {"lz4-1.1git": "lz4", "lzo10": "lzallright", "lzo11": "lzallright"}


def need_package(name: str) -> None:
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])


def packet_key(case: dict[str, Any], direction: str) -> PacketKey:
    key = case[f"key_{direction}"]
    return PacketKey.from_answer(key["key"], key["cipher"], key["digest"], key["maclength"], key["compression"])


def datagrams(case: dict[str, Any], direction: str) -> list[dict[str, Any]]:
    found = [datagram for datagram in case["datagrams"] if datagram["dir"].replace("->", "_to_") == direction]
    assert found
    return found


@pytest.fixture(params=["both libraries", "pycryptodome alone"])
def libraries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pycryptodome alone":
        monkeypatch.setattr(packet_cipher, "_BACKENDS", (packet_cipher._with_pycryptodome,))


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", CASES)
def test_open(name: str, direction: str) -> None:
    need_package(name)
    key = packet_key(CASES[name], direction)
    opener = PacketOpener(key, 16)
    for datagram in datagrams(CASES[name], direction):
        raw = bytes.fromhex(datagram["datagram"])
        assert opener.verify(raw) is key.has_mac
        assert opener.open(raw).hex() == datagram["frame"]
        assert opener.window.last == datagram["seqno"]


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", CASES)
def test_seal(name: str, direction: str) -> None:
    need_package(name)
    key = packet_key(CASES[name], direction)
    sealer, opener = PacketSealer(key), PacketOpener(key, 16)
    for datagram in datagrams(CASES[name], direction):
        sealer.sequence = datagram["seqno"] - 1
        frame = bytes.fromhex(datagram["frame"])
        sealed = sealer.seal(frame)
        assert opener.open(sealed) == frame
        if key.compression == 0:
            assert sealed.hex() == datagram["datagram"]


@pytest.mark.parametrize("name", CASES)
def test_recorded_key_requests_and_answers_parse_and_format(name: str) -> None:
    case = CASES[name]
    for line in case["key_exchange_lines"]:
        request = parse_request(line)
        assert isinstance(request, ReqKey | AnsKey | Packet)
        assert request.format() == line
    last_answer = [parse_request(line) for line in case["key_exchange_lines"] if line.startswith("16 alice")][-1]
    assert isinstance(last_answer, AnsKey)
    # The creator of a key receives with it.
    assert last_answer.key.lower() == case["key_bob_to_alice"]["key"]
