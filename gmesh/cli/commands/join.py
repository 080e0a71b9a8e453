"""``gmesh join``: a new node's directory from an invitation's URL (control-cli 8, invitations 5).

Everything is made in memory first. The files are written before the inviter gets our key, so that it is never given
away in vain, and those that were made go again when something fails before that. Not here: what the inviter says
(`gmesh.proto.invitation_guest`), what may come of it (`gmesh.config.joining`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gmesh.cli.commands.init import UNCONFIGURED, check_port, umask
from gmesh.cli.commands.keys import DEFAULT_BITS, make_ed25519, make_rsa
from gmesh.cli.context import CommandError, Context, expect
from gmesh.config import newkeys
from gmesh.config.joined import NewDirectory
from gmesh.config.joining import Joining, read_invitation
from gmesh.config.netname import check_netname
from gmesh.config.paths import CONFDIR
from gmesh.errors import ConfigError, PeerError
from gmesh.proto.invitation import InvitationUrl
from gmesh.proto.invitation_guest import GuestEvent, InvalidKeyError, InvitationGuest, InvitationReceived

CONNECT_LIMIT = 10.0
REPLY_LIMIT = 5.0
"""Seconds of silence after which an inviter has nothing to say: it answers errors with silence."""

CONFIRM_LIMIT = 30.0
"""The last word may take longer: first the inviter runs its script."""

USAGE = """\
Usage: gmesh [-n NETNAME | -c DIR] join [URL]

