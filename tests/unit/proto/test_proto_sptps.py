"""Sessions of SPTPS: order of messages, errors, renewal, and what is left as it was."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from gmesh.crypto import curve
from gmesh.crypto.chacha_poly import ChaChaPoly
from gmesh.errors import DatagramError, PeerError
from gmesh.proto import sptps, sptps_datagram
from gmesh.proto.packet import NotAuthentic
from gmesh.proto.sptps import HandshakeStalled, Record, StreamSession
from gmesh.proto.sptps_datagram import DatagramSession
from gmesh.proto.sptps_flow import LAST_NUMBER, OLD_KEY_SECONDS, WORN_NUMBER, DatagramFlow
from gmesh.proto.sptps_handshake import HandshakeFinished, RecordSuite, SendHandshake
from tests.vectors.sptps import (
    INITIATOR,
    RESPONDER,
    arguments,
    datagram_pair,
    ed25519_key,
    established_pair,
    exchange,
    exchange_streams,
    refused,
    stream_pair,
)

KEX, SIG = 65, 64
SMALL_ORDER = (1).to_bytes(32, "little")


def text_of(session: DatagramSession, datagram: bytes, now: float = 0.0) -> list[bytes]:
    return [event.data for event in session.receive(datagram, now) if isinstance(event, Record)]


def flows_both_ways(one: DatagramSession, other: DatagramSession, now: float = 0.0) -> bool:
    there, back = one.send_record(0, b"there"), other.send_record(0, b"back")
    return text_of(other, there, now) == [b"there"] and text_of(one, back, now) == [b"back"]


# The first handshake


def test_responder_signs_only_after_the_initiator() -> None:
    initiator, responder = datagram_pair()
    (kex_i,), (kex_r,) = initiator.data_to_send(), responder.data_to_send()
    assert responder.receive(kex_i, 0.0) == []
    assert responder.data_to_send() == []
    assert initiator.receive(kex_r, 0.0) == []
    (sig_i,) = initiator.data_to_send()
    assert responder.receive(sig_i, 0.0) == [HandshakeFinished(first=True)]
    (sig_r,) = responder.data_to_send()
    assert responder.established
    assert not initiator.established
    assert initiator.receive(sig_r, 0.0) == [HandshakeFinished(first=True)]
    assert flows_both_ways(initiator, responder)


def test_datagrams_that_overtake_the_last_message_wait_for_it() -> None:
    initiator, responder = datagram_pair()
    (kex_i,), (kex_r,) = initiator.data_to_send(), responder.data_to_send()
    responder.receive(kex_i, 0.0)
    initiator.receive(kex_r, 0.0)
    responder.receive(initiator.data_to_send()[0], 0.0)
    early = [responder.send_record(0, bytes([number])) for number in range(5)]
    for datagram in [*early, early[0], early[0][:-1] + b"x"]:
        assert initiator.receive(datagram, 0.0) == []
    events = initiator.receive(responder.data_to_send()[0], 0.0)
    assert events == [HandshakeFinished(first=True), *(Record(0, bytes([number])) for number in range(5))]


def test_what_waits_for_the_last_message_is_bounded() -> None:
    initiator, responder = datagram_pair()
    initiator.receive(responder.data_to_send()[0], 0.0)
    datagram = (9).to_bytes(4, "big") + bytes(1400)
    kept = 0
    while not refused(initiator, datagram):
        kept += len(datagram)
        assert kept <= sptps_datagram.MAX_EARLY_BYTES
    assert kept > sptps_datagram.MAX_EARLY_BYTES - 2 * len(datagram)


@pytest.mark.parametrize("mode", ["datagram", "stream"])
def test_wrong_keys_and_labels_do_not_get_through(mode: str) -> None:
    for change in ({"peer_public": ed25519_key("carol").public}, {"label": b"another"}):
        if mode == "datagram":
            initiator, _ = datagram_pair()
            responder = DatagramSession(**arguments(RESPONDER, INITIATOR, False, **change))
            with pytest.raises(DatagramError, match="signature"):
                exchange(initiator, responder)
        else:
            one, _ = stream_pair()
            other = StreamSession(**arguments(RESPONDER, INITIATOR, False, **({"label": b"x"} | change)))
            with pytest.raises(PeerError, match="signature"):
                exchange_streams(one, other)


def test_own_messages_sent_back_are_not_accepted() -> None:
    initiator, responder = datagram_pair()
    (kex,) = initiator.data_to_send()
    initiator.receive(kex, 0.0)
    (sig,) = initiator.data_to_send()
    assert refused(initiator, sig)
    assert not initiator.established
    assert responder.data_to_send()


@pytest.mark.parametrize("version", [1, 255])
def test_other_versions_are_refused(version: int) -> None:
    initiator, responder = datagram_pair()
    kex = bytearray(responder.data_to_send()[0])
    kex[5] = version
    with pytest.raises(DatagramError, match="version"):
        initiator.receive(bytes(kex), 0.0)


def test_a_refused_message_uses_up_no_number() -> None:
    initiator, responder = datagram_pair()
    (kex_i,), (kex_r,) = initiator.data_to_send(), responder.data_to_send()
    assert refused(responder, kex_i[:-1])
    responder.receive(kex_i, 0.0)
    assert refused(responder, kex_i)
    initiator.receive(kex_r, 0.0)
    (sig,) = initiator.data_to_send()
    assert refused(responder, sig[:-1] + bytes([sig[-1] ^ 1]))
    assert refused(responder, sig[:-1])
    assert responder.receive(sig, 0.0) == [HandshakeFinished(first=True)]


def test_requirement_3_small_order_points_are_refused() -> None:
    initiator, responder = datagram_pair()
    kex = responder.data_to_send()[0]
    with pytest.raises(DatagramError, match="small order"):
        initiator.receive(kex[:-32] + SMALL_ORDER, 0.0)
    initiator.receive(kex, 0.0)


def test_requirement_3_zero_secrets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = stream_pair()

    def zero(scalar: bytes, public: bytes) -> bytes:
        raise curve.BadPoint("a shared secret of zero")

    monkeypatch.setattr(curve, "shared_secret", zero)
    with pytest.raises(PeerError, match="secret of zero"):
        exchange_streams(one, other)
    assert not one.established
    assert not other.established


# Errors of datagrams


@pytest.mark.parametrize("kind", [129, 130, 131, 255])
def test_unknown_types_change_nothing(kind: int) -> None:
    initiator, responder = established_pair()
    sender = responder._flow
    assert sender is not None
    strange = sender.seal(kind, b"?")
    with pytest.raises(DatagramError, match="unknown type"):
        initiator.receive(strange, 0.0)
    assert flows_both_ways(initiator, responder)


@pytest.mark.parametrize("size", range(22))
def test_short_datagrams_are_dropped(size: int) -> None:
    for session in (*datagram_pair(), *established_pair()):
        before = repr(session)
        assert refused(session, bytes(size))
        assert repr(session) == before


def test_records_before_the_handshake_are_refused() -> None:
    _, responder = datagram_pair()
    with pytest.raises(DatagramError, match="before the handshake"):
        responder.receive(bytes(4) + b"\x00text", 0.0)


def test_requirement_1_garbage_duplicates_and_replays_never_reset_a_session() -> None:
    initiator, responder = established_pair()
    sent = [initiator.send_record(0, bytes([number])) for number in range(40)]
    for datagram in sent:
        assert text_of(responder, datagram)
    before = repr(responder)
    for datagram in sent:
        assert refused(responder, datagram)
        for at in range(0, len(datagram), 3):
            assert refused(responder, datagram[:at] + bytes([datagram[at] ^ 0x40]) + datagram[at + 1 :])
            assert refused(responder, datagram[:at])
    assert refused(responder, bytes(70))
    assert repr(responder) == before
    assert responder.data_to_send() == []
    assert flows_both_ways(initiator, responder)


# Renewal


@pytest.mark.parametrize("starter", ["initiator", "responder", "both"])
def test_renewal_from_either_side_and_at_the_same_moment(starter: str) -> None:
    initiator, responder = established_pair()
    if starter != "responder":
        initiator.renew(0.0)
    if starter != "initiator":
        responder.renew(0.0)
    assert exchange(initiator, responder) == [HandshakeFinished(first=False)] * 2
    assert flows_both_ways(initiator, responder)
    assert not initiator.renewing
    assert not responder.renewing


def test_renewal_changes_the_keys_and_not_the_numbers() -> None:
    initiator, responder = established_pair()
    old = initiator._flow.state()  # type: ignore[union-attr]
    initiator.renew(0.0)
    exchange(initiator, responder)
    new = initiator._flow.state()  # type: ignore[union-attr]
    assert new.next_number == old.next_number + 3
    assert new.send != old.send
    assert new.receive != old.receive
    assert new.previous == old.receive


def test_renewing_twice_at_once_is_one_renewal() -> None:
    initiator, responder = established_pair()
    initiator.renew(0.0)
    initiator.renew(0.0)
    assert len(initiator.data_to_send()) == 1
    assert responder.data_to_send() == []


def test_requirement_2_both_keys_are_held_during_a_renewal() -> None:
    initiator, responder = established_pair()
    old = [responder.send_record(0, b"old"), responder.send_record(0, b"older")]
    initiator.renew(0.0)
    (kex,) = initiator.data_to_send()
    responder.receive(kex, 0.0)
    initiator.receive(responder.data_to_send()[0], 0.0)
    (sig,) = initiator.data_to_send()
    responder.receive(sig, 0.0)
    sig_r, ack_r = responder.data_to_send()
    overtaking = responder.send_record(0, b"before SIG")
    assert initiator.receive(overtaking, 0.0) == []
    assert initiator.receive(sig_r, 0.0) == [Record(0, b"before SIG")]
    assert text_of(initiator, responder.send_record(0, b"before ACK")) == [b"before ACK"]
    assert text_of(initiator, old[0]) == [b"old"]
    assert initiator.receive(ack_r, 0.0) == [HandshakeFinished(first=False)]
    assert text_of(initiator, old[1]) == [b"older"]
    # The same at the responder, whose peer has switched already.
    ack_i = initiator.data_to_send()[0]
    assert text_of(responder, initiator.send_record(0, b"before ACK")) == [b"before ACK"]
    assert responder.receive(ack_i, 0.0) == [HandshakeFinished(first=False)]


def test_the_old_key_is_given_up_after_some_seconds() -> None:
    initiator, responder = established_pair()
    late = [responder.send_record(0, bytes([number])) for number in range(2)]
    initiator.renew(0.0)
    exchange(initiator, responder, now=0.0)
    assert text_of(initiator, late[0], now=OLD_KEY_SECONDS - 0.1) == [b"\0"]
    with pytest.raises(NotAuthentic):
        initiator.receive(late[1], OLD_KEY_SECONDS)
    assert initiator._flow.state().previous is None  # type: ignore[union-attr]


def test_a_lost_message_of_a_renewal_is_noticed_and_costs_no_data() -> None:
    initiator, responder = established_pair()
    initiator.renew(5.0)
    initiator.data_to_send()
    assert initiator.next_timeout() == 5.0 + sptps.HANDSHAKE_SECONDS
    assert initiator.on_timeout(14.9) == []
    assert initiator.on_timeout(15.0) == [HandshakeStalled()]
    assert initiator.next_timeout() == float("inf")
    assert initiator.on_timeout(99.0) == []
    assert flows_both_ways(initiator, responder, now=99.0)


def test_a_finished_handshake_needs_no_timeout() -> None:
    for session in established_pair():
        assert session.next_timeout() == float("inf")


def test_messages_of_a_renewal_out_of_order_are_refused_and_change_nothing() -> None:
    initiator, responder = established_pair()
    responder.renew(0.0)
    (kex,) = responder.data_to_send()
    initiator.receive(kex, 0.0)
    kex_i, sig_i = initiator.data_to_send()
    assert refused(responder, sig_i)
    responder.receive(kex_i, 0.0)
    assert refused(responder, kex_i)
    responder.receive(sig_i, 0.0)
    sig_r, ack_r = responder.data_to_send()
    assert refused(initiator, ack_r)
    initiator.receive(sig_r, 0.0)
    assert initiator.receive(ack_r, 0.0) == [HandshakeFinished(first=False)]


# Numbers


def test_requirement_3_numbers_never_wrap() -> None:
    initiator, responder = established_pair()
    state = initiator.export_flow()
    initiator.import_flow(_with(state, next_number=LAST_NUMBER))
    assert initiator.worn
    last = initiator.send_record(0, b"last")
    assert last.startswith(b"\xff\xff\xff\xff")
    with pytest.raises(DatagramError, match="used up"):
        initiator.send_record(0, b"too many")
    receiving = responder.export_flow()
    responder.import_flow(_with(receiving, window=_with(receiving.window, expected=LAST_NUMBER)))
    assert text_of(responder, last) == [b"last"]
    assert responder.worn


def test_requirement_3_a_session_is_worn_long_before_the_end() -> None:
    initiator, _ = established_pair()
    state = initiator.export_flow()
    initiator.import_flow(_with(state, next_number=WORN_NUMBER))
    assert not initiator.worn
    initiator.send_record(0, b"")
    assert initiator.worn
    assert WORN_NUMBER <= LAST_NUMBER // 2 + 1


def test_requirement_3_numbers_of_streams_never_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = stream_pair()
    exchange_streams(one, other)
    monkeypatch.setattr(sptps, "LAST_NUMBER", 4)
    for _ in range(3):
        one.send_record(0, b"x")
    with pytest.raises(PeerError, match="used up"):
        one.send_record(0, b"x")
    stream = one.data_to_send()
    monkeypatch.setattr(sptps, "LAST_NUMBER", 3)
    assert len(other.receive(stream, 0.0)) == 2
    with pytest.raises(PeerError, match="used up"):
        other.receive(b"", 0.0)


def _with(value: Any, **changes: Any) -> Any:
    return dataclasses.replace(value, **changes)


# The flow elsewhere


def test_a_lent_flow_goes_on_and_comes_back() -> None:
    initiator, responder = established_pair()
    assert text_of(responder, initiator.send_record(0, b"1")) == [b"1"]
    replayed = initiator.send_record(0, b"2")
    engine = DatagramFlow(responder.export_flow())
    kind, data, number = engine.open(replayed, 0.0)
    engine.accept(number)
    assert (kind, data) == (0, b"2")
    assert text_of(initiator, engine.seal(0, b"3")) == [b"3"]
    with pytest.raises(RuntimeError, match="lent"):
        responder.send_record(0, b"")
    responder.import_flow(engine.state())
    assert refused(responder, replayed)
    assert flows_both_ways(initiator, responder)


@pytest.mark.parametrize("starter", ["here", "there"])
def test_renewal_while_the_flow_is_lent(starter: str) -> None:
    initiator, responder = established_pair()
    engine = DatagramFlow(responder.export_flow())
    (responder if starter == "here" else initiator).renew(0.0)
    finished = 0
    for _ in range(8):
        for step in responder.take_steps():
            datagram = sptps_datagram.perform_step(engine, step, 0.0)
            if datagram is not None:
                assert isinstance(step, SendHandshake)
                finished += len(initiator.receive(datagram, 0.0))
        for datagram in initiator.data_to_send():
            _, data, number = engine.open(datagram, 0.0)
            engine.accept(number)
            finished += len(responder.receive_handshake(data, 0.0))
    assert finished == 2
    responder.import_flow(engine.state())
    assert flows_both_ways(initiator, responder)


def test_lending_has_its_order() -> None:
    _, unfinished = datagram_pair()
    with pytest.raises(RuntimeError):
        unfinished.export_flow()
    session, _ = established_pair()
    state = session.export_flow()
    with pytest.raises(RuntimeError):
        session.export_flow()
    session.import_flow(state)
    with pytest.raises(RuntimeError):
        session.import_flow(state)


# What a later extension needs


def test_nonces_and_cipher_come_from_outside() -> None:
    class Swapped(ChaChaPoly):
        def __init__(self, key: bytes) -> None:
            super().__init__(key[::-1])

    suite = RecordSuite("swapped", 32, Swapped)
    seen: list[tuple[bytes, bytes]] = []

    def choose(mine: bytes, theirs: bytes) -> RecordSuite:
        seen.append((mine, theirs))
        return suite

    nonces = {True: b"i" * 32, False: b"r" * 32}
    initiator, responder = (
        DatagramSession(**arguments(me, peer, first, make_nonce=lambda first=first: nonces[first], choose_suite=choose))
        for me, peer, first in ((INITIATOR, RESPONDER, True), (RESPONDER, INITIATOR, False))
    )
    exchange(initiator, responder)
    assert flows_both_ways(initiator, responder)
    assert seen == [(nonces[False], nonces[True]), (nonces[True], nonces[False])]
    state = initiator.export_flow()
    assert state.send is not None
    assert state.send.suite is suite


def test_secrets_are_in_no_repr() -> None:
    initiator, responder = established_pair()
    state = initiator.export_flow()
    assert state.send is not None
    text = repr(state) + repr(initiator) + repr(responder) + repr(state.send) + repr(SendHandshake(b"secret"))
    text += repr(Record(0, b"secret"))
    assert repr(state.send.secret) not in text
    assert state.send.secret.hex() not in text
    assert "secret'" not in text


def test_the_ephemeral_key_and_messages_are_forgotten() -> None:
    for session in established_pair():
        handshake = session._handshake
        assert handshake._ephemeral is None
        assert handshake._my_kex == handshake._peer_kex == b""


# Streams


def test_a_stream_takes_encrypted_records_behind_the_signature_in_one_read() -> None:
    one, other = stream_pair()
    other.receive(one.data_to_send(), 0.0)
    one.receive(other.data_to_send(), 0.0)
    assert other.receive(one.data_to_send(), 0.0) == [HandshakeFinished(first=True)]
    other.send_record(0, b"at once")
    other.send_record(3, b"")
    events = one.receive(other.data_to_send(), 0.0)
    assert events == [HandshakeFinished(first=True), Record(0, b"at once"), Record(3, b"")]


@pytest.mark.parametrize("starter", ["initiator", "responder", "both"])
def test_a_stream_is_renewed_between_records(starter: str) -> None:
    one, other = stream_pair()
    exchange_streams(one, other)
    received: list[bytes] = []
    for session, name in ((one, "initiator"), (other, "responder")):
        session.send_record(0, b"before")
        if starter in (name, "both"):
            session.renew(0.0)
        session.send_record(0, b"after")
    events = exchange_streams(one, other)
    received = [event.data for event in events if isinstance(event, Record)]
    assert sorted(received) == [b"after"] * 2 + [b"before"] * 2
    assert events.count(HandshakeFinished(first=False)) == 2
    one.send_record(0, b"x")
    assert exchange_streams(one, other) == [Record(0, b"x")]


@pytest.mark.parametrize("damage", range(0, 40, 3))
def test_any_damage_ends_a_stream(damage: int) -> None:
    one, other = stream_pair()
    exchange_streams(one, other)
    one.send_record(0, b"some text of a request\n")
    stream = bytearray(one.data_to_send())
    stream[damage] ^= 0x01
    stream += bytes(65536)
    with pytest.raises(PeerError):
        other.receive(bytes(stream), 0.0)
    with pytest.raises(PeerError):
        other.receive(b"", 0.0)


def test_records_before_an_error_are_not_lost() -> None:
    one, other = stream_pair()
    exchange_streams(one, other)
    one.send_record(0, b"good")
    assert other.receive(one.data_to_send() + bytes(30), 0.0) == [Record(0, b"good")]
    with pytest.raises(PeerError, match="authentic"):
        other.receive(b"", 0.0)


def test_strangers_cannot_announce_large_records() -> None:
    _, other = stream_pair()
    with pytest.raises(PeerError, match="too long"):
        other.receive(b"\x00\x42\x80", 0.0)


def test_records_may_be_bounded() -> None:
    one, other = stream_pair(max_data=100)
    exchange_streams(one, other)
    one.send_record(0, bytes(100))
    assert exchange_streams(one, other) == [Record(0, bytes(100))]
    one.send_record(0, bytes(101))
    with pytest.raises(PeerError, match="too long"):
        exchange_streams(one, other)


def test_raw_bytes_between_records() -> None:
    one, other = stream_pair()
    exchange_streams(one, other)
    one.send_record(0, b"21 5\n")
    one.send_raw(b"12345")
    one.send_record(0, b"8\n")
    stream = one.data_to_send()
    other.feed(stream[:-20])
    assert other.next_event(0.0) == Record(0, b"21 5\n")
    assert other.take_raw(5) == b"12345"
    assert other.next_event(0.0) is None
    assert other.take_raw(100) is None
    other.feed(stream[-20:])
    assert other.next_event(0.0) == Record(0, b"8\n")
    assert other.waiting_input == 0


@pytest.mark.parametrize("record", [b"\x00\x00\x00", b"\x00\x00\x81", b"\x00\x00\xff", b"\x00\x40\x80" + bytes(64)])
def test_a_stream_begins_with_a_key_exchange(record: bytes) -> None:
    _, other = stream_pair()
    with pytest.raises(PeerError):
        other.receive(record, 0.0)


def test_application_types_only() -> None:
    one, other = stream_pair()
    exchange_streams(one, other)
    for kind in (-1, 128, 255):
        with pytest.raises(ValueError, match="application"):
            one.send_record(kind, b"")
    with pytest.raises(ValueError, match="application"):
        one.send_record(0, bytes(65536))
    session, _ = established_pair()
    with pytest.raises(ValueError, match="application"):
        session.send_record(128, b"")


def test_nothing_is_sent_before_the_handshake() -> None:
    for session in (*stream_pair(), *datagram_pair()):
        with pytest.raises(RuntimeError):
            session.send_record(0, b"")


def test_nonces_differ_between_renewals() -> None:
    seen = set()
    one, other = stream_pair(entropy=random.Random(5).randbytes)
    for _ in range(3):
        exchange_streams(one, other)
        one.renew(0.0)
        seen.add(one._handshake._my_kex)
        exchange_streams(one, other)
    assert len(seen) == 3


# Storms


def test_a_storm_of_renewals_is_cut_off() -> None:
    initiator, responder = established_pair()
    for _ in range(sptps.RENEWAL_BURST):
        initiator.renew(0.0)
        exchange(initiator, responder)
    initiator.renew(0.0)
    with pytest.raises(DatagramError, match="all the time"):
        exchange(initiator, responder)
    assert flows_both_ways(initiator, responder)
    one, other = stream_pair()
    for _ in range(sptps.RENEWAL_BURST + 1):
        exchange_streams(one, other)
        one.renew(0.0)
    with pytest.raises(PeerError, match="all the time"):
        exchange_streams(one, other)


def test_renewals_every_few_seconds_are_no_storm() -> None:
    initiator, responder = established_pair()
    for number in range(3 * sptps.RENEWAL_BURST):
        now = number * sptps.RENEWAL_SECONDS
        initiator.renew(now)
        assert len(exchange(initiator, responder, now)) == 2
