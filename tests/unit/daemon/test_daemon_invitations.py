"""The daemon's side of invitations: who gets which file, and when an invitation is used up."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gmesh.config.directory import Directory
from gmesh.config.invitations import InvitationFiles
from gmesh.config.server import Server
from gmesh.crypto.ed25519 import Ed25519PrivateKey, public_to_text
from gmesh.daemon import invitations
from gmesh.daemon.invitations import InvitationDesk
from gmesh.errors import PeerError
from gmesh.proto.invitation import InvitationUrl, key_hash
from gmesh.proto.invitation_guest import (
    Greeted,
    GuestEvent,
    InvitationAccepted,
    InvitationGuest,
    InvitationReceived,
)
from gmesh.proto.meta_events import InvitationRequested
from gmesh.values import Address
from tests.unit.daemon.hub_lab import Lab
from tests.vectors.sptps import ed25519_key

COOKIE = bytes(range(18))
TEXT = b"Name = bob\nConnectTo = me\n" + b"# long\n" * 1000
NODE_KEY = ed25519_key("joiner").public


class Scripts:
    """Notes what is run, and what was on disk then."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.ran: list[tuple[str, dict[str, str], str]] = []

    def put(self, script: str, variables: Mapping[str, str]) -> None:
        self.ran.append((script, dict(variables), (self.base / "hosts" / variables["NODE"]).read_text()))

    def wait(self, timeout: float) -> bool:
        return True


class Gate:
    def progress(self) -> None:
        pass


class Desk:
    """An inviter with one invitation, for bob."""

    def __init__(self, base: Path) -> None:
        (base / "hosts").mkdir()
        (base / "tinc.conf").write_text("Name = me\nInvitationExpire = 60\n")
        self.directory = Directory(base)
        self.server: Server = self.directory.server()
        self.key = ed25519_key("inviter")
        self.files = InvitationFiles(self.directory)
        self.files.prepare()
        self.files.save_key(self.key)
        self.file = self.files.create(COOKIE, self.key.public, TEXT.decode())
        self.lab = Lab(ed25519_key("me"), base)
        self.scripts = Scripts(base)
        self.cached: list[tuple[str, Address]] = []
        self.lab.hub.on_address = lambda node, address: self.cached.append((node, address))
        self.desk = InvitationDesk(
            server=lambda: self.server,
            hub=self.lab.hub,
            scripts=self.scripts,  # type: ignore[arg-type]
            clock=time.monotonic,
            spawn=lambda name, function, *arguments, policy="log": function(*arguments),
        )
        self.lab.hub.invite = self.desk.handle

    def visit(self, number: int, cookie: bytes = COOKIE, key: Ed25519PrivateKey | None = None) -> Visit:
        return Visit(self, number, cookie, key or self.key)

    def host_file(self, node: str = "bob") -> Path:
        return self.directory.host_file(node)


class Visit:
    """One joiner's connection, on both ends."""

    def __init__(self, desk: Desk, number: int, cookie: bytes, key: Ed25519PrivateKey) -> None:
        self.desk = desk
        url = InvitationUrl("host", "655", key_hash(key.public), cookie)
        self.guest = InvitationGuest(url, random.Random(number).randbytes)
        self.peer: Any = desk.lab.open(number)
        self.peer.gate = Gate()
        self.peer.meta.take_remaining = lambda: b""
        self.peer.proceed = lambda: self.peer.meta.proceed(time.monotonic())
        greeting = self.guest.data_to_send().decode().split()[1]
        desk.lab.hub.event(self.peer, InvitationRequested(greeting[1:]))

    def talk(self) -> list[GuestEvent]:
        """Carry bytes until both are silent; what the joiner hears. Raises what the daemon would close it for."""
        events: list[GuestEvent] = []
        while True:
            to_guest = self.peer.meta.data_to_send()
            if to_guest:
                events += self.guest.receive(to_guest, 0.0)
            to_host = self.guest.data_to_send()
            if not to_guest and not to_host:
                return events
            for event in self.peer.meta.receive(to_host, time.monotonic()):
                self.desk.lab.hub.event(self.peer, event)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_join(desk: Desk) -> None:
    visit = desk.visit(1)
    assert visit.talk() == [Greeted("me"), InvitationReceived(TEXT)]
    assert desk.file.exists()
    assert not desk.host_file().exists()
    visit.guest.send_key(NODE_KEY)
    assert visit.talk() == [InvitationAccepted()]
    line = f"Ed25519PublicKey = {public_to_text(NODE_KEY)}\n"
    assert desk.host_file().read_text() == line
    assert desk.scripts.ran == [("invitation-accepted", {"NODE": "bob", "REMOTEADDRESS": "10.1.0.2"}, line)]
    assert os.listdir(desk.files.path) == ["ed25519_key.priv"]
    assert desk.lab.hub.keys.public_key("bob") == NODE_KEY
    assert desk.cached == [("bob", Address("10.1.0.2", "655"))]


