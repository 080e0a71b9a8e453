"""GraphDumpFile: the graph in graphviz form, written to a file or into a command when it changed (daemon-cli 3).

Not here: the graphs that the control tool prints.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable

import gevent
import gevent.event
from gevent.os import nb_write

from gmesh.daemon.logging_setup import log
from gmesh.errors import GmeshError
from gmesh.mesh.registry import Registry
from gmesh.net.children import inherited_environment, start_command

INTERVAL = 60.0
"""The least number of seconds between two dumps."""
COMMAND_LIMIT = 30.0
"""Seconds that a command may take to read the graph."""


def graph_text(registry: Registry) -> str:
    """Every node and every edge that we know of, reachable or not, as tinc 1.0 writes them."""
    lines = ["digraph {"]
    nodes = [registry.nodes[name] for name in sorted(registry.nodes)]
    lines += [f'\t"{node.name}" [label = "{node.name}"];' for node in nodes]
    lines += [f'\t"{node.name}" -> "{target}";' for node in nodes for target in sorted(node.edges)]
    return "\n".join([*lines, "}", ""])


class GraphDump:
    """`run` is the body of a greenlet. ``target`` gives the option's value now: a file, ``|command``, or nothing."""

    def __init__(self, registry: Registry, target: Callable[[], str], interval: float = INTERVAL) -> None:
        self.changed = gevent.event.Event()
        """Set whenever the graph or the option may have changed."""
        self._registry = registry
        self._target = target
        self._interval = interval

    def run(self) -> None:
        """Dump after changes, for ever; a failure is a line in the log, and another try after the interval."""
        last = ("", "")
        while True:
            # An edge more may change nothing else, so that nobody tells of it.
            self.changed.wait(self._interval)
            self.changed.clear()
            target = self._target()
            if not target:
                continue
            text = graph_text(self._registry)
            if (target, text) == last:
                continue
            try:
                self._write(target, text)
                last = (target, text)
            except (OSError, ValueError, GmeshError) as error:
                log(0, logging.ERROR, f"Could not write the graph to {target}: {error}", "graph dump")
            gevent.sleep(self._interval)

    def _write(self, target: str, text: str) -> None:
        if target.startswith("|"):
            _feed(target[1:], text.encode())
            return
        new = f"{target}.new"
        with open(new, "w", encoding="ascii") as file:
            file.write(text)
        os.replace(new, target)


def _feed(command: str, data: bytes) -> None:
    """Run ``command`` in a shell with ``data`` as its standard input. Raises GmeshError where it fails."""
    loop = gevent.get_hub().loop
    loop.install_sigchld()
    theirs, ours = os.pipe()
    ended = gevent.event.Event()
    try:
        pid = start_command(command, inherited_environment(), stdin=theirs)
        watcher = loop.child(pid, False)
        watcher.start(ended.set)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    try:
        with gevent.Timeout(COMMAND_LIMIT, GmeshError(f"it took longer than {COMMAND_LIMIT:g} s")):
            _write_all(ours, data)
            os.close(ours)
            ours = -1
            ended.wait()
            status = os.waitstatus_to_exitcode(watcher.rstatus)
            if status != 0:
                raise GmeshError(f"it ended with {status}")
    finally:
        if ours >= 0:
            os.close(ours)
        if not ended.is_set():
            os.kill(pid, signal.SIGTERM)
            ended.wait(1.0)
        watcher.stop()
        watcher.close()


def _write_all(descriptor: int, data: bytes) -> None:
    os.set_blocking(descriptor, False)
    # A command need not read to the end; its exit status says whether it was content.
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[nb_write(descriptor, data) :]
