"""Command lines are read the way getopt_long reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.cli.argv import Argument, Option, UsageError, parse
from gmesh.cli.argv import spelled as spell
from gmesh.cli.gmeshd import OPTIONS


def normalise(line: list[str], options: tuple[Option, ...]) -> list[str]:
    """The line in the spelling that docopt gets."""
    parsed, words = parse(line, options)
    return spell(parsed) + (["--", *words] if words else [])


def test_optional_arguments_attached_or_next_word() -> None:
    for line in (["-d5"], ["-d", "5"], ["--debug=5"], ["--debug", "5"], ["--deb", "5"]):
        assert normalise(line, OPTIONS) == ["--debug=5"]
    assert normalise(["-d"], OPTIONS) == ["--debug=+"]
    assert normalise(["-d", "-D"], OPTIONS) == ["--debug=+", "--no-detach"]
    assert normalise(["-k"], OPTIONS) == ["--kill=TERM"]
    assert normalise(["-kHUP"], OPTIONS) == ["--kill=HUP"]
    assert normalise(["-k", "USR2"], OPTIONS) == ["--kill=USR2"]
    assert normalise(["--logfile"], OPTIONS) == ["--logfile="]
    assert normalise(["--logfile", "F"], OPTIONS) == ["--logfile=F"]


def test_required_arguments_may_look_like_options() -> None:
    assert normalise(["-o", "-x"], OPTIONS) == ["--option=-x"]
    assert normalise(["--pidfile", "--help"], OPTIONS) == ["--pidfile=--help"]
    assert normalise(["-nfoo"], OPTIONS) == ["--net=foo"]


def test_bundles_prefixes_words_and_the_end() -> None:
    assert normalise(["-Dd3"], OPTIONS) == ["--no-detach", "--debug=3"]
    assert normalise(["-DLd"], OPTIONS) == ["--no-detach", "--mlock", "--debug=+"]
    assert normalise(["--no", "--mlo"], OPTIONS) == ["--no-detach", "--mlock"]
    assert normalise(["-D", "--", "-x", "y"], OPTIONS) == ["--no-detach", "--", "-x", "y"]
    assert parse(["a", "-D", "-"], OPTIONS) == ([("no-detach", None)], ["a", "-"])


def test_stop_at_the_first_word() -> None:
    assert parse(["-D", "dump", "-d"], OPTIONS, stop_at_word=True) == ([("no-detach", None)], ["dump", "-d"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--foo"], "unrecognized option '--foo'"),
        (["--foo=1"], "unrecognized option '--foo=1'"),
        (["-x"], "invalid option -- 'x'"),
        (["-Dx"], "invalid option -- 'x'"),
        (["-n"], "option requires an argument -- 'n'"),
        (["--net"], "option '--net' requires an argument"),
        (["--pidfile"], "option '--pidfile' requires an argument"),
        (["--no-detach=1"], "option '--no-detach' doesn't allow an argument"),
        (["--n"], "option '--n' is ambiguous; possibilities: '--net' '--no-detach'"),
        (["--=x"], "unrecognized option '--=x'"),
        (["--foo", "-x"], "unrecognized option '--foo'"),
    ],
)
def test_complaints_are_getopts(line: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(line, OPTIONS)
    assert str(caught.value) == message


LETTERS = [option for option in OPTIONS if option.short]
VALUES = st.text(alphabet="abc=-. 19", max_size=6)


@st.composite
def spelled(draw: st.DrawFn) -> tuple[list[str], tuple[str, str | None]]:
    """One option in one of its spellings, and what it must be read as."""
    option: Option = draw(st.sampled_from(OPTIONS))
    exact = f"--{option.long}"
    if option.argument is Argument.NONE:
        words = [f"-{option.short}"] if option.short and draw(st.booleans()) else [exact]
        return words, (option.long, None)
    value = draw(VALUES)
    spellings = [[f"{exact}={value}"]]
    if option.argument is Argument.REQUIRED or (value and not value.startswith("-")):
        spellings.append([exact, value])
        if option.short:
            spellings.append([f"-{option.short}", value])
    if option.short and value:
        spellings.append([f"-{option.short}{value}"])
    return draw(st.sampled_from(spellings)), (option.long, value)


@given(st.lists(spelled(), max_size=8))
def test_every_spelling_is_read_and_normal_form_is_stable(
    parts: list[tuple[list[str], tuple[str, str | None]]],
) -> None:
    line = [word for words, _ in parts for word in words]
    parsed, words = parse(line, OPTIONS)
    assert parsed == [meaning for _, meaning in parts]
    assert words == []
    normal = normalise(line, OPTIONS)
    assert parse(normal, OPTIONS) == (parsed, [])
    assert normalise(normal, OPTIONS) == normal


@given(st.lists(st.text(max_size=8), max_size=8))
def test_any_words_are_read_or_refused(line: list[str]) -> None:
    try:
        parsed, words = parse(line, OPTIONS)
    except UsageError:
        return
    assert {name for name, _ in parsed} <= {option.long for option in OPTIONS}
    assert len(words) <= len(line)
