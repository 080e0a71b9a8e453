"""The words every room shares."""

from __future__ import annotations

import pytest

from gmesh.values import Address, cut_interface_name, ip_version


@pytest.mark.parametrize(
    ("host", "version"),
    [
        ("10.0.0.1", 4),
        ("::1", 6),
        ("fe80::1%eth0", 6),
        ("0000:0000:0000:0000:0000:ffff:192.168.100.228", 6),
        ("10.0.0.256", 0),
        ("10.0.0.01", 0),
        ("berlin.example.org", 0),
        ("unknown", 0),
        ("10.0.0.1%eth0", 0),
        ("", 0),
    ],
)
def test_numeric_hosts(host: str, version: int) -> None:
    assert ip_version(host) == version
    assert Address(host, "655").family == version


@pytest.mark.parametrize(
    ("name", "kept"),
    [("verylongnetworkname", "verylongnetwork"), ("vpn", "vpn"), ("ab" * 7 + "é", "ab" * 7), ("a\udcffb", "ab")],
)
def test_interface_names_are_cut_at_15_bytes(name: str, kept: str) -> None:
    assert cut_interface_name(name) == kept
