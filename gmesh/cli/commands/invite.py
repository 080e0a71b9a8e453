"""``gmesh invite``: one URL with which a new node gets all that it needs (control-cli 8, invitations 2).

Our own address is never asked for elsewhere: it is configured, or the administrator is asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gmesh.cli.argv import Argument, Option, UsageError, parse
from gmesh.cli.context import CommandError, Context, expect
from gmesh.config.host import HostAddress
from gmesh.config.invitations import Invitation, InvitationFiles, invitation_text, invited_node
from gmesh.config.notices import printable
from gmesh.config.server import Server
from gmesh.errors import KeyFileError
from gmesh.proto.invitation import COOKIE_SIZE, InvitationUrl, is_url_place, key_hash
from gmesh.values import DEFAULT_PORT, ip_version, is_node_name

if TYPE_CHECKING:
    from gmesh.crypto.ed25519 import Ed25519PrivateKey

OPTIONS = (Option("", "revoke", Argument.REQUIRED), Option("", "list"))

USAGE = "Usage: gmesh invite NODE, gmesh invite --list, or gmesh invite --revoke NODE"

_HOST = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def run(context: Context, arguments: list[str]) -> int:
    """``invite NODE``, ``invite --list``, ``invite --revoke NODE|INVITATION``."""
    try:
        parsed, words = parse(arguments, OPTIONS)
    except UsageError as error:
        raise CommandError(f"invite: {error}", usage=True) from None
    options = dict(parsed)
    files = InvitationFiles(context.directory)
    if options:
        expect(words, 0, 0)
        if "list" in options:
            return _list(context, files)
        return _revoke(files, options["revoke"] or "")
    if not words:
        raise CommandError(f"Not enough arguments!\n{USAGE}")
    expect(words, 1, 1)
    return _invite(context, files, words[0])


def lifetime(context: Context) -> int:
    """InvitationExpire in seconds."""
    return context.directory.read_server().get_int("InvitationExpire")


def as_json(invitation: Invitation, now: float, seconds: int) -> str:
    """An invitation with the names in ``docs/gmesh-json.md``."""
    return json.dumps(
        {
            "invitation": invitation.name,
            "node": invitation.node,
            "created": int(invitation.created),
            "expires": int(invitation.created + seconds),
            "expired": invitation.expired(now, seconds),
        }
    )


def _list(context: Context, files: InvitationFiles) -> int:
    """Every open invitation with its age."""
    now, seconds = time.time(), lifetime(context)
    found = files.all()
    for one in found:
        if context.json:
            sys.stdout.write(f"{as_json(one, now, seconds)}\n")
            continue
        left = one.created + seconds - now
        end = "expired" if one.expired(now, seconds) else f"expires in {_span(left)}"
        node = one.node or "(invalid file)"
        sys.stdout.write(f"{one.name} {node}, made {_span(now - one.created)} ago, {end}\n")
    if not found:
        sys.stderr.write("No outstanding invitations.\n")
    return 0


def _span(seconds: float) -> str:
    """A time in its largest unit, rounded down."""
    whole = max(0, int(seconds))
    size, unit = next((entry for entry in _UNITS if whole >= entry[0]), _UNITS[-1])
    return f"{whole // size} {unit}"


def _revoke(files: InvitationFiles, which: str) -> int:
    gone = files.revoke(which)
    if not gone:
        raise CommandError(f"There is no invitation for {printable(which)}.")
    if not files.all():
        files.drop_key()
    for one in gone:
        sys.stderr.write(f"Revoked invitation {one.name} for {one.node}.\n")
    return 0


def _invite(context: Context, files: InvitationFiles, node: str) -> int:
    if not is_node_name(node):
        raise CommandError("Invalid name for node.")
    own = context.own_name()
    host_file = context.hosts / node
    if node == own or os.path.lexists(host_file):
        raise CommandError(f"A host config file for {node} already exists!")
    if node in _known_to_daemon(context):
        raise CommandError(f"A node with name {node} is already known!")
    server = context.directory.read_server()
    address = _address(context, server, own)
    port = _port(context, server)
    place = HostAddress.parse(address)
    if not is_url_place(place.host, _number(place.port or port)):
        raise CommandError(f"Address = {printable(address)} cannot be a part of a URL. Please set another Address.")
    text = invitation_text(context.directory, node, address, port)
    _make_writable(context.base)
    files.prepare()
    left = files.prune(time.time(), server.get_int("InvitationExpire"))
    key = None
    with contextlib.suppress(KeyFileError):
        key = files.private_key()
    if not left or key is None:
        key = _new_key(context, files)
    cookie = os.urandom(COOKIE_SIZE)
    url = InvitationUrl(place.host, _number(place.port or port), key_hash(key.public), cookie).format()
    path = Path(os.path.abspath(files.create(cookie, key.public, text)))
    _run_script(context, server, {"NAME": own, "NODE": node, "INVITATION_FILE": str(path), "INVITATION_URL": url})
    if invited_node(path.read_bytes() if path.exists() else b"") != node:
        sys.stderr.write(f"Warning: {path} does not invite {node} any more.\n")
    others = sum(one.node == node for one in left)
    if others:
        sys.stderr.write(
            f"{node} has {others} older invitation{'s' * (others > 1)} too; the first one to be used ends the others.\n"
        )
    sys.stdout.write(f"{url}\n")
    return 0


def _known_to_daemon(context: Context) -> list[str]:
    from gmesh.cli.commands.dump import nodes

    if not os.path.exists(context.pid_path):
        return []
    try:
        return [node.name for node in nodes(context.connect())]
    except CommandError:
        # Without a daemon an invitation can be made all the same.
        context.disconnect()
        return []


def _make_writable(base: Path) -> None:
    """An owner may repair its directory's mode, as tinc does."""
    with contextlib.suppress(OSError):
        status = base.stat()
        if not os.access(base, os.W_OK) and status.st_uid == os.geteuid():
            base.chmod(status.st_mode & 0o7777 | 0o700)


