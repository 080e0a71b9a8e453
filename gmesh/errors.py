"""The exception tree. Each class says who is to blame, and so what ends because of it.

Not here: exit codes and log levels, which belong to whoever catches.
"""

from __future__ import annotations


class GmeshError(Exception):
    """Anything gmesh raises on purpose."""


class ConfigError(GmeshError):
    """The administrator's files or command line are wrong.

    ``file`` is a path, or ``command line``; ``line`` counts from 1 and is 0 where no line applies;
    ``key`` is the option's name, or empty.
    """

    def __init__(self, message: str, file: str = "", line: int = 0, key: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.key = key

    def __str__(self) -> str:
        if not self.file:
            return self.message
        where = f"{self.file} line {self.line}" if self.line else self.file
        return f"{where}: {self.message}"


class PeerError(GmeshError):
    """A peer broke the protocol: its own connection is closed, nothing else happens."""


class DatagramError(GmeshError):
    """A datagram is not what it should be: it is dropped and counted."""


class KeyFileError(GmeshError):
    """A key cannot be read, decoded or used."""
