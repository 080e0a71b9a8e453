"""Priority, readability, and the janitor that cleans up with the rights we gave up."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from gmesh.daemon import privileges
from gmesh.errors import GmeshError


def test_unknown_user_and_priority() -> None:
    with pytest.raises(GmeshError, match=r"^unknown user `nosuchuser'$"):
        privileges.find_user("nosuchuser")
    with pytest.raises(GmeshError, match=r"^Invalid priority `urgent'!$"):
        privileges.set_priority("urgent")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    names = {"open": 0o644, "closed": 0o600}
    for name, mode in names.items():
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(mode)
    paths = [str(tmp_path / name) for name in [*names, "missing"]]
    assert privileges.unreadable_for(nobody, paths) == [str(tmp_path / "closed")]


@pytest.mark.parametrize("how", ["janitor.close()", "os.kill(os.getpid(), 9)"])
def test_the_janitor_cleans_up_and_holds_nothing_open(tmp_path: Path, how: str) -> None:
    target = tmp_path / "file"
    target.write_text("")
    program = (
        "from gevent import monkey; monkey.patch_all()\n"
        "import os, sys, gevent; gevent.sleep(0)\n"
        "from gmesh.daemon.privileges import Janitor\n"
        "reader, writer = os.pipe()\n"
        f"janitor = Janitor(lambda: os.unlink({str(target)!r}))\n"
        "from gmesh.daemon.plain_os import plain\n"
        "plain('close')(writer)\n"
        "assert os.read(reader, 1) == b''\n"
        f"{how}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=20, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == (0 if "close" in how else -9)
    if "close" in how:
        assert not target.exists()
    watch = os.open(tmp_path, os.O_RDONLY)
    for _ in range(10_000):
        if not target.exists():
            break
        os.sched_yield()
    os.close(watch)
    assert not target.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up rights")
def test_dropping(tmp_path: Path) -> None:
    program = (
        "import os\n"
        "from gmesh.daemon import privileges\n"
        f"privileges.drop(privileges.find_user('nobody'), {str(tmp_path)!r})\n"
        "print(os.getuid(), os.getgid(), os.getcwd(), os.listdir('/'))\n"
    )
    (tmp_path / "inside").write_text("")
    tmp_path.chmod(0o755)
    nobody = pwd.getpwnam("nobody")
    done = subprocess.run([sys.executable, "-c", program], timeout=20, capture_output=True, text=True, check=True)
    assert done.stdout == f"{nobody.pw_uid} {nobody.pw_gid} / ['inside']\n"


def test_process_priority_sets_the_niceness() -> None:
    """In a child, which may be made nicer and never less so."""
    code = "import os; from gmesh.daemon import privileges; privileges.set_priority('Low'); print(os.getpriority(0, 0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "10"