def test_requirement_6_a_joiner_that_does_not_get_to_the_end_may_come_again(desk: Desk) -> None:
    """tinc has used up the invitation by then."""
    first = desk.visit(1)
    first.talk()
    second = desk.visit(2)
    assert second.talk()[-1] == InvitationReceived(TEXT)
    assert first.peer.closed == ["its invitation is being used by another connection"]
    assert second.peer.closed == []
    second.guest.send_key(NODE_KEY)
    assert second.talk() == [InvitationAccepted()]


def test_requirement_6_two_that_hurry(desk: Desk) -> None:
    """Both have the file before either sends its key: one gets in."""
    first, second = desk.visit(1), desk.visit(2)
    first.talk()
    second.talk()
    other = ed25519_key("other").public
    second.guest.send_key(NODE_KEY)
    first.guest.send_key(other)
    assert second.talk() == [InvitationAccepted()]
    assert first.talk() == []
    assert first.peer.closed[-1] == "there is a host file for bob already"
    assert public_to_text(NODE_KEY) in desk.host_file().read_text()
    assert len(desk.scripts.ran) == 1


def test_requirement_6_a_bad_key_uses_up_nothing(desk: Desk) -> None:
    visit = desk.visit(1)
    visit.talk()
    assert visit.guest._session is not None
    visit.guest._session.send_record(1, b"A" * 43)
    with pytest.raises(PeerError, match="bad key"):
        visit.talk()
    assert desk.file.exists()
    assert not desk.host_file().exists()


def test_requirement_6_a_key_that_cannot_be_stored_uses_up_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes, mode: int) -> None:
        raise OSError(28, "No space left on device", str(path))

    visit = desk.visit(1)
    visit.talk()
    visit.guest.send_key(NODE_KEY)
    with monkeypatch.context() as patch:
        patch.setattr(invitations, "replace_file", full)
        assert visit.talk() == []
    assert "No space left" in visit.peer.closed[0]
    again = desk.visit(2)
    again.talk()
    again.guest.send_key(NODE_KEY)
    assert again.talk() == [InvitationAccepted()]


def test_one_that_was_revoked_meanwhile(desk: Desk) -> None:
    visit = desk.visit(1)
    visit.talk()
    desk.files.revoke("bob")
    visit.guest.send_key(NODE_KEY)
    assert visit.talk() == []
    assert visit.peer.closed == [f"invitation {desk.file.name} is gone"]
    assert not desk.host_file().exists()


def test_other_invitations_of_the_same_node_end_with_it(desk: Desk) -> None:
    desk.files.create(bytes(18), desk.key.public, "Name = bob\n")
    carol = desk.files.create(bytes([1]) * 18, desk.key.public, "Name = carol\n")
    visit = desk.visit(1)
    visit.talk()
    visit.guest.send_key(NODE_KEY)
    assert visit.talk() == [InvitationAccepted()]
    assert [one.path for one in desk.files.all()] == [carol]


def refused(visit: Visit) -> str:
    with pytest.raises(PeerError) as caught:
        visit.talk()
    return str(caught.value)


def test_refusals(desk: Desk) -> None:
    assert "tried to use non-existing invitation" in refused(desk.visit(1, cookie=bytes(18)))
    desk.host_file().write_text("")
    assert "there is a host file for bob already" in refused(desk.visit(2))
    desk.host_file().unlink()
    desk.file.write_text("Name = me\n")
    assert "it is for our own name" in refused(desk.visit(3))
    desk.file.write_text("Name = ../../x\n")
    assert "does not begin with a valid Name" in refused(desk.visit(4))
    desk.file.write_bytes(TEXT)
    then = time.time() - 61
    os.utime(desk.file, (then, then))
    assert "tried to use expired invitation" in refused(desk.visit(5))
    os.utime(desk.file)
    assert desk.visit(6).talk()[-1] == InvitationReceived(TEXT)


def test_a_node_that_is_in_the_mesh_already(desk: Desk) -> None:
    bob = desk.lab.active(9, "bob")
    desk.lab.request(bob, "12 1a bob me 10.1.0.1 655 c 1")
    desk.lab.hub.perform(desk.lab.hub.mesh.settle(time.monotonic() + 10))
    assert "a node bob is in the mesh already" in refused(desk.visit(1))
    desk.lab.hub.closed(bob, "gone")
    assert desk.visit(2).talk()[-1] == InvitationReceived(TEXT)


def test_keys_come_and_go_without_a_reload(desk: Desk) -> None:
    desk.visit(1).talk()
    desk.files.drop_key()
    with pytest.raises(PeerError, match="we don't have an invitation key"):
        desk.visit(2)
    other = ed25519_key("another inviter")
    desk.files.save_key(other)
    desk.files.create(COOKIE, other.public, "Name = carol\n")
    assert desk.visit(3, key=other).talk()[-1] == InvitationReceived(b"Name = carol\n")
    desk.files.key_file.write_text("nonsense")
    with pytest.raises(PeerError, match="cannot use our invitation key"):
        desk.visit(4)


def test_a_new_key_does_not_confuse_a_conversation_under_the_old_one(desk: Desk) -> None:
    visit = desk.visit(1)
    desk.files.save_key(ed25519_key("another inviter"))
    desk.visit(2, key=ed25519_key("another inviter"))
    assert visit.talk()[-1] == InvitationReceived(TEXT)
