"""The pure meta connection against a real tinc 1.1pre18 on loopback: both roles, gossip, PING, renewal, upgrade.

`MetaStart` is driven here by a bare socket, so what is tested is the protocol room alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon_lab import free_port, wait_for

from gmesh.crypto import ed25519
from gmesh.crypto.ed25519 import Ed25519PrivateKey
from gmesh.crypto.rsa import RsaPublicKey
from gmesh.errors import PeerError
from gmesh.proto.meta_base import PeerCredentials
from gmesh.proto.meta_events import (
    Active,
    Identified,
    MetaEvent,
    PongReceived,
    PublicKeyReceived,
    RequestReceived,
    Verified,
)
from gmesh.proto.meta_sptps import SptpsMeta
from gmesh.proto.meta_start import MetaStart
from gmesh.proto.requests import AddEdge, AddSubnet
from gmesh.values import Subnet
from tests.vectors.legacy import private_key

PEERS = Path(__file__).resolve().parents[2] / ".cache" / "peers" / "tinc-1.1" / "bin"
TINCD11 = Path(os.environ.get("TINCD11", PEERS / "tincd"))
TINC11 = Path(os.environ.get("TINC11", PEERS / "tinc"))
SECONDS = 20.0

pytestmark = pytest.mark.skipif(
    not TINCD11.exists(), reason="NOT TESTED: tinc 1.1 is not unpacked on this machine, see tools/peers"
)

REAL_KEY = Ed25519PrivateKey.from_seed(b"r" * 32)
PROBE_KEY = Ed25519PrivateKey.from_seed(b"p" * 32)
REAL_RSA, PROBE_RSA = private_key("alice"), private_key("bob")


def _host_file(public: RsaPublicKey, key: Ed25519PrivateKey | None, *lines: str) -> str:
    text = list(lines)
    if key is not None:
        text.append(f"Ed25519PublicKey = {ed25519.public_to_text(key.public)}")
    return "\n".join(text) + "\n" + public.to_pem()


class Real:
    """A tincd of 1.1 called real, and what it knows of us, probe."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.port, self.probe_port = free_port(), free_port()
        self.log_file = base / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def probe_file(self) -> Path:
        return self.base / "hosts" / "probe"

    def start(self, *conf: str, knows_probe: bool = True) -> None:
        (self.base / "hosts").mkdir()
        head = ["Name = real", "DeviceType = dummy", "AddressFamily = ipv4", "BindToAddress = 127.0.0.1"]
        head += ["AutoConnect = no", "PingInterval = 1", "PingTimeout = 1"]
        (self.base / "tinc.conf").write_text("\n".join([*head, *conf]) + "\n")
        self._secret("ed25519_key.priv", REAL_KEY.to_pem())
        self._secret("rsa_key.priv", REAL_RSA.to_pem())
        real = _host_file(REAL_RSA.public, REAL_KEY, f"Port = {self.port}", "Subnet = 10.91.1.0/24")
        (self.base / "hosts" / "real").write_text(real)
        key = PROBE_KEY if knows_probe else None
        where = f"Address = 127.0.0.1 {self.probe_port}"
        self.probe_file.write_text(_host_file(PROBE_RSA.public, key, where))
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [TINCD11, "-c", self.base, f"--pidfile={self.base / 'pid'}", "-D", "-d5"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for(lambda: "Ready" in self.log or self.process is None or self.process.poll() is not None, "tincd")
        assert self.process.poll() is None, self.log

    def _secret(self, name: str, text: str) -> None:
        (self.base / name).write_text(text)
        (self.base / name).chmod(0o600)

    def dump(self, what: str) -> str:
        command = [str(TINC11), "-c", str(self.base), f"--pidfile={self.base / 'pid'}", "dump", what]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(SECONDS)


class Probe:
    """Us: one meta connection on one socket."""

    def __init__(
        self, sock: socket.socket, *, outgoing: bool, knows_real: bool, renewal: float, key: Ed25519PrivateKey
    ) -> None:
        self.sock = sock
        public = REAL_KEY.public if knows_real else None

        def credentials(name: str) -> PeerCredentials:
            if name != "real":
                raise PeerError(f"{name} is unknown")
            return PeerCredentials(REAL_RSA.public, 0x700000C, ed25519=public, ed25519_file="hosts/real")

        self.meta = MetaStart(
            outgoing=outgoing,
            my_name="probe",
            rsa_key=PROBE_RSA,
            ed25519_key=key,
            expected_name="real" if outgoing else "",
            credentials=credentials,
            entropy=os.urandom,
            now=time.monotonic(),
            ping_interval=60.0,
            ping_timeout=SECONDS,
            port="655",
            renewal_seconds=renewal,
        )
        self.events: list[MetaEvent] = []

    def turn(self) -> None:
        """Write what waits, read what came."""
        now = time.monotonic()
        if now >= self.meta.next_timeout():
            self.meta.on_timeout(now)
        self.sock.sendall(self.meta.data_to_send())
        if not select.select([self.sock], [], [], 0.05)[0]:
            return
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError(f"real closed the connection after {self.events}")
        self._take(self.meta.receive(data, time.monotonic()))

    def _take(self, events: list[MetaEvent]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, Verified):
                self._take(self.meta.proceed(time.monotonic()))

    def run(self, until: Callable[[], object], what: str) -> None:
        end = time.monotonic() + SECONDS
        while not until():
            assert time.monotonic() < end, f"waited in vain: {what}; {self.events}"
            self.turn()

    def has(self, kind: type[object]) -> bool:
        return any(isinstance(event, kind) for event in self.events)

    def requests(self, kind: type[object]) -> list[object]:
        return [
            event.request
            for event in self.events
            if isinstance(event, RequestReceived) and isinstance(event.request, kind)
        ]


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Real]:
    real = Real(tmp_path)
    yield real
    real.stop()


