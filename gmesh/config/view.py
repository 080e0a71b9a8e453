"""Settings, seen by the registry: from entries in order of precedence to typed values, with everything worth saying.

Server and host objects are built on it. Not here: which files are read, and in which order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from gmesh.config import checks
from gmesh.config.lexer import Entry
from gmesh.config.notices import Level, Notice, shown
from gmesh.config.settings import Option, Scope, all_options, as_text, declared, find, nearest
from gmesh.errors import ConfigError
from gmesh.values import Subnet

_T = TypeVar("_T", bool, int, str)

MAX_UNKNOWN = 20
"""How many unknown options are named one by one: a file of another kind put here by mistake has thousands."""


class OptionView:
    """The options of one server or host.

    ``entries`` come in order of precedence: of a single-valued option the first counts. ``errors`` are values that
    must end a start, ``notices`` everything else. Getters return what gmesh acts on: for an option (or a value) that
    is not effective yet, that is its idle value, and a warning says so.
    """

    def __init__(self, entries: Iterable[Entry], *, peer: bool = False, legacy_defaults: bool = False) -> None:
        self.notices: list[Notice] = []
        self.errors: list[ConfigError] = []
        self._peer = peer
        self._given: dict[str, list[Entry]] = {}
        self._unknowns: list[Entry] = []
        for entry in entries:
            option = find(entry.key)
            if option is None:
                self._unknowns.append(entry)
            elif peer and option.scope is Scope.SERVER:
                text = f"{option.name} has no effect in another node's host file; it belongs into tinc.conf"
                self._notice(Level.NOTICE, text, entry)
            else:
                self._given.setdefault(option.name, []).append(entry)
        self._name_unknown()
        self._values, bad = checks.validate({name: self._raw(name) for name in self._given}, host_only=peer)
        self._refuse(bad)
        self._good: dict[str, list[Entry]] = {
            name: [entry for position, entry in enumerate(self._counting(name)) if (name, position) not in self._bad]
            for name in self._given
        }
        for option in [declared(name) for name in self._given] if peer else all_options().values():
            self._settle(option, legacy_defaults)

    # What stands in the files

    def is_set(self, name: str) -> bool:
        """Whether the option is given, with a value that is allowed."""
        return bool(self._good.get(declared(name).name))

    def entries(self, name: str) -> Sequence[Entry]:
        """The entries whose values are allowed, in order of precedence."""
        return self._good.get(declared(name).name, [])

    # Typed values

    def get_bool(self, name: str) -> bool:
        return self._typed(name, bool, False)

    def get_int(self, name: str) -> int:
        return self._typed(name, int, 0)

    def get_str(self, name: str) -> str:
        """Also for enumerations, in the registry's spelling. Empty when there is no value and no default."""
        return self._typed(name, str, "")

    def get_list(self, name: str) -> list[str]:
        """All values of a repeatable option as text, in order."""
        return [entry.value for entry in self.entries(name)] if self._values[declared(name).name] else []

    def set_value(self, name: str, value: bool | int | str) -> None:
        """Replace a value after all files are read, where one option depends on another."""
        self._values[declared(name).name] = value

    def keep_restart_only(self, started: OptionView) -> list[str]:
        """Give options that only a restart changes the values that they have in ``started``.

        Returns the names of those that would have another value.
        """
        changed = []
        for name in [option.name for option in all_options().values() if not option.reloadable]:
            asked = [entry.value for entry in self.entries(name)]
            # A value may also differ because of another option, and the same one be written in another way.
            if self._values[name] != started._values[name] and asked != [e.value for e in started.entries(name)]:
                changed.append(name)
            self._values[name] = started._values[name]
            self._good[name] = list(started.entries(name))
        return changed

    def given_bool(self, name: str) -> bool | None:
        """A yes/no value, or None where the option is not given."""
        return self.get_bool(name) if self.is_set(name) else None

    def given_int(self, name: str) -> int | None:
        """A number, or None where the option is not given."""
        return self.get_int(name) if self.is_set(name) else None

    def given_str(self, name: str) -> str | None:
        """A text, or None where the option is not given."""
        return self.get_str(name) if self.is_set(name) else None

    # Making

    def _typed(self, name: str, kind: type[_T], empty: _T) -> _T:
        value = self._values[declared(name).name]
        if value is None:
            return empty
        if not isinstance(value, kind):
            raise TypeError(f"{name} is {type(value).__name__}, not {kind.__name__}")
        return value

    def _raw(self, name: str) -> str | list[str]:
        given = self._given[name]
        if declared(name).repeatable:
            return [entry.value for entry in given]
        for entry in given[1:]:
            first = f"{given[0].file} line {given[0].line}" if given[0].line else given[0].file
            self._notice(Level.WARNING, f"{name} is already set by {first}: this one is ignored", entry)
        return given[0].value

    def _counting(self, name: str) -> list[Entry]:
        return self._given[name] if declared(name).repeatable else self._given[name][:1]

    def _refuse(self, bad: list[tuple[str, int, checks.BadText]]) -> None:
        self._bad = {(name, position) for name, position, _ in bad}
        for name, position, error in bad:
            option, entry = declared(name), self._given[name][position]
            problem = ConfigError(str(error), entry.file, entry.line, name)
            if option.fatal and not error.form and not self._peer:
                self.errors.append(problem)
            else:
                fallback = "ignored" if option.repeatable or option.default is None else "the default is used"
                self._notice(Level.ERROR, f"{error}; {fallback}", entry)

    def _settle(self, option: Option, legacy_defaults: bool) -> None:
        """Let a value that gmesh does not act on give way to the idle one, with a warning where it was asked for."""
        if legacy_defaults and option.default_legacy is not None and not self.is_set(option.name):
            self._values[option.name] = option.default_legacy
        idle = checks.convert(option, option.idle_value) if option.idle_value else None
        if option.effective is False:
            self._values[option.name] = idle
        for entry in self.entries(option.name):
            value = checks.convert(option, entry.value)
            text = entry.value if isinstance(value, Subnet) else as_text(value)
            if value == idle or option.acts_on(text):
                continue
            self._values[option.name] = idle
            instead = f"gmesh goes on with {option.idle_value}" if option.idle_value else "it is ignored"
            asked = f"{option.name} = {shown(entry.value)}"
            message = f"{asked} is known, but not effective in this version of gmesh: {instead}"
            self._notice(Level.WARNING, message, entry)

    def _name_unknown(self) -> None:
        for entry in self._unknowns[:MAX_UNKNOWN]:
            guess = nearest(entry.key)
            hint = f"; did you mean {guess}?" if guess else ""
            self._notice(Level.WARNING, f"{shown(entry.key)} is not a known option and is ignored{hint}", entry)
        more = self._unknowns[MAX_UNKNOWN:]
        if more:
            self._notice(Level.WARNING, f"{len(more)} more options from here on are not known and are ignored", more[0])

    def _notice(self, level: Level, text: str, entry: Entry) -> None:
        self.notices.append(Notice(level, text, entry.file, entry.line, entry.key))