Makes the directory of a new node from an invitation, whose URL `gmesh invite' has shown on a node
of the mesh. Without URL it is asked for. Afterwards put this node's own addresses into tinc-up
where the invitation gave none, and start the daemon: gmesh start.
"""

CANCELLED = "Invitation cancelled. Please try again and contact the inviter for assistance if this error persists."
_READ_SIZE = 65536
_LONGEST_LINE = 4096


def run(context: Context, arguments: list[str]) -> int:
    """``join [URL]``."""
    if arguments == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    expect(arguments, 0, 1)
    if (context.confbase is not None or context.netname) and os.path.lexists(context.server_file):
        raise CommandError(f"Configuration file {context.server_file} already exists!")
    parent = context.base if context.confbase is not None or context.netname else CONFDIR
    _check_writable(parent)
    try:
        url = InvitationUrl.parse(_url(context, arguments))
    except ValueError:
        raise CommandError("Invalid invitation URL.") from None
    with contextlib.closing(_Inviter(url)) as inviter:
        try:
            received = inviter.invitation()
            joining = read_invitation(received, force=context.force)
            for remark in joining.remarks:
                sys.stderr.write(f"{remark}\n")
            base = _choose_base(context, joining)
            new = NewDirectory(base, umask())
            key = make_ed25519()
            new.write(joining, key, received)
            try:
                inviter.give_key(key.public)
            except BaseException:
                new.undo()
                raise
        except (ConfigError, PeerError, OSError) as error:
            text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            raise CommandError(f"{text}\n{CANCELLED}") from None
        unconfirmed = inviter.confirmation()
    for path in new.skipped:
        sys.stderr.write(f"Host configuration file {path} already exists, skipping.\n")
    _complete(context, new, joining)
    if unconfirmed:
        raise CommandError(
            f"{unconfirmed}\n{CANCELLED}\nThe inviter may have accepted nevertheless, so what was made stays in "
            f"{new.base}. If this node does not get connected, remove that directory and join again."
        )
    sys.stderr.write(f"Configuration stored in: {new.base}\nInvitation successfully accepted.\n")
    return 0


def _url(context: Context, arguments: list[str]) -> str:
    if arguments:
        return arguments[0]
    if context.may_ask:
        sys.stderr.write("Enter invitation URL: ")
        sys.stderr.flush()
    # Not by Python's text layer, which would take what the shell has to read next.
    line = sys.stdin.buffer.readline(_LONGEST_LINE)
    if not line:
        raise CommandError("Error while reading stdin: Broken pipe")
    return line.decode("utf-8", "replace").strip()


def _check_writable(path: Path) -> None:
    """Said before anybody is asked for anything. The owner's own mode is mended, as tinc does."""
    while not path.exists() and path != path.parent:
        path = path.parent
    with contextlib.suppress(OSError):
        status = path.stat()
        if not os.access(path, os.W_OK | os.X_OK) and status.st_uid == os.geteuid():
            path.chmod(status.st_mode & 0o7777 | 0o700)
    if not os.access(path, os.W_OK | os.X_OK):
        raise CommandError(f"No permission to write in directory {path}: Permission denied")


# The conversation


class _SilenceError(PeerError):
    """An inviter says nothing more: its way to refuse."""


class _Inviter:
    """A connection to an inviter whose key is the one of the URL. Raises CommandError where none is to be had."""

    def __init__(self, url: InvitationUrl) -> None:
        self._events: list[GuestEvent] = []
        for address in _look_up(url):
            try:
                self._open(url, address)
            except InvalidKeyError as error:
                self.close()
                raise CommandError(f"{error}\n{error.key}") from None
            except PeerError as error:
                self.close()
                sys.stderr.write(f"{error}\nCannot read greeting from peer\n")
            except OSError as error:
                self.close()
                sys.stderr.write(f"Could not connect to {address[0]} port {address[1]}: {error.strerror or error}\n")
            else:
                return
        raise CommandError("Could not connect to inviter. Please make sure the URL you entered is valid.")

    def _open(self, url: InvitationUrl, address: tuple[str, int]) -> None:
        self._guest = InvitationGuest(url, os.urandom)
        self._socket = socket.create_connection(address, CONNECT_LIMIT)
        sys.stderr.write(f"Connected to {address[0]} port {address[1]}...\n")
        self._send()
        # Whoever greets us is taken for the inviter only with the right key.
        self._read(REPLY_LIMIT)

    def invitation(self) -> bytes:
        """Wait for the file. Raises PeerError."""
        try:
            while True:
                for event in self._read(REPLY_LIMIT):
                    if isinstance(event, InvitationReceived):
                        return event.data
        except _SilenceError as error:
            hint = "It says nothing about why; maybe the invitation has been used, has expired or was revoked."
            raise PeerError(f"{error}\n{hint}") from None

    def give_key(self, public: bytes) -> None:
        """Tell our key. Raises PeerError."""
        self._guest.send_key(public)
        self._send()

    def confirmation(self) -> str:
        """Wait until the inviter says that it has our key; returns what went wrong, or an empty text."""
        try:
            self._read(CONFIRM_LIMIT)
        except PeerError as error:
            return str(error)
        return ""

    def close(self) -> None:
        with contextlib.suppress(AttributeError):
            self._socket.close()

    def _read(self, patience: float) -> list[GuestEvent]:
        """The next events; at least one. Raises PeerError after ``patience`` seconds in which nothing came."""
        self._socket.settimeout(patience)
        while True:
            try:
                data = self._socket.recv(_READ_SIZE)
            except TimeoutError:
                raise _SilenceError("Timed out waiting for the server to reply.") from None
            except OSError as error:
                raise PeerError(f"Error reading data from the inviter: {error.strerror}") from None
            if not data:
                raise _SilenceError("The inviter closed the connection.")
            events = self._guest.receive(data, time.monotonic())
            self._send()
            if events:
                return events

    def _send(self) -> None:
        try:
            self._socket.sendall(self._guest.data_to_send())
        except OSError as error:
            raise PeerError(f"Error sending data to the inviter: {error.strerror}") from None


def _look_up(url: InvitationUrl) -> Iterator[tuple[str, int]]:
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "impossible name"
        raise CommandError(f"Error looking up {url.host} port {url.port}: {reason}") from None
    for *_, address in found:
        yield str(address[0]), int(address[1])


# The directory


def _choose_base(context: Context, joining: Joining) -> Path:
    """The directory as asked for, else that of the invitation's NetName, else one with a name that is free."""
    if context.confbase is not None or context.netname:
        return context.base
    if joining.netname and not os.path.lexists(CONFDIR / joining.netname / "tinc.conf"):
        return CONFDIR / joining.netname
    return CONFDIR / f"join_{os.urandom(4).hex()}"


def _complete(context: Context, new: NewDirectory, joining: Joining) -> None:
    """What has time until the inviter has our key: the slow RSA key, a port that is free, questions."""
    if context.confbase is None and not context.netname:
        if new.base != CONFDIR / (joining.netname or ""):
            _rename(context, new)
        context.netname = new.base.name
    host_file = new.hosts / joining.name
    newkeys.save_rsa(make_rsa(DEFAULT_BITS), newkeys.KeyPlaces(new.base / "rsa_key.priv", host_file, in_host_file=True))
    check_port(host_file)
    if not joining.commands:
        new.write_script(UNCONFIGURED)
    elif _wants_script(context, new):
        new.enable_script()
        sys.stderr.write("tinc-up enabled.\n")
    else:
        sys.stderr.write(
            f"tinc-up has been left disabled. To use the one of the invitation, look at {new.proposed_script}, make it "
            f"executable and rename it to {new.script.name}.\n"
        )


def _rename(context: Context, new: NewDirectory) -> None:
    """Ask for a better netname than the one that was free."""
    while context.may_ask:
        try:
            answer = input("Enter a new netname: ").strip()
        except EOFError:
            return
        try:
            netname, warning = check_netname(answer)
        except ConfigError as error:
            netname, warning = None, error.message
        if netname is None or warning:
            sys.stderr.write(f"{warning or 'No netname given!'}\n")
        elif os.path.lexists(CONFDIR / netname):
            sys.stderr.write(f"Network {netname} already exists!\n")
        else:
            new.move(CONFDIR / netname)
            return


def _wants_script(context: Context, new: NewDirectory) -> bool:
    """Whether the generated tinc-up is to be used; the administrator sees it first."""
    if os.path.lexists(new.script):
        sys.stderr.write(f"There is a {new.script} already.\n")
        return False
    if not context.may_ask:
        if not context.force:
            sys.stderr.write("A tinc-up script was generated, but has been left disabled.\n")
        return context.force
    while True:
        sys.stdout.write(f"A tinc-up script was generated from the invitation:\n\n{new.proposed_script.read_text()}\n")
        try:
            answer = input("Do you want to use this script [y]es/[n]o/[e]dit? ").strip().lower()
        except EOFError:
            return False
        if answer in ("y", "yes", "n", "no"):
            return answer.startswith("y")
        if answer in ("e", "edit"):
            editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
            path = str(new.proposed_script)
            subprocess.run(["/bin/sh", "-c", f'{editor} "$1"', editor, path], check=False)
