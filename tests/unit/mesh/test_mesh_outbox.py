"""The outbox of one connection (contract 4)."""

from __future__ import annotations

from gmesh.mesh.outbox import MAX_PLAIN_BYTES, MAX_PLAIN_LINES, Outbox
from gmesh.net.peer import MAX_WAITING_TEXT

EDGE = ("edge", "a", "b")


def lines(outbox: Outbox) -> list[str]:
    return outbox.take(1 << 30).decode().split("\n")[:-1]


def test_a_later_line_about_a_fact_takes_the_place_of_the_waiting_one() -> None:
    outbox = Outbox(1000)
    outbox.put_line("12 1 a b 10.0.0.1 655 c 5", EDGE)
    outbox.put_line("12 2 a c 10.0.0.2 655 c 5", ("edge", "a", "c"))
    outbox.put_line("12 3 a b 10.0.0.1 655 c 9", EDGE)
    assert lines(outbox) == ["12 3 a b 10.0.0.1 655 c 9", "12 2 a c 10.0.0.2 655 c 5"]


def test_what_was_sent_is_not_replaced() -> None:
    outbox = Outbox(1000)
    outbox.put_line("12 1 a b 10.0.0.1 655 c 5", EDGE)
    assert lines(outbox) == ["12 1 a b 10.0.0.1 655 c 5"]
    outbox.put_line("13 2 a b", EDGE)
    assert lines(outbox) == ["13 2 a b"]


def test_a_key_request_stays_between_the_edge_it_needs_and_its_removal() -> None:
    outbox = Outbox(1000)
    outbox.put_line("12 1 a b 10.0.0.1 655 c 5", EDGE)
    outbox.put_line("15 a x")
    outbox.put_line("13 2 a b", EDGE)
    assert lines(outbox) == ["12 1 a b 10.0.0.1 655 c 5", "15 a x", "13 2 a b"]


def test_a_storm_leaves_two_lines_of_a_fact_and_never_a_request_before_its_edge() -> None:
    outbox = Outbox(1000)
    outbox.put_line("13 0 a b", EDGE)
    for nonce in range(1000):
        outbox.put_line(f"12 {nonce:x} a b 10.0.0.1 655 c 5", EDGE)
        if nonce == 500:
            outbox.put_line("15 a x")
        outbox.put_line(f"13 {nonce:x} a b", EDGE)
    assert len(outbox) == 3
    assert lines(outbox) == ["12 3e7 a b 10.0.0.1 655 c 5", "15 a x", "13 3e7 a b"]


def test_a_storm_that_ends_with_the_addition_leaves_the_addition() -> None:
    outbox = Outbox(1000)
    for nonce in range(10):
        outbox.put_line(f"10 {nonce:x} a 10.0.0.0/8", ("subnet", "a", "10.0.0.0/8"))
        outbox.put_line(f"11 {nonce:x} a 10.0.0.0/8", ("subnet", "a", "10.0.0.0/8"))
    outbox.put_line("10 ff a 10.0.0.0/8", ("subnet", "a", "10.0.0.0/8"))
    assert lines(outbox) == ["10 ff a 10.0.0.0/8"]


def test_lines_without_a_fact_are_bounded_and_the_oldest_goes() -> None:
    outbox = Outbox(1000)
    for number in range(MAX_PLAIN_LINES + 5):
        outbox.put_line(f"15 a n{number}")
    assert len(outbox) == MAX_PLAIN_LINES
    assert outbox.dropped_lines == 5
    assert lines(outbox)[0] == "15 a n5"


def test_requirement_12_long_lines_without_a_fact_end_no_connection() -> None:
    outbox = Outbox(1000)
    outbox.put_line("12 1 a b 10.0.0.1 655 c 5", EDGE)
    for number in range(1000):
        outbox.put_line(f"15 mallory bob 19 {number} {'x' * 2100}")
    assert outbox.bytes <= MAX_PLAIN_BYTES + 100 < MAX_WAITING_TEXT / 2
    waiting = lines(outbox)
    assert waiting[0].startswith("12 ")
    assert waiting[-1].startswith("15 mallory bob 19 999 ")
    for number in range(1000):
        outbox.put_line(f"15 mallory bob 19 {number} {'x' * 2100}")
    assert len(lines(outbox)) == len(waiting) - 1, "what was sent counts no more"


