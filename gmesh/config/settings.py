"""The settings registry: every option of both generations, declared once in ``options.json``.

Parsing, validation, documentation and the control tool all read it from here. Not here: values, files, or what an
option does.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any


class Scope(StrEnum):
    """Where tinc's tools let an option stand. The daemon merges tinc.conf and our own host file, so it takes any."""

    SERVER = "server"
    HOST = "host"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Option:
    """One option (config 10).

    ``default`` is ours, as a Python value; None where there is none or where it depends (``default_text`` says on
    what). ``default_legacy`` replaces it where SPTPS is not spoken: without an own Ed25519 key, or with
    ExperimentalProtocol = no. ``effective`` says whether gmesh acts on the option: True, False, or the values it acts
    on. ``idle`` is the value that asks for nothing while it is not effective (the default if None). ``fatal`` options
    end the start when their value is not allowed; the others fall back to the default with a message.
    """

    name: str
    scope: Scope
    type: str
    values: str
    default: bool | int | str | None
    repeatable: bool
    since: str
    reloadable: bool
    obsolete: bool
    safe: bool
    effective: bool | tuple[str, ...]
    text: str
    choices: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    default_legacy: bool | None = None
    default_text: str = ""
    fatal: bool = False
    complaint: str = ""
    idle: str | None = None

    @property
    def allowed(self) -> str:
        """What a value may be, for messages."""
        if self.type != "int" or (self.minimum is None and self.maximum is None):
            return self.values
        low, high = self.minimum, self.maximum
        if high is None:
            return f"at least {low} ({self.values})"
        return f"{low} to {high} ({self.values})" if low is not None else f"at most {high} ({self.values})"

    def acts_on(self, value: str) -> bool:
        """Whether gmesh does what this value, as `as_text` gives it, asks for."""
        return self.effective if isinstance(self.effective, bool) else value in self.effective

    @property
    def idle_value(self) -> str:
        """The value, as in a file, that changes nothing while the option is not effective; maybe empty."""
        if self.idle is not None:
            return self.idle
        return as_text(self.default)

    @property
    def validator_spec(self) -> str:
        """The check of this option in the language of configobj's configspec."""
        default = "None" if self.default is None else f'"{as_text(self.default)}"'
        return f'{self.name} = {self.type}("{self.name}", default={default})'


def as_text(value: bool | int | str | None) -> str:
    """A Python value as it would stand in a file; empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _load() -> dict[str, Option]:
    entries: list[dict[str, Any]] = json.loads(Path(__file__).with_name("options.json").read_text("utf-8"))
    options: dict[str, Option] = {}
    for entry in entries:
        entry["scope"] = Scope(entry["scope"])
        entry["choices"] = tuple(entry.get("choices", ()))
        entry["aliases"] = tuple(entry.get("aliases", {}).items())
        if not isinstance(entry["effective"], bool):
            entry["effective"] = tuple(entry["effective"])
        option = Option(**entry)
        options[option.name.lower()] = option
    return options


@cache
def all_options() -> dict[str, Option]:
    """Every option, by its name in lower case, in alphabetical order. Not to be changed."""
    return _load()


def find(name: str) -> Option | None:
    """The option of that name in any case, or None."""
    return all_options().get(name.lower())


def declared(name: str) -> Option:
    """The option of that name; KeyError for a name that the registry does not hold, which is a programming error."""
    return all_options()[name.lower()]


def nearest(name: str) -> str | None:
    """The known name that someone who wrote ``name`` most probably meant."""
    close = difflib.get_close_matches(name.lower(), all_options(), n=1, cutoff=0.6)
    return all_options()[close[0]].name if close else None


def configspec(*, host_only: bool = False) -> list[str]:
    """The registry as lines of a configobj configspec; the checks are those of `gmesh.config.checks`."""
    return [
        option.validator_spec for option in all_options().values() if not host_only or option.scope is not Scope.SERVER
    ]
