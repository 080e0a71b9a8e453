"""Random and mutated input for everything that reads what a peer sends: no exception but the allowed ones, and bounds.

usage: python tests/fuzz/fuzz.py [TARGET|all] [SECONDS] [SEED]

Runs one target, or each in turn, for that long (10 s) from that seed (1); an input that breaks a rule is printed and
ends the run with status 1. Every target is a function of a seeded source of randomness; the same seed and target give
the same inputs. The short run of the test suite is `test_fuzz_short.py`.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from itertools import count

from gmesh.crypto.rsa import RsaPrivateKey
from gmesh.errors import DatagramError, PeerError
from gmesh.mesh.actions import Action, CloseConnection, ProceedHandshake, SendLine
from gmesh.mesh.events import AddressSeen, FlowCounters, KeyNeeded, ProbeReceived, ReceiveKeyWorn, TooBig
from gmesh.mesh.mesh import Mesh
from gmesh.mesh.settings import MeshSettings
from gmesh.proto import probe
from gmesh.proto.meta_base import PeerCredentials
from gmesh.proto.meta_events import Active, Verified
from gmesh.proto.meta_start import MetaStart
from gmesh.proto.packet import PacketKey, PacketOpener, PacketSealer
from gmesh.proto.requests import MAX_LINE, AnsKey, ReqKey, parse_request
from gmesh.route.router import Router
from gmesh.route.snapshot import RouteNode, RouteSettings, RouteSnapshot
from gmesh.values import MTU, Address, Subnet

Target = Callable[[random.Random], None]
_KEY = RsaPrivateKey.generate(1024)
_NAMES = ("me", "M", "A", "B", "ghost", "x1", "x2", "x3", "x4", "x5")
_WORDS = (
    "", "0", "-1", "1", "7", "17", "655", "65535", "65536", "99999", "2147483647",
     "-2147483648", "4294967296", "c", "f",
    "ffffffff", "0x", "10.0.0.1", "10.0.0.0/8", "256.1.1.1", "fe80::1", "fe80::1%eth0", "::", "fd00::/64", "word",
    "unknown", "1.2.3.4/33", "10.0.0.0/8#-5",
    "02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "AB" * 48, "ab" * 24, "ZZ", "00",
    "A" * 43, "A" * 2049, "\xff", "\0", "/", "#", "%", "\xb2", "427", "672", "91", "64",
     "0.0.0.0/0", "1e9", "+1", "1_0",
)  # fmt: skip
_LINES = (
    "10 %n %N %s", "11 %n %N %s", "12 %n %N %N %a %p %o %w", "12 %n %N %N %a %p %o %w %a %p", "13 %n %N %N", "14 %n %N",
    "15 %N %N", "15 %N %N %w %k", "16 %N %N %k 427 672 4 0", "16 %N %N %k 427 672 4 0 %a %p", "16 %N %N %k -1 -1 -1 0",
    "8", "9", "17 %w", "7", "0 %N 17", "0 %N 17.7", "1 429 672 0 0 %k", "2 %k", "3 %k", "4 %p %w %o",
)  # fmt: skip


def line(source: random.Random) -> str:
    """A request line: plausible, with one field spoiled, or noise."""
    kind = source.random()
    if kind < 0.1:
        return "".join(chr(source.randrange(256)) for _ in range(source.randrange(200))).replace("\n", " ")
    fields = [_fill(field, source) for field in source.choice(_LINES).split()]
    if kind < 0.4:
        fields[source.randrange(len(fields))] = source.choice(_WORDS)
    elif kind < 0.5:
        del fields[source.randrange(len(fields)) :]
    elif kind < 0.55:
        fields += [source.choice(_WORDS) for _ in range(source.randrange(4))]
    return " ".join(fields)


def _fill(field: str, source: random.Random) -> str:
    match field:
        case "%n":
            return f"{source.getrandbits(source.choice((3, 31))):x}"
        case "%N":
            return source.choice(_NAMES) if source.random() < 0.8 else f"inv{source.randrange(10_000)}"
        case "%s":
            return f"10.{source.randrange(256)}.{source.randrange(256)}.0/{source.randrange(33)}"
        case "%a":
            return f"192.0.2.{source.randrange(256)}"
        case "%p":
            return str(source.randrange(70_000))
        case "%o":
            return f"{source.getrandbits(32):x}"
        case "%w":
            return str(source.randrange(-(2**31), 2**31))
        case "%k":
            return source.randbytes(48).hex()
        case _:
            return field


def requests(source: random.Random) -> None:
    """What parses formats to something that parses to the same."""
    text = line(source)
    try:
        request = parse_request(text)
    except PeerError:
        return
    again = parse_request(request.format())
    assert again == request, f"{text!r}: {again} is not {request}"


def meta(source: random.Random) -> None:
    """Any bytes in any state of a meta connection, in pieces of any size."""
    now = 0.0
    mine, theirs = (
        MetaStart(
            outgoing=outgoing,
            my_name=name,
            rsa_key=_KEY,
            ed25519_key=None,
            expected_name=expected,
            credentials=_credentials,
            entropy=source.randbytes,
            now=now,
            ping_interval=60,
            ping_timeout=5,
            port="655",
        )
        for outgoing, name, expected in ((False, "me", ""), (True, "M", "me"))
    )
    spoil_at = source.randrange(12)
    try:
        for step in range(12):
            if step == spoil_at:
                noise = source.choice(
                    (source.randbytes(source.randrange(3000)), line(source).encode("latin-1") + b"\n")
                )
                if theirs.active and source.random() < 0.8:
                    theirs.send(noise)
                else:
                    theirs_data = theirs.data_to_send() + noise
                    _feed(mine, theirs_data, source, now)
            _feed(mine, theirs.data_to_send(), source, now)
            _feed(theirs, mine.data_to_send(), source, now)
            now += source.choice((0.0, 0.1, 70.0))
            for side in (mine, theirs):
                side.on_timeout(now)
    except PeerError:
        pass
    assert mine.pending < 200_000
    assert len(mine._framing) <= 2 * MAX_LINE + 65_536


def _feed(side: MetaStart, data: bytes, source: random.Random, now: float) -> None:
    while data:
        size = source.choice((1, 17, 1000, len(data)))
        piece, data = data[:size], data[size:]
        for event in side.receive(piece, now):
            if isinstance(event, Verified):
                side.proceed(now)


def _credentials(name: str) -> PeerCredentials:
    if name not in _NAMES:
        raise PeerError("unknown identity")
    return PeerCredentials(_KEY.public, 0xC)


def packets(source: random.Random) -> None:
    """Damaged, cut, replayed and invented datagrams under every kind of key; sealed frames come back whole."""
    cipher, digest, mac = source.choice(
        ((427, 672, 4), (91, 64, 4), (419, 64, 20), (0, 672, 8), (427, 0, 0), (0, 0, 0))
    )
    compression = source.choice((0, 0, 1, 9, 10, 11))
    try:
        key = PacketKey.generate(
            cipher=cipher, digest=digest, mac_length=mac, compression=compression, entropy=source.randbytes
        )
        sealer, opener = PacketSealer(key), PacketOpener(key, 32)
    except Exception as error:
        if type(error).__module__ != "gmesh.errors":
            raise
        return
    for _ in range(20):
        frame = source.randbytes(source.randrange(14, MTU + 1)) if source.random() < 0.7 else bytes(MTU)
        datagram = sealer.seal(frame)
        kind = source.randrange(5)
        if kind == 0:
            datagram = source.randbytes(source.randrange(2048))
        elif kind == 1 and datagram:
            place = source.randrange(len(datagram))
            datagram = datagram[:place] + bytes([datagram[place] ^ 1 << source.randrange(8)]) + datagram[place + 1 :]
        elif kind == 2:
            datagram = datagram[: source.randrange(len(datagram))]
        try:
            opened = opener.open(datagram)
        except DatagramError:
            assert kind < 3, f"a good datagram of {len(frame)} bytes was refused under {key}"
            continue
        assert len(opened) <= 2 * MTU
        assert kind < 3 or opened == frame
        assert not (key.has_mac and mac >= 4 and kind == 1), "a damaged datagram was taken"
        probe.parse(opened)


def frames(source: random.Random) -> None:
    """Frames of any shape through the router, from any node."""
    nodes = {
        name: RouteNode(name, name != "D", via=name, next_hop="B" if name == "C" else name, options=0xC,
                        neighbour=name in "AB", tree=name in "AB")
        for name in "ABCD"
    }  # fmt: skip
    owners = (("10.0.0.1", "me"), ("10.0.1.0/24", "A"), ("0.0.0.0/0", "C"), ("fd00::1", "me"), ("fd00:1::/64", "B"),
              ("10.9.0.0/16", "D"), ("02:00:00:00:00:01", "A"))  # fmt: skip
    subnets = tuple(
        sorted(((Subnet.parse(text), owner) for text, owner in owners), key=lambda entry: entry[0].sort_key())
    )
    settings = RouteSettings(decrement_ttl=source.random() < 0.5)
    router = Router(
        RouteSnapshot("me", 0xC, nodes=nodes, subnets=subnets, settings=settings), None, lambda address: None
    )
    for number in range(60):
        ether = source.choice((b"\x08\0", b"\x86\xdd", b"\x08\x06", b"\x81\0\0\1\x08\0", b"\0\0", b"\x88\xcc"))
        body = bytearray(source.randbytes(source.choice((0, 1, 19, 20, 28, 39, 40, 60, 576, 1400, 1500))))
        if body and source.random() < 0.8:
            body[0] = source.choice((0x45, 0x46, 0x4F, 0x60, 0x40))
            if len(body) >= 40 and source.random() < 0.8:
                body[16:20] = source.choice((b"\x0a\0\0\1", b"\x0a\0\1\5", b"\x0a\x09\0\1", b"\xff" * 4, b"\xe0\0\0\5"))
                body[24:28] = source.choice((b"\xfd\0\0\0", b"\xff\2\0\0", b"\xfd\0\0\1"))
                body[6] &= source.choice((0, 0x40, 0xFF))
                body[9] = body[6] if source.random() < 0.3 else source.choice((1, 6, 17, 58))
        frame = source.randbytes(12) + ether + bytes(body)
        for verdict in router.decide(frame, source.choice(("me", "A", "B", "C", "D")), lambda node: 600, number * 0.1):
            answer = getattr(verdict, "frame", b"")
            assert len(answer) <= max(len(frame), 1294 + 14), f"{frame.hex()} became {len(answer)} bytes"


class _Flows:
    def counters(self, node: str) -> FlowCounters | None:
        return None

    def mac_ages(self) -> dict[bytes, float]:
        return {}


def mesh(source: random.Random) -> None:
    """A mesh with three neighbours, of whom one says anything, and any event of the data plane; all within bounds."""
    settings = MeshSettings("me", max_nodes=60, max_edges=150, max_subnets=100, max_seen=200)
    now = 100.0
    it = Mesh(settings, now, source.randbytes, _Flows())
    ids = count(1)
    active: dict[int, str] = {}

    def take(actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, SendLine):
                request = parse_request(str(action.line))
                if isinstance(request, AnsKey | ReqKey) and request.source != "me":
                    # Requirements 23, 25, 27: nothing is passed on from or to whom nobody can answer.
                    for end in (request.source, request.target):
                        node = it.registry.node(end)
                        assert node is not None, action.line
                        assert node.reachable, action.line
            elif isinstance(action, CloseConnection):
                active.pop(action.connection, None)

    def join(name: str) -> None:
        connection = next(ids)
        take(it.connection_opened(connection, "", False, now))
        take(it.peer_identified(connection, name, now))
        decision = it.peer_verified(connection, now)
        take(decision)
        if any(isinstance(action, ProceedHandshake) for action in decision):
            ack = Active(name, "655", source.randrange(-(2**31), 2**31), 5, source.getrandbits(32), 0xC, None)
            take(it.peer_active(connection, ack, Address("192.0.2.1", "1"), now))
            if connection in it.registry.connections:
                active[connection] = name

    for name in ("M", "A", "B"):
        join(name)
    for _ in range(300):
        now += source.choice((0.0, 0.001, 0.5, 3.0))
        step = source.random()
        if step < 0.85 and active:
            connection = source.choice(list(active))
            text = line(source)
            try:
                request = parse_request(text)
                take(it.request_received(connection, request, text, now))
            except PeerError:
                continue
        elif step < 0.9:
            node, address = source.choice(_NAMES), Address("192.0.2.9", str(source.randrange(70_000)))
            frame = bytes([source.randrange(4)]) + bytes(13) + source.randbytes(source.choice((0, 4, 1400)))
            event = source.choice(
                (KeyNeeded(node), ProbeReceived(node, frame, address), AddressSeen(node, address), ReceiveKeyWorn(node),
                 TooBig(node, source.randrange(1600)))
            )  # fmt: skip
            take(it.data_event(event, now))
        elif step < 0.93:
            join(source.choice(("M", "A", "B")))
        elif step < 0.95 and active:
            connection = source.choice(list(active))
            del active[connection]
            take(it.connection_closed(connection, now))
        elif step < 0.96:
            take(source.choice((it.purge, it.retry))(now))
        if now >= it.next_timeout():
            take(it.on_timeout(now))
        registry = it.registry
        assert len(registry.nodes) <= settings.max_nodes + len(active) + 4
        assert registry.edge_count == sum(len(node.edges) for node in registry.nodes.values())
        assert registry.edge_count <= settings.max_edges + 2 * len(active) + 4
        assert registry.subnet_count == sum(len(node.subnets) for node in registry.nodes.values())
        assert registry.subnet_count <= settings.max_subnets


TARGETS: dict[str, Target] = {each.__name__: each for each in (requests, meta, packets, frames, mesh)}


def run(target: Target, seconds: float, seed: int, limit: int = 10**9) -> int:
    """How many inputs there were. An exception from the target says at which of them, in a note."""
    end = time.monotonic() + seconds
    number = 0
    while number < limit and time.monotonic() < end:
        try:
            target(random.Random(f"{seed}.{number}"))
        except BaseException as error:
            error.add_note(f"target {target.__name__}, input {number} of seed {seed}")
            raise
        number += 1
    return number


def main() -> None:
    name, seconds, seed = [*sys.argv[1:], *("all", "10", "1")[len(sys.argv) - 1 :]]
    for target in TARGETS.values() if name == "all" else [TARGETS[name]]:
        print(f"{target.__name__}: {run(target, float(seconds), int(seed))} inputs", flush=True)


if __name__ == "__main__":
    main()
