"""Recorded SPTPS sessions: every byte that we would have sent, and every byte that real daemons sent."""

from __future__ import annotations

import ast
import hashlib
import itertools
from typing import Any

import pytest

from gmesh.crypto import base64, ed25519
from gmesh.crypto.chacha_poly import ChaChaPoly
from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.proto import sptps_handshake
from gmesh.proto.requests import AnsKey, ReqKey, parse_request
from gmesh.proto.sptps import Record, SptpsEvent, StreamSession
from gmesh.proto.sptps_datagram import DatagramSession
from gmesh.proto.sptps_flow import DatagramFlow, FlowState, WindowState
from gmesh.proto.sptps_handshake import TINC_SUITE, HandshakeFinished, TrafficKey, data_label, meta_label
from tests.vectors.legacy import load, scripted_entropy

HANDSHAKES: dict[str, Any] = load("sptps-handshake")
NODE_IDS: dict[str, Any] = load("sptps-nodeids")
INVITATION: dict[str, Any] = load("sptps-invitation")
RECORDED: dict[str, Any] = load("sptps-recorded")
CAPTURES = [case for key, cases in RECORDED.items() if key != "about" for case in cases]
WITH_WIRE = [case for case in CAPTURES if "wire" in case]
WITH_DATAGRAMS = [case for case in CAPTURES if "datagrams" in case]
INVITATIONS = [INVITATION] + [case for case in CAPTURES if "url" in case]

Session = StreamSession | DatagramSession


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


