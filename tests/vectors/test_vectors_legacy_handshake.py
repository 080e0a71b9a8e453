"""Whole recorded TCP streams of real daemons, replayed in both roles: what we would have sent is what was sent."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from gmesh.crypto.stream import MetaStream
from gmesh.proto.meta_base import PeerCredentials
from gmesh.proto.meta_events import Active, FrameReceived, Identified, RequestReceived, Verified
from gmesh.proto.meta_start import MetaStart
from tests.vectors.legacy import legacy_meta, load, pieces, private_key, scripted_entropy

SESSIONS = load("legacy-meta-handshake")["sessions"]
ROLES = [(index, me) for index in range(len(SESSIONS)) for me in ("alice", "bob")]


def own_messages(session: dict[str, Any], me: str) -> list[dict[str, Any]]:
    return [message for message in session["messages"] if message["dir"].startswith(me)]


def plain_stream(messages: list[dict[str, Any]]) -> bytes:
    return b"".join(
        bytes.fromhex(message["payload"]) if "payload" in message else message["line"].encode() + b"\n"
        for message in messages
    )


def replayer(session: dict[str, Any], me: str) -> MetaStart:
    """An object whose randomness and times are those of the recorded one."""
    peer = "bob" if me == "alice" else "alice"
    lines = [message["line"] for message in own_messages(session, me) if "line" in message]
    challenge = next(line for line in lines if line.startswith("2 "))
    _, port, weight, options = next(line for line in lines if line.startswith("4 ")).split()
    credentials = PeerCredentials(private_key(peer).public, int(options, 16), weight=int(weight))
    return legacy_meta(
        me,
        peer,
        outgoing=(me == "bob") == (session["bob_is"] == "initiator"),
        credentials=lambda name: credentials,
        entropy=scripted_entropy(
            bytes.fromhex(session[f"metakey_from_{me}"]["meta_key"]), bytes.fromhex(challenge.split()[1])
        ),
        port=port,
    )


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(("index", "me"), ROLES)
def test_replay_of_a_recorded_session(index: int, me: str, size: int) -> None:
    session = SESSIONS[index]
    peer = "bob" if me == "alice" else "alice"
    meta = replayer(session, me)
    events = []
    for piece in pieces(bytes.fromhex(session[f"stream_{peer}_to_{me}"]), itertools.repeat(size)):
        for event in meta.receive(piece, 1.0):
            events.append(event)
            if isinstance(event, Verified):
                events += meta.proceed(1.0)
    after_ack = own_messages(session, me)[5:]
    meta.send(plain_stream(after_ack))
    sent = meta.data_to_send()
    recorded = bytes.fromhex(session[f"stream_{me}_to_{peer}"])
    # 1.1 said its own minor version, which is none of ours; everything after the first line must be equal.
    assert sent.split(b"\n", 1)[0] == f"0 {me} 17.0".encode()
    assert sent.split(b"\n", 1)[1] == recorded.split(b"\n", 1)[1]

    assert isinstance(events[0], Identified)
    assert events[0].name == peer
    assert isinstance(events[1], Verified)
    received_ack = own_messages(session, peer)[4]["line"].split()
    active = events[2]
    assert isinstance(active, Active)
    assert (active.port, active.weight_received, active.options_received) == (
        received_ack[1],
        int(received_ack[2]),
        int(received_ack[3], 16),
    )
    expected = [
        FrameReceived(bytes.fromhex(message["payload"])) if "payload" in message else message["line"]
        for message in own_messages(session, peer)[5:]
        if not message.get("line", "").startswith("17 ")
    ]
    assert [event.line if isinstance(event, RequestReceived) else event for event in events[3:]] == expected


@pytest.mark.parametrize("sender", ["alice", "bob"])
@pytest.mark.parametrize("index", range(len(SESSIONS)))
def test_meta_key_is_decrypted_and_cut_from_its_end(index: int, sender: str) -> None:
    session = SESSIONS[index]
    receiver = "bob" if sender == "alice" else "alice"
    recorded = session[f"metakey_from_{sender}"]
    material = private_key(receiver).decrypt(bytes.fromhex(recorded["rsa_ciphertext"]))
    assert material.hex() == recorded["meta_key"]
    assert private_key(receiver).public.encrypt(material).hex() == recorded["rsa_ciphertext"]
    assert material[-32:].hex() == recorded["key"]
    assert material[-48:-32].hex() == recorded["iv"]
    stream = bytes.fromhex(session[f"stream_{sender}_to_{receiver}"])
    encrypted = stream.split(b"\n", 2)[2]
    decrypted = MetaStream(recorded["cipher"], material, encrypt=False).process(encrypted)
    assert decrypted == plain_stream(own_messages(session, sender)[2:])
