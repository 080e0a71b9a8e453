"""Runs the administrator's scripts one at a time, in the order of their events, without holding up the daemon.

Not here: which events there are (the mesh's actions), and waiting for the right moment at start and stop, which is the
daemon's: it calls `ScriptQueue.wait` after tinc-up and `ScriptQueue.finish` at the end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import gevent
from gevent.event import Event

from gmesh.daemon.logging_setup import log
from gmesh.daemon.script_backlog import ScriptBacklog, ScriptJob
from gmesh.mesh.actions import NodeDown, NodeUp, SubnetDown, SubnetUp
from gmesh.net.children import inherited_environment, start_command
from gmesh.values import Address

SLOW_AFTER = 60.0
"""Seconds after which a running script is complained about; again after twice, four times, ... that."""

STOP_LIMIT = 60.0
"""Seconds that all scripts together may take at the end, before the running one is ended and the rest given up."""

LAST_LIMIT = 10.0
"""Seconds that the last script (tinc-down) may take after that."""


@dataclass(frozen=True, slots=True)
class ScriptSettings:
    """What scripts need to know (scripts 3 and 4). Empty means: there is none. ``confbase`` is absolute."""

    confbase: str
    name: str
    netname: str = ""
    device: str = ""
    interface: str = ""
    interpreter: str = ""
    extension: str = ""

    def variables(self, debug: int) -> dict[str, str]:
        """The variables that every script gets."""
        always = {"NAME": self.name, "DEBUG": str(debug)}
        optional = {"NETNAME": self.netname, "DEVICE": self.device, "INTERFACE": self.interface}
        return always | {key: value for key, value in optional.items() if value}

    def path(self, script: str) -> str:
        """The file of a script."""
        return os.path.join(self.confbase, script + self.extension)


def remote_variables(node: str, address: Address | None) -> dict[str, str]:
    """NODE, and the address its packets go to; None: the node is ourselves, which has none."""
    variables = {"NODE": node}
    if address is not None:
        variables |= {"REMOTEADDRESS": address.host, "REMOTEPORT": address.port}
    return variables


class ScriptQueue:
    """All scripts of one daemon.

    ``settings`` may be replaced at any time (a reload) and counts from the next script on. ``debug`` gives the current
    debug level. `run` is the body of the one greenlet that works; the owner spawns it under supervision.
    """

    def __init__(
        self, settings: ScriptSettings, debug: Callable[[], int], backlog: ScriptBacklog | None = None
    ) -> None:
        self.settings = settings
        self._debug = debug
        self._backlog = ScriptBacklog() if backlog is None else backlog
        self._work = Event()
        self._idle = Event()
        self._idle.set()
        self._running: tuple[str, int] | None = None

    def __len__(self) -> int:
        """How many scripts wait or run."""
        return len(self._backlog) + (self._running is not None)

    def put(
        self, script: str, variables: Mapping[str, str] | None = None, *, subject: Hashable = None, up: bool = True
    ) -> None:
        """Queue a script, if its file exists now. Never yields, never raises."""
        if not os.path.exists(self.settings.path(script)):
            return
        given_up = self._backlog.put(ScriptJob(script, variables or {}, subject, up))
        if given_up:
            log(0, logging.WARNING, f"Too many scripts wait: left out {given_up} of them", key="scripts left out")
        self._idle.clear()
        self._work.set()

    def tinc(self, *, up: bool) -> None:
        """tinc-up or tinc-down."""
        self.put("tinc-up" if up else "tinc-down")

    def mesh_event(self, event: NodeUp | NodeDown | SubnetUp | SubnetDown) -> None:
        """host-up and hosts/NODE-up, or subnet-up, or their mirrors."""
        up = isinstance(event, NodeUp | SubnetUp)
        word = "up" if up else "down"
        if isinstance(event, SubnetUp | SubnetDown) and not os.path.exists(self.settings.path(f"subnet-{word}")):
            # A neighbour may come or go with thousands of subnets, and the loop waits for this.
            return
        variables = remote_variables(event.node, event.address)
        if isinstance(event, NodeUp | NodeDown):
            self.put(f"host-{word}", variables, subject=("host", event.node), up=up)
            self.put(f"hosts/{event.node}-{word}", variables, subject=("node", event.node), up=up)
        else:
            variables |= {"SUBNET": event.subnet.format(with_weight=False), "WEIGHT": str(event.subnet.weight)}
            self.put(f"subnet-{word}", variables, subject=(event.node, event.subnet), up=up)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no script waits or runs; False when ``timeout`` seconds were not enough."""
        return bool(self._idle.wait(timeout))

    def finish(self, limit: float = STOP_LIMIT, last_limit: float = LAST_LIMIT) -> None:
        """Let the whole queue run out. A script that hangs is ended at last, so this returns in bounded time."""
        if self.wait(limit):
            return
        dropped = self._backlog.keep_last()
        name = self._running[0] if self._running else "?"
        log(0, logging.ERROR, f"Script {name} does not end: giving it up, and {dropped} others")
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._signal(number)
            if self.wait(last_limit):
                return

    def run(self) -> None:
        """Work for ever."""
        gevent.get_hub().loop.install_sigchld()
        while True:
            self._work.wait()
            while len(self._backlog):
                self._execute(self._backlog.pop())
            self._work.clear()
            self._idle.set()

    def _execute(self, job: ScriptJob) -> None:
        settings = self.settings
        path = settings.path(job.name)
        if not os.path.exists(path):
            return
        log(2, logging.INFO, f"Executing script {job.name}")
        command = f"{settings.interpreter} {shlex.quote(path)}".lstrip()
        environment = inherited_environment() | settings.variables(self._debug()) | dict(job.variables)
        try:
            pid = _start(settings.confbase, command, environment)
        except (OSError, ValueError) as error:
            log(0, logging.ERROR, f"Could not run script {job.name}: {error}", key="script failure")
            return
        self._running = (job.name, pid)
        try:
            status = self._reap(job.name, pid)
        finally:
            self._running = None
        _report(job.name, status)

    def _reap(self, name: str, pid: int) -> int:
        """The wait status of ``pid``, which must have been started without yielding since."""
        ended = Event()
        watcher = gevent.get_hub().loop.child(pid, False)
        watcher.start(ended.set)
        try:
            patience = SLOW_AFTER
            while not ended.wait(patience):
                log(0, logging.WARNING, f"Script {name} runs for {patience:.0f} s; {len(self._backlog)} others wait")
                patience *= 2
            return int(watcher.rstatus)
        finally:
            watcher.stop()
            watcher.close()

    def _signal(self, number: int) -> None:
        if self._running is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._running[1], number)


def _start(directory: str, command: str, environment: Mapping[str, str]) -> int:
    """Start ``command`` in a shell in ``directory``; returns its process id. Raises OSError."""
    # A daemon stays in CONFBASE as tinc's does; going there by the shell is for all who do not.
    line = command if _is_here(directory) else f"cd {shlex.quote(directory)} && {command}"
    return start_command(line, environment)


def _is_here(directory: str) -> bool:
    try:
        return os.path.samefile(".", directory)
    except OSError:
        return False


def _report(name: str, status: int) -> None:
    if os.WIFEXITED(status):
        code = os.WEXITSTATUS(status)
        if code:
            log(0, logging.ERROR, f"Script {name} exited with non-zero status {code}", key=f"script {name} status")
    elif os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        text = signal.strsignal(number) or "unknown signal"
        log(0, logging.ERROR, f"Script {name} was killed by signal {number} ({text})", key=f"script {name} signal")
    else:
        log(0, logging.ERROR, f"Script {name} terminated abnormally", key=f"script {name} end")