def key(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_seed(unhex(seed))


class End:
    """One session of either kind, and what it has to send."""

    def __init__(self, mode: str, **arguments: Any) -> None:
        kind = StreamSession if mode == "stream" else DatagramSession
        self.session: Session = kind(now=0.0, **arguments)
        self.output: list[bytes] = []
        self.stream = b""

    def send(self, kind: int, data: bytes) -> None:
        if isinstance(self.session, StreamSession):
            self.session.send_record(kind, data)
        else:
            self.output.append(self.session.send_record(kind, data))

    def sends(self, expected: bytes) -> bool:
        """Take what is to be sent next; whether it is this."""
        if isinstance(self.session, StreamSession):
            self.stream += self.session.data_to_send()
            head, self.stream = self.stream[: len(expected)], self.stream[len(expected) :]
            return head == expected
        self.output += self.session.data_to_send()
        return self.output.pop(0) == expected

    @property
    def waiting(self) -> bool:
        if isinstance(self.session, StreamSession):
            self.stream += self.session.data_to_send()
            return bool(self.stream)
        self.output += self.session.data_to_send()
        return bool(self.output)

    def receive(self, data: bytes) -> list[SptpsEvent]:
        return self.session.receive(data, 0.0)


@pytest.mark.parametrize("number", range(len(HANDSHAKES["cases"])))
def test_handshake_records_and_renewal(number: int) -> None:
    case = HANDSHAKES["cases"][number]
    rounds = [case["round1"], case["round2_renewal_started_by_responder"]]
    keys = {role: key(case[f"{role}_key_seed"]) for role in ("initiator", "responder")}
    ends = {}
    for role, other in (("initiator", "responder"), ("responder", "initiator")):
        randomness = [unhex(part[role][what]) for part in rounds for what in ("nonce", "ephemeral_seed")]
        ends[role] = End(
            case["mode"],
            initiator=role == "initiator",
            private_key=keys[role],
            peer_public=keys[other].public,
            label=unhex(case["label"]),
            entropy=scripted_entropy(*randomness),
        )
    finished = dict.fromkeys(ends, 0)
    for record in case["records"]:
        sender = ends[record["sender"]]
        receiver_role = "responder" if record["sender"] == "initiator" else "initiator"
        if record["type"] < 128:
            sender.send(record["type"], unhex(record["data"]))
        elif not sender.waiting:
            sender.session.renew(0.0)
        assert sender.sends(unhex(record["bytes"])), record
        events = ends[receiver_role].receive(unhex(record["bytes"]))
        if record["type"] < 128:
            assert events == [Record(record["type"], unhex(record["data"]))]
        else:
            assert all(isinstance(event, HandshakeFinished) for event in events)
            finished[receiver_role] += len(events)
    assert finished == {"initiator": 2, "responder": 2}


def is_initiator(case: dict[str, Any]) -> bool:
    """Whether the probe, whose part we play, began the session."""
    return case["tinc_role"] == "responder" if "tinc_role" in case else "tinc initiator" not in case["what"]


@pytest.mark.parametrize("number", range(len(WITH_WIRE)))
def test_sessions_with_real_daemons(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = WITH_WIRE[number]
    mode = case.get("mode", "stream")
    wire = [(direction, unhex(data)) for direction, data in case["wire"]]
    if "what" in case:
        direction, greeting = wire.pop(0)
        assert (direction, greeting) == ("rx", b"0 real 17.7\n")
    first_sent = next(data for direction, data in wire if direction == "tx")
    nonce_at = 4 if mode == "stream" else 6
    ephemeral = Ed25519PrivateKey(unhex(case["our_ephemeral_private_hex"]))
    initiator = is_initiator(case)

    class Keys(Ed25519PrivateKey):
        @classmethod
        def from_seed(cls, seed: bytes) -> Ed25519PrivateKey:
            return ephemeral

    monkeypatch.setattr(sptps_handshake, "Ed25519PrivateKey", Keys)
    end = End(
        mode,
        initiator=initiator,
        private_key=Ed25519PrivateKey(unhex(case["our_private_hex"])),
        peer_public=unhex(case["tinc_public_hex"]),
        label=unhex(case.get("label", case.get("label_hex", ""))),
        entropy=bytes,
        make_nonce=lambda: first_sent[nonce_at : nonce_at + 32],
    )
    half = 64 if initiator else 0
    sending = ChaChaPoly(unhex(case["key_material_hex"])[half : half + 32])
    numbers = itertools.count(2)
    records: list[Record] = []
    for direction, data in wire:
        if direction == "rx":
            records += [event for event in end.receive(data) if isinstance(event, Record)]
            continue
        if not end.waiting:
            plain = sending.open(next(numbers), data[2 if mode == "stream" else 4 :])
            assert plain is not None
            end.send(plain[0], plain[1:])
        assert end.sends(data)
    assert records
    if "requests" in case:
        lines = [f"{line}\n".encode() for line in case["requests"][1:]]
        assert [record.data for record in records] == lines
        assert all(record.kind == 0 for record in records)


@pytest.mark.parametrize("number", range(len(WITH_DATAGRAMS)))
def test_datagrams_of_real_daemons(number: int) -> None:
    case = WITH_DATAGRAMS[number]
    material = unhex(case["key_material_hex"])
    half = 0 if case["we_are_initiator"] else 64
    received = TrafficKey(TINC_SUITE, material[half : half + 32])
    flow = DatagramFlow(FlowState(None, 0, received, None, None, 0.0, WindowState(16, 2, 0, 0)))
    opened = []
    for datagram in case["datagrams"]:
        kind, data, record_number = flow.open(unhex(datagram)[12:], 0.0)
        flow.accept(record_number)
        opened.append((kind, data.hex()))
    expected = [ast.literal_eval(text) if isinstance(text, str) else tuple(text) for text in case["plaintexts"]]
    assert opened == [tuple(pair) for pair in expected]
    for line in [*case["ans_key"], *case["req_key"]]:
        request = parse_request(line)
        assert isinstance(request, ReqKey | AnsKey)
        assert request.format() == line


def node_id(name: str) -> str:
    return hashlib.sha512(name.encode()).hexdigest()[:12]


def test_node_session_through_requests_and_datagrams() -> None:
    alpha, beta = (
        DatagramSession(
            initiator=me == "alpha",
            private_key=key(NODE_IDS[f"{me}_key_seed"]),
            peer_public=key(NODE_IDS[f"{peer}_key_seed"]).public,
            label=data_label("alpha", "beta"),
            entropy=scripted_entropy(unhex(NODE_IDS[me]["nonce"]), unhex(NODE_IDS[me]["ephemeral_seed"])),
            now=0.0,
        )
        for me, peer in (("alpha", "beta"), ("beta", "alpha"))
    )
    for sender, receiver, line in zip(
        (alpha, beta, alpha, beta), (beta, alpha, beta, alpha), NODE_IDS["requests_in_order"], strict=True
    ):
        request = parse_request(line)
        assert isinstance(request, ReqKey | AnsKey)
        text = request.extra.split()[1] if isinstance(request, ReqKey) else request.key
        (datagram,) = sender.data_to_send()
        assert base64.encode(datagram) == text
        receiver.receive(datagram, 0.0)
    assert alpha.established
    assert beta.established
    for recorded in NODE_IDS["datagrams"]:
        whole = unhex(recorded["datagram"])
        datagram = alpha.send_record(recorded["record_type"], unhex(recorded["data"]))
        assert datagram == whole[12:]
        assert int.from_bytes(datagram[:4], "big") == recorded["number"]
        destination = "00" * 6 if "direct" in recorded["what"] else node_id("beta")
        assert whole[:12].hex() == destination + node_id("alpha")
        assert beta.receive(datagram, 0.0) == [Record(recorded["record_type"], unhex(recorded["data"]))]


def test_node_ids() -> None:
    for pair in NODE_IDS["ids"]:
        assert node_id(pair["name"]) == pair["id"]


@pytest.mark.parametrize("number", range(len(INVITATIONS)))
def test_invitation_keys_and_hashes(number: int) -> None:
    case = INVITATIONS[number]
    if "invitation_key" in case:
        private = key(case["invitation_key"]["seed"])
        assert private.expanded.hex() == case["invitation_key"]["private_expanded"]
        public_text, cookie, key_hash = case["invitation_key"]["public_base64"], case["cookie"], case["key_hash"]
        assert base64.encode(unhex(cookie), url_safe=True) == case["cookie_base64_url"]
        assert base64.encode(unhex(key_hash), url_safe=True) == case["key_hash_base64_url"]
    else:
        private = Ed25519PrivateKey(unhex(case["invitation_private_hex"]))
        public_text, cookie, key_hash = case["invitation_public_b64"], case["cookie_hex"], case["key_hash_hex"]
    assert ed25519.public_to_text(private.public) == public_text
    assert hashlib.sha512(public_text.encode()).hexdigest()[:36] == key_hash
    name_hash = hashlib.sha512(unhex(cookie) + public_text.encode()).digest()[:18]
    assert base64.encode(name_hash, url_safe=True) == case["file_name"]
    end = base64.encode(unhex(key_hash), url_safe=True) + base64.encode(unhex(cookie), url_safe=True)
    assert case["url"].endswith("/" + end)


def test_labels_have_the_lengths_of_the_specification() -> None:
    cases = {case["what"]: unhex(case["label"]) for case in HANDSHAKES["cases"]}
    assert cases["meta connection"] == meta_label("alice", "bob")
    assert cases["VPN packets"] == data_label("alice", "bob")
    assert cases["invitation"] == sptps_handshake.INVITATION_LABEL
    assert len(meta_label("alice", "bob")) == 22 + 1 + 5 + 1 + 3 + 1
