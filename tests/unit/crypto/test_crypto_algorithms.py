"""NID tables, digests, HMAC, stream and packet ciphers."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from Crypto.Cipher import AES

from gmesh.crypto import digests as digests_module
from gmesh.crypto import packet_cipher
from gmesh.crypto.digests import Hmac, digest, digest_available, digest_problem
from gmesh.crypto.nids import CIPHERS, DIGESTS, Mode, cipher_by_name, digest_by_name
from gmesh.crypto.packet_cipher import cipher_available, cipher_problem, make_decryptor, make_encryptor, make_mac
from gmesh.crypto.stream import MetaStream
from gmesh.errors import PeerError

CBC = [nid for nid, info in CIPHERS.items() if info.mode is Mode.CBC and cipher_available(nid)]
HASHED = [nid for nid, info in DIGESTS.items() if digest_available(nid)]


@pytest.mark.parametrize(
    ("name", "nid"),
    [("AES-256-CBC", 427), ("aes256", 427), ("blowfish", 91), ("bf-cbc", 91), ("None", 0), ("des-ede3-cbc", 44)],
)
def test_ciphers_by_name_in_any_case(name: str, nid: int) -> None:
    info = cipher_by_name(name)
    assert info is not None
    assert info.nid == nid


@pytest.mark.parametrize(("name", "nid"), [("SHA256", 672), ("sha1", 64), ("NONE", 0), ("RIPEMD160", 117)])
def test_digests_by_name_in_any_case(name: str, nid: int) -> None:
    info = digest_by_name(name)
    assert info is not None
    assert info.nid == nid


def test_unknown_names_are_none() -> None:
    assert cipher_by_name("rot13") is None
    assert digest_by_name("crc32") is None


def test_names_are_unambiguous() -> None:
    cipher_names = [name for info in CIPHERS.values() for name in info.names]
    digest_names = [name for info in DIGESTS.values() for name in info.names]
    assert len(cipher_names) == len(set(cipher_names))
    assert len(digest_names) == len(set(digest_names))


def test_the_ciphers_of_every_tinc_release_can_be_used() -> None:
    assert {419, 423, 427, 91, 44, 108, 0} <= {nid for nid in CIPHERS if cipher_available(nid)}
    assert not any(cipher_available(nid) for nid in (420, 428, 904, 906, 421, 12345))


@pytest.mark.parametrize("nid", [420, 428, 904, 906, 421, 429])
def test_stream_modes_are_refused_with_the_reason(nid: int) -> None:
    problem = cipher_problem(nid)
    assert CIPHERS[nid].name in problem
    assert "same key stream" in problem
    assert "aes-256-cbc" in problem


@pytest.mark.parametrize("nid", [751, 752, 753, 1134])
def test_the_package_that_a_cipher_needs_is_named(nid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_cipher, "cipher_available", lambda nid: False)
    monkeypatch.setattr(packet_cipher, "_has_cryptography", lambda: False)
    problem = cipher_problem(nid)
    assert CIPHERS[nid].name in problem
    assert "gmesh[fast]" in problem


@pytest.mark.parametrize("nid", [751, 753, 1134])
def test_ciphers_of_the_optional_package_can_be_used(nid: int) -> None:
    pytest.importorskip("cryptography")
    assert cipher_problem(nid) == ""


def test_algorithms_that_nobody_has_say_what_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_cipher, "cipher_available", lambda nid: False)
    monkeypatch.setattr(packet_cipher, "_has_cryptography", lambda: True)
    monkeypatch.setattr(digests_module, "digest_available", lambda nid: False)
    assert "aria-256-cbc is in no library" in cipher_problem(1076)
    assert "aes-256-cbc" in cipher_problem(1076)
    assert "whirlpool is in no library" in digest_problem(804)
    assert "OPENSSL_CONF" in digest_problem(804)
    assert "sha512" in digest_problem(804)


def test_unknown_numbers_are_said_to_be_unknown() -> None:
    assert cipher_problem(9999) == "cipher 9999 is unknown"
    assert digest_problem(9999) == "digest 9999 is unknown"
    assert cipher_problem(0) == ""


@pytest.mark.parametrize("nid", HASHED)
def test_digest_sizes_are_those_of_the_table(nid: int) -> None:
    assert len(digest(nid, b"abc")) == DIGESTS[nid].size


def test_digest_none_cannot_be_computed() -> None:
    assert not digest_available(0)
    with pytest.raises(KeyError):
        digest(0, b"")


@pytest.mark.parametrize("key_length", [1, 48, 64, 200])
@pytest.mark.parametrize("nid", HASHED)
def test_hmac_equals_the_standard_library(nid: int, key_length: int) -> None:
    name = DIGESTS[nid].hash_name
    if name not in hashlib.algorithms_available:
        pytest.skip(f"the standard library has no {name} here")
    key = bytes(range(key_length))
    code = Hmac(nid, key)
    for message in (b"", b"abc", bytes(1000)):
        assert code.mac(message) == hmac.new(key, message, name).digest()


def test_mac_is_cut_and_may_be_absent() -> None:
    mac = make_mac(672, b"key", 4)
    assert mac is not None
    assert mac(b"body") == hmac.new(b"key", b"body", "sha256").digest()[:4]
    assert make_mac(0, b"key", 4) is None
    assert make_mac(672, b"key", 0) is None


@pytest.mark.parametrize(("nid", "key_size"), [(421, 16), (425, 24), (429, 32)])
def test_meta_stream_takes_key_and_iv_from_the_end_and_any_chunks(nid: int, key_size: int) -> None:
    material = bytes(range(200))
    plain = bytes(range(256)) * 3
    key, iv = material[-key_size:], material[-key_size - 16 : -key_size]
    expected = AES.new(key, AES.MODE_CFB, iv=iv, segment_size=128).encrypt(plain)
    encrypt, decrypt = MetaStream(nid, material, encrypt=True), MetaStream(nid, material, encrypt=False)
    assert b"".join(encrypt.process(plain[i : i + 5]) for i in range(0, len(plain), 5)) == expected
    assert b"".join(decrypt.process(expected[i : i + 7]) for i in range(0, len(plain), 7)) == plain


def test_meta_stream_stops_at_its_byte_budget() -> None:
    stream = MetaStream(429, bytes(range(64)), encrypt=True)
    assert stream._left == 2**63
    stream._left = 10
    stream.process(bytes(4))
    with pytest.raises(PeerError, match="byte budget"):
        stream.process(bytes(7))


def test_byte_budgets_follow_the_block_size() -> None:
    assert CIPHERS[91].byte_budget == 2**31
    assert CIPHERS[427].byte_budget == 2**63


@pytest.mark.parametrize("nid", CBC)
def test_packets_round_trip_whatever_their_order(nid: int) -> None:
    info = CIPHERS[nid]
    material = bytes(range(7, 7 + info.material_size))
    encrypt, decrypt = make_encryptor(nid, material), make_decryptor(nid, material)
    plains = [bytes([length & 0xFF]) * length for length in (0, 1, info.block_size - 1, info.block_size, 100, 1518)]
    bodies = [encrypt(plain) for plain in plains]
    assert all(len(body) % info.block_size == 0 for body in bodies)
    assert [decrypt(body) for body in reversed(bodies)] == plains[::-1]
    # The IV is the same for every packet, so equal packets give equal bodies.
    assert encrypt(plains[4]) == bodies[4]


@pytest.mark.parametrize("nid", CBC)
def test_both_libraries_make_the_same_bytes(nid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    material = bytes(range(3, 3 + CIPHERS[nid].material_size))
    packets = [bytes(range(length)) for length in (0, 20, 100)]
    results = []
    for backend in (packet_cipher._with_cryptography, packet_cipher._with_pycryptodome):
        monkeypatch.setattr(packet_cipher, "_BACKENDS", (backend,))
        try:
            encrypt, decrypt = make_encryptor(nid, material), make_decryptor(nid, material)
        except ValueError:
            continue
        bodies = [encrypt(packet) for packet in packets]
        assert [decrypt(body) for body in bodies] == packets
        results.append(bodies)
    assert results
    assert all(result == results[0] for result in results)


def test_aes_cbc_equals_a_fresh_cipher_object_for_each_packet() -> None:
    material = bytes(range(48))
    encrypt = make_encryptor(427, material)
    for length in (98, 3, 250):
        plain = bytes([length]) * length
        padding = 16 - length % 16
        expected = AES.new(material[:32], AES.MODE_CBC, iv=material[32:]).encrypt(plain + bytes([padding]) * padding)
        assert encrypt(plain) == expected


def test_bad_bodies_are_value_errors_and_spoil_nothing() -> None:
    material = bytes(range(48))
    encrypt, decrypt = make_encryptor(427, material), make_decryptor(427, material)
    body = encrypt(b"hello")
    for bad in (b"", body[:-1], bytes(16)):
        with pytest.raises(ValueError, match=r"blocks|padding"):
            decrypt(bad)
    assert decrypt(body) == b"hello"


@pytest.mark.parametrize("nid", [0, 427])
def test_material_of_the_wrong_length_is_refused(nid: int) -> None:
    with pytest.raises(ValueError, match="key material"):
        make_encryptor(nid, bytes(47))
    with pytest.raises(ValueError, match="key material"):
        make_decryptor(nid, bytes(47))


def test_cipher_none_changes_nothing() -> None:
    assert make_encryptor(0, b"k")(b"plain") == b"plain"
    assert make_decryptor(0, b"k")(b"plain") == b"plain"
