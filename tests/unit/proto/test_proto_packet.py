from __future__ import annotations

import zlib

import pytest

from gmesh.crypto.packet_cipher import make_encryptor, make_mac
from gmesh.errors import DatagramError, GmeshError, PeerError
from gmesh.proto.packet import (
    MAX_SEQUENCE,
    NotAuthentic,
    PacketKey,
    PacketOpener,
    PacketSealer,
    ReplayWindow,
    unusable,
)
from tests.vectors.legacy import counting_entropy

FRAME = bytes(range(98))


def key(cipher: int = 427, digest: int = 672, mac_length: int = 4, compression: int = 0) -> PacketKey:
    return PacketKey.generate(
        cipher=cipher, digest=digest, mac_length=mac_length, compression=compression, entropy=counting_entropy()
    )


def sealed_payload(packet_key: PacketKey, sequence: int, payload: bytes) -> bytes:
    """A datagram with any payload, also one that no sealer would make."""
    body = make_encryptor(packet_key.cipher, packet_key.material)(sequence.to_bytes(4, "big") + payload)
    mac = make_mac(packet_key.digest, packet_key.material, packet_key.mac_length)
    return body + mac(body) if mac else body


@pytest.mark.parametrize("compression", [0, 1, 9])
@pytest.mark.parametrize(("digest", "mac_length"), [(672, 4), (674, 64), (0, 0), (672, 0)])
@pytest.mark.parametrize("cipher", [427, 91, 0])
def test_what_is_sealed_opens(cipher: int, digest: int, mac_length: int, compression: int) -> None:
    packet_key = key(cipher, digest, mac_length, compression)
    sealer, opener = PacketSealer(packet_key), PacketOpener(packet_key, 16)
    for _ in range(3):
        datagram = sealer.seal(FRAME)
        assert opener.verify(datagram) is packet_key.has_mac
        assert opener.open(datagram) == FRAME
    assert sealer.sequence == opener.window.last == 3


def test_sizes_on_the_wire() -> None:
    assert len(PacketSealer(key()).seal(bytes(1451))) == 1460
    assert len(PacketSealer(key()).seal(bytes(1452))) == 1476
    assert len(PacketSealer(key(cipher=91)).seal(bytes(1459))) == 1468


def test_numbers_start_at_one_and_never_wrap() -> None:
    packet_key = key(cipher=0, digest=0)
    sealer = PacketSealer(packet_key)
    assert sealer.seal(b"")[:4] == b"\0\0\0\1"
    sealer.sequence = MAX_SEQUENCE - 1
    assert sealer.seal(b"")[:4] == b"\xff\xff\xff\xff"
    for _ in range(2):
        with pytest.raises(DatagramError, match="used up"):
            sealer.seal(b"")


def test_worn_key_is_noticed() -> None:
    packet_key = key()
    sealer, opener = PacketSealer(packet_key), PacketOpener(packet_key, 0)
    sealer.sequence = 2**30 - 1
    opener.open(sealer.seal(FRAME))
    assert not opener.worn
    opener.open(sealer.seal(FRAME))
    assert opener.worn


@pytest.mark.parametrize("at", [0, 20, -1])
def test_requirement_1_a_damaged_datagram_is_refused_and_changes_nothing(at: int) -> None:
    packet_key = key()
    opener = PacketOpener(packet_key, 16)
    datagram = PacketSealer(packet_key).seal(FRAME)
    damaged = bytearray(datagram)
    damaged[at] ^= 1
    assert not opener.verify(bytes(damaged))
    with pytest.raises(NotAuthentic, match="MAC"):
        opener.open(bytes(damaged))
    assert opener.open(datagram) == FRAME
    with pytest.raises(DatagramError, match="replayed") as caught:
        opener.open(datagram)
    assert not isinstance(caught.value, NotAuthentic)


@pytest.mark.parametrize("length", range(9))
def test_short_datagrams_are_refused(length: int) -> None:
    opener = PacketOpener(key(), 16)
    assert not opener.verify(bytes(length))
    with pytest.raises(DatagramError):
        opener.open(bytes(length))


def test_body_without_room_for_a_number_is_refused() -> None:
    packet_key = key()
    body = make_encryptor(427, packet_key.material)(b"abc")
    mac = make_mac(672, packet_key.material, 4)
    assert mac is not None
    with pytest.raises(DatagramError, match="too short"):
        PacketOpener(packet_key, 16).open(body + mac(body))


def test_requirement_28_what_a_packet_inflates_to_is_bounded() -> None:
    packet_key = key(compression=9)
    opener = PacketOpener(packet_key, 16)
    bomb = zlib.compress(bytes(10_000_000), 9)
    assert len(bomb) > 1518
    for sequence, payload in enumerate((bomb, zlib.compress(bytes(1662)), zlib.compress(bytes(1519))), start=1):
        with pytest.raises(DatagramError):
            opener.open(sealed_payload(packet_key, sequence, payload))
    assert opener.open(sealed_payload(packet_key, 4, zlib.compress(bytes(1518)))) == bytes(1518)


