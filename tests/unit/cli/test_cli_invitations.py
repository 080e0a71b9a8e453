"""``gmesh invite`` and ``gmesh join``, the latter at inviters that are not what they should be."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gmesh.cli import context, main
from gmesh.cli.commands import init, join
from gmesh.config.directory import Directory
from gmesh.config.invitations import InvitationFiles
from gmesh.crypto import rsa
from gmesh.errors import PeerError
from gmesh.proto.invitation import InvitationUrl, file_name, key_hash
from gmesh.proto.invitation_host import HostState, InvitationHost
from tests.vectors.sptps import ed25519_key

KEY = ed25519_key("inviter")
COOKIE = bytes(range(18))
TEXT = "Name = bob\nConnectTo = alice\nMode = switch\nName = alice\nAddress = 127.0.0.1\n"

Tool = Callable[..., tuple[int, str, str]]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    net = tmp_path / "net"
    (net / "hosts").mkdir(parents=True)
    (net / "tinc.conf").write_text("Name = alice\nMode = switch\nInvitationExpire = 3600\n")
    (net / "hosts" / "alice").write_text("Address = alice.example\nSubnet = 10.0.0.1\n")
    return net


@pytest.fixture
def tool(net: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tool:
    # What takes seconds and has nothing to do with invitations.
    small = rsa.RsaPrivateKey.generate(1024)
    monkeypatch.setattr(rsa.RsaPrivateKey, "generate", lambda bits: small)
    monkeypatch.setattr(init, "_can_bind", lambda port: True)
    monkeypatch.setattr(join, "REPLY_LIMIT", 0.5)
    monkeypatch.setattr(join, "CONFIRM_LIMIT", 0.5)

    def run(*words: str, text: bytes = b"", base: Path = net) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        code = main.main(["-b", "-c", str(base), "--pidfile", str(base.with_suffix(".pid")), *words])
        sys.stdout.flush()
        return (code, *capfd.readouterr())

    return run


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def invitations(net: Path) -> list[str]:
    return sorted(name for name in os.listdir(net / "invitations") if len(name) == 24)


# invite


def test_invite(net: Path, tool: Tool) -> None:
    code, out, err = tool("invite", "bob")
    assert code == 0
    assert "reload" in err
    url = InvitationUrl.parse(out.removesuffix("\n"))
    key = InvitationFiles(Directory(net)).private_key()
    assert key is not None
    assert (url.host, url.port, url.key_hash) == ("alice.example", "655", key_hash(key.public))
    path = net / "invitations" / file_name(url.cookie, key.public)
    assert path.read_text().startswith("Name = bob\nConnectTo = alice\nMode = switch\n#--")
    assert (mode(net / "invitations"), mode(path)) == (0o700, 0o600)
    assert out.strip() not in path.read_text()


def test_one_key_as_long_as_one_is_open(net: Path, tool: Tool) -> None:
    first = InvitationUrl.parse(tool("invite", "bob")[1].strip())
    second = InvitationUrl.parse(tool("invite", "carol")[1].strip())
    assert first.key_hash == second.key_hash
    assert first.cookie != second.cookie
    for name in invitations(net):
        path = net / "invitations" / name
        os.utime(path, (time.time() - 3601,) * 2)
    third = InvitationUrl.parse(tool("invite", "dave")[1].strip())
    assert third.key_hash != first.key_hash
    assert len(invitations(net)) == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "Not enough arguments!\nUsage: gmesh invite NODE, gmesh invite --list"),
        (["a", "b"], "Too many arguments!"),
        (["a/b"], "Invalid name for node."),
        (["alice"], "A host config file for alice already exists!"),
        (["--list", "x"], "Too many arguments!"),
        (["--revoke", "nobody"], "There is no invitation for nobody."),
        (["--what"], "invite: unrecognized option '--what'"),
    ],
)
def test_complaints(net: Path, tool: Tool, words: list[str], complaint: str) -> None:
    code, out, err = tool("invite", *words)
    assert (code, out) == (1, "")
    assert err.startswith(complaint)
    assert not (net / "invitations").exists()


@pytest.mark.parametrize(
    ("host_file", "server", "place"),
    [
        ("Address = a.example\nAddress = b.example\nPort = 700\n", "", "a.example:700"),
        ("Address = a.example 800\nPort = 700\n", "", "a.example:800"),
        ("Port = 700\n", "Address = c.example\n", "c.example:700"),
        ("Address = a.example\n", "Address = c.example\nPort = 900\n", "a.example:900"),
        ("Address = fd00::1 80\n", "", "[fd00::1]:80"),
        ("Address = 10.0.0.1 http\n", "", "10.0.0.1:80"),
    ],
)
def test_where_we_are(net: Path, tool: Tool, host_file: str, server: str, place: str) -> None:
    with (net / "tinc.conf").open("a") as file:
        file.write(server)
    (net / "hosts" / "alice").write_text(host_file)
    assert tool("invite", "bob")[1].startswith(f"{place}/")


def test_the_port_of_the_running_daemon(net: Path, tool: Tool) -> None:
    (net / "hosts" / "alice").write_text("Address = a.example\nPort = 0\n")
    code, _, err = tool("invite", "bob")
    assert code == 1
    assert "Could not open pid file" in err
    assert "Please start tincd" in err
    net.with_suffix(".pid").write_text(f"{os.getpid()} {'A' * 64} 127.0.0.1 port 7777\n")
    code, out, _ = tool("invite", "bob")
    assert out.startswith("a.example:7777/")
    (name,) = invitations(net)
    assert (net / "invitations" / name).read_text().endswith("Name = alice\nAddress = a.example\nPort = 7777\n")


@pytest.mark.parametrize(
    ("host_file", "complaint"),
    [
        ("Subnet = 10.0.0.1\n", "Could not determine the external address or hostname. Please set Address manually"),
        ("Address = $(reboot)\n", "cannot be a part of a URL"),
    ],
)
def test_without_a_usable_address(net: Path, tool: Tool, host_file: str, complaint: str) -> None:
    """And nobody else is asked for it."""
    (net / "hosts" / "alice").write_text(host_file)
    code, out, err = tool("invite", "bob")
    assert (code, out) == (1, "")
    assert complaint in err
    assert not (net / "invitations").exists()


def test_requirement_6_listed_aged_and_revoked(net: Path, tool: Tool) -> None:
    for name in ("bob", "bob", "carol"):
        code, _, err = tool("invite", name)
        assert code == 0
    ages = {}
    for number, name in enumerate(invitations(net)):
        ages[name] = 10 + number * 3600
        os.utime(net / "invitations" / name, (time.time() - ages[name],) * 2)
    _, out, _ = tool("invite", "--list")
    assert len(out.splitlines()) == 3
    assert re.search(r" made 1\d s ago, expires in 59 min", out)
    assert re.search(r" made 1 h ago, expired", out)
    rows = [json.loads(line) for line in tool("--json", "dump", "invitations")[1].splitlines()]
    assert sorted(row["node"] for row in rows) == ["bob", "bob", "carol"]
    for row in rows:
        assert row["expires"] - row["created"] == 3600
        assert row["expired"] is (ages[row["invitation"]] > 3600)
    assert rows == [json.loads(line) for line in tool("invite", "--list", "--json")[1].splitlines()]
    code, _, err = tool("invite", "--revoke", "bob")
    assert (code, err.count("Revoked invitation")) == (0, 2)
    (left,) = invitations(net)
    assert tool("dump", "invitations")[1] == f"{left} carol\n"
    assert tool("invite", "--revoke", left)[0] == 0
    assert os.listdir(net / "invitations") == []
    assert tool("invite", "--list") == (0, "", "No outstanding invitations.\n")


def test_script_with_interpreter_and_extension(net: Path, tool: Tool) -> None:
    with (net / "tinc.conf").open("a") as file:
        file.write("ScriptsInterpreter = /bin/sh -e\nScriptsExtension = .sh\n")
    (net / "invitation-created.sh").write_text('echo "Subnet = 10.9.0.1" >>"$INVITATION_FILE"\nfalse\n')
    code, out, err = tool("invite", "bob")
    assert code == 0
    assert InvitationUrl.parse(out.strip())
    assert "Executing script invitation-created\nScript invitation-created exited with non-zero status 1\n" in err
    (name,) = invitations(net)
    assert (net / "invitations" / name).read_text().endswith("Subnet = 10.9.0.1\n")


# join


class Inviter:
    """Serves one joiner after another. ``stop_at``: what it is silent instead of; ``text``: what it hands out."""

    def __init__(self, text: str, stop_at: str = "") -> None:
        self.text = text.encode()
        self.stop_at = stop_at
        self.joined = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = str(self.socket.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return InvitationUrl("127.0.0.1", self.port, key_hash(KEY.public), COOKIE).format()

    def _serve(self) -> None:
        with contextlib.suppress(OSError, PeerError):
            while True:
                self._talk(self.socket.accept()[0])

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            greeting = connection.makefile("rb").readline().decode().split()
            if self.stop_at == "greeting":
                connection.recv(1)
                return
            host = InvitationHost(
                my_name="alice", key=KEY, joiner=greeting[1][1:], entropy=os.urandom, now=0.0, patience=9.0
            )
            while True:
                connection.sendall(host.data_to_send())
                data = connection.recv(65536)
                if not data:
                    return
                host.receive(data, 0.0)
                if host.step is HostState.OUR_ANSWER and self.stop_at != "file":
                    host.hand_out("x" * 24, "bob", self.text, 0.0)
                elif host.step is HostState.OUR_WORD:
                    self.joined.set()
                    if self.stop_at != "word":
                        host.proceed(0.0)

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@pytest.fixture
def inviter() -> Iterator[Callable[..., Inviter]]:
    made: list[Inviter] = []

    def make(text: str = TEXT, stop_at: str = "") -> Inviter:
        made.append(Inviter(text, stop_at))
        return made[-1]

    yield make
    for one in made:
        one.close()


def tree(base: Path) -> list[str]:
    return sorted(str(path.relative_to(base)) for path in base.rglob("*"))


@pytest.mark.parametrize("by_stdin", [False, True])
def test_join(tmp_path: Path, tool: Tool, inviter: Callable[..., Inviter], *, by_stdin: bool) -> None:
    base, url = tmp_path / "a" / "new", inviter().url
    code, out, err = tool("join", *([] if by_stdin else [url]), text=f"{url}\n".encode(), base=base)
    assert (code, out) == (0, ""), err
    assert err.endswith(f"Configuration stored in: {base}\nInvitation successfully accepted.\n")
    assert Directory(base).server().connect_to == ["alice"]
    assert mode(base / "tinc-up") == 0o755
    assert "no address yet" in (base / "tinc-up").read_text()
    code, _, err = tool("join", url, base=base)
    assert (code, err) == (1, f"Configuration file {base}/tinc.conf already exists!\n")


@pytest.mark.parametrize("force", [False, True])
def test_generated_script(tmp_path: Path, tool: Tool, inviter: Callable[..., Inviter], *, force: bool) -> None:
    url = inviter("Name = bob\nIfconfig = 10.0.0.2/24\nDevice = /dev/x\n").url
    base = tmp_path / "new"
    code, _, err = tool(*(["--force"] if force else []), "join", url, base=base)
    assert code == 0
    assert ("tinc-up enabled." in err) is force
    assert ("A tinc-up script was generated, but has been left disabled." in err) is not force
    assert (base / "tinc-up").exists() is force
    assert (base / "tinc-up.invitation").exists() is not force
    assert ("Device = /dev/x" in (base / "tinc.conf").read_text()) is force


@pytest.mark.parametrize(
    ("stop_at", "complaint"), [("greeting", "Could not connect to inviter."), ("file", "Invitation cancelled.")]
)
def test_silence(tmp_path: Path, tool: Tool, inviter: Callable[..., Inviter], stop_at: str, complaint: str) -> None:
    before = tree(tmp_path)
    code, _, err = tool("join", inviter(stop_at=stop_at).url, base=tmp_path / "new")
    assert code == 1
    assert "Timed out waiting for the server to reply." in err
    assert complaint in err
    assert tree(tmp_path) == before


def test_no_last_word(tmp_path: Path, tool: Tool, inviter: Callable[..., Inviter]) -> None:
    """The inviter has our key maybe: what belongs to it must not be lost."""
    server = inviter(stop_at="word")
    code, _, err = tool("join", server.url, base=tmp_path / "new")
    assert code == 1
    assert server.joined.is_set()
    assert "Invitation cancelled." in err
    assert f"stays in {tmp_path / 'new'}" in err
    assert Directory(tmp_path / "new").server().name == "bob"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Name = ../../evil\n", "Invalid Name found in invitation!"),
        ("Name = bob\nName = ../../../evil\nx\n", "Invalid Name found in invitation!"),
        ("Name = bob\nNetName = ../evil\n", "Unsafe NetName found in invitation!"),
        ("Name = bob\nName = alice\nName = bob\nx\n", "Secondary chunk would overwrite our own host config file."),
        ("evil\n", "No Name found in invitation!"),
        ("Name = bob\n" + "#" * 1_100_000, "larger than 1024 KiB"),
        (f"Name = bob\nName = {'x' * 256}\n", "Invalid Name found in invitation!"),
    ],
)
def test_hostile_invitations_leave_nothing(
    tmp_path: Path, tool: Tool, inviter: Callable[..., Inviter], text: str, complaint: str
) -> None:
    before = tree(tmp_path)
    server = inviter(text)
    code, _, err = tool("join", server.url, base=tmp_path / "new")
    assert code == 1
    assert complaint in err
    assert "Invitation cancelled." in err
    assert tree(tmp_path) == before
    assert not server.joined.is_set()


def test_a_directory_that_cannot_be_made_costs_no_invitation(
    tmp_path: Path, tool: Tool, inviter: Callable[..., Inviter]
) -> None:
    server = inviter()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "hosts").write_text("no directory")
    code, _, err = tool("join", server.url, base=tmp_path / "new")
    assert code == 1
    assert "hosts" in err
    assert not server.joined.is_set()
    assert tree(tmp_path / "new") == ["hosts"]


@pytest.mark.parametrize(
    ("words", "text", "complaint"),
    [
        (["a", "b"], b"", "Too many arguments!\n"),
        ([], b"", "Error while reading stdin: Broken pipe\n"),
        ([], b"nonsense\n", "Invalid invitation URL.\n"),
        ([f"host/{'A' * 47}"], b"", "Invalid invitation URL.\n"),
        ([f"[::1/{'A' * 48}"], b"", "Invalid invitation URL.\n"),
    ],
)
def test_join_complaints(tmp_path: Path, tool: Tool, words: list[str], text: bytes, complaint: str) -> None:
    assert tool("join", *words, text=text, base=tmp_path / "new") == (1, "", complaint)


def test_nobody_there(tmp_path: Path, tool: Tool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    code, _, err = tool("join", f"127.0.0.1:{port}/{'A' * 48}", base=tmp_path / "new")
    assert code == 1
    assert err == (
        f"Could not connect to 127.0.0.1 port {port}: Connection refused\n"
        "Could not connect to inviter. Please make sure the URL you entered is valid.\n"
    )


# Nets below CONFDIR, and a terminal


@pytest.fixture
def confdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    confdir = tmp_path / "etc" / "tinc"
    for module in (join, context):
        monkeypatch.setattr(module, "CONFDIR", confdir)
    monkeypatch.delenv("NETNAME", raising=False)
    return confdir


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A terminal at which these are typed, and an editor that changes an address."""
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "sed -i s/10.0.0.2/10.0.0.3/")
    waiting: list[str] = []
    monkeypatch.setattr(context.Context, "may_ask", property(lambda self: bool(waiting)))
    monkeypatch.setattr("builtins.input", lambda prompt: waiting.pop(0))
    return waiting


