"""Keys of algorithms that we cannot use: packets go by TCP, one line says why, and nobody is asked again and again."""

from __future__ import annotations

import pytest
from test_mesh_keys import Fixture

from gmesh.mesh.actions import Action, ForgetSendKey, InstallReceiveKey, InstallSendKey, Log, SendLine
from gmesh.mesh.settings import PacketAlgorithms
from gmesh.proto import compression
from gmesh.proto.requests import parse_request

STREAM = f"16 alice bob {'AB' * 48} 906 672 4 0"
LZO = f"16 alice bob {'AB' * 48} 427 672 4 10"
GOOD = f"16 alice bob {'CD' * 48} 427 672 4 0"


def lab() -> tuple[Fixture, int]:
    world = Fixture()
    connection = world.neighbour("alice")
    world.settle()
    return world, connection


def texts(actions: list[Action]) -> list[str]:
    return [action.text for action in actions if isinstance(action, Log)]


def requests(actions: list[Action]) -> int:
    return sum(isinstance(action, SendLine) and action.line.startswith("15 bob alice") for action in actions)


def test_a_stream_cipher_is_refused_with_the_reason_and_its_name() -> None:
    world, connection = lab()
    actions = world.line(connection, STREAM)
    (text,) = texts(actions)
    assert "Packets for alice go by TCP" in text
    assert "aes-256-ctr is a stream cipher" in text
    assert not any(isinstance(action, InstallSendKey) for action in actions)


def test_a_missing_package_is_named_and_traffic_goes_by_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_lzo", lambda: None)
    world, connection = lab()
    actions = world.line(connection, LZO)
    assert "lzallright" in texts(actions)[0]
    assert not any(isinstance(action, InstallSendKey) for action in actions)


def test_it_is_said_once_and_not_asked_for_again_and_again() -> None:
    world, connection = lab()
    actions = world.line(connection, STREAM)
    for _ in range(360):
        actions += world.wait(10, traffic="alice")
        asked = world.need("alice")
        if requests(asked):
            asked += world.line(connection, STREAM.replace("AB", "CD"))
        actions += asked
    assert len([text for text in texts(actions) if "alice" in text]) == 1
    assert 1 <= requests(actions) <= 13


def test_another_reason_is_said() -> None:
    world, connection = lab()
    world.line(connection, STREAM)
    assert "whatever" not in texts(world.line(connection, STREAM.replace("906", "65000")))[0]
    assert texts(world.line(connection, STREAM.replace("906", "65000"))) == []


def test_a_usable_key_is_taken_at_any_time_and_lost_with_the_next_bad_one() -> None:
    world, connection = lab()
    world.line(connection, STREAM)
    assert any(isinstance(action, InstallSendKey) for action in world.line(connection, GOOD))
    actions = world.line(connection, STREAM)
    assert any(isinstance(action, ForgetSendKey) for action in actions)
    assert len(texts(actions)) == 1


@pytest.mark.parametrize("mac_length", [0, 4, 100, 65535])
def test_without_a_digest_the_mac_length_of_a_peer_means_nothing(mac_length: int) -> None:
    world, connection = lab()
    actions = world.line(connection, f"16 alice bob {'AB' * 48} 427 0 {mac_length} 0")
    (installed,) = [action for action in actions if isinstance(action, InstallSendKey)]
    assert installed.key.mac_length == 0
    assert not installed.key.has_mac


@pytest.mark.parametrize(("cipher", "digest"), [(427, 0), (0, 672), (0, 0), (91, 0)])
def test_renewal_without_digest_or_cipher(cipher: int, digest: int) -> None:
    world = Fixture(algorithms=PacketAlgorithms(cipher, digest, 4, 0), key_expire=100.0)
    world.neighbour("alice")
    first = [action.key for action in world.settle() if isinstance(action, InstallReceiveKey)]
    actions = world.wait(150)
    renewed = [action.key for action in actions if isinstance(action, InstallReceiveKey)]
    assert len(first) == len(renewed) == 1
    assert cipher == 0 or first[0].material != renewed[0].material
    (line,) = [action.line for action in actions if isinstance(action, SendLine) and action.line.startswith("16 ")]
    expected = f" {cipher} {digest} {4 if digest else 0} 0"
    assert line.endswith(expected)
    assert parse_request(line)
