"""The lines of configuration files (config 4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmesh.config.lexer import parse, parse_override, read
from gmesh.config.notices import Level
from gmesh.errors import ConfigError


def settings(text: str | bytes) -> list[tuple[str, str]]:
    document = parse(text.encode() if isinstance(text, str) else text, "f")
    assert document.errors == ()
    return [(entry.key, entry.value) for entry in document.entries]


@pytest.mark.parametrize(
    "line", ["Name=foo", "Name = foo", "Name foo", "Name\t=\tfoo", "Name =foo", "Name= foo \t", "  Name = foo"]
)
def test_spellings_of_a_setting(line: str) -> None:
    assert settings(line) == [("Name", "foo")]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("Name == foo", "= foo"),
        ("Name = foo # x", "foo # x"),
        ("Name = a  b", "a  b"),
        ('Name = "foo"', '"foo"'),
        ("Name = a=b", "a=b"),
        ("Name foo = bar", "foo = bar"),
    ],
)
def test_values_are_taken_as_they_are(line: str, value: str) -> None:
    assert settings(line) == [("Name", value)]


def test_empty_lines_and_comments() -> None:
    assert settings("\n# Name = a\n   # indented\n \t \n#\nPort = 1\n\n") == [("Port", "1")]


def test_crlf_bom_and_missing_last_newline() -> None:
    assert settings(b"\xef\xbb\xbfName = a\r\nPort = 1\r\n\r\nMode = hub") == [
        ("Name", "a"),
        ("Port", "1"),
        ("Mode", "hub"),
    ]


def test_entries_keep_file_and_line() -> None:
    (entry,) = parse(b"\n#\nName = a\n", "some/file").entries
    assert (entry.file, entry.line) == ("some/file", 3)


def test_long_lines_stay_one() -> None:
    value = "x" * 5000
    assert settings(f"Proxy = {value}\nPort = 1") == [("Proxy", value), ("Port", "1")]


def test_leading_blanks_are_noticed() -> None:
    document = parse(b" Name = a\n", "f")
    assert [(n.level, n.line, n.key) for n in document.notices] == [(Level.NOTICE, 1, "Name")]


def test_blocks_are_kept_apart() -> None:
    document = parse(
        b"Port = 1\n-----BEGIN RSA PUBLIC KEY-----\nMode = hub\n-----END RSA PUBLIC KEY-----\nName = a\n", "f"
    )
    assert [entry.key for entry in document.entries] == ["Port", "Name"]
    (block,) = document.blocks
    assert (block.label, block.line) == ("RSA PUBLIC KEY", 2)
    assert block.text == "-----BEGIN RSA PUBLIC KEY-----\nMode = hub\n-----END RSA PUBLIC KEY-----\n"
    assert "hub" not in repr(block)


def test_any_end_line_closes_a_block() -> None:
    document = parse(b"-----BEGIN odd\nx\n-----END whatever\nName = a\n", "f")
    assert [entry.key for entry in document.entries] == ["Name"]


def test_open_block_is_reported_with_the_line_it_began() -> None:
    document = parse(b"Name = a\n-----BEGIN RSA PUBLIC KEY-----\nPort = 5\n", "f")
    assert [entry.key for entry in document.entries] == ["Name"]
    (notice,) = document.notices
    assert (notice.level, notice.line) == (Level.WARNING, 2)
    assert "END" in notice.text


def test_missing_value_does_not_hide_the_rest() -> None:
    document = parse(b"Name = a\nPort =\nMode\nHostnames = yes\n", "dir/tinc.conf")
    assert [str(error) for error in document.errors] == [
        "dir/tinc.conf line 2: No value for variable `Port'",
        "dir/tinc.conf line 3: No value for variable `Mode'",
    ]
    assert [entry.key for entry in document.entries] == ["Name", "Hostnames"]


def test_missing_name_is_noticed() -> None:
    document = parse(b"= foo\n", "f")
    assert (document.entries, document.errors) == ((), ())
    assert document.notices[0].line == 1


def test_control_characters_are_errors() -> None:
    document = parse(b"Name = a\x00b\nPort = 1\x1b[2J\n#\x00 harmless\n", "f")
    assert [error.line for error in document.errors] == [1, 2]
    assert "0x00" in document.errors[0].message


def test_utf16_is_recognised() -> None:
    document = parse("Name = a\n".encode("utf-16"), "f")
    assert "UTF-16" in document.errors[0].message


def test_other_encodings_are_tolerated() -> None:
    assert settings(b"Name = caf\xe9\n")[0][1].encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_overrides() -> None:
    server = parse_override("Port=5")
    assert (server.node, server.entry.key, server.entry.value) == ("", "Port", "5")
    host = parse_override("beta.Address = 10.0.0.1 656")
    assert (host.node, host.entry.key, host.entry.value) == ("beta", "Address", "10.0.0.1 656")


@pytest.mark.parametrize("text", ["Port", "Port=", "beta.Port = "])
def test_override_without_value(text: str) -> None:
    with pytest.raises(ConfigError, match=r"No value for variable `.*Port' in command line option 3"):
        parse_override(text, 3)


@pytest.mark.parametrize("text", ["", "=x", ".Port=1", "beta.=1", "Port=\x00"])
def test_nonsense_override(text: str) -> None:
    with pytest.raises(ConfigError, match="command line option 1"):
        parse_override(text, 1)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Cannot open config file .*nope: No such file or directory"):
        read(tmp_path / "nope")
    with pytest.raises(ConfigError, match="Is a directory"):
        read(tmp_path)
    with pytest.raises(ConfigError, match="not a configuration file"):
        read(Path("/dev/zero"))
