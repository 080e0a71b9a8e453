"""Our own settings: tinc.conf, conf.d, our host file and the command line, merged (config 4).

Not here: reading other nodes' host files (`host`), or what any setting does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gmesh.config.keys import ed25519_public_key, permission_notice, rsa_public_key
from gmesh.config.lexer import Block, Entry
from gmesh.config.notices import Level, Notice, printable, shown
from gmesh.config.view import OptionView
from gmesh.crypto.digests import digest_problem
from gmesh.crypto.nids import NONE, cipher_by_name, digest_by_name
from gmesh.crypto.packet_cipher import cipher_problem
from gmesh.errors import ConfigError
from gmesh.proto.compression import compression_problem
from gmesh.values import MAX_INTERFACE_NAME, Subnet, cut_interface_name, is_node_name

if TYPE_CHECKING:
    from gmesh.config.directory import Directory
    from gmesh.crypto.rsa import RsaPublicKey

DAY = 86400


class Server(OptionView):
    """Our own configuration, checked. Made by `Directory.server`.

    ``subnets`` and ``connect_to`` are in order and without repetitions; ``notices`` is all there is to tell the
    administrator. ``errors`` has been raised by `Directory.server` already.
    """

    def __init__(
        self,
        directory: Directory,
        name: str,
        entries: Sequence[Entry],
        host_blocks: tuple[Block, ...],
        notices: Sequence[Notice],
    ) -> None:
        asked = {entry.key.lower(): entry.value for entry in reversed(entries)}
        self.directory = directory
        self.name = name
        self.ed25519_private_file: Path = directory.base / (asked.get("ed25519privatekeyfile") or "ed25519_key.priv")
        legacy = asked.get("experimentalprotocol", "").lower() == "no" or not os.path.exists(self.ed25519_private_file)
        super().__init__(entries, legacy_defaults=legacy)
        self.notices[:0] = notices
        # What the file says may be $HOST.
        self.set_value("Name", name)
        self.rsa_private_file: Path = directory.base / (self.get_str("PrivateKeyFile") or "rsa_key.priv")
        self.host_blocks = host_blocks
        self.subnets = list(dict.fromkeys(Subnet.parse(text) for text in self.get_list("Subnet")))
        self.connect_to = self._connect_to()
        self._depend()
        self._check_algorithms()
        for path, what in ((self.rsa_private_file, "RSA"), (self.ed25519_private_file, "Ed25519")):
            notice = permission_notice(path, what)
            if notice:
                self.notices.append(notice)

    @property
    def netname(self) -> str | None:
        return self.directory.netname

    @property
    def keygen_command(self) -> str:
        """The command that makes keys for this directory, for hints."""
        return self.directory.keygen_command

    def rsa_public_key(self) -> RsaPublicKey:
        """The RSA key that our own host file gives to others. Raises KeyFileError."""
        file = printable(self.directory.host_file(self.name))
        return rsa_public_key(self, self.host_blocks, self.directory.base, file)

    def ed25519_public_key(self) -> bytes | None:
        """The Ed25519 key that our own host file gives to others, 32 bytes; None without one. Raises KeyFileError."""
        file = printable(self.directory.host_file(self.name))
        return ed25519_public_key(self, self.host_blocks, self.directory.base, file)

    def _depend(self) -> None:
        """Values that depend on other values (config 10)."""
        if self.get_int("PingInterval") < 1:
            self.set_value("PingInterval", DAY)
        if not 1 <= self.get_int("PingTimeout") <= self.get_int("PingInterval"):
            self.set_value("PingTimeout", self.get_int("PingInterval"))
        if self.get_int("MinTimeout") > self.get_int("MaxTimeout"):
            self._about("MinTimeout", Level.WARNING, "Minimum timeout is above MaxTimeout: MaxTimeout is used")
            self.set_value("MinTimeout", self.get_int("MaxTimeout"))
        if not self.is_set("PMTUDiscovery"):
            self.set_value("PMTUDiscovery", not self.get_bool("TCPOnly"))
        if not self.get_str("DeviceType"):
            self.set_value("DeviceType", "tun" if self.get_str("Mode") == "router" else "tap")
        digest = digest_by_name(self.get_str("Digest"))
        if digest is not None and self.get_int("MACLength") > digest.size:
            if self.is_set("MACLength"):
                text = f"MACLength exceeds the size of the digest and is cut to {digest.size}"
                self._about("MACLength", Level.WARNING, text)
            self.set_value("MACLength", digest.size)
        interface = self.get_str("Interface") or self.directory.netname or ""
        name = cut_interface_name(interface)
        if name != interface:
            text = f"the interface's name {shown(interface)} is cut to {MAX_INTERFACE_NAME} bytes: {name}"
            self._about("Interface", Level.WARNING, text)
        if name:
            self.set_value("Interface", name)
        if self.get_str("Sandbox") != "off":
            entry = self.entries("Sandbox")[0]
            text = "Sandbox is used but is not supported on this platform; allowed: off"
            self.errors.append(ConfigError(text, entry.file, entry.line, "Sandbox"))

    def _check_algorithms(self) -> None:
        """Refuse ciphers, digests and compressions that packets to us could not have here."""
        for name, problem_of in (
            ("Cipher", self._cipher_problem),
            ("Digest", self._digest_problem),
            ("Compression", self._compression_problem),
        ):
            # The defaults are in every library, and trying a cipher takes time.
            for entry in self.entries(name)[:1]:
                problem = problem_of()
                if problem:
                    text = f"{name} = {shown(entry.value)}: {problem}"
                    self.errors.append(ConfigError(text, entry.file, entry.line, name))

    def _cipher_problem(self) -> str:
        info = cipher_by_name(self.get_str("Cipher"))
        return cipher_problem(info.nid) if info is not None else ""

    def _digest_problem(self) -> str:
        info = digest_by_name(self.get_str("Digest"))
        return digest_problem(info.nid) if info is not None and info.nid != NONE else ""

    def _compression_problem(self) -> str:
        return compression_problem(self.get_int("Compression"))

    def _about(self, name: str, level: Level, text: str) -> None:
        entry = next(iter(self.entries(name)), Entry(name, "", "", 0))
        self.notices.append(Notice(level, text, entry.file, entry.line, name))

    def _connect_to(self) -> list[str]:
        names: list[str] = []
        for entry in self.entries("ConnectTo"):
            name, level, text = entry.value, Level.WARNING, ""
            if not is_node_name(name):
                name, level, text = self._node_with_address(entry.value)
            elif name != self.name and not self.directory.host_exists(name):
                text = f"there is no host file hosts/{name} yet, so no connection to {name} can be made"
            if name and name == self.name:
                text, name = f"ConnectTo = {shown(entry.value)} names this node itself and is ignored", ""
            if text:
                self.notices.append(Notice(level, text, entry.file, entry.line, "ConnectTo"))
            if name and name not in names:
                names.append(name)
        return names

    def _node_with_address(self, text: str) -> tuple[str, Level, str]:
        """A host name or address in ConnectTo: the one node whose host file has it as Address, and what to say."""
        wanted = text.split(" ", 1)[0].lower()
        found = []
        for name in self.directory.host_names():
            try:
                addresses = self.directory.host(name).addresses
            except ConfigError:
                continue
            if any(address.host.lower() == wanted for address in addresses):
                found.append(name)
        if len(found) == 1:
            advice = f"ConnectTo = {shown(text)} is an address of {found[0]}; better write ConnectTo = {found[0]}"
            return found[0], Level.WARNING, advice
        several = f" ({', '.join(found)} have it)" if found else ""
        return (
            "",
            Level.ERROR,
            f"Invalid name for outgoing connection: ConnectTo = {shown(text)} names no node and is ignored. ConnectTo "
            f"takes the name of a file in hosts/; put `Address = {shown(text)}' into that file{several}",
        )