def _new_key(context: Context, files: InvitationFiles) -> Ed25519PrivateKey:
    from gmesh.cli.client import ControlConnection
    from gmesh.crypto.ed25519 import SEED_SIZE, Ed25519PrivateKey
    from gmesh.proto.control import ControlCode

    key = Ed25519PrivateKey.from_seed(os.urandom(SEED_SIZE))
    files.save_key(key)
    # gmeshd looks by itself, a tincd reads the key only then.
    try:
        connection = context.connect() if context.in_shell else ControlConnection.open(context.pid_path)
        connection.ask(ControlCode.RELOAD)
    except CommandError as error:
        context.disconnect()
        sys.stderr.write(f"{error}\nCould not signal the daemon. Please restart or reload it manually if it runs.\n")
    return key


# Where we are


def _address(context: Context, server: Server, own: str) -> str:
    """The value of the first Address: our host file's, then tinc.conf's, then what the administrator says."""
    given = _given(context, server, own)
    if given:
        return given
    if not context.may_ask:
        raise CommandError(
            "Could not determine the external address or hostname. Please set Address manually: "
            f"{context.command_line('set Address HOST')}"
        )
    while True:
        try:
            answer = input("Please enter your host's external address or hostname: ").strip()
        except EOFError:
            raise CommandError("No address given!") from None
        if _HOST.fullmatch(answer) or ip_version(answer) == 6:
            break
        sys.stderr.write("Invalid address or hostname.\n")
    from gmesh.config import newkeys

    newkeys.append_text(context.hosts / own, f"Address = {answer}\n")
    return answer


def _given(context: Context, server: Server, own: str) -> str:
    """Our host file's Address before tinc.conf's, which the daemon would read first."""
    in_host_file = str(context.directory.host_file(own))
    entries = sorted(server.entries("Address"), key=lambda entry: entry.file != in_host_file)
    return entries[0].value if entries else ""


def _port(context: Context, server: Server) -> str:
    """Where the daemon listens, or will."""
    from gmesh.daemon.pidfile import is_alive, read_pidfile

    with contextlib.suppress(OSError, ValueError):
        record = read_pidfile(context.pid_path)
        if record.port and is_alive(record.pid):
            return record.port
    port = server.get_str("Port") or str(DEFAULT_PORT)
    if port == "0":
        raise CommandError(
            f"Could not open pid file {context.pid_path}: No such file or directory\n"
            "tincd is using a dynamic port and is not running. Please start tincd or set the Port option to a non-zero "
            "value."
        )
    return _number(port)


def _number(port: str) -> str:
    """A port's number, where it is the name of a service."""
    with contextlib.suppress(OSError):
        return str(socket.getservbyname(port, "tcp"))
    return port


def _run_script(context: Context, server: Server, variables: dict[str, str]) -> None:
    name = "invitation-created"
    script = os.path.abspath(context.base / f"{name}{server.get_str('ScriptsExtension')}")
    if not os.path.exists(script):
        return
    sys.stderr.write(f"Executing script {name}\n")
    sys.stderr.flush()
    environment = {key: value for key, value in os.environ.items() if key != "NETNAME"} | variables
    if context.netname:
        environment["NETNAME"] = context.netname
    command = f"{server.get_str('ScriptsInterpreter')} {shlex.quote(script)}".lstrip()
    code = subprocess.run(["/bin/sh", "-c", command], env=environment, check=False).returncode
    if code > 0:
        sys.stderr.write(f"Script {name} exited with non-zero status {code}\n")
    elif code < 0:
        sys.stderr.write(f"Script {name} was killed by signal {-code}\n")
