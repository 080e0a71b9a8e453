"""Signals become calls; a second stopping one ends the process at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import gevent
import pytest

from gmesh.daemon.logging_setup import DaemonLog
from gmesh.daemon.signals import SignalActions, Signals


class Calls(list[object]):
    """What happened, in order."""

    def actions(self) -> SignalActions:
        def fail() -> None:
            self.append("retry")
            raise RuntimeError("no luck")

        return SignalActions(
            stop=lambda: self.append("stop"),
            reload=lambda: self.append("reload"),
            retry=fail,
            dump_connections=lambda: self.append("connections"),
            dump_all=lambda: self.append("all"),
            purge=lambda: self.append("purge"),
        )

    def wait(self, count: int) -> None:
        with gevent.Timeout(5):
            while len(self) < count:
                gevent.sleep(0.01)


@pytest.fixture
def calls() -> Iterator[Calls]:
    made = Calls()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGPIPE)}
    daemon_log = DaemonLog("tinc", 0)
    daemon_log.subscribe(-1, lambda level, created, text: made.append(text))
    signals = Signals(made.actions(), exit_now=lambda code: made.append(("exit", code)))
    signals.install()
    yield made
    signals.remove()
    daemon_log.close()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGHUP, ["Got HUP signal", "reload"]),
        (signal.SIGUSR1, ["connections"]),
        (signal.SIGUSR2, ["all"]),
        (signal.SIGWINCH, ["purge"]),
    ],
)
def test_each_signal_has_its_action(calls: Calls, number: signal.Signals, expected: list[str]) -> None:
    os.kill(os.getpid(), number)
    calls.wait(len(expected))
    assert calls == expected


def test_a_failing_action_is_logged_and_survived(calls: Calls) -> None:
    os.kill(os.getpid(), signal.SIGALRM)
    calls.wait(3)
    assert calls[:3] == ["Got ALRM signal", "retry", "Internal error after signal SIGALRM: no luck"]


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_stop_and_a_second_stop(calls: Calls, first: signal.Signals) -> None:
    os.kill(os.getpid(), first)
    calls.wait(2)
    assert calls == [f"Got {first.name[3:]} signal", "stop"]
    os.kill(os.getpid(), signal.SIGTERM)
    calls.wait(4)
    assert calls[2:4] == ["Got TERM signal", ("exit", 1)]
