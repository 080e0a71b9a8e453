"""Changing a setting in any file: what the daemon reads afterwards is what was asked for, and all else is as before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gmesh.config import edit
from gmesh.config.lexer import parse

NAMES = st.sampled_from(["Mode", "ConnectTo", "Subnet"])
VALUES = st.sampled_from(["hub", "Hub", "a b", "= x", "10.0.0.0/8", "#5"])
LINES = st.one_of(
    st.tuples(NAMES, st.sampled_from([" = ", "=", " ", "\t=\t", " == "]), VALUES).map("".join),
    st.tuples(NAMES.map(str.lower), st.just("="), VALUES).map("".join),
    st.sampled_from(
        ["", "# c", " # c", "Mode", "= x", " Mode = hub", "-----BEGIN X-----\nMode = y\nabc=\n-----END X-----", "\x80"]
    ),
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=8),
)
TEXTS = st.tuples(st.lists(LINES, max_size=8), st.sampled_from(["", "\n", "\r\n"])).map(
    lambda parts: "\n".join(parts[0]) + parts[1]
)


def settings(text: str) -> list[tuple[str, str]]:
    """What the daemon reads, in order."""
    document = parse(text.encode("utf-8", "surrogateescape"), "file")
    return [(entry.key.lower(), entry.value) for entry in document.entries]


def of(text: str, name: str) -> list[str]:
    return [value for key, value in settings(text) if key == name.lower()]


def others(text: str, name: str) -> list[tuple[str, str]]:
    return [(key, value) for key, value in settings(text) if key != name.lower()]


def closed(text: str) -> bool:
    """Whether no block is left open, which `edit.change` refuses."""
    return edit._open_block(text) == 0


@given(TEXTS, NAMES, VALUES)
def test_what_is_set_is_read(text: str, name: str, value: str) -> None:
    if not closed(text):
        return
    new, gone = edit.set_value(text, name, value)
    assert of(new, name) == [value]
    assert others(new, name) == others(text, name)
    assert [old for old in of(text, name) if old.lower() != value.lower()] == gone
    assert edit.set_value(new, name, value) == (new, [])


@given(TEXTS, NAMES, VALUES)
def test_what_is_added_is_read_once(text: str, name: str, value: str) -> None:
    if not closed(text):
        return
    new = edit.add_value(text, name, value)
    before = of(text, name)
    known = value.lower() in (old.lower() for old in before)
    assert of(new, name) == (before if known else [*before, value])
    assert others(new, name) == others(text, name)
    assert edit.add_value(new, name, value) == new


@given(TEXTS, NAMES, VALUES | st.just(""))
def test_what_is_deleted_is_gone(text: str, name: str, value: str) -> None:
    new, count = edit.delete_value(text, name, value)
    left = [old for old in of(text, name) if value and old.lower() != value.lower()]
    assert of(new, name) == left
    assert others(new, name) == others(text, name)
    assert count >= len(of(text, name)) - len(left)
    assert count or new == text


@given(TEXTS, NAMES)
def test_both_readers_agree(text: str, name: str) -> None:
    assert edit.values(text, name) == of(text, name)
    assert "".join(line.text for line in edit.lines_of(text)) == text
