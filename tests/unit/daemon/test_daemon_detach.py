"""Detaching and the umbilical, with and without gevent's changed system calls."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gmesh.daemon import detach as module

PROGRAM = """
{patch}
import os, sys
from gmesh.daemon import detach
starter = detach.umbilical_from_environment(os.environ)
before = (os.getsid(0), os.getpid())
line = detach.detach(starter)
assert os.getsid(0) == os.getpid() != before[1]
assert os.readlink("/proc/self/fd/2") == os.devnull
os.write(line.descriptor, b"a line\\n")
if sys.argv[1] == "ready":
    line.ready()
    line.ready()
    {linger}
"""


@pytest.mark.parametrize("patch", ["", "from gevent import monkey; monkey.patch_all(); import gevent; gevent.sleep(0)"])
@pytest.mark.parametrize(("outcome", "code"), [("ready", 0), ("dies", 1)])
@pytest.mark.parametrize("with_starter", [False, True])
def test_the_parent_waits_and_tells(patch: str, outcome: str, code: int, *, with_starter: bool, tmp_path: Path) -> None:
    done = tmp_path / "done"
    linger = f"import time; time.sleep(0.5); open({str(done)!r}, 'w').close()"
    ours, theirs = os.pipe()
    environment = dict(os.environ)
    if with_starter:
        environment[module.UMBILICAL] = f"{theirs} 1"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(patch=patch, linger=linger), outcome],
        env=environment,
        pass_fds=[theirs],
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == code
    assert not done.exists()
    with os.fdopen(ours, "rb") as file:
        said = file.read()
    if with_starter:
        assert said == b"a line\n" + (b"\0" if outcome == "ready" else b"")
        assert stderr == b""
    else:
        assert stderr == b"a line\n"


@pytest.mark.parametrize("text", ["", "x", "2 0", "99999 0", "999999999999999999999 0", "-1 0"])
def test_bad_umbilicals_are_ignored(text: str) -> None:
    environment = {module.UMBILICAL: text}
    assert module.umbilical_from_environment(environment) is None
    assert environment == {}


def test_the_umbilical_is_not_inherited() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    made = module.umbilical_from_environment({module.UMBILICAL: f"{writer} 1"})
    assert made is not None
    assert made.colour
    assert not os.get_inheritable(writer)
    made.abandon()
    assert os.read(reader, 1) == b""
    os.close(reader)
