"""The meta connection of 1.1: no bytes raise anything but PeerError, before and behind the handshake."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from gmesh.errors import PeerError
from gmesh.proto.meta_events import Verified
from gmesh.proto.meta_sptps import SptpsMeta
from tests.vectors.sptps_meta import active_pair, start

lines = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda number, rest: f"{number} {rest}\n".encode("latin-1"),
        st.integers(0, 25),
        st.text("ab 0123456789-.:^?#/+\n\x00\xff", max_size=60),
    ),
    st.sampled_from(
        [b"0 alice 17.7\n", b"0 alice 17.1\n", b"17 20\n", b"21 40\n", b"8\n", b"0 ?x 17.1\n", b"0 ^x 0\n"]
    ),
)


@given(st.lists(lines, max_size=8), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_bytes_before_the_handshake(inputs: list[bytes], outgoing: bool, knows: bool) -> None:
    meta = start("bob", "alice", outgoing=outgoing, knows=knows)
    with contextlib.suppress(PeerError):
        for number, data in enumerate(inputs):
            for event in meta.receive(data, float(number)):
                if isinstance(event, Verified):
                    meta.proceed(float(number))
            meta.on_timeout(float(number))
    assert not meta.active
    meta.data_to_send()


@given(st.lists(st.tuples(lines, st.booleans()), max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_records_of_a_member(records: list[tuple[bytes, bool]]) -> None:
    alice, bob = active_pair()
    assert isinstance(alice.chosen, SptpsMeta)
    session = alice.chosen._session
    with contextlib.suppress(PeerError):
        for data, raw in records:
            if raw:
                session.send_raw(data)
            else:
                session.send_record(0, data)
            bob.receive(session.data_to_send(), 1.0)
            bob.on_timeout(1.0)
    bob.data_to_send()
