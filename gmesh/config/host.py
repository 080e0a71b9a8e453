"""One node's host file, as it is read when it is needed (config 4, 10). Not here: our own settings; see `server`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gmesh.config.keys import ed25519_public_key, rsa_public_key
from gmesh.config.lexer import Block, Document, Entry
from gmesh.config.notices import Notice
from gmesh.config.view import OptionView
from gmesh.values import DEFAULT_PORT, Subnet

if TYPE_CHECKING:
    from gmesh.crypto.rsa import RsaPublicKey


@dataclass(frozen=True, slots=True)
class HostAddress:
    """Where a node may be reached: a host name or address, and the port if the line names one."""

    host: str
    port: str | None = None

    @classmethod
    def parse(cls, text: str) -> HostAddress:
        words = text.split()
        return cls(words[0], words[1] if len(words) > 1 else None)


class Host:
    """What hosts/NAME (and ``-o NAME.KEY=VALUE``) says about another node.

    Bad lines and values are in ``notices``; the rest of the file counts. Yes/no options are None where not given.
    """

    def __init__(self, name: str, base: Path, document: Document, overrides: Sequence[Entry] = ()) -> None:
        self.name = name
        self.file = document.file
        self.base = base
        self.options = OptionView([*overrides, *document.entries], peer=True)
        self.blocks: tuple[Block, ...] = document.blocks
        self.notices: list[Notice] = [
            *document.notices,
            *(Notice.from_error(error) for error in document.errors),
            *self.options.notices,
        ]

    @property
    def addresses(self) -> list[HostAddress]:
        """The Address lines in file order; where one names no port, `port` of this host is meant."""
        return [HostAddress.parse(text) for text in self.options.get_list("Address")]

    @property
    def port(self) -> str:
        return self.options.given_str("Port") or str(DEFAULT_PORT)

    @property
    def subnets(self) -> list[Subnet]:
        return [Subnet.parse(text) for text in self.options.get_list("Subnet")]

    @property
    def indirect_data(self) -> bool | None:
        return self.options.given_bool("IndirectData")

    @property
    def tcp_only(self) -> bool | None:
        return self.options.given_bool("TCPOnly")

    @property
    def clamp_mss(self) -> bool | None:
        return self.options.given_bool("ClampMSS")

    @property
    def pmtu_discovery(self) -> bool | None:
        return self.options.given_bool("PMTUDiscovery")

    @property
    def weight(self) -> int | None:
        return self.options.given_int("Weight")

    @property
    def pmtu(self) -> int | None:
        return self.options.given_int("PMTU")

    def rsa_public_key(self) -> RsaPublicKey:
        """The node's RSA key. Raises KeyFileError."""
        return rsa_public_key(self.options, self.blocks, self.base, self.file)

    def ed25519_public_key(self) -> bytes | None:
        """The node's Ed25519 key, 32 bytes; None without one. Raises KeyFileError."""
        return ed25519_public_key(self.options, self.blocks, self.base, self.file)