def join_net(tmp_path: Path, *words: str) -> int:
    return main.main(["--pidfile", str(tmp_path / "d.pid"), *words])


def test_netname_of_the_invitation(tmp_path: Path, confdir: Path, tool: Tool, inviter: Callable[..., Inviter]) -> None:
    server = inviter(TEXT.replace("Mode", "NetName = office\nMode"))
    assert join_net(tmp_path, "join", server.url) == 0
    assert os.listdir(confdir) == ["office"]
    assert join_net(tmp_path, "join", server.url) == 0
    other = next(name for name in os.listdir(confdir) if name != "office")
    assert re.fullmatch("join_[0-9a-f]{8}", other)
    assert join_net(tmp_path, "-n", "mine", "join", server.url) == 0
    assert (confdir / "mine" / "tinc.conf").exists()
    assert join_net(tmp_path, "-n", "mine", "join", server.url) == 1


def test_a_terminal_is_asked_for_a_free_netname(
    tmp_path: Path, confdir: Path, tool: Tool, inviter: Callable[..., Inviter], answers: list[str]
) -> None:
    (confdir / "taken").mkdir(parents=True)
    answers += ["../x", "a b", "", "taken", "mine"]
    assert join_net(tmp_path, "join", inviter().url) == 0
    assert answers == []
    assert sorted(os.listdir(confdir)) == ["mine", "taken"]


