"""fsck beside tinc 1.1's: the same findings in the same words, the same exit code, the same repairs (control-cli 11).

Only with Ed25519 keys: pre18 takes every RSA pair for a mismatch where OpenSSL is 3.0 or later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_pair import Pair, Side, needs_tinc

pytestmark = needs_tinc

_HINTS = re.compile(
    r"$|TOOL|No tinc configuration found|You can generate new|The only scripts in|tinc-up, tinc-down|Warning: old key|"
    r"You are not running|You are currently not|Could not find Name|Invalid name for myself|Invalid size \d+ for public"
)
"""What tinc says below a finding: gmesh says it too, in lines of its own form."""


@pytest.fixture
def twins(tmp_path: Path) -> Pair:
    pair = Pair(tmp_path)
    assert pair.tinc.run("init", "foo").code == 0
    net = pair.tinc.where / "net"
    host = net / "hosts" / "foo"
    host.write_text(host.read_text().partition("-----END RSA PUBLIC KEY-----\n")[2])
    (net / "rsa_key.priv").unlink()
    import shutil

    shutil.copytree(net, pair.gmesh.where / "net")
    return pair


def findings(side: Side, *options: str) -> tuple[int, set[str]]:
    done = side.run("fsck", options=(*options, "-c", "net"))
    assert done.out == ""
    return done.code, {line.rstrip() for line in done.err if not _HINTS.match(line)}


def both(twins: Pair, *options: str) -> tuple[int, set[str]]:
    theirs, ours = (findings(side, *options) for side in twins.sides)
    assert ours == theirs
    return ours


def write(*parts: str) -> Callable[[Path], None]:
    """Append the last of ``parts`` to the file that the first names."""

    def work(net: Path) -> None:
        with (net / parts[0]).open("a") as file:
            file.write(parts[1])

    return work


def remove(*names: str) -> Callable[[Path], None]:
    return lambda net: [(net / name).unlink() for name in names] and None


def mode(bits: int, *names: str) -> Callable[[Path], None]:
    def work(net: Path) -> None:
        for name in names:
            (net / name).touch()
            (net / name).chmod(bits)

    return work


def test_a_fresh_directory_and_words(twins: Pair) -> None:
    assert both(twins) == (0, set())
    assert twins.same("fsck", "x").err == ["Too many arguments!"]


@pytest.mark.parametrize(
    ("work", "code", "count"),
    [
        (remove("tinc.conf"), 1, 1),
        (lambda net: (net / "tinc.conf").write_text(""), 1, 1),
        (lambda net: (net / "tinc.conf").write_text("Name = a-b\n"), 1, 1),
        (remove("ed25519_key.priv"), 1, 1),
        (lambda net: (net / "hosts" / "foo").write_text("Weight = 1\n"), 0, 1),
        (remove("hosts/foo"), 0, 2),
        (mode(0o666, "ed25519_key.priv"), 0, 1),
        (mode(0o644, "fake-up", "fake-down"), 0, 2),
        (mode(0o644, "tinc-up", "host-down", "hosts/foo-up", "hosts/x-up"), 0, 4),
        (write("tinc.conf", "GraphDumpFile = x\n"), 0, 1),
        (write("tinc.conf", "Fnord = 1\n"), 0, 1),
        (write("tinc.conf", "Mode = hub\nHostnames = no\nmode = hub\n"), 0, 1),
    ],
)
def test_findings(twins: Pair, work: Callable[[Path], None], code: int, count: int) -> None:
    twins.prepare(work)
    exit_code, lines = both(twins)
    assert (exit_code, len(lines)) == (code, count)


def test_repairs(twins: Pair) -> None:
    twins.prepare(lambda net: (net / "hosts" / "foo").write_text("Weight = 1\n"))
    twins.prepare(mode(0o666, "ed25519_key.priv"))
    twins.prepare(mode(0o644, "tinc-up", "hosts/foo-up"))
    before = twins.gmesh.tree()
    _, lines = both(twins)
    assert twins.gmesh.tree() == before
    assert len(lines) == 4
    theirs, ours = (findings(side, "--force") for side in twins.sides)
    # That a script was made executable tinc does not say.
    assert {line for line in ours[1] if not line.startswith("Made ")} == theirs[1]
    assert ours[0] == theirs[0] == 0
    assert {"Fixed permissions of net/ed25519_key.priv.", "Wrote Ed25519 public key to net/hosts/foo."} < ours[1]
    twins.same_files()
    assert both(twins) == (0, set())


def test_what_tinc_repairs_gmesh_finds_well(twins: Pair) -> None:
    twins.prepare(lambda net: (net / "hosts" / "foo").write_text("Port = 7\n"))
    assert twins.tinc.run("--force", "fsck").code == 0
    host = (twins.tinc.where / "net" / "hosts" / "foo").read_text()
    (twins.gmesh.where / "net" / "hosts" / "foo").write_text(host)
    key = (twins.tinc.where / "net" / "ed25519_key.priv").read_text()
    (twins.gmesh.where / "net" / "ed25519_key.priv").write_text(key)
    assert findings(twins.gmesh) == (0, set())


def test_better_than_tinc_a_public_key_of_another_pair_is_made_anew(twins: Pair) -> None:
    twins.prepare(lambda net: (net / "hosts" / "foo").write_text(f"Ed25519PublicKey = {'A' * 43}\n"))
    assert both(twins)[0] == 1
    assert findings(twins.tinc, "--force")[0] == 1
    assert findings(twins.gmesh, "--force")[0] == 0
    assert findings(twins.gmesh) == (0, set())


def test_better_than_tinc_a_line_without_value_fails(twins: Pair) -> None:
    """It ends the reading of the file; the git version of tinc 1.1 exits with 1 too."""
    twins.prepare(write("tinc.conf", "Mode\n"))
    assert findings(twins.tinc)[0] == 0
    assert findings(twins.gmesh)[0] == 1
