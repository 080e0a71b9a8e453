"""The registry of options (contract 8, config 10)."""

from __future__ import annotations

import pytest

from gmesh.config import checks
from gmesh.config.settings import Scope, all_options, as_text, configspec, find, nearest


def test_all_options_of_both_generations_and_our_own_are_declared() -> None:
    names = {option.name for option in all_options().values()}
    assert len(names) == 77
    assert {
        "Name",
        "ConnectTo",
        "MinTimeout",
        "GraphDumpFile",
        "BroadcastSubnet",
        "Ed25519PublicKey",
        "VDEPort",
    } <= names


def test_declarations_are_consistent() -> None:
    for option in all_options().values():
        assert option.text
        assert option.values
        assert isinstance(option.scope, Scope)
        if option.default is not None:
            assert checks.convert(option, as_text(option.default)) == option.default, option.name
        if option.idle is not None:
            checks.convert(option, option.idle)
        if option.type == "enum":
            assert set(dict(option.aliases).values()) <= set(option.choices)
        if isinstance(option.effective, tuple):
            for value in option.effective:
                checks.convert(option, value)
        assert not (option.repeatable and option.default is not None)


def test_names_are_found_in_any_case() -> None:
    option = find("CONNECTto")
    assert option is not None
    assert option.name == "ConnectTo"
    assert find("Connect") is None


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("Conectto", "ConnectTo"), ("subnets", "Subnet"), ("PING_INTERVAL", "PingInterval"), ("zzz", None)],
)
def test_nearest_name(wrong: str, meant: str | None) -> None:
    assert nearest(wrong) == meant


def test_configspec_validates_through_configobj() -> None:
    assert len(configspec()) == 77
    values, errors = checks.validate({"Port": "5", "Subnet": ["10.0.0.0/8#5", "x"], "Mode": "HUB", "Hostnames": "1"})
    assert values["Port"] == "5"
    assert values["Mode"] == "hub"
    assert values["Hostnames"] is False
    assert values["KeyExpire"] == 3600
    assert [str(subnet) for subnet in values["Subnet"]] == ["10.0.0.0/8#5"]  # type: ignore[union-attr]
    assert sorted((name, position) for name, position, _ in errors) == [("Hostnames", 0), ("Subnet", 1)]


@pytest.mark.parametrize(("text", "number"), [("10", 10), ("10x", 10), ("0x10", 0), ("-5", -5), ("+7", 7), ("3.9", 3)])
def test_integers_by_their_leading_decimal(text: str, number: int) -> None:
    assert checks.convert(all_options()["weight"], text) == number


@pytest.mark.parametrize("text", ["x", "", "- 5", "\u0663"])
def test_what_is_no_integer(text: str) -> None:
    with pytest.raises(checks.BadText, match="Integer expected"):
        checks.convert(all_options()["weight"], text)


@pytest.mark.parametrize(
    ("text", "good"), [("0", True), ("65535", True), ("65536", False), ("tinc", True), ("-1", False), ("a b", False)]
)
def test_ports(text: str, good: bool) -> None:
    assert checks.is_port(text) is good
