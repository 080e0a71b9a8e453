"""``gmesh init``: the directory of a new node (control-cli 3).

tinc.conf comes last, so that an init that was cut short can be repeated.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shlex
import socket
import sys
from pathlib import Path

from gmesh.cli.argv import Argument, Option, UsageError, parse
from gmesh.cli.commands.keys import DEFAULT_BITS, make_ed25519, make_rsa
from gmesh.cli.context import CommandError, Context
from gmesh.config.paths import CONFDIR
from gmesh.values import DEFAULT_PORT, MAX_INTERFACE_NAME, Subnet, SubnetKind, is_node_name

OPTIONS = (
    Option("", "vpn-address", Argument.REQUIRED),
    Option("", "interface", Argument.REQUIRED),
    Option("", "address", Argument.REQUIRED),
)

UNCONFIGURED = """\
#!/bin/sh

echo "$0 gives the interface no address yet: please edit it." >&2

# ip link set "$INTERFACE" up
# ip addr replace 192.168.1.1/16 dev "$INTERFACE"
"""

CONFIGURED = """\
#!/bin/sh

ip link set "$INTERFACE" up
ip addr replace {address} dev "$INTERFACE"
"""

_PORTS = range(4096, 36864)
_TRIES = 100


def run(context: Context, arguments: list[str]) -> int:
    """``init [NAME] [--vpn-address=ADDRESS/LENGTH] [--interface=NAME] [--address=HOST]``."""
    if os.path.lexists(context.server_file):
        raise CommandError(f"Configuration file {context.server_file} already exists!")
    try:
        parsed, words = parse(arguments, OPTIONS)
    except UsageError as error:
        raise CommandError(f"init: {error}", usage=True) from None
    if len(words) > 1:
        raise CommandError("Too many arguments!")
    options = dict(parsed)
    name = words[0] if words else _ask_name(context)
    if not is_node_name(name):
        raise CommandError("Invalid Name! Only a-z, A-Z, 0-9 and _ are allowed characters.")
    address, subnet = _vpn_address(options.get("vpn-address"))
    server = [f"Name = {name}", *_setting("Interface", _interface(options.get("interface")))]
    host = [*_setting("Address", _host(options.get("address"))), *_setting("Subnet", subnet)]
    _make_directories(context)
    script = CONFIGURED.format(address=shlex.quote(address)) if address else UNCONFIGURED
    _fill(context, name, server, host, script)
    return 0


def _ask_name(context: Context) -> str:
    if not context.may_ask:
        raise CommandError("No Name given!")
    try:
        name = input("Enter the Name you want your tinc node to have: ").strip()
    except EOFError:
        name = ""
    if not name:
        raise CommandError("No name given!")
    return name


def _setting(name: str, value: str) -> list[str]:
    return [f"{name} = {value}"] if value else []


def _vpn_address(text: str | None) -> tuple[str, str]:
    """Our address in the VPN with the VPN's prefix length, for tinc-up, and the subnet that we serve: ourselves."""
    if text is None:
        return "", ""
    try:
        parsed = Subnet.parse(text)
    except ValueError as error:
        raise CommandError(
            f"--vpn-address: {error}; it is an address and the VPN's prefix length, as 10.0.0.1/24"
        ) from None
    if parsed.kind is SubnetKind.MAC or "/" not in text or "#" in text:
        raise CommandError("--vpn-address is an IP address and the VPN's prefix length, as 10.0.0.1/24")
    alone = Subnet(parsed.kind, parsed.address, len(parsed.address) * 8)
    return f"{alone.format()}/{parsed.prefix}", alone.format()


def _interface(text: str | None) -> str:
    if text is None:
        return ""
    if not text or len(os.fsencode(text)) > MAX_INTERFACE_NAME or "/" in text or not text.isprintable() or " " in text:
        raise CommandError(f"--interface: {text!r} is no name of an interface; at most {MAX_INTERFACE_NAME} bytes")
    return text


def _host(text: str | None) -> str:
    if text is None:
        return ""
    from gmesh.config import checks, settings

    try:
        return str(checks.convert(settings.declared("Address"), text))
    except checks.BadText as error:
        raise CommandError(f"--address: {error}") from None


def _make_directories(context: Context) -> None:
    wanted = [] if context.confbase is not None else [CONFDIR]
    for path in (*wanted, context.base, context.hosts, context.base / "cache"):
        try:
            path.mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            raise CommandError(f"Could not create directory {path}: {error.strerror}") from None


def _fill(context: Context, name: str, server: list[str], host: list[str], script: str) -> None:
    from gmesh.config import newkeys
    from gmesh.config.write import replace_file

    host_file = context.hosts / name
    if host:
        newkeys.append_text(host_file, "".join(f"{line}\n" for line in host))
    rsa = newkeys.KeyPlaces(context.base / "rsa_key.priv", host_file, in_host_file=True)
    ed25519 = newkeys.KeyPlaces(context.base / "ed25519_key.priv", host_file, in_host_file=True)
    disabled = newkeys.save_rsa(make_rsa(DEFAULT_BITS), rsa)
    disabled += newkeys.save_ed25519(make_ed25519(), ed25519)
    for path in disabled:
        sys.stderr.write(f"Warning: old key(s) found and disabled. ({path})\n")
    check_port(host_file)
    tinc_up = context.base / "tinc-up"
    if not os.path.lexists(tinc_up):
        replace_file(tinc_up, script.encode("ascii"), 0o777 & ~umask())
    replace_file(context.server_file, "".join(f"{line}\n" for line in server).encode("utf-8"), 0o666 & ~umask())


def umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def check_port(host_file: Path) -> None:
    """Where the usual port is taken (or not ours to take), choose another, as tinc does."""
    from gmesh.config import newkeys

    if _can_bind(DEFAULT_PORT):
        return
    for port in random.sample(_PORTS, _TRIES):
        if _can_bind(port):
            newkeys.append_text(host_file, f"Port = {port}\n")
            sys.stderr.write(
                f"Warning: could not bind to port {DEFAULT_PORT}. Tinc will instead listen on port {port}.\n"
            )
            return
    sys.stderr.write(f"Warning: could not bind to port {DEFAULT_PORT}. Please change tinc's Port manually.\n")


def _can_bind(port: int) -> bool:
    """Whether a daemon could listen there, with IPv4 and with IPv6 as far as this machine has them."""
    usable = False
    for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((any_address, port))
                probe.listen(1)
            except OSError as error:
                # Anything else means that this machine does not have the family.
                if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EPERM):
                    return False
            usable = True
    return usable