@pytest.mark.parametrize("payload", [b"", b"garbage", zlib.compress(FRAME)[:-1], zlib.compress(FRAME)[:-4] + b"1234"])
def test_what_does_not_decompress_is_dropped_after_its_number_was_counted(payload: bytes) -> None:
    packet_key = key(compression=1)
    opener = PacketOpener(packet_key, 16)
    with pytest.raises(DatagramError, match="decompress"):
        opener.open(sealed_payload(packet_key, 1, payload))
    assert opener.window.last == 1


def test_frames_above_the_mtu_are_dropped() -> None:
    packet_key = key()
    opener, sealer = PacketOpener(packet_key, 16), PacketSealer(packet_key)
    assert len(opener.open(sealer.seal(bytes(1518)))) == 1518
    with pytest.raises(DatagramError, match="longer"):
        opener.open(sealer.seal(bytes(1519)))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("AB" * 47, 427, 672, 4, 0), "does not fit"),
        (("AB" * 49, 427, 672, 4, 0), "does not fit"),
        (("A" * 95, 427, 672, 4, 0), "not hexadecimal"),
        ((" ".join(["AB"] * 48), 427, 672, 4, 0), "does not fit"),
        (("xy" * 48, 427, 672, 4, 0), "not hexadecimal"),
        (("AB" * 48, 9999, 672, 4, 0), "cipher 9999 is unknown"),
        (("AB" * 48, 427, 9999, 4, 0), "digest 9999 is unknown"),
        (("AB" * 48, 427, 672, 33, 0), "MAC length"),
        (("AB" * 48, 427, 672, -1, 0), "MAC length"),
        (("AB" * 48, 427, 672, 4, 13), "unknown"),
        (("AB" * 48, 429, 672, 4, 0), "stream cipher"),
        (("AB" * 32, 904, 672, 4, 0), "stream cipher"),
        (("AB" * 48, -1, -1, -1, 0), "unknown"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_with_the_reason(
    arguments: tuple[str, int, int, int, int], reason: str
) -> None:
    with pytest.raises(PeerError, match=reason):
        PacketKey.from_answer(*arguments)


def test_mac_length_without_a_digest_means_none() -> None:
    assert PacketKey.from_answer("ab" * 48, 427, 0, 4, 0).mac_length == 0
    assert PacketKey.from_answer("ab" * 48, 427, 0, 1000, 0).mac_length == 0


def test_generated_keys_say_their_text_and_fit() -> None:
    packet_key = key()
    assert len(packet_key.material) == 48
    assert packet_key.text == packet_key.material.hex().upper()
    assert PacketKey.from_answer(packet_key.text, 427, 672, 4, 0) == packet_key
    assert len(key(cipher=0).material) == 1
    with pytest.raises(GmeshError, match="stream cipher"):
        key(cipher=429)
    assert unusable(427, 672, 4, 0) == ""


def test_requirement_9_key_material_is_in_no_repr() -> None:
    packet_key = key()
    assert "material" not in repr(packet_key)


class TestReplayWindow:
    @pytest.mark.parametrize(("size", "dropped"), [(16, 4), (32, 8), (1, 0)])
    def test_far_future_numbers_are_dropped_a_few_times(self, size: int, dropped: int) -> None:
        window = ReplayWindow(size)
        assert window.accept(1)
        answers = [window.accept(100_000 + i) for i in range(dropped + 2)]
        assert answers == [False] * dropped + [True, True]

    def test_any_accepted_number_ends_the_row_of_far_ones(self) -> None:
        window = ReplayWindow(16)
        for sequence in range(1, 10):
            assert [window.accept(1_000_000 + i) for i in range(4)] == [False] * 4
            assert window.accept(sequence)

    def test_measured_limits(self) -> None:
        window = ReplayWindow(16)
        assert window.accept(1)
        assert window.accept(128)
        assert window.accept(2)
        assert not window.accept(2)
        assert not window.accept(128 + 128)

    def test_zero_and_old_numbers_are_never_accepted(self) -> None:
        window = ReplayWindow(16)
        assert not window.accept(0)
        for sequence in (1, 3, 4):
            assert window.accept(sequence)
        assert [window.accept(sequence) for sequence in (0, 1, 3, 4)] == [False] * 4
        assert window.accept(2)

    def test_size_zero_accepts_everything(self) -> None:
        window = ReplayWindow(0)
        assert all(window.accept(sequence) for sequence in (5, 5, 0, 2**32 - 1, 1))
        assert window.last == 2**32 - 1
