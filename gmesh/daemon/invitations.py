"""The daemon's side of invitations: lets somebody in who has one, and writes down the key of the new node.

Everything is looked up when it is asked for, so that an invitation counts from the moment it was made. Not here: making
invitations (`gmesh invite`), the conversation (`gmesh.proto.invitation_host`).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import gevent.lock

from gmesh.config.invitations import InvitationFiles
from gmesh.config.server import Server
from gmesh.config.write import replace_file
from gmesh.crypto.ed25519 import Ed25519PrivateKey, public_to_text
from gmesh.daemon.hub import Hub
from gmesh.daemon.logging_setup import NOTICE, log
from gmesh.daemon.scripts import ScriptQueue
from gmesh.errors import ConfigError, KeyFileError, PeerError
from gmesh.net.peer import PeerConnection, Spawn
from gmesh.proto.invitation import file_name
from gmesh.proto.invitation_host import InvitationHost
from gmesh.proto.meta_events import InvitationPresented, InvitationRequested, JoinerKeyReceived
from gmesh.values import DEFAULT_PORT, Address

SCRIPT_PATIENCE = 4.0
"""Seconds that a joiner waits for invitation-accepted; some give up after five without a word."""

HOST_FILE_MODE = 0o644

_Signature = tuple[int, int, int]


class InvitationDesk:
    """`handle` is what the hub calls; it never yields. ``server`` gives the settings in force."""

    def __init__(
        self,
        *,
        server: Callable[[], Server],
        hub: Hub,
        scripts: ScriptQueue,
        clock: Callable[[], float],
        spawn: Spawn,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._server = server
        self._hub = hub
        self._scripts = scripts
        self._clock = clock
        self._wall_clock = wall_clock
        self._spawn = spawn
        self._key: tuple[_Signature, Ed25519PrivateKey] | None = None
        self._one_at_a_time = gevent.lock.BoundedSemaphore(1)

    def handle(
        self, peer: PeerConnection, event: InvitationRequested | InvitationPresented | JoinerKeyReceived
    ) -> None:
        """Raises PeerError: the connection ends, and the invitation stays as it is."""
        match event:
            case InvitationRequested(key):
                self._greet(peer, key)
            case InvitationPresented(cookie):
                self._hand_out(peer, cookie)
            case JoinerKeyReceived(public):
                assert isinstance(peer.meta, InvitationHost)
                self._spawn("invitation", self._accept, peer, peer.meta, public)

    @property
    def _files(self) -> InvitationFiles:
        return InvitationFiles(self._server().directory)

    def _greet(self, peer: PeerConnection, joiner: str) -> None:
        key = self._current_key(peer)
        rest = peer.meta.take_remaining()
        now = self._clock()
        peer.meta = InvitationHost(
            my_name=self._hub.settings.name,
            key=key,
            joiner=joiner,
            entropy=os.urandom,
            now=now,
            patience=self._hub.settings.ping_timeout,
        )
        for event in peer.meta.receive(rest, now):
            self._hub.event(peer, event)

    def _current_key(self, peer: PeerConnection) -> Ed25519PrivateKey:
        """The invitation key, read again only when its file is another one. Raises PeerError."""
        files = self._files
        try:
            status = files.key_file.stat()
            signature = (status.st_mtime_ns, status.st_size, status.st_ino)
            if self._key is None or self._key[0] != signature:
                key = files.private_key()
                if key is None:
                    raise FileNotFoundError
                self._key = (signature, key)
            return self._key[1]
        except FileNotFoundError:
            self._key = None
            raise self._refuse(peer, "Got invitation from {} but we don't have an invitation key") from None
        except (OSError, KeyFileError) as error:
            reason = f"{files.key_file}: {error.strerror}" if isinstance(error, OSError) else str(error)
            raise self._refuse(peer, f"Got invitation from {{}} but cannot use our invitation key: {reason}") from None

    def _hand_out(self, peer: PeerConnection, cookie: bytes) -> None:
        assert isinstance(peer.meta, InvitationHost)
        name = file_name(cookie, peer.meta.key.public)
        try:
            found = self._files.read(name)
        except (OSError, ConfigError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise self._refuse(peer, f"Peer {{}} cannot get invitation {name}: {reason}") from None
        if found is None:
            raise self._refuse(peer, f"Peer {{}} tried to use non-existing invitation {name}")
        invitation, data = found
        if invitation.expired(self._wall_clock(), self._server().get_int("InvitationExpire")):
            raise self._refuse(peer, f"Peer {{}} tried to use expired invitation {name}")
        reason = self._why_not(invitation.node)
        if reason:
            raise self._refuse(peer, f"Peer {{}} tried to use invitation {name}: {reason}")
        # The same joiner, once more: its first connection may be dead without our knowing.
        for other in list(self._hub.peers.values()):
            if isinstance(other.meta, InvitationHost) and other.meta.invitation == name:
                other.close("its invitation is being used by another connection")
        if peer.gate is not None:
            peer.gate.progress()
        peer.meta.hand_out(name, invitation.node, data, self._clock())
        log(1, logging.INFO, f"{peer.address} has the invitation for {invitation.node}", "invitation")

    def _why_not(self, node: str) -> str:
        """Why nobody can become this node; empty where nothing speaks against it."""
        if not node:
            return "its file does not begin with a valid Name"
        if node == self._hub.settings.name:
            return "it is for our own name"
        if os.path.lexists(self._server().directory.host_file(node)):
            return f"there is a host file for {node} already"
        known = self._hub.mesh.registry.node(node)
        if known is not None and known.reachable:
            return f"a node {node} is in the mesh already"
        return ""

    def _refuse(self, peer: PeerConnection, text: str) -> PeerError:
        complaint = text.format(peer.address)
        # Whoever connects can cause this, so it is held back when it comes too often.
        log(0, logging.WARNING, complaint, "refused invitation")
        return PeerError(complaint)

    # The joiner's key is there

    def _accept(self, peer: PeerConnection, meta: InvitationHost, public: bytes) -> None:
        with self._one_at_a_time:
            reason = self._why_not(meta.node)
            try:
                if not reason:
                    # The disk may take its time.
                    arguments = (self._files, meta.invitation, meta.node, public)
                    reason = gevent.get_hub().threadpool.apply(_store, arguments)
            except OSError as error:
                reason = f"{error.filename}: {error.strerror}"
        if reason:
            log(0, logging.ERROR, f"{meta.node} could not be let in from {peer.address}: {reason}", "invitation")
            peer.close(reason)
            return
        log(0, NOTICE, f"{meta.node} has joined by an invitation, from {peer.address}: its key is in hosts/{meta.node}")
        self._run_script(peer, meta.node)
        # It may connect the next moment.
        if self._hub.keys.refresh():
            self._hub.keys_changed()
        # That it listens at the usual port is a guess, and costs nothing where it is wrong.
        self._hub.on_address(meta.node, Address(peer.address.host, str(DEFAULT_PORT)))
        try:
            peer.proceed()
        except PeerError as error:
            peer.close(str(error))

    def _run_script(self, peer: PeerConnection, node: str) -> None:
        variables = {"NODE": node, "REMOTEADDRESS": peer.address.host}
        self._scripts.put("invitation-accepted", variables)
        if not self._scripts.wait(SCRIPT_PATIENCE):
            log(1, logging.INFO, f"{node} does not wait for invitation-accepted any longer")


def _store(files: InvitationFiles, invitation: str, node: str, public: bytes) -> str:
    """Use up the invitation for this key; returns why that is not possible, or an empty text. Raises OSError."""
    claim = files.claim(invitation)
    if claim is None:
        return f"invitation {invitation} is gone"
    path: Path = files.host_file(node)
    try:
        # The bytes were checked, and the text is made of them: no other lines can come with it (requirement 30).
        replace_file(path, f"Ed25519PublicKey = {public_to_text(public)}\n".encode("ascii"), HOST_FILE_MODE)
    except OSError:
        claim.give_back()
        raise
    claim.consume()
    # Others for the same node can do no good any more, and later maybe harm.
    files.revoke(node)
    return ""
