"""The part of `check` about settings: unknown, misplaced, repeated, impossible; whom they name; whose subnets."""

from __future__ import annotations

import difflib
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gmesh.config import checks, edit
from gmesh.config.directory import Directory
from gmesh.config.findings import Finding
from gmesh.config.lexer import Document, Entry
from gmesh.config.notices import Level, printable, shown
from gmesh.config.settings import Option, Scope, find, nearest
from gmesh.errors import ConfigError
from gmesh.values import Subnet, is_node_name

MOST_UNKNOWN = 20
"""Per file: one of another kind, put here by mistake, has thousands."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file of settings. ``node`` is empty for the server's files; ``own`` says whether it counts for ourselves."""

    path: Path
    document: Document
    node: str = ""
    own: bool = True

    @property
    def name(self) -> str:
        """How `gmesh edit` calls it; for files of conf.d there is no such name."""
        return f"hosts/{self.node}" if self.node else self.path.name

    def command(self, words: str, entry: Entry) -> str:
        """A command of ours on this file, or the editor where no command reaches: conf.d."""
        if self.path.parent.name == "conf.d":
            return f"$ ${{EDITOR:-vi}} {shlex.quote(str(self.path))}"
        node = f"{self.node}." if self.node else ""
        return words.format(key=f"{node}{entry.key}", value=shlex.quote(entry.value))


def settings(directory: Directory, source: Source, own_name: str) -> Iterator[Finding]:
    """What is wrong with the lines of one file."""
    yield from _lines(source)
    unknown: list[Entry] = []
    given: dict[str, list[Entry]] = defaultdict(list)
    for entry in source.document.entries:
        option = find(entry.key)
        if option is None:
            unknown.append(entry)
            if len(unknown) <= MOST_UNKNOWN:
                yield _unknown(source, entry)
            continue
        given[option.name].append(entry)
        yield from _one(source, option, entry, own_name)
    more = unknown[MOST_UNKNOWN:]
    if more:
        text = f"{len(more)} more unknown variables in {_place(more[0])} and below"
        yield Finding(Level.WARNING, text, more[0].file, more[0].line)
    for name, entries in given.items():
        option = find(name)
        if option is not None and not option.repeatable and len(entries) > 1:
            yield _repeated(source, name, entries)
    if not source.node:
        yield from _connect_to(directory, given.get("ConnectTo", []), source, own_name)


def _lines(source: Source) -> Iterator[Finding]:
    """Lines that are no settings at all."""
    for error in source.document.errors:
        place = f" on line {error.line} while reading config file {error.file}"
        key = error.key and f"{source.node}.{error.key}" if source.node else error.key
        command = f"del {key}" if error.key and source.path.parent.name != "conf.d" else f"edit {source.name}"
        yield Finding(
            Level.ERROR,
            f"{error.message}{place}",
            error.file,
            error.line,
            error.key,
            "tinc reads no further than this line; give the variable a value or remove the line.",
            (command,),
            fails=True,
        )
    for notice in source.document.notices:
        text = f"{notice.text} in {notice.file} line {notice.line}"
        yield Finding(notice.level, text, notice.file, notice.line, notice.key, "", (f"edit {source.name}",))


def _place(entry: Entry) -> str:
    return f"{entry.file} line {entry.line}"


def _unknown(source: Source, entry: Entry) -> Finding:
    near = nearest(entry.key)
    explanation = "Nothing looks at it." + (f" Did you mean {near}?" if near else "")
    commands = [source.command("del {key} {value}", entry)]
    if near:
        commands.append(source.command(f"add {source.node + '.' if source.node else ''}{near} {{value}}", entry))
    text = f"unknown variable {shown(entry.key)} in {_place(entry)}"
    return Finding(Level.WARNING, text, entry.file, entry.line, entry.key, explanation, tuple(dict.fromkeys(commands)))


