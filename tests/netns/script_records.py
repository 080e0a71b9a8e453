"""Compares what two daemons' scripts recorded in the same situations (spec: scripts 1, 3), and names what differs.

A record is a file of blocks, one for each run of a script, in their order: a line ``== NAME ARGUMENTS``, then the
environment, a line ``NAME=VALUE`` each. The first daemon is gmesh, the second tinc 1.0.36. What gmesh does on purpose
otherwise is taken back first, and must be there: each rule of `_as_tinc` fails on a record that does not need it.

A subnet that a node gave up while it was away is still up for a moment in tinc, when the node comes back and has not
contradicted yet what its neighbours remember. gmesh, which runs the graph once for all lines that have come in, may
never see it up: such a pair of runs may be missing in its record (`without_stale`).

usage: script_records.py GMESH TINC [OLD=NEW...]     the words are replaced in both records before
"""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

IGNORED = {"PWD", "OLDPWD", "SHLVL", "_"}
"""Set by the shell that runs the script."""

Block = tuple[str, dict[str, str]]


def read(path: str, words: dict[str, str]) -> list[Block]:
    blocks: list[Block] = []
    text = Path(path).read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("== "):
            blocks.append((_replace(line[3:], words), {}))
        else:
            name, _, value = line.partition("=")
            if name not in IGNORED:
                blocks[-1][1][name] = _replace(value, words)
    return blocks


def _replace(text: str, words: dict[str, str]) -> str:
    for old, new in words.items():
        text = text.replace(old, new)
    return text


def long_form(subnet: str) -> str:
    """A subnet as 1.0 writes it: always with a prefix, no zeros left out in IPv6, MAC without leading zeros."""
    address, _, prefix = subnet.partition("/")
    if address.count(":") == 5 and "::" not in address:
        return ":".join(f"{int(part, 16):x}" for part in address.split(":"))
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        address = ":".join(f"{int(part, 16):x}" for part in parsed.exploded.split(":"))
    return f"{address}/{prefix or parsed.max_prefixlen}"


def as_tinc(blocks: list[Block], debug: str) -> list[Block]:
    """gmesh's record in the way of 1.0: documented differences taken back, and asserted to be there."""
    result = []
    for script, variables in blocks:
        changed = dict(variables)
        assert changed.pop("DEBUG", None) == debug, f"{script}: gmesh does not give the debug level"
        assert changed.get("NETNAME") != "", f"{script}: gmesh gives an empty NETNAME"
        changed.setdefault("NETNAME", "")
        if "SUBNET" in changed:
            short = changed["SUBNET"]
            assert not short.endswith(("/32", "/128")), f"{script}: {short} is not the short form"
            changed["SUBNET"] = long_form(short)
            assert changed.get("WEIGHT", "").isdigit(), f"{script}: WEIGHT is no number"
        result.append((script, changed))
    return result


def differences(ours: list[Block], theirs: list[Block]) -> list[str]:
    found = []
    for index in range(max(len(ours), len(theirs))):
        if index >= len(ours) or index >= len(theirs):
            side, (script, variables) = ("tinc", theirs[index]) if index >= len(ours) else ("gmesh", ours[index])
            found.append(f"{index}: only {side} ran {script} {_event(variables)}")
            continue
        (our_script, our_variables), (their_script, their_variables) = ours[index], theirs[index]
        if our_script != their_script:
            found.append(
                f"{index}: gmesh ran {our_script} {_event(our_variables)}, "
                f"tinc ran {their_script} {_event(their_variables)}"
            )
            continue
        for name in sorted(our_variables.keys() | their_variables.keys()):
            our, their = our_variables.get(name), their_variables.get(name)
            if our != their:
                found.append(f"{index} {our_script}: {name} is {our!r} in gmesh, {their!r} in tinc")
    return found


def _runs(blocks: list[Block], script: str, subnet: tuple[str | None, str | None]) -> list[int]:
    return [index for index, block in enumerate(blocks) if block[0].split()[0] == script and _subject(block) == subnet]


def _subject(block: Block) -> tuple[str | None, str | None]:
    return block[1].get("NODE"), block[1].get("SUBNET")


def without_stale(theirs: list[Block], ours: list[Block]) -> list[Block]:
    """Their record without runs of subnet-up that we lack and that subnet-down took back before the next host event."""
    gone: set[int] = set()
    for down, block in enumerate(theirs):
        if not block[0].startswith("subnet-down"):
            continue
        subnet = _subject(block)
        ups = _runs(theirs[:down], "subnet-up", subnet)
        if not ups or len(_runs(theirs, "subnet-up", subnet)) == len(_runs(ours, "subnet-up", subnet)):
            continue
        if all(between[0].startswith("subnet-") for between in theirs[ups[-1] : down]):
            gone |= {ups[-1], down}
    return [block for index, block in enumerate(theirs) if index not in gone]


def _event(variables: dict[str, str]) -> str:
    return " ".join(f"{name}={variables[name]}" for name in ("NODE", "SUBNET") if name in variables)


def main() -> int:
    ours, theirs = sys.argv[1:3]
    words = dict(word.split("=", 1) for word in sys.argv[3:])
    gmesh = read(ours, words)
    tinc = read(theirs, words)
    debug = gmesh[0][1].get("DEBUG", "")
    same = as_tinc(gmesh, debug)
    found = differences(same, without_stale(tinc, same))
    print("\n".join(found) or f"{len(gmesh)} runs of scripts, all the same")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