def test_take_gives_whole_entries_and_the_count_of_bytes_follows() -> None:
    outbox = Outbox(15180)
    outbox.put_line("8" * 9)
    outbox.put_frame(b"\n" * 100, 0.0)
    outbox.put_line("9" * 9)
    total = outbox.bytes
    assert outbox.take(50) == b"8" * 9 + b"\n"
    assert outbox.bytes == total - 10
    assert outbox.take(50) == b"17 100\n" + b"\n" * 100
    assert outbox.take(50) == b"9" * 9 + b"\n"
    assert outbox.bytes == 0
    assert outbox.take(50) == b""


def test_frames_are_dropped_early_and_never_above_the_whole_buffer() -> None:
    outbox = Outbox(2000)
    sent = sum(outbox.put_frame(bytes(93), 0.0) for _ in range(100))
    # Below half everything passes; above, chance 0 always drops.
    assert sent == 11
    outbox = Outbox(2000)
    assert sum(outbox.put_frame(bytes(93), 0.999999) for _ in range(100)) == 21
    assert outbox.dropped_frames == 79
    assert outbox.bytes <= 2000 + 100


def test_text_is_queued_whatever_waits() -> None:
    outbox = Outbox(100)
    for number in range(200):
        outbox.put_line(f"13 1 a n{number}", ("edge", "a", f"n{number}"))
    assert len(outbox) == 200
    outbox.clear()
    assert (len(outbox), outbox.bytes, outbox.take(10)) == (0, 0, b"")


class Later:
    """A line that counts how often it is asked for."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.made = 0

    def __str__(self) -> str:
        self.made += 1
        return self.line


def test_a_line_that_is_made_later_is_made_when_it_is_sent() -> None:
    outbox = Outbox(1000)
    later = [Later(f"12 {number} a n{number} 10.0.0.1 655 c 5") for number in range(4)]
    for number, line in enumerate(later):
        outbox.put_line(line, ("edge", "a", f"n{number}"))
    assert (len(outbox), outbox.bytes, [line.made for line in later]) == (4, 0, [0, 0, 0, 0])
    length = len(later[0].line) + 1
    assert outbox.take(2 * length) == b"".join(f"{line.line}\n".encode() for line in later[:2])
    assert [line.made for line in later] == [1, 1, 1, 0]
    assert outbox.bytes == length
    assert lines(outbox) == [line.line for line in later[2:]]
    assert [line.made for line in later] == [1, 1, 1, 1]
    assert outbox.bytes == 0


def test_news_about_a_fact_that_is_told_later() -> None:
    other = ("edge", "a", "c")
    outbox = Outbox(1000)
    outbox.put_line(Later("12 0 a b 10.0.0.1 655 c 5"), EDGE)
    outbox.put_line(Later("12 1 a c 10.0.0.1 655 c 5"), other)
    outbox.put_line("15 a x")
    outbox.put_line("12 2 a b 10.0.0.9 655 c 5", EDGE)
    outbox.put_line("13 3 a c", other)
    assert lines(outbox) == ["12 2 a b 10.0.0.9 655 c 5", "12 1 a c 10.0.0.1 655 c 5", "15 a x", "13 3 a c"]


def test_a_datagram_is_queued_with_its_ids_under_the_rule_for_frames() -> None:
    outbox = Outbox(100)
    assert outbox.put_datagram(b"target", b"source", b"datagram", 0.5)
    assert outbox.take(1000) == b"21 20\ntargetsourcedatagram"
    assert outbox.put_datagram(b"target", b"source", bytes(80), 0.5)
    assert not outbox.put_datagram(b"target", b"source", b"datagram", 0.5)
    assert not outbox.has_room(0.5)
    assert outbox.has_room(0.999)
    assert outbox.dropped_frames == 2
