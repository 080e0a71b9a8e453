"""Conversations with proxies: recorded bytes, both readings of RFC 1929, headers, chunks, refusals."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from typing import Any

import pytest

from gmesh.errors import GmeshError
from gmesh.proto.proxy import MAX_HEAD, ProxyHandshake, ProxyKind, ProxySettings
from tests.vectors.legacy import load

TARGET = "10.99.1.2"
SOCKS5_DONE = b"\x05\0\0\x01\x7f\0\0\1\x12\x34"


def settings(text: str) -> ProxySettings:
    found = ProxySettings.parse(text)
    assert found is not None
    return found


def start(text: str, host: str = TARGET, port: int = 6550) -> ProxyHandshake:
    return ProxyHandshake(settings(text), host, port)


def converse(handshake: ProxyHandshake, *answers: bytes) -> list[bytes]:
    """What is sent before the first answer and after each of them."""
    sent = [handshake.data_to_send()]
    for answer in answers:
        handshake.receive(answer)
        sent.append(handshake.data_to_send())
    return sent


def recorded() -> Iterator[Any]:
    """What 1.0.36 said to proxies, and they to it."""
    for case in load("legacy-proxy")["cases"]:
        if case["daemon"] == "tinc 1.0.36":
            answer = case["exchange"][1]["hex"]
            yield pytest.param(case, id=f"{case['proxy']} {case['target']} {answer[:8]}".replace(" ", "_"))


@pytest.mark.parametrize("case", list(recorded()))
def test_requirement_22_recorded_exchanges(case: dict[str, Any]) -> None:
    asked, answer, _ = (bytes.fromhex(step["hex"]) for step in case["exchange"])
    host, port = case["target"].split()
    handshake = start(case["proxy"], host, int(port))
    said = b"".join(converse(handshake, answer))
    # Answers that 1.0.36 does not take are taken: `01 00` to a password, HTTP/1.0.
    assert handshake.done
    assert handshake.left_over == b""
    if case["proxy"].startswith("http"):
        bracketed = f"[{host}]" if ":" in host else host
        assert asked.startswith(b"CONNECT ")
        assert said.startswith(f"CONNECT {bracketed}:{port} HTTP/1.1\r\n".encode())
        assert said.endswith(b"\r\n\r\n")
    else:
        assert said == asked


@pytest.mark.parametrize("version", [1, 5])
def test_requirement_22_passwords_as_rfc_1929_has_them_and_as_sloppy_proxies_do(version: int) -> None:
    handshake = start("socks5 proxy 1080 joe secret")
    sent = converse(handshake, b"\x05\x02", bytes((version, 0)), SOCKS5_DONE)
    assert sent[:2] == [b"\x05\x01\x02", b"\x01\x03joe\x06secret"]
    assert sent[2] == b"\x05\x01\0\x01\x0a\x63\x01\x02\x19\x96"
    assert handshake.done


def test_requirement_22_http_proxies_may_send_headers() -> None:
    handshake = start("http proxy 8080")
    answer = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 squid\r\nX-Proxy: yes\r\n\r\n0 beta 17\n"
    converse(handshake, answer)
    assert handshake.done
    assert handshake.left_over == b"0 beta 17\n"


CONVERSATIONS = [
    ("socks4 p 1", TARGET, b"\0\x5a" + bytes(6)),
    ("socks4a p 1 joe", "name.example", b"\0\x5a" + bytes(6)),
    ("socks5 p 1", "fd99::2", b"\x05\0\x05\0\0\x04" + bytes(16) + b"\x12\x34"),
    ("socks5 p 1", "name.example", b"\x05\0\x05\0\0\x03\x05hello\x12\x34"),
    ("socks5 p 1 joe secret", TARGET, b"\x05\x02\x01\0" + SOCKS5_DONE),
    ("http p 1 joe secret", "fd99::2", b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n"),
    ("http p 1", TARGET, b"HTTP/1.1 200\n\n"),
    ("exec cat", TARGET, b""),
]


@pytest.mark.parametrize(("text", "host", "answer"), CONVERSATIONS)
def test_answers_in_any_chunks_and_what_follows_is_the_targets(text: str, host: str, answer: bytes) -> None:
    stream = answer + b"0 beta 17\nmore"
    whole = start(text, host)
    expected = b"".join(converse(whole, stream))
    assert whole.left_over == b"0 beta 17\nmore"
    chance = random.Random(text)
    for size in (1, 2, 7, 0):
        handshake = start(text, host)
        said, at = handshake.data_to_send(), 0
        while at < len(stream):
            assert handshake.done is (at >= len(answer))
            step = size or chance.randrange(1, 9)
            handshake.receive(stream[at : at + step])
            at += step
            said += handshake.data_to_send()
        assert (handshake.done, handshake.left_over, said) == (True, b"0 beta 17\nmore", expected)


def test_names_are_left_to_those_that_look_them_up() -> None:
    assert converse(start("socks4a p 1 joe", "name.example")) == [b"\x04\x01\x19\x96\0\0\0\x01joe\0name.example\0"]
    (greeting, request) = converse(start("socks5 p 1", "name.example"), b"\x05\0")
    assert (greeting, request) == (b"\x05\x01\0", b"\x05\x01\0\x03\x0cname.example\x19\x96")
    assert b"CONNECT name.example:6550 HTTP" in converse(start("http p 1", "name.example"))[0]
    assert b"CONNECT xn--mller-kva.example:1 HTTP" in converse(start("http p 1", "müller.example", 1))[0]
    assert {kind for kind in ProxyKind if kind.resolves_names} == {"socks4a", "socks5", "http"}


def test_http_credentials_are_basic() -> None:
    (request,) = converse(start("http p 1 joe se cret"))
    assert b"\r\nProxy-Authorization: Basic " + base64.b64encode(b"joe:se cret") + b"\r\n" in request
    assert b"Authorization" not in converse(start("http p 1"))[0]
    assert b"\r\nHost: [fd99::2]:6550\r\n" in converse(start("http p 1", "fd99::2"))[0]


def test_a_user_without_password_leaves_the_choice_to_the_proxy() -> None:
    assert converse(start("socks5 p 1 joe"), b"\x05\0")[0] == b"\x05\x02\0\x02"
    assert converse(start("socks5 p 1 joe"), b"\x05\x02")[1] == b"\x01\x03joe\0"


REFUSALS = [
    ("socks4 p 1", TARGET, b"\0\x5b" + bytes(6), "rejected"),
    ("socks4 p 1", TARGET, b"\0\x99" + bytes(6), "code 153"),
    ("socks4 p 1", TARGET, b"HTTP/1.1 400 Bad", "does not speak SOCKS 4"),
    ("socks5 p 1", TARGET, b"\x05\xff", "wants a user name"),
    ("socks5 p 1 joe secret", TARGET, b"\x05\xff", "does not take a user name"),
    ("socks5 p 1 joe secret", TARGET, b"\x05\0", "does not take a user name"),
    ("socks5 p 1 joe secret", TARGET, b"\x05\x02\x01\x01", "does not accept"),
    ("socks5 p 1 joe secret", TARGET, b"\x05\x02\x07\0", "makes no sense"),
    ("socks5 p 1", TARGET, b"\x05\0\x05\x05\0\x01", "connection was refused"),
    ("socks5 p 1", TARGET, b"\x05\0\x05\x63\0\x01", "code 99"),
    ("socks5 p 1", TARGET, b"\x05\0\x05\0\0\x07", "unknown type 7"),
    ("socks5 p 1", TARGET, b"\x04\0", "does not speak SOCKS 5"),
    ("socks5 p 1", TARGET, b"\x05\0\x04\0\0\x01", "does not speak SOCKS 5"),
    ("http p 1", TARGET, b"HTTP/1.1 407 Auth\r\n\r\n", "another user name and password"),
    ("http p 1", TARGET, b"HTTP/1.1 503 No\x1b[0m way\r\nA: b\r\n\r\n", r"503 No\?\[0m way"),
    ("http p 1", TARGET, b"HTTP/2 200 OK\r\n\r\n", "not HTTP/1"),
    ("http p 1", TARGET, b"SSH-2.0-x\r\n\r\n", "not HTTP/1"),
    ("http p 1", TARGET, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * MAX_HEAD, "too long"),
]


@pytest.mark.parametrize(("text", "host", "answer", "words"), REFUSALS)
def test_refusals_say_why(text: str, host: str, answer: bytes, words: str) -> None:
    handshake = start(text, host)
    with pytest.raises(GmeshError, match=words):
        handshake.receive(answer)
    assert not handshake.done


def test_an_endless_answer_is_given_up_early() -> None:
    handshake = start("http p 1")
    for _ in range(MAX_HEAD - 1):
        handshake.receive(b"x")
    with pytest.raises(GmeshError, match="too long"):
        handshake.receive(b"x")
    assert len(handshake.left_over) <= MAX_HEAD


@pytest.mark.parametrize("text", [text for text, _, _ in CONVERSATIONS])
def test_whatever_a_proxy_says_only_gmesh_errors_come_of_it(text: str) -> None:
    chance = random.Random(text)
    beginnings = (b"", b"\x05\x02", b"\x05\0", b"\0\x5a", b"HTTP/1.1 200 ", b"\x05\0\x05\0\0\x03\0")
    for _ in range(2000):
        handshake = start(text)
        try:
            handshake.receive(chance.choice(beginnings) + chance.randbytes(chance.randrange(30)))
        except GmeshError:
            assert not handshake.done


@pytest.mark.parametrize(
    ("text", "host", "words"),
    [
        ("socks4 p 1", "fd99::2", "IPv6"),
        ("socks4a p 1", "fd99::2", "IPv6"),
        ("socks4 p 1", "name.example", "cannot look up"),
        ("socks5 p 1", "x" * 300, "host name"),
        ("http p 1", "a b", "host name"),
        ("http p 1", "a\r\nX: y", "host name"),
        ("socks5 p 1", "", "host name"),
    ],
)
def test_targets_that_a_proxy_cannot_be_asked_for(text: str, host: str, words: str) -> None:
    with pytest.raises(GmeshError, match=words):
        start(text, host)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("socks4 h 1080", ProxySettings(ProxyKind.SOCKS4, "h", "1080")),
        ("SOCKS4 h 1080 joe", ProxySettings(ProxyKind.SOCKS4, "h", "1080", "joe")),
        ("socks4a h 1080  ", ProxySettings(ProxyKind.SOCKS4A, "h", "1080")),
        ("socks5 h 1080 joe secret", ProxySettings(ProxyKind.SOCKS5, "h", "1080", "joe", "secret")),
        ("socks5  h  1080 ", ProxySettings(ProxyKind.SOCKS5, "h", "1080")),
        ("http fd00::1 webcache a b c", ProxySettings(ProxyKind.HTTP, "fd00::1", "webcache", "a", "b c")),
        ("exec  nc $REMOTEADDRESS  5", ProxySettings(ProxyKind.EXEC, command="nc $REMOTEADDRESS  5")),
    ],
)
def test_the_option(text: str, expected: ProxySettings) -> None:
    assert ProxySettings.parse(text) == expected


def test_requirement_9_passwords_and_commands_are_in_no_repr() -> None:
    assert "secret" not in repr(settings("http h 1 joe secret"))
    assert "secret" not in repr(settings("exec run --password secret"))


@pytest.mark.parametrize("text", ["none", "NONE", "none x"])
def test_no_proxy(text: str) -> None:
    assert ProxySettings.parse(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("socks6 h 1", "Unknown proxy type socks6!"),
        ("", "Unknown proxy type !"),
        ("socks4", "Host and port argument expected for proxy!"),
        ("http h", "Host and port argument expected for proxy!"),
        ("http h ", "Host and port argument expected for proxy!"),
        ("http h 1 \x1b", "control characters"),
        ("exec", "Argument expected for proxy type exec!"),
        ("exec  ", "Argument expected for proxy type exec!"),
        ("http h 1 a:b c", "colon"),
        ("socks5 h 1 " + "x" * 256, "longer than 255"),
        ("socks5 h 1 a " + "ü" * 128, "longer than 255"),
    ],
)
def test_bad_options(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ProxySettings.parse(text)
