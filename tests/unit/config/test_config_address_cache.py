"""cache/NAME: tinc's bytes, what is no such file, and disks that do not take any."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from gmesh.config import address_cache
from gmesh.config.address_cache import MAX_ADDRESSES, AddressCache, form, parse
from gmesh.config.directory import Directory
from gmesh.values import Address

V4, V6 = Address("10.1.0.2", "655"), Address("fd00:1::2", "7001")


def native(address: Address, size: int) -> bytes:
    """sockaddr_in or sockaddr_in6 as in memory, as the C library lays them out."""
    port = struct.pack(">H", int(address.port))
    if address.family == 4:
        data = struct.pack("=H", socket.AF_INET) + port + socket.inet_aton(address.host)
    else:
        data = struct.pack("=H", socket.AF_INET6) + port + bytes(4) + socket.inet_pton(socket.AF_INET6, address.host)
    return data.ljust(size, b"\0")


def tincs(*addresses: Address, size: int = 32, garbage: bytes = b"") -> bytes:
    body = b"".join(native(address, size) for address in addresses)
    return struct.pack("=II", 1, len(addresses)) + (body + garbage).ljust(8 * size, b"\xa5")


@pytest.mark.parametrize("size", [32, 28], ids=["64-bit", "32-bit"])
def test_what_tinc_has_written_is_read(size: int) -> None:
    assert parse(tincs(V4, V6, size=size)) == [V4, V6]
    assert parse(tincs(size=size)) == []


def test_what_we_write_is_tincs() -> None:
    assert form([V4, V6]) == struct.pack("=II", 1, 2) + (native(V4, 32) + native(V6, 32)).ljust(256, b"\0")
    assert len(form([V4])) == 264
    assert parse(form([Address("10.0.0.1", str(port)) for port in range(1, 20)])) == [
        Address("10.0.0.1", str(port)) for port in range(1, 1 + MAX_ADDRESSES)
    ]


def test_a_link_local_address_keeps_its_interface() -> None:
    address = Address("fe80::1%1", "655")
    assert parse(form([address])) == [address]
    (name,) = [name for number, name in socket.if_nameindex() if number == 1]
    assert parse(form([Address(f"fe80::1%{name}", "655")])) == [address]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(264)[:-1],
        bytes(265),
        struct.pack("=II", 2, 1) + bytes(256),
        struct.pack("=II", 1, 9) + bytes(256),
        struct.pack("=II", 1, 0xFFFFFFFF) + bytes(256),
        b"\xff" * 264,
        struct.pack("=II", 1, 8) + b"\x77" * 256,
        struct.pack("=II", 1, 1) + native(Address("10.0.0.1", "0"), 256),
    ],
)
def test_what_is_no_cache_is_empty(data: bytes) -> None:
    assert parse(data) == []


@pytest.fixture
def cache(tmp_path: Path) -> AddressCache:
    return AddressCache(Directory(tmp_path))


def test_the_newest_comes_first_and_eight_are_kept(cache: AddressCache, tmp_path: Path) -> None:
    assert cache.addresses("b") == []
    assert cache.add("b", V4)
    assert cache.add("b", V6)
    assert not cache.add("b", V6)
    assert cache.add("b", V4)
    # Another daemon reads the same.
    assert AddressCache(Directory(tmp_path)).addresses("b") == [V4, V6]
    assert not AddressCache(Directory(tmp_path)).add("b", V4)
    for port in range(1, 20):
        cache.add("b", Address("10.0.0.1", str(port)))
    assert cache.addresses("b") == [Address("10.0.0.1", str(port)) for port in range(19, 11, -1)]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["b"]


@pytest.mark.parametrize("name", ["../hosts/b", "", "a b", ".b.new"])
def test_what_is_no_name_has_no_file(cache: AddressCache, tmp_path: Path, name: str) -> None:
    assert not cache.add(name, V4)
    assert cache.addresses(name) == []
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_can_dial_is_not_kept(cache: AddressCache) -> None:
    for address in (Address("unknown", "unknown"), Address("10.0.0.1", "0"), Address("host.example", "655")):
        assert not cache.add("b", address)
    assert cache.addresses("b") == []


def test_link_local_addresses_are_neither_kept_nor_given(cache: AddressCache) -> None:
    for host in ("fe80::1", "fe80::1%1"):
        assert not cache.add("b", Address(host, "655"))
    assert not cache.file("b").exists()
    cache.add("b", V4)
    cache.file("b").write_bytes(form([Address("fe80::1", "655"), V4]))
    assert cache.addresses("b") == [V4]


def test_a_disk_that_takes_nothing(cache: AddressCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.add("b", V4)
    before = cache.file("b").read_bytes()

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(address_cache.Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            cache.add("b", V6)
        # It counts until we end, and is not complained about again.
        assert cache.addresses("b") == [V6, V4]
        assert not cache.add("b", V6)
    assert cache.file("b").read_bytes() == before
    cache.add("b", V4)
    assert AddressCache(Directory(tmp_path)).addresses("b") == [V4, V6]


def test_a_file_in_the_place_of_the_directory(cache: AddressCache, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(FileExistsError):
        cache.add("b", V4)
    assert cache.addresses("b") == [V4]
