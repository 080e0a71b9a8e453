"""Packets: the replay window against a plain model, datagrams of any content and order."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from gmesh.crypto import base64
from gmesh.errors import DatagramError
from gmesh.proto.packet import PacketKey, PacketOpener, PacketSealer, ReplayWindow
from gmesh.proto.probe import parse
from tests.vectors.legacy import counting_entropy


class Model:
    """The rules of the window with unbounded sets instead of a ring of bits."""

    def __init__(self, size: int) -> None:
        self.size, self.last, self.far = size, 0, 0
        self.late: set[int] = set()

    def accept(self, sequence: int) -> bool:
        width = 8 * self.size
        if width:
            if sequence == self.last + 1:
                pass
            elif sequence >= self.last + width:
                if self.far < self.size // 4:
                    self.far += 1
                    return False
                self.late.clear()
            elif sequence <= self.last:
                if sequence <= self.last - width and self.last >= width:
                    return False
                if sequence not in self.late:
                    return False
            else:
                self.late |= set(range(self.last + 1, sequence))
            self.far = 0
            self.late.discard(sequence)
        self.last = max(self.last, sequence)
        self.late = {number for number in self.late if number > self.last - width}
        return True


steps = st.lists(st.one_of(st.integers(-40, 40), st.integers(-300, 300), st.integers(0, 100_000)), max_size=120)


@given(st.sampled_from([0, 1, 2, 4, 5, 16, 32]), steps)
def test_replay_window_equals_the_model(size: int, moves: list[int]) -> None:
    window, model = ReplayWindow(size), Model(size)
    for move in moves:
        sequence = max(0, model.last + move)
        assert window.accept(sequence) == model.accept(sequence)
        assert window.last == model.last


@given(st.sampled_from([1, 16]), steps)
def test_no_number_is_accepted_twice(size: int, moves: list[int]) -> None:
    window = ReplayWindow(size)
    accepted: set[int] = set()
    for move in moves:
        sequence = max(0, window.last + move)
        if window.accept(sequence):
            assert sequence not in accepted
            accepted.add(sequence)


algorithms = st.tuples(
    st.sampled_from([427, 423, 419, 91, 44, 108, 0]), st.sampled_from([672, 64, 674, 0]), st.integers(0, 9)
)


def key(cipher: int, digest: int, compression: int) -> PacketKey:
    mac_length = 8 if digest else 0
    return PacketKey.generate(
        cipher=cipher, digest=digest, mac_length=mac_length, compression=compression, entropy=counting_entropy()
    )


@given(algorithms, st.lists(st.binary(max_size=1518), max_size=12), st.randoms(use_true_random=False))
def test_every_frame_opens_in_any_order_once(
    chosen: tuple[int, int, int],
    frames: list[bytes],
    random: st.randoms,  # type: ignore[valid-type]
) -> None:
    packet_key = key(*chosen)
    sealer, opener = PacketSealer(packet_key), PacketOpener(packet_key, 16)
    datagrams = [(sealer.seal(frame), frame) for frame in frames]
    random.shuffle(datagrams)  # type: ignore[attr-defined]
    for datagram, frame in datagrams:
        assert opener.open(datagram) == frame
    for datagram, _ in datagrams:
        with contextlib.suppress(DatagramError):
            opener.open(datagram)
            raise AssertionError("a replay was accepted")


@given(algorithms, st.binary(max_size=1700))
def test_garbage_is_a_datagram_error_and_nothing_else(chosen: tuple[int, int, int], datagram: bytes) -> None:
    packet_key = key(*chosen)
    opener = PacketOpener(packet_key, 16)
    authentic = opener.verify(datagram)
    assert authentic is False
    with contextlib.suppress(DatagramError):
        opener.open(datagram)
        assert not packet_key.has_mac


@given(st.binary(max_size=40))
def test_probes_parse_or_not(frame: bytes) -> None:
    parse(frame)
    parse(bytes(14) + frame)


@given(st.binary(max_size=200), st.booleans())
def test_base64_is_invertible(data: bytes, url_safe: bool) -> None:
    text = base64.encode(data, url_safe=url_safe)
    assert len(text) == (len(data) * 8 + 5) // 6
    assert base64.decode(text) == data


@given(st.text(max_size=50))
def test_base64_decodes_or_is_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert len(base64.decode(text)) == len(text) * 6 // 8
