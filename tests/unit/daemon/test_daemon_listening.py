"""Listening sockets: families, ports, and what cannot be bound."""

from __future__ import annotations

import socket as std_socket
from collections.abc import Iterator

import pytest

from gmesh.daemon import listening
from gmesh.daemon.listening import SocketOptions, SocketPair, open_sockets
from gmesh.dataplane.udp_sockets import UdpOptions
from gmesh.errors import ConfigError

ANY = int(std_socket.AF_UNSPEC)


class Opened(list[SocketPair]):
    def __call__(
        self, *addresses: tuple[str, str | None], port: str = "0", family: int = ANY, udp: UdpOptions | None = None
    ) -> list[SocketPair]:
        self += open_sockets(SocketOptions(addresses, port, family, udp or UdpOptions()))
        return self


@pytest.fixture
def opened(log_lines: list[str]) -> Iterator[Opened]:
    opened = Opened()
    yield opened
    for pair in opened:
        pair.tcp.close()
        pair.udp.close()


def test_by_default_both_families_share_the_port_that_the_system_chose(opened: Opened) -> None:
    pairs = opened()
    assert [pair.address.host for pair in pairs] == ["0.0.0.0", "::"]
    assert all(pair.wildcard for pair in pairs)
    ports = {sock.getsockname()[1] for pair in pairs for sock in (pair.tcp, pair.udp)}
    assert len(ports) == 1
    assert ports == {int(pairs[0].address.port)}
    assert [pair.family for pair in pairs] == [std_socket.AF_INET, std_socket.AF_INET6]


def test_a_family_restricts(opened: Opened) -> None:
    assert [pair.address.host for pair in opened(family=int(std_socket.AF_INET6))] == ["::"]


def test_addresses_may_have_ports_of_their_own(opened: Opened) -> None:
    pairs = opened(("127.0.0.1", None), ("127.0.0.2", "0"), ("127.0.0.1", None))
    # The third is the first again, and so its port is taken.
    assert [pair.address.host for pair in pairs] == ["127.0.0.1", "127.0.0.2"]
    assert not pairs[0].wildcard
    assert pairs[0].udp.getsockname() == pairs[0].tcp.getsockname()


def test_names_are_resolved_and_bad_ones_said(opened: Opened, log_lines: list[str]) -> None:
    pairs = opened(("localhost", None), ("a..b", None), family=int(std_socket.AF_INET))
    assert [pair.address.host for pair in pairs] == ["127.0.0.1"]
    assert any("Can't listen on a..b" in line for line in log_lines)


def test_a_port_that_is_no_service_is_said_with_its_place() -> None:
    options = SocketOptions([], "nosuchservice", ANY, UdpOptions(), port_place=("/x/hosts/a", 3))
    with pytest.raises(ConfigError, match=r"/x/hosts/a line 3: Port is 'nosuchservice'.*number from 0 to 65535"):
        open_sockets(options)


def test_a_port_that_is_taken_is_an_error_where_nothing_is_left(opened: Opened, log_lines: list[str]) -> None:
    port = opened(("127.0.0.1", None))[0].address.port
    with pytest.raises(ConfigError, match="Unable to create any listening socket"):
        open_sockets(SocketOptions([("127.0.0.1", port)], "655", ANY, UdpOptions()))
    assert f"Can't bind to 127.0.0.1 port {port}: Address already in use" in log_lines
    opened(("127.0.0.1", port), ("127.0.0.2", port))
    assert opened[-1].address.host == "127.0.0.2"


def test_a_port_taken_for_udp_only_frees_the_tcp_socket(opened: Opened) -> None:
    with std_socket.socket(std_socket.AF_INET, std_socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        with pytest.raises(ConfigError):
            opened(("127.0.0.1", port))
    opened(("127.0.0.1", port))


def test_impossible_ports_and_services_are_config_errors(opened: Opened) -> None:
    for port in ("no-such-service", "70000"):
        with pytest.raises(ConfigError):
            opened(port=port)


def test_an_address_that_is_not_there_yet_is_waited_for(opened: Opened, log_lines: list[str]) -> None:
    pairs = opened(("192.0.2.77", None), ("2001:db8::77", None))
    assert [pair.address.host for pair in pairs] == ["192.0.2.77", "2001:db8::77"]
    assert sum("is no address of this machine" in line for line in log_lines) == 2


def test_what_the_system_refuses_to_set_is_the_administrators_error(opened: Opened) -> None:
    with pytest.raises(ConfigError, match="none7"):
        opened(("127.0.0.1", None), udp=UdpOptions(interface="none7"))


def test_too_many(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MAX_SOCKETS", 2)
    with pytest.raises(ConfigError, match="Too many"):
        opened(*[(f"127.0.0.{number}", "0") for number in range(1, 5)])
    assert opened == []


@pytest.mark.parametrize(
    ("name", "udp"), [("UDPRcvBuf", UdpOptions(receive_buffer=2**30)), ("UDPSndBuf", UdpOptions(send_buffer=2**30))]
)
def test_less_of_a_buffer_than_was_asked_for_is_said(name: str, udp: UdpOptions, log_lines: list[str]) -> None:
    for asked in (frozenset[str](), frozenset({name})):
        for pair in open_sockets(SocketOptions([("127.0.0.1", None)], "0", ANY, udp, asked_buffers=asked)):
            pair.tcp.close()
            pair.udp.close()
        said = [line for line in log_lines if line.startswith(f"{name} = {2**30}, but the system grants")]
        assert len(said) == len(asked)


def test_a_buffer_that_is_granted_is_granted(opened: Opened, log_lines: list[str]) -> None:
    (pair,) = opened(("127.0.0.1", None), udp=UdpOptions(receive_buffer=20_000, send_buffer=30_000))
    assert pair.udp.getsockopt(std_socket.SOL_SOCKET, std_socket.SO_RCVBUF) == 40_000
    assert pair.udp.getsockopt(std_socket.SOL_SOCKET, std_socket.SO_SNDBUF) == 60_000


def test_a_port_may_be_the_name_of_a_service(opened: Opened) -> None:
    try:
        number = std_socket.getservbyname("http", "tcp")
    except OSError:
        pytest.skip("no services file")
    (address,) = listening._resolve_any("127.0.0.1", "http", ANY)
    assert address.port == str(number)
