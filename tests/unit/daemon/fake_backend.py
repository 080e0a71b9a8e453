"""A daemon's answers without a daemon, for tests of the control socket and of the control tool.

Run as a program it serves them: arguments are the pid file's path, and words for what should go wrong.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

from gmesh.proto.control import (
    ConnectionLine,
    ConnectionStatus,
    EdgeLine,
    NodeLine,
    NodeStatus,
    SubnetLine,
    TrafficLine,
    TriedLine,
)
from gmesh.values import Address, Subnet

COOKIE = "AB" * 32


def node(name: str) -> NodeLine:
    return NodeLine(
        name,
        Address("127.0.0.1", "7102"),
        cipher=427,
        digest=672,
        mac_length=4,
        compression=0,
        options=0xC,
        status=NodeStatus.REACHABLE | NodeStatus.VISITED,
        next_hop=name,
        via=name,
        distance=1,
        mtu=1518,
        min_mtu=0,
        max_mtu=1518,
        last_change=0,
        round_trip_us=-1,
        packets_in=1,
        bytes_in=2,
        packets_out=3,
        bytes_out=4,
    )


class Watch:
    closed = False

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        self.receive = receive

    def close(self) -> None:
        self.closed = True


class Backend:
    name = "foo"
    version = "17.0"

    def __init__(self) -> None:
        self.debug = 0
        self.calls: list[str] = []
        self.rows = [node("bar")]
        self.reload_works = True
        self.watches: list[Watch] = []

    def stop(self) -> None:
        self.calls.append("stop")

    def reload(self) -> bool:
        self.calls.append("reload")
        return self.reload_works

    def reload_report(self) -> list[str]:
        return ["subnet 10.0.0.0/24 added", "two\nlines"]

    def retry(self) -> None:
        self.calls.append("retry")

    def purge(self) -> None:
        self.calls.append("purge")

    def connect(self, name: str) -> int:
        self.calls.append(f"connect {name}")
        return 0

    def disconnect(self, name: str) -> int:
        return 0 if name == "bar" else -2

    def tried(self, name: str) -> Iterator[TriedLine]:
        if name == "bar":
            yield TriedLine(Address("192.0.2.1", "655"), "edge", 3)
            yield TriedLine(Address("192.0.2.2", "655"), "seen", -1)

    def watch_frames(self, receive: Callable[[bytes], None]) -> Watch:
        self.watches.append(Watch(receive))
        return self.watches[-1]

    def nodes(self) -> Iterator[NodeLine]:
        return iter(self.rows)

    def edges(self) -> Iterator[EdgeLine]:
        local = Address("unspec", "unspec")
        return iter([EdgeLine("bar", "foo", Address("127.0.0.1", "7101"), local, 0x700000C, 0)])

    def subnets(self) -> Iterator[SubnetLine]:
        return iter(
            [SubnetLine(Subnet.parse("ff:ff:ff:ff:ff:ff"), ""), SubnetLine(Subnet.parse("fd00:1::/64#5"), "foo")]
        )

    def connections(self) -> Iterator[ConnectionLine]:
        yield ConnectionLine("bar", Address("127.0.0.1", "48998"), 0xC, 15, ConnectionStatus.MST)

    def traffic(self) -> Iterator[TrafficLine]:
        return iter([TrafficLine("bar", 1, 2, 3, 4)])


def serve(pid_path: str) -> None:
    """Serve until somebody sends stop; then take a moment, as scripts would."""
    import gevent
    from gevent.event import Event

    from gmesh.daemon.control_server import ControlServer
    from gmesh.daemon.logging_setup import NOTICE, DaemonLog, log
    from gmesh.daemon.pidfile import PidFile, PidRecord
    from gmesh.daemon.supervisor import Supervisor

    end = Event()
    backend = Backend()
    backend.stop = end.set  # type: ignore[method-assign]
    held = PidFile.acquire(pid_path)
    held.write(PidRecord(os.getpid(), COOKIE, "127.0.0.1", "7101"))
    server = ControlServer(backend, Supervisor(lambda reason: None), DaemonLog("tinc"), COOKIE)
    server.listen(pid_path.removesuffix(".pid") + ".socket")
    print("serving", flush=True)
    end.wait()
    gevent.sleep(0.3)
    log(0, NOTICE, "Terminating")
    held.remove()
    server.close()


if __name__ == "__main__":
    serve(sys.argv[1])
