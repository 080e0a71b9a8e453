"""What the joiner makes of an invitation's text: options, host files, a script (invitations 5).

The text comes from somebody who is trusted with the mesh, not with this machine: only files in the new directory come
of it, options that are known to be safe, and commands that are made here. Not here: writing any of it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from gmesh.config import checks, settings
from gmesh.config.invitations import SEPARATOR
from gmesh.config.lexer import CONTROL, parse_setting
from gmesh.config.netname import check_netname
from gmesh.config.notices import shown
from gmesh.errors import ConfigError
from gmesh.values import Subnet, SubnetKind, is_node_name

MAX_HOSTS = 65536
"""Host files that one invitation may bring."""

MAX_REMARKS = 50

INTERFACE = '"$INTERFACE"'


@dataclass(slots=True)
class Joining:
    """``server`` and ``host`` are lines for tinc.conf and for our own host file, ``hosts`` texts of other nodes' host
    files by name, ``commands`` lines for tinc-up; ``remarks`` tell what was left out and why."""

    name: str
    netname: str | None = None
    server: list[str] = field(default_factory=list)
    host: list[str] = field(default_factory=list)
    hosts: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def script(self) -> str:
        """tinc-up, to be shown to the administrator before it counts."""
        return "\n".join(["#!/bin/sh", "", f"ip link set {INTERFACE} up", *self.commands]) + "\n"


def read_invitation(data: bytes, *, force: bool = False) -> Joining:
    """Raises ConfigError where nothing good can come of the text. With ``force`` unsafe options are taken too."""
    lines = [line.removesuffix("\r") for line in data.decode("utf-8", "surrogateescape").split("\n")]
    key, name = parse_setting(lines[0])
    if key.lower() != "name":
        raise ConfigError("No Name found in invitation!")
    if not is_node_name(name):
        raise ConfigError("Invalid Name found in invitation!")
    joining = Joining(name)
    chunks = _chunks(lines[1:], name)
    for line in next(chunks)[1]:
        _take(joining, line, force)
    if len(joining.remarks) > MAX_REMARKS:
        joining.remarks[MAX_REMARKS:] = [f"{len(joining.remarks) - MAX_REMARKS} more remarks are left out."]
    for other, chunk in chunks:
        if not is_node_name(other):
            raise ConfigError("Invalid Name found in invitation!")
        if other == name:
            raise ConfigError("Secondary chunk would overwrite our own host config file.")
        text = [line for line in chunk if line != SEPARATOR]
        while text and not text[-1]:
            del text[-1]
        joining.hosts[other] = "".join(f"{line}\n" for line in text)
        if len(joining.hosts) > MAX_HOSTS:
            raise ConfigError(f"more than {MAX_HOSTS} host files in the invitation")
    return joining


def _chunks(lines: list[str], own: str) -> Iterator[tuple[str, list[str]]]:
    """The first chunk, which ends at the Name of another, then each with the name that begins it."""
    name, chunk, first = own, list[str](), True
    for line in lines:
        key, value = parse_setting(line)
        if key.lower() != "name" or (first and value == own):
            chunk.append(line)
            continue
        yield name, chunk
        name, chunk, first = value, [], False
    yield name, chunk


def _take(joining: Joining, line: str, force: bool) -> None:
    """One line of the first chunk."""
    text = line.strip(" \t")
    if not text or text.startswith("#"):
        return
    if CONTROL.search(text):
        joining.remarks.append("Ignoring a line with a control character in invitation.")
        return
    key, value = parse_setting(text)
    special = _SPECIAL.get(key.lower())
    if special is not None:
        special(joining, value)
        return
    option = settings.find(key)
    if option is None:
        joining.remarks.append(f"Ignoring unknown variable '{shown(key)}' in invitation.")
        return
    if not option.safe:
        if not force:
            joining.remarks.append(f"Ignoring unsafe variable '{option.name}' in invitation.")
            return
        joining.remarks.append(f"Warning: unsafe variable '{option.name}' in invitation.")
    try:
        # A value that ends the start of the daemon would make the whole directory useless.
        checks.convert(option, value)
        if option.type == "name" and not is_node_name(value):
            raise checks.BadText(f"'{shown(value)}' is no name of a node")
    except checks.BadText as error:
        joining.remarks.append(f"Ignoring variable '{option.name}' in invitation: {error}")
        return
    place = joining.server if option.scope is settings.Scope.SERVER else joining.host
    place.append(f"{option.name} = {value}")


def _name(joining: Joining, value: str) -> None:
    """Our own, once more."""


def _netname(joining: Joining, value: str) -> None:
    if joining.netname is not None:
        return
    try:
        name, warning = check_netname(value)
    except ConfigError:
        name, warning = None, "bad"
    if name is None or warning or len(name) > _LONGEST_NETNAME:
        raise ConfigError("Unsafe NetName found in invitation!")
    joining.netname = name


_LONGEST_NETNAME = 255
_WELL_KNOWN = {
    "dhcp": [f"dhclient -nw {INTERFACE}"],
    "dhcp6": [f"dhclient -6 -nw {INTERFACE}"],
    "slaac": [f'echo 1 >"/proc/sys/net/ipv6/conf/$INTERFACE/{name}"' for name in ("accept_ra", "autoconf")],
}


def _ifconfig(joining: Joining, value: str) -> None:
    known = _WELL_KNOWN.get(value.lower())
    if known is not None:
        joining.commands += known
        return
    address = _parsed(value)
    if address is None:
        joining.remarks.append("Could not parse address in Ifconfig statement")
    elif address.kind is not SubnetKind.MAC:
        joining.commands.append(f"ip addr replace {_form(address)} dev {INTERFACE}")


def _route(joining: Joining, value: str) -> None:
    words = value.split()
    subnet = _parsed(words[0]) if words else None
    if subnet is None or subnet.kind is SubnetKind.MAC or len(words) > 2:
        joining.remarks.append("Could not parse subnet in Route statement")
        return
    if len(words) == 1:
        joining.commands.append(f"ip route add {_form(subnet)} dev {INTERFACE}")
        return
    gateway = _parsed(words[1])
    if gateway is None or gateway.kind is not subnet.kind or gateway.prefix != len(gateway.address) * 8:
        joining.remarks.append("Could not parse gateway in Route statement")
        return
    via = ipaddress.ip_address(gateway.address)
    joining.commands.append(f"ip route add {_form(subnet)} via {via} dev {INTERFACE} onlink")


def _parsed(text: str) -> Subnet | None:
    try:
        return Subnet.parse(text)
    except ValueError:
        return None


def _form(subnet: Subnet) -> str:
    """Printed from its bytes, so that nothing of the text gets into a script."""
    return subnet.format(with_weight=False)


_SPECIAL = {"name": _name, "netname": _netname, "ifconfig": _ifconfig, "route": _route}
