"""The part of `check` about keys: ours, private and public, whether they belong together; and those of other nodes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmesh.config import newkeys
from gmesh.config.findings import Finding
from gmesh.config.host import Host
from gmesh.config.keys import RSA_PUBLIC_LABELS, load_private_ed25519, load_private_rsa
from gmesh.config.notices import Level, printable
from gmesh.config.own_keys import load_own_keys
from gmesh.config.server import Server
from gmesh.errors import KeyFileError


@dataclass(frozen=True, slots=True)
class _Pair:
    """What there is of one kind of key. A half that cannot be used is None, and its ``_problem`` says why."""

    kind: str
    title: str
    private: Any
    private_problem: str
    public: Any
    public_problem: str
    private_file: Path
    public_option: str


def own_keys(server: Server) -> Iterator[Finding]:
    """Our own keys: what a daemon could not start with, what nobody could connect to, what others could read."""
    pairs = [_rsa(server), _ed25519(server)]
    for pair in pairs:
        yield from _permissions(pair.private_file, "")
    if server.is_set("PrivateKey"):
        yield from _permissions(server.directory.server_file, " It holds a PrivateKey.")
    if all(pair.private is None and not pair.private_problem for pair in pairs):
        yield Finding(
            Level.ERROR,
            "Neither RSA or Ed25519 private key found.",
            explanation="The daemon does not start without a private key. You can generate new keys with:",
            commands=("generate-keys",),
            fails=True,
        )
        return
    for pair in pairs:
        yield from _pair(server, pair)
    try:
        load_own_keys(server)
    except (KeyFileError, OSError) as error:
        explanation = "No private key is left that the daemon could start with."
        yield Finding(Level.ERROR, printable(error), explanation=explanation, commands=("generate-keys",), fails=True)


def _rsa(server: Server) -> _Pair:
    private, problem = _try(lambda: load_private_rsa(server))
    if not server.is_set("PrivateKey") and not os.path.lexists(server.rsa_private_file):
        problem = ""
    public, public_problem = _try(server.rsa_public_key)
    file, option = server.rsa_private_file, "PublicKeyFile"
    return _Pair("rsa", "RSA", private, problem, public, public_problem, file, option)


def _ed25519(server: Server) -> _Pair:
    private, problem = _try(lambda: load_private_ed25519(server))
    public, public_problem = _try(server.ed25519_public_key)
    file, option = server.ed25519_private_file, "Ed25519PublicKeyFile"
    return _Pair("ed25519", "Ed25519", private, problem, public, public_problem, file, option)


def _try(read: Callable[[], Any]) -> tuple[Any, str]:
    try:
        return read(), ""
    except KeyFileError as error:
        return None, str(error)
    except OSError as error:
        return None, f"Error reading `{printable(error.filename)}': {error.strerror}"


def _permissions(path: Path, why: str) -> Iterator[Finding]:
    try:
        status = path.stat()
    except OSError:
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077 == 0:
        return

    def fix() -> str:
        path.chmod(mode & 0o700)
        return f"Fixed permissions of {printable(path)}."

    ours = os.geteuid() in (0, status.st_uid)
    others = "" if ours else f" You are not running gmesh as the same uid as {printable(path)}."
    yield Finding(
        Level.WARNING,
        f"unsafe file permissions on {printable(path)}.",
        printable(path),
        explanation=f"Mode {mode:04o} lets others read the key, or replace it.{why}{others}",
        commands=(f"$ chmod {mode & 0o700:o} {printable(path)}",),
        fix=fix if ours else None,
    )


def _pair(server: Server, pair: _Pair) -> Iterator[Finding]:
    host_file = server.directory.host_file(server.name)
    generate = f"generate-{pair.kind}-keys"
    if pair.private_problem:
        # In the words of the option's own error where the key is inline and incomplete.
        text = pair.private_problem.replace("PrivateKey is used but", "PrivateKey used but")
        explanation = f"This {pair.title} key is not used."
        yield Finding(Level.WARNING, text, printable(pair.private_file), 0, "", explanation, (generate,))
    if pair.private is None:
        if pair.public is not None:
            text = f"A public {pair.title} key was found but no private key is known."
            explanation = f"Others know a key of ours in {printable(host_file)} that we have not. Make a new pair:"
            yield Finding(Level.WARNING, text, printable(host_file), 0, "", explanation, (generate,))
        return
    fix = None if server.is_set(pair.public_option) else _write_public(pair, host_file)
    if pair.public is None:
        text = f"No (usable) public {pair.title} key found."
        missing = pair.public_problem or f"none in {printable(host_file)}"
        explanation = f"{missing}. It can be made from the private key; then give the host file to the other nodes."
        yield Finding(Level.WARNING, text, printable(host_file), 0, "", explanation, ("fsck --fix",), fix=fix)
    elif pair.public != pair.private.public:
        text = f"public and private {pair.title} keys do not match."
        explanation = (
            f"The one in {printable(host_file)} is of another pair than {printable(pair.private_file)}: nobody who has "
            "it can connect. It can be made anew from the private key; then give the host file to the other nodes."
        )
        yield Finding(Level.ERROR, text, printable(host_file), 0, "", explanation, ("fsck --fix",), fails=True, fix=fix)


def _write_public(pair: _Pair, host_file: Path) -> Callable[[], str]:
    def fix() -> str:
        disabled = newkeys.save_public(pair.private, host_file)
        said = "Warning: old key(s) found and disabled.\n" if disabled else ""
        return f"{said}Wrote {pair.title} public key to {printable(host_file)}."

    return fix


def peer_keys(host: Host) -> Iterator[Finding]:
    """Keys of another node that cannot be used, or that there are none."""
    rsa, rsa_problem = _try(host.rsa_public_key)
    ed25519, ed25519_problem = _try(host.ed25519_public_key)
    given = any(host.options.is_set(name) for name in ("PublicKey", "PublicKeyFile"))
    has_rsa = given or any(block.label in RSA_PUBLIC_LABELS for block in host.blocks)
    problems = [text for text in (rsa_problem if has_rsa else "", ed25519_problem) if text]
    command = ("--force import < FILE",)
    for text in problems:
        yield Finding(Level.WARNING, text, host.file, 0, "", "This key of the node is not used.", command)
    if rsa is None and ed25519 is None and not problems:
        text = f"no public key in {host.file}"
        explanation = "No connection with that node can be made. Its own administrator's `export' has the key."
        yield Finding(Level.WARNING, text, host.file, 0, "", explanation, command)
