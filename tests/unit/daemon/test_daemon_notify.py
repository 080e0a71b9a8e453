"""sd_notify and socket activation with a socket of our own in the service manager's place (daemon-cli 7)."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from gmesh.daemon.activation import take_listeners
from gmesh.daemon.notify import Notifier
from gmesh.errors import GmeshError

UNITS = Path(__file__).parents[3] / "systemd"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(tmp_path / "notify"))
    made.settimeout(10)
    yield made
    made.close()


def said(manager: socket.socket) -> str:
    return manager.recv(200).decode()


def test_what_the_manager_hears(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "500000", "WATCHDOG_PID": "7", "A": "b"}
    notifier = Notifier.from_environment(environment, 7)
    assert environment == {"A": "b"}
    notifier.ready()
    assert said(manager) == "READY=1"
    watch = gevent.spawn(notifier.watch)
    with gevent.Timeout(5):
        for _ in range(3):
            while manager_is_empty(manager):
                gevent.sleep(0.01)
            assert said(manager) == "WATCHDOG=1"
    watch.kill()
    while not manager_is_empty(manager):
        said(manager)
    notifier.reloading()
    assert said(manager).startswith("RELOADING=1\nMONOTONIC_USEC=")
    notifier.stopping()
    assert said(manager) == "STOPPING=1"
    notifier.close()
    notifier.ready()


def manager_is_empty(manager: socket.socket) -> bool:
    return not select.select([manager], [], [], 0)[0]


def test_the_watchdog_of_another_process_is_not_ours(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "500000", "WATCHDOG_PID": "8"}
    assert Notifier.from_environment(environment, 7).period == 0


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "/" + 200 * "x"])
def test_no_manager_is_no_trouble(address: str) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "x"}, 7)
    notifier.ready()
    notifier.watch()
    notifier.stopping()


def test_a_manager_that_reads_nothing_holds_nobody_up(manager: socket.socket) -> None:
    notifier = Notifier(manager.getsockname())
    with gevent.Timeout(20):
        for _ in range(5000):
            notifier.ready()


def test_listeners_only_for_the_process_that_is_meant() -> None:
    environment = {"LISTEN_PID": "8", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"}
    assert take_listeners(environment, 7) == []
    assert environment == {}
    assert take_listeners({"LISTEN_FDS": "1"}, 7) == []


def test_too_many_listeners() -> None:
    with pytest.raises(GmeshError, match="Too many listening sockets"):
        take_listeners({"LISTEN_PID": "7", "LISTEN_FDS": "9"}, 7)


HANDED = """
import os, sys
from gmesh.daemon.activation import take_listeners
from gmesh.errors import GmeshError
environment = {"LISTEN_PID": "7", "LISTEN_FDS": "1"}
os.dup2(int(sys.argv[1]), 3)
try:
    taken = take_listeners(environment, 7)
    print([sock.getsockname() for sock in taken], os.get_inheritable(3))
except GmeshError as error:
    print(error)
"""


def handed(sock: socket.socket) -> str:
    return subprocess.run(
        [sys.executable, "-c", HANDED, str(sock.fileno())],
        pass_fds=[sock.fileno()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.strip()


def test_a_listener_is_taken_and_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert handed(listener) == f"[{listener.getsockname()}] False"
    with socket.socket() as idle:
        assert handed(idle) == "Descriptor 3 of the service manager is no listening TCP socket"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        assert handed(udp).startswith("Descriptor 3 of the service manager is")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for unit in UNITS.iterdir():
        # The programs are somewhere else where the tests run.
        text = unit.read_text().replace("/usr/bin/gmeshd", "/bin/true").replace("/usr/bin/gmesh", "/bin/true")
        (tmp_path / unit.name).write_text(text)
        (tmp_path / unit.name.replace("@", "@net")).write_text(text)
    done = subprocess.run(
        [
            "systemd-analyze",
            "verify",
            "--man=no",
            *(str(tmp_path / f"gmesh@net.{kind}") for kind in ("service", "socket")),
        ],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "gmesh" in line]
    assert complaints == []