@contextlib.contextmanager
def meeting(
    real: Real,
    role: str,
    *conf: str,
    knows_real: bool = True,
    knows_probe: bool = True,
    renewal: float = 3600.0,
    key: Ed25519PrivateKey = PROBE_KEY,
) -> Iterator[Probe]:
    """The connection of probe in one role with a real daemon that is started here."""
    with socket.create_server(("127.0.0.1", real.probe_port)) as server:
        server.settimeout(SECONDS)
        connect = ["ConnectTo = probe"] if role == "responder" else []
        if real.process is None:
            real.start(*conf, *connect, knows_probe=knows_probe)
        if role == "initiator":
            sock = socket.create_connection(("127.0.0.1", real.port), SECONDS)
        else:
            sock, _ = server.accept()
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield Probe(sock, outgoing=role == "initiator", knows_real=knows_real, renewal=renewal, key=key)


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_reaches_ack_and_exchanges_gossip_and_pings(real: Real, role: str) -> None:
    with meeting(real, role) as probe:
        probe.run(lambda: probe.meta.active, "ACK")
        assert isinstance(probe.meta.chosen, SptpsMeta)
        active = next(event for event in probe.events if isinstance(event, Active))
        assert (active.name, active.port, active.options_received) == ("real", str(real.port), 0x700000C)
        assert probe.events[0] == Identified("real", 7)
        probe.run(lambda: probe.requests(AddSubnet) and probe.requests(AddEdge), "its gossip")
        (subnet,) = probe.requests(AddSubnet)
        assert isinstance(subnet, AddSubnet)
        assert (subnet.owner, subnet.subnet) == ("real", Subnet.parse("10.91.1.0/24"))
        edge = probe.requests(AddEdge)[0]
        assert isinstance(edge, AddEdge)
        assert (edge.source, edge.target, edge.options) == ("real", "probe", 0x700000C)
        assert edge.local is not None
        probe.meta.send(
            f"12 abc1 probe real 127.0.0.1 {real.port} 700000c 10 127.0.0.1 {real.probe_port}\n"
            "10 abc2 probe 10.92.0.0/16\n".encode()
        )
        probe.run(lambda: "10.92.0.0/16" in real.dump("subnets"), "our subnet at its end")
        assert "probe to real" in real.dump("edges")
        assert "real to probe" in real.dump("edges")
        probe.meta.ping_now(time.monotonic())
        probe.run(lambda: probe.has(PongReceived), "its PONG")
        before = real.log.count("Got PONG from probe")
        probe.run(lambda: real.log.count("Got PONG from probe") > before + 1, "our PONGs")


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_requirement_3_the_real_daemon_answers_our_renewals(real: Real, role: str) -> None:
    with meeting(real, role, renewal=0.3) as probe:
        probe.run(lambda: probe.meta.active, "ACK")
        keys: list[object] = []

        def renewed() -> bool:
            assert isinstance(probe.meta.chosen, SptpsMeta)
            session = probe.meta.chosen._session
            if session._receiving not in keys:
                keys.append(session._receiving)
            return len(keys) > 3

        probe.run(renewed, "three renewals")
        probe.events.clear()
        probe.meta.ping_now(time.monotonic())
        probe.run(lambda: probe.has(PongReceived), "its PONG")


@pytest.mark.parametrize(
    ("role", "knows_real", "knows_probe"),
    [
        ("initiator", False, False),
        ("responder", False, False),
        ("initiator", False, True),
        # What hangs for ever between two originals: the connecting side alone knows the other's key.
        ("responder", False, True),
    ],
)
def test_requirement_5_upgrade_and_sptps_afterwards(real: Real, role: str, knows_real: bool, knows_probe: bool) -> None:
    with meeting(real, role, knows_real=knows_real, knows_probe=knows_probe) as probe:
        # Either end may be the one that closes.
        with pytest.raises((PeerError, ConnectionError), match=r"begin again|closed|reset"):
            probe.run(lambda: False, "the end of the upgrade")
        (learned,) = [event for event in probe.events if isinstance(event, PublicKeyReceived)]
        assert learned == PublicKeyReceived("real", REAL_KEY.public, known=False)
    text = ed25519.public_to_text(PROBE_KEY.public)
    wait_for(lambda: f"Ed25519PublicKey = {text}" in real.probe_file.read_text(), "real stores our key")
    with meeting(real, role) as probe:
        probe.run(lambda: probe.meta.active, "ACK")
        assert isinstance(probe.meta.chosen, SptpsMeta)


def test_a_rollback_of_the_real_daemon_is_refused(real: Real) -> None:
    with meeting(real, "responder", "ExperimentalProtocol = no") as probe, pytest.raises(PeerError) as caught:
        probe.run(lambda: probe.meta.active, "ACK")
    assert "hosts/real" in str(caught.value)


def test_the_wrong_key_gets_nowhere(real: Real) -> None:
    with meeting(real, "initiator", key=Ed25519PrivateKey.from_seed(b"w" * 32)) as probe:
        probe.run(lambda: "Failed to verify SIG record" in real.log, "real refuses the signature")
        # The initiator signs first, so nothing of real's was answered.
        assert not probe.has(Verified)
