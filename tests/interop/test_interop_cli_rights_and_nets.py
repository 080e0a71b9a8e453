"""gmesh beside tinc's own tool for those who may not, and with netnames below a private /etc/tinc."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_pair import GMESH, TINC11, Pair, Result, needs_tinc

pytestmark = [needs_tinc, pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")]

NOBODY = 65534


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that others reach, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="gmesh-cli-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def twins(open_path: Path) -> Pair:
    """Two directories that belong to somebody without rights."""
    pair = Pair(open_path)
    assert pair.tinc.run("init", "foo").code == 0
    shutil.copytree(pair.tinc.where / "net", pair.gmesh.where / "net")
    for path in (open_path, *open_path.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    return pair


def closed(*names: str, mode: int = 0) -> Callable[[Path], None]:
    def work(net: Path) -> None:
        for name in names:
            (net / name).chmod(mode)

    return work


@pytest.mark.parametrize(
    "work",
    [
        closed("tinc.conf"),
        closed("hosts/foo"),
        closed("tinc.conf", "hosts/foo"),
        closed("hosts"),
        closed("hosts", ".", mode=0o555),
    ],
    ids=["no tinc.conf", "no host file", "neither", "no hosts", "read-only"],
)
def test_without_the_right(twins: Pair, work: Callable[[Path], None], open_path: Path) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("there is no setpriv")
    twins.prepare(work)
    before = twins.gmesh.tree()
    for side in twins.sides:
        side.program = _as_nobody(side.program, open_path)
    for words, text in (
        (["get", "Name"], ""),
        (["set", "Mode", "hub"], ""),
        (["get", "Subnet"], ""),
        (["add", "Subnet", "10.0.0.0/8"], ""),
        (["export"], ""),
        (["export-all"], ""),
        (["import"], "Name = new\nWeight = 1\n"),
    ):
        theirs, ours = (side.run(*words, text=text) for side in twins.sides)
        assert alike(ours) == alike(theirs), words
    if not (twins.gmesh.where / "net").stat().st_mode & 0o200:
        assert twins.gmesh.tree() == before


def alike(result: Result) -> Result:
    """tinc names the temporary file that it cannot make, gmesh the file that it cannot write."""
    err = [
        re.sub(
            r"^Could not (open temporary|write configuration) file (.*?)(\.config\.tmp)?:", r"Cannot write \2:", line
        )
        for line in result.err
    ]
    # An empty value of tinc's own query is no subnet to it.
    return Result(result.code, result.out, [line for line in err if line != "Malformed subnet definition "])


def _as_nobody(program: Path, where: Path) -> Path:
    wrapper = where / f"{program.name}-as-nobody"
    wrapper.write_text(f'#!/bin/sh\nexec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {program} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


NETS = """\
mount --bind "$2" /etc/tinc || exit 99
"$1" network
"$1" -n foo init foo 2>/dev/null
"$1" -nbar init bar 2>/dev/null
"$1" network
mkdir /etc/tinc/none /etc/tinc/.hidden
touch /etc/tinc/.hidden/tinc.conf
NETNAME=foo "$1" get Name
"$1" --net bar get Name
"$1" -n none get Name 2>&1
"$1" -n foo init foo 2>&1
printf 'network bar\\nget Name\\nnetwork none\\nget Name\\nnetwork foo\\nget Name\\n' | "$1" 2>&1
"$1" network | sort
"$1" -n foo fsck >/dev/null 2>&1
"""


def test_networks(tmp_path: Path) -> None:
    """In a mount namespace, where /etc/tinc is a directory of the test's own."""
    if not Path("/etc/tinc").is_dir() or shutil.which("unshare") is None:
        pytest.skip("there is no /etc/tinc or no unshare")
    said = []
    for program in (TINC11, GMESH):
        nets = tmp_path / program.name
        nets.mkdir()
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", NETS, "sh", str(program), str(nets)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode == 99 or "unshare" in done.stderr:
            pytest.skip(f"no mount namespace here: {done.stderr}")
        said.append(done.stdout)
        assert sorted(path.name for path in nets.iterdir()) == [".hidden", "bar", "foo", "none"]
    # tinc shows what it says on standard output when it ends, gmesh after each command.
    assert sorted(said[1].splitlines()) == sorted(said[0].splitlines())
    assert said[1].count("foo") > 3