@pytest.mark.parametrize(("typed", "enabled"), [(["y"], True), (["what", "no"], False), (["e", "yes"], True)])
def test_a_terminal_is_asked_for_the_script(
    tmp_path: Path,
    tool: Tool,
    inviter: Callable[..., Inviter],
    answers: list[str],
    typed: list[str],
    *,
    enabled: bool,
) -> None:
    answers += typed
    code, out, _ = tool("join", inviter("Name = bob\nIfconfig = 10.0.0.2/24\n").url, base=tmp_path / "new")
    assert code == 0
    assert 'ip addr replace 10.0.0.2/24 dev "$INTERFACE"' in out
    script = tmp_path / "new" / ("tinc-up" if enabled else "tinc-up.invitation")
    assert ("10.0.0.3" in script.read_text()) is ("e" in typed)


def test_a_terminal_is_asked_for_our_address(net: Path, tool: Tool, answers: list[str]) -> None:
    (net / "hosts" / "alice").write_text("Subnet = 10.0.0.1\n")
    answers += ["no good", "vpn.example.org"]
    code, out, _ = tool("invite", "bob")
    assert code == 0
    assert out.startswith("vpn.example.org:655/")
    assert (net / "hosts" / "alice").read_text() == "Subnet = 10.0.0.1\nAddress = vpn.example.org\n"


def test_join_explains_itself(tool: Tool) -> None:
    code, out, err = tool("join", "--help")
    assert (code, err) == (0, "")
    assert "join [URL]" in out
