"""gmesh beside tinc 1.1's own tool: the same words, the same output, exit codes and files (control-cli)."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cli_pair import Pair, Result, needs_tinc

pytestmark = needs_tinc

MESSY = (
    "Mode=hub\n#Mode = x\nMODE\t=  router  \r\nWeight 3\n\nName = foo\nConnectTo = A\nConnectTo = a\n"
    "ConnectTo = b\nInterface = a b"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory made by tinc's own `init`."""
    pair = Pair(tmp_path_factory.mktemp("made"))
    assert pair.tinc.run("init", "foo").code == 0
    return pair.tinc.where / "net"


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.fixture
def twins(pair: Pair, made: Path) -> Pair:
    pair.copy(made)
    return pair


def write(twins: Pair, name: str, text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    twins.prepare(lambda net: (net / name).write_bytes(data))


# General


@pytest.mark.parametrize(
    "words",
    [
        ["bogus"],
        ["get"],
        ["VERSION", "x"],
        ["pid", "x"],
        ["dump"],
        ["dump", "a", "b"],
        ["dump", "what"],
        ["dump", "invitations"],
        ["LIST", "Invitations"],
        ["info"],
        ["debug"],
        ["debug", "1", "2"],
        ["disconnect"],
        ["disconnect", "a-b"],
        ["reload"],
        ["purge", "x"],
        ["retry", "x"],
        ["stop"],
        ["log", "a", "b"],
    ],
)
def test_words_that_fail_or_need_no_daemon(twins: Pair, words: list[str]) -> None:
    twins.same(*words)


@pytest.mark.parametrize(
    "options",
    [
        ("-z",),
        ("--foo",),
        ("-n", "a/b"),
        ("-n", ".a"),
        ("--conf", "net"),
        ("-cnet", "-n", "."),
        ("-n", "", "-c", "net"),
        ("-c", "x", "-c", "net"),
        ("-n", "x", "-n", "y", "-c", "net", "-b", "--force"),
    ],
)
def test_options(twins: Pair, options: tuple[str, ...]) -> None:
    words = ("get", "Name")
    theirs, ours = (side.run(*words, options=options) for side in twins.sides)
    # With both a netname and a directory tinc complains always, gmesh where they contradict.
    assert ours.code == theirs.code
    assert ours.out == theirs.out
    assert [re.sub(r"^\S+: ", "", line) for line in ours.err if "Try" not in line] == [
        re.sub(r"^\S+: ", "", line) for line in theirs.err if "Try" not in line
    ]


def test_shell_sessions(twins: Pair) -> None:
    session = "  # x\n# comment\n\n  get Name\n\tset Mode hub\nget Mode\nbogus\ndump\nGET mode\nexit\nget Name\n"
    done = twins.same(text=session)
    assert (done.code, done.out) == (1, "foo\nhub\nhub\n")
    assert twins.same(text="get Name\nquit x\nget Name\n") == Result(0, "foo\n", [])
    assert twins.same(text="") == Result(0, "", [])
    twins.same(text="network foo\nget Name\nnetwork .\nget Name\ninit a b\n")
    # The reader of an export has to see its end, so that nothing comes after it.
    assert twins.same(text="export\nget Name\n").out.count("foo") == 1


# init and keys


def test_init(pair: Pair) -> None:
    assert pair.same("init", "a-b").code == 1
    assert pair.same("init").err == ["No Name given!"]
    assert pair.same("init", "a", "b").err == ["Too many arguments!"]
    theirs, ours = (side.run("init", "foo") for side in pair.sides)
    assert [line for line in ours.err if "bind" not in line] == [line for line in theirs.err if "bind" not in line]
    assert ours.code == theirs.code == 0
    assert pair.same("init", "foo").err == ["Configuration file net/tinc.conf already exists!"]
    theirs_tree, ours_tree = pair.tinc.tree(), pair.gmesh.tree()
    assert ours_tree.pop("net/cache")[0] == 0o755
    # What the placeholder says is each tool's own.
    assert ours_tree.pop("net/tinc-up")[0] == theirs_tree.pop("net/tinc-up")[0]
    for tree in (theirs_tree, ours_tree):
        mode, text = tree["net/hosts/foo"]
        tree["net/hosts/foo"] = mode, re.sub(r"Port = \d+\n", "", text)
    assert ours_tree == theirs_tree


def test_init_below_a_directory_that_is_not_there(pair: Pair) -> None:
    assert pair.same("init", "foo", options=("-c", "x/y")).err == [
        "Could not create directory x/y: No such file or directory"
    ]


@pytest.mark.parametrize("size", ["foobar", "512", "16384", "-1", "0x800"])
def test_sizes_of_keys(twins: Pair, size: str) -> None:
    assert twins.same("generate-rsa-keys", size).code == 1
    twins.same_files()


def test_new_keys(twins: Pair) -> None:
    twins.same("generate-ed25519-keys", "x")
    twins.same("generate-keys", "1", "2")
    twins.same("generate-rsa-keys", "1", "2")
    done = twins.same("generate-ed25519-keys")
    assert done.err.count("Warning: old key(s) found and disabled.") == 2
    twins.same("generate-rsa-keys", "1025")
    twins.same("generate-keys", "1024")
    twins.same_files()


# get, set, add, del


SETTINGS = [
    "get Name",
    "get Foo",
    "get foo.",
    "get foo.Foo",
    "get b-d.Port",
    "get bar.Port",
    "get Cipher",
    "get",
    "set Broadcast=no",
    "get broadcast",
    "get mode switch",
    "add Mode router",
    "set Mode",
    "add Mode",
    "set Subnet 10.0.0.1/24",
    "add Subnet 10.0.0.0/24",
    "add Subnet 10.1.0.0/24#5",
    "add subnet 10.0.0.0/24",
    "set Subnet 10.2.0.0/16",
    "del Subnet 10.2.0.0/16",
    "set GraphDumpFile x",
    "del graphdumpfile",
    "set foo.Mode hub",
    "set Quux 1",
    "del Quux",
    "set bar.Weight 3",
    "set Port 700",
    "config Name",
    "config",
    "config get Name",
    "config add ConnectTo bar",
    "config change ConnectTo baz",
    "config replace ConnectTo bay",
    "config del ConnectTo",
    "config get",
    "set bad-name.Subnet 1.2.3.4",
    "set",
    "set .Port 1",
    "get Mode 1.2.3.4/0",
    "add = foo",
    "get =",
    "set PrivateKey X",
    "set foo.bar.Subnet x",
    "get foo.bar.Subnet",
    "set Weight 12",
    "del Weight",
    "del Mode xx",
    "set Interface a  b",
    "set Interface ==x",
    "set Proxy  =  exec  cat",
    "set AutoConnect\tno",
    "set foo.PMTU 1400",
    "get foo.PMTU",
    "del foo.PMTU 1401",
    "del foo.PMTU 1400",
]


def test_settings_one_by_one(twins: Pair) -> None:
    for line in SETTINGS:
        twins.same(text=f"{line}\n")
        twins.same_files()


def test_settings_with_force(twins: Pair) -> None:
    options = ("--force", "-c", "net")
    for line in (
        "set GraphDumpFile x",
        "set foo.Mode hub",
        "del foo.Mode hub",
        "set Quux 1",
        "get Quux",
        "set Name x",
    ):
        twins.same(text=f"{line}\n", options=options)
    twins.same_files()


@pytest.mark.parametrize(
    "line",
    [
        "get Mode",
        "set Mode hub",
        "add Mode hub",
        "add Mode switch",
        "del Mode",
        "del mode HUB",
        "del Mode switch",
        "set ConnectTo b",
        "set ConnectTo A",
        "add ConnectTo a",
        "add ConnectTo B",
        "add ConnectTo c",
        "del connectto a",
        "set connectto=zed",
        "get ConnectTo",
        "set Name q",
        "add Mode router",
        "add Interface y",
        "del ConnectTo c",
    ],
)
def test_a_file_that_others_have_written(twins: Pair, line: str) -> None:
    write(twins, "tinc.conf", MESSY)
    twins.same(text=f"{line}\n")
    twins.same_files()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_random_sessions(twins: Pair, seed: int) -> None:
    chance = random.Random(seed)
    names = ["Mode", "mode", "ConnectTo", "connectTO", "Hostnames", "Device", "PingTimeout", "foo.Weight", "Weight"]
    texts = ["switch", "Switch", "a", "A", "b", "a b", "5", "yes", "= x"]
    lines = []
    for _ in range(60):
        verb = chance.choice(["set", "set", "add", "add", "add", "del", "get"])
        name = chance.choice(names)
        value = "" if verb == "get" else chance.choice(texts + [""] * (verb == "del"))
        lines.append(f"{verb} {name}{chance.choice([' ', '=', ' = ']) if value else ''}{value}\n")
    write(twins, "tinc.conf", MESSY.replace("Weight 3\n", ""))
    twins.same(text="".join(lines))
    twins.same_files()


def test_files_that_are_not_there(pair: Pair, made: Path) -> None:
    for words in (["get", "Name"], ["set", "Name", "foo"], ["set", "Port", "1"], ["export"], ["export-all"]):
        assert pair.same(*words).code == 1
    pair.prepare(lambda net: net.mkdir())
    write(pair, "tinc.conf", "")
    for words in (["set", "Subnet", "1.1.1.1"], ["export"], ["sign", "tinc.conf"], ["set", "Name", "zed"]):
        pair.same(*words)
    assert pair.same("set", "Subnet", "1.1.1.1").code == 1
    pair.same_files()


# Host files


def test_export(twins: Pair) -> None:
    twins.same("export", "x")
    twins.same("export-all", "x")
    write(twins, "hosts/foo", "Name = x\nname = y\n Name = z\nNames = q\nName=w\n#Name = c\nSubnet = 1.2.3.4\n\n")
    assert twins.same("export").out == "Name = foo\n Name = z\nNames = q\n#Name = c\nSubnet = 1.2.3.4\n\n"
    write(twins, "hosts/bar", "Weight = 3\n")
    write(twins, "hosts/x~", "no\n")
    write(twins, "hosts/foo-up", "no\n")
    theirs, ours = (side.run("export-all") for side in twins.sides)
    separator = f"#{'-' * 63}#\n"
    # tinc takes the directory's own order.
    assert sorted(ours.out.split(separator)) == sorted(theirs.out.split(separator))
    assert ours.code == theirs.code == 0


INPUTS = [
    "",
    "fred\n",
    "Name fred\n",
    "name = fred\n",
    "Name=fred\n",
    "Name = !@#\n",
    " Name = x\n",
    "Name = \n",
    "Name = gamma  \nx\n",
    f"Name = alpha\nWeight = 1\n#{'-' * 63}#\nName = beta\nWeight = 2\nName = ../evil\nX = 1\n",
    f"junk\njunk2\nName = delta\nWeight = 2\n#{'-' * 62}#\n",
    "Name = alpha\nW = 7",
    "Name = foo\nW = 7\nName = fox\n",
    f"Name = {'a' * 300}\nW\n",
    f"Name = {'a' * 4095}\nW\n",
]


@pytest.mark.parametrize("text", INPUTS, ids=range(len(INPUTS)))
def test_import(twins: Pair, text: str) -> None:
    twins.same("import", text=text)
    twins.same("import", text=text)
    twins.same("import", text=text, options=("--force", "-c", "net"))
    twins.same("exchange", text=text)
    twins.same_files()


def test_import_where_nothing_can_be_written(pair: Pair) -> None:
    assert pair.same("import", text="Name = alpha\n").code == 1
    assert pair.same("exchange", text="Name = alpha\n").code == 1
    assert pair.same("exchange-all", text="Name = alpha\n").code == 1
    for words in (["import", "x"], ["exchange", "x"], ["exchange-all", "x"]):
        pair.same(*words)


@pytest.mark.parametrize("word", ["exchange", "exchange-all"])
def test_both_tools_exchange_through_pipes(twins: Pair, word: str) -> None:
    """Each waits for the end of what the other sends, so that one that keeps its output open would block both."""
    assert twins.gmesh.run("set", "Name", "bar").code == 0
    hosts = [side.where / "net" / "hosts" for side in twins.sides]
    (hosts[1] / "foo").rename(hosts[1] / "bar")
    assert twins.gmesh.run("add", "Subnet", "10.0.0.0/8").code == 0
    to_gmesh, to_tinc = os.pipe(), os.pipe()
    running = []
    for side, source, sink in ((twins.tinc, to_tinc[0], to_gmesh[1]), (twins.gmesh, to_gmesh[0], to_tinc[1])):
        command = [str(side.program), "-c", "net", word]
        running.append(subprocess.Popen(command, cwd=side.where, stdin=source, stdout=sink, stderr=subprocess.PIPE))
    for descriptor in (*to_gmesh, *to_tinc):
        os.close(descriptor)
    for process in running:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert b"Imported 1 host configuration files." in err
    for name in ("foo", "bar"):
        assert (hosts[0] / name).read_text().strip() == (hosts[1] / name).read_text().strip()


def test_keys_where_there_is_no_directory(pair: Pair) -> None:
    for word in ("generate-rsa-keys", "generate-ed25519-keys"):
        theirs, ours = (side.run(word, options=("-c", str(side.where / "none"))) for side in pair.sides)
        assert ours.code == theirs.code == 1
        # gmesh looks before it makes the key.
        assert ours.err == theirs.err[-1:]


# edit and network


@pytest.mark.parametrize(
    "words",
    [
        ["edit"],
        ["edit", "a", "b"],
        ["edit", "tinc.conf"],
        ["edit", "foo"],
        ["edit", "hosts/foo"],
        ["edit", "tinc-up"],
        ["edit", "bar-baz"],
        ["edit", "tinc-foo"],
        ["network", "a", "b"],
        ["network", "a/b"],
        ["network", "foo"],
        ["network", "foo.<"],
        ["network", "."],
        ["network", ".x"],
    ],
)
def test_edit_and_network(twins: Pair, words: list[str]) -> None:
    for side in twins.sides:
        side.environment["VISUAL"] = "echo"
    twins.same(*words)


# sign and verify


def test_signatures_hold_between_the_tools(twins: Pair) -> None:
    data = b"hello\0\xff\nworld"
    for side in twins.sides:
        (side.where / "file").write_bytes(data)
    signed = {}
    for side in twins.sides:
        done = side.run("sign", "file")
        assert done.code == 0
        header = done.out.split("\n", 1)[0]
        assert re.fullmatch(r"Signature = foo \d+ KEY", header)
    for side in twins.sides:
        signed[side.program] = subprocess.run(
            [str(side.program), "-c", "net", "sign", "file"], cwd=side.where, capture_output=True, check=True
        ).stdout
    for text in signed.values():
        for who in (".", "foo", "*"):
            assert twins.same("verify", who, text=text).code == 0
    broken = signed[twins.gmesh.program].replace(b"hello", b"hallo")
    assert twins.same("verify", ".", text=broken) == Result(1, "", ["Invalid signature"])
    other = broken.replace(b"= foo ", b"= bar ")
    twins.same("verify", ".", text=other)
    twins.same("verify", "*", text=other)
    twins.prepare(lambda net: (net / "hosts" / "bar").write_text(""))
    twins.same("verify", "*", text=other)
    for text in (b"", b"x", b"Signature = foo 0 " + b"A" * 86 + b"\n", b"Signature = foo 1 " + b"A" * 85 + b"\nx"):
        assert twins.same("verify", "*", text=text).err == ["Invalid input"]
    for words in (
        ["sign", "a", "b"],
        ["sign", "nosuch"],
        ["verify"],
        ["verify", "a", "b", "c"],
        ["verify", "foo@", "x"],
        ["verify", "foo", "nosuch"],
    ):
        assert twins.same(*words).code == 1
    write(twins, "ed25519_key.priv", "")
    twins.same("sign", "file")
    twins.prepare(lambda net: (net / "ed25519_key.priv").unlink())
    twins.same("sign", "file")


# Differences on purpose


def test_better_than_tinc_on_purpose(twins: Pair, made: Path) -> None:
    """Each line is something that tinc 1.1pre18 gets wrong; its own behaviour is shown beside gmesh's."""
    # Nonsense is no subnet: pre18 says so, and writes it all the same.
    assert twins.tinc.run("set", "Subnet", "10.0.0").code == 0
    refused = twins.gmesh.run("set", "Subnet", "10.0.0")
    assert refused == Result(1, "", ["Malformed subnet definition 10.0.0"])
    # A value with a line break would be a second setting.
    assert twins.tinc.run("set", "Device", "x\nMode = hub").code == 0
    assert twins.tinc.run("get", "Mode").out == "hub\n"
    assert twins.gmesh.run("set", "Device", "x\nMode = hub").code == 1
    assert twins.gmesh.run("get", "Mode").code == 1
    # Mode and owner of a file that is changed stay.
    twins.prepare(lambda net: (net / "tinc.conf").chmod(0o640))
    twins.gmesh.run("set", "Mode", "hub")
    assert (twins.gmesh.where / "net" / "tinc.conf").stat().st_mode & 0o777 == 0o640
    # A path as host name leaves the directory.
    for side in twins.sides:
        side.environment["VISUAL"] = "cat"
        (side.where / "outside").write_text("secret\n")
    assert twins.tinc.run("edit", "hosts/../../outside").out == "secret\n"
    assert twins.gmesh.run("edit", "hosts/../../outside") == Result(1, "", ["Invalid configuration filename."])
    # Separators stand on lines of their own.
    for side in twins.sides:
        shutil.rmtree(side.where / "net" / "hosts")
        (side.where / "net" / "hosts").mkdir()
        (side.where / "net" / "hosts" / "a").write_text("Weight = 1")
        (side.where / "net" / "hosts" / "b").write_text("Weight = 1")
    separator = f"#{'-' * 63}#"
    assert f"1{separator}" in twins.tinc.run("export-all").out
    assert twins.gmesh.run("export-all").out == f"Name = a\nWeight = 1\n{separator}\nName = b\nWeight = 1\n"