def _one(source: Source, option: Option, entry: Entry, own_name: str) -> Iterator[Finding]:
    where = (entry.file, entry.line, option.name)
    remove = source.command("del {key} {value}", entry)
    if option.obsolete:
        text = f"obsolete variable {option.name} in {_place(entry)}"
        explanation = "tinc 1.1 no longer knows it, or advises against it."
        yield Finding(Level.WARNING, text, *where, explanation, (remove,))
    if not source.node and option.scope is Scope.HOST:
        text = f"host variable {option.name} found in server config {_place(entry)}"
        explanation = "It counts here too, but other nodes are not told: it belongs into our host file."
        move = f"add {own_name or 'NAME'}.{option.name} {shlex.quote(entry.value)}"
        yield Finding(Level.WARNING, text, *where, explanation, (move, f"edit {source.name}"))
    if source.node and option.scope is Scope.SERVER:
        text = f"server variable {option.name} found in host config {_place(entry)}"
        explanation = "It counts here too, but other nodes get it with the host file." if source.own else "No effect."
        commands = (remove, f"add {option.name} {shlex.quote(entry.value)}") if source.own else (remove,)
        yield Finding(Level.WARNING, text, *where, explanation, commands)
        if not source.own:
            return
    try:
        checks.convert(option, entry.value)
        if option.name == "Port" and (problem := checks.port_problem(entry.value)):
            change = source.command("set {key} NUMBER", entry)
            explanation = "The daemon does not start." if source.own else "The node cannot be dialled by it."
            level = Level.ERROR if source.own else Level.WARNING
            text = f"{problem} in {_place(entry)}"
            yield Finding(level, text, *where, explanation, (change,), fails=source.own)
    except checks.BadText as error:
        fatal = option.fatal and not error.form and source.own
        explanation = "The daemon does not start." if fatal else "The daemon goes on without this line."
        change = source.command(f"{'add' if option.repeatable else 'set'} {{key}} VALUE", entry)
        commands = (remove, change) if option.repeatable else (change,)
        level = Level.ERROR if fatal else Level.WARNING
        yield Finding(level, f"{error} in {_place(entry)}", *where, explanation, commands, fails=fatal)


def _repeated(source: Source, name: str, entries: Sequence[Entry]) -> Finding:
    first, rest = entries[0], entries[1:]
    ignored = ", ".join(str(entry.line) for entry in rest[:MOST_UNKNOWN])
    text = f"multiple instances of variable {name} in {first.file}"
    explanation = f"Line {first.line} counts (= {shown(first.value)}), these lines do not: {ignored}."

    def fix() -> str:
        edit.change(source.path, lambda old: edit.set_value(old, name, first.value)[0])
        return f"Kept {name} = {shown(first.value)} alone in {printable(source.path)}."

    return Finding(
        Level.WARNING,
        text,
        rest[0].file,
        rest[0].line,
        name,
        explanation,
        (source.command("set {key} {value}", first),),
        fix=fix,
    )


def _connect_to(directory: Directory, entries: Iterable[Entry], source: Source, own_name: str) -> Iterator[Finding]:
    names = directory.host_names()
    for entry in entries:
        where = (entry.file, entry.line, "ConnectTo")
        remove = source.command("del {key} {value}", entry)
        name = shown(entry.value)
        if not is_node_name(entry.value):
            text = f"Invalid name for outgoing connection in {_place(entry)}"
            explanation = (
                f"ConnectTo takes the name of a file in hosts/; {name} may be meant as an Address in one of them."
            )
            yield Finding(Level.ERROR, text, *where, explanation, (remove,))
        elif entry.value == own_name:
            text = f"ConnectTo = {name} in {_place(entry)} names this node itself"
            yield Finding(Level.WARNING, text, *where, "It is ignored.", (remove,))
        elif entry.value not in names:
            close = difflib.get_close_matches(entry.value, names, n=1, cutoff=0.6)
            hint = f" Did you mean {close[0]}?" if close else ""
            text = f"there is no host file for ConnectTo = {name} in {_place(entry)}"
            explanation = f"Without it no connection can be made; get it from the administrator of {name}.{hint}"
            change = (remove, f"add ConnectTo {close[0]}") if close else ("import < FILE", remove)
            yield Finding(Level.WARNING, text, *where, explanation, change)
        else:
            yield from _address(directory, entry, where)


def _address(directory: Directory, entry: Entry, where: tuple[str, int, str]) -> Iterator[Finding]:
    try:
        if directory.host(entry.value).addresses:
            return
    except ConfigError:
        return
    text = f"hosts/{entry.value} has no Address for ConnectTo = {entry.value} in {_place(entry)}"
    explanation = "Unless it is known from elsewhere, no connection to that node can be made from here."
    yield Finding(Level.WARNING, text, *where, explanation, (f"add {entry.value}.Address HOST",))


def subnets(sources: Sequence[Source]) -> Iterator[Finding]:
    """Subnets that two nodes serve with the same weight, so that it is chance which of them gets the packets."""
    owners: dict[Subnet, tuple[str, Entry]] = {}
    for source in sources:
        for entry in source.document.entries:
            if entry.key.lower() != "subnet":
                continue
            try:
                subnet = Subnet.parse(entry.value)
            except ValueError:
                continue
            node, first = owners.setdefault(subnet, (source.node, entry))
            if first is entry:
                continue
            text = f"Subnet = {shown(entry.value)} in {_place(entry)} is also in {_place(first)}"
            whose = "twice the same" if node == source.node else f"{node or 'we'} and {source.node or 'we'} serve it"
            explanation = f"{whose}; give one of them another weight (#N), or remove it."
            command = source.command("del {key} {value}", entry)
            yield Finding(Level.WARNING, text, entry.file, entry.line, "Subnet", explanation, (command,))
