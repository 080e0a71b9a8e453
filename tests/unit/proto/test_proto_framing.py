from __future__ import annotations

import pytest

from gmesh.errors import PeerError
from gmesh.proto.framing import LineFraming


def test_lines_bodies_and_the_rest() -> None:
    framing = LineFraming()
    framing.feed(b"8\n17 3\na\nb9\nhal")
    assert framing.take_line() == "8"
    assert framing.take_line() == "17 3"
    assert framing.take_body(3) == b"a\nb"
    assert framing.take_line() == "9"
    assert framing.take_line() is None
    framing.feed(b"f")
    assert len(framing) == 4
    assert framing.take_rest() == b"half"
    assert len(framing) == 0


def test_body_waits_until_it_is_complete() -> None:
    framing = LineFraming()
    framing.feed(b"ab")
    assert framing.take_body(3) is None
    framing.feed(b"cd")
    assert framing.take_body(3) == b"abc"


@pytest.mark.parametrize("chunk", [1, 100, 10000])
def test_longest_line_is_2175_characters_and_a_newline(chunk: int) -> None:
    def lines(data: bytes) -> list[str]:
        framing = LineFraming()
        found = []
        for at in range(0, len(data), chunk):
            framing.feed(data[at : at + chunk])
            while (line := framing.take_line()) is not None:
                found.append(line)
        return found

    assert lines(b"8\n" + b"x" * 2175 + b"\n") == ["8", "x" * 2175]
    with pytest.raises(PeerError, match="2176"):
        lines(b"x" * 2176 + b"\n")


def test_switch_decrypts_what_is_already_here_and_what_comes() -> None:
    def decrypt(data: bytes) -> bytes:
        return bytes(byte ^ 0xFF for byte in data)

    framing = LineFraming()
    framing.feed(b"1 key\n" + decrypt(b"2 ch"))
    assert framing.take_line() == "1 key"
    framing.switch(decrypt)
    framing.feed(decrypt(b"allenge\n"))
    assert framing.take_line() == "2 challenge"
