"""Names that answer, fail, hang, or come late."""

from __future__ import annotations

import socket as std_socket
import threading
import time
from collections.abc import Iterator

import gevent
import pytest

from gmesh.errors import GmeshError
from gmesh.net.resolver import LATE_ANSWER_LIFETIME, Resolved, Resolver, lookup

FOUND: Resolved = [(int(std_socket.AF_INET), ("10.9.9.9", 655))]


class Server:
    """Answers when it is let; counts the questions."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, port: str, family: int) -> Resolved:
        self.asked.append(host)
        self.may_answer.wait(20)
        if host.startswith("bad"):
            raise GmeshError(f"cannot resolve {host}")
        return FOUND


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.may_answer.set()


def test_numbers_need_no_thread() -> None:
    def never(host: str, port: str, family: int) -> Resolved:
        raise AssertionError("asked")

    resolver = Resolver(never)
    assert resolver.resolve("10.0.0.1", "655") == [(std_socket.AF_INET, ("10.0.0.1", 655))]
    assert resolver.resolve("fd00::1", "1") == [(std_socket.AF_INET6, ("fd00::1", 1, 0, 0))]
    with pytest.raises(GmeshError):
        resolver.resolve("fd00::1", "655", std_socket.AF_INET)


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "nul\0", "no such host", ""])
@pytest.mark.parametrize("port", ["655", "no-such-service", "70000"])
def test_what_cannot_be_looked_up_is_a_gmesh_error(host: str, port: str) -> None:
    with pytest.raises(GmeshError, match="cannot resolve"):
        lookup(host, port) if host else lookup("10.0.0.1", "70000")


def test_services_have_names() -> None:
    assert lookup("127.0.0.1", "http")[0][1] == ("127.0.0.1", 80)


def test_names_are_asked_anew(server: Server) -> None:
    server.may_answer.set()
    resolver = Resolver(server, patience=5)
    assert resolver.resolve("a.example", "655") == FOUND
    assert resolver.resolve("a.example", "655") == FOUND
    assert server.asked == ["a.example"] * 2
    with pytest.raises(GmeshError, match=r"bad\.example"):
        resolver.resolve("bad.example", "655")


def test_a_hanging_name_takes_one_thread_and_others_go_on(server: Server) -> None:
    resolver = Resolver(server, patience=0.01)
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            gevent.sleep(0.001)

    ticker = gevent.spawn(tick)
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(GmeshError, match="no answer yet"):
            resolver.resolve("slow.example", "655")
    assert server.asked == ["slow.example"]
    assert ticks > 20
    assert time.monotonic() - began < 5
    ticker.kill()
    # The late answer serves the next round.
    server.may_answer.set()
    resolver._patience = 5
    assert resolver.resolve("slow.example", "655") == FOUND
    assert server.asked == ["slow.example"]


def test_an_answer_that_is_too_late_is_asked_for_again(server: Server) -> None:
    now = [0.0]
    resolver = Resolver(server, clock=lambda: now[0], patience=0.01)
    with pytest.raises(GmeshError):
        resolver.resolve("slow.example", "655")
    server.may_answer.set()
    question = next(iter(resolver._asked.values()))
    question.answer.wait(5)
    now[0] = LATE_ANSWER_LIFETIME + 1
    resolver._patience = 5
    assert resolver.resolve("slow.example", "655") == FOUND
    assert server.asked == ["slow.example"] * 2
    assert resolver._asked == {}
