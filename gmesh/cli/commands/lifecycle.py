"""``gmesh start``, ``stop`` and ``restart`` (control-cli 2)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys

from gmesh.cli.client import NoSocketError
from gmesh.cli.context import CommandError, Context, expect
from gmesh.daemon.detach import UMBILICAL, follow_umbilical
from gmesh.daemon.pidfile import is_alive, read_pidfile
from gmesh.proto.control import ControlCode

STOP_LIMIT = 120.0
"""Seconds of silence after which a stop counts as stuck: more than the daemon gives its scripts."""


def start(context: Context, arguments: list[str]) -> int:
    """Start a daemon with our options and those in ``arguments``, show what it says, and wait until it is ready."""
    try:
        pid = read_pidfile(context.pid_path).pid
    except (OSError, ValueError):
        pid = 0
    if pid and is_alive(pid):
        sys.stderr.write(f"A tincd is already running{context.for_net} with pid {pid}.\n")
        return 0
    command = daemon_command() + _own_options(context) + arguments
    ours, theirs = socket.socketpair()
    with ours, theirs:
        colour = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        environment = {**os.environ, UMBILICAL: f"{theirs.fileno()} {int(colour)}"}
        try:
            child = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()])
        except OSError as error:
            raise CommandError(f"Error starting {command[0]}: {error.strerror}") from None
        theirs.close()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            ready = follow_umbilical(ours.fileno(), 2)
            code = child.wait()
        finally:
            signal.signal(signal.SIGINT, before)
    if not ready or code != 0:
        raise CommandError(f"Error starting {command[0]}")
    return 0


def stop(context: Context, arguments: list[str]) -> int:
    """Stop the daemon, and wait until it has ended, its scripts included."""
    expect(arguments, 0, 0)
    try:
        connection = context.connect()
    except NoSocketError as error:
        os.kill(error.pid, signal.SIGTERM)
        sys.stderr.write(f"Sent TERM signal to process with PID {error.pid}.\n")
        return 0
    connection.send(ControlCode.STOP)
    if not connection.wait_for_end(STOP_LIMIT):
        raise CommandError(f"The daemon with PID {connection.pid} does not stop.")
    context.disconnect()
    return 0


def restart(context: Context, arguments: list[str]) -> int:
    """Stop, whatever comes of it, and start."""
    try:
        stop(context, [])
    except CommandError as error:
        sys.stderr.write(f"{error}\n")
    return start(context, arguments)


def daemon_command() -> list[str]:
    """How to run ``gmeshd``: the one beside us, or in the PATH, or by our own interpreter."""
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "gmeshd")
    if os.access(beside, os.X_OK) and os.path.isfile(beside):
        return [beside]
    found = shutil.which("gmeshd")
    return [found] if found else [sys.executable, "-m", "gmesh.cli.gmeshd"]


def _own_options(context: Context) -> list[str]:
    given = {"--config": context.confbase, "--net": context.netname, "--pidfile": context.pidfile}
    return [f"{name}={value}" for name, value in given.items() if value is not None]
