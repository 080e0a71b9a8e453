"""The house rule about imports: who may look down, that nobody looks up, and what pure rooms stay away from."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "gmesh"

ROOMS = (
    "errors", "values", "crypto", "proto", "mesh", "route",
    "config", "device", "dataplane", "net", "daemon", "web", "cli",
)  # fmt: skip
"""Lowest floor first. A room may import itself and what is below it."""

NARROWER = {"values": {"errors"}, "route": {"errors", "values"}}
"""Rooms that see less than everything below them. The room's own name is always allowed."""

PURE = {"errors", "values", "crypto", "proto", "mesh", "route"}
"""Time, randomness, keys and bytes come in as arguments here."""

IMPURE_MODULES = {
    "asyncio", "concurrent", "Crypto.Random", "datetime", "fcntl", "fileinput", "gevent", "glob", "greenlet", "io",
    "mmap", "multiprocessing", "os", "pathlib", "pytun", "random", "secrets", "select", "selectors", "shutil", "signal",
    "socket", "socketserver", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid",
}  # fmt: skip
IMPURE_CALLS = {"open", "input", "print"}

GREENLETS = {"device", "dataplane", "net", "daemon", "web"}
"""The only rooms that may import gevent when they are loaded; everything else starts quickly without it."""

EAGER_IN_CLI = {"errors", "values", "crypto", "proto", "config", "cli"}
"""What a command may import when it is loaded; anything else only inside the function that needs it."""

LIGHT = {"gmesh.daemon.detach", "gmesh.daemon.options", "gmesh.daemon.pidfile", "gmesh.daemon.plain_os"}
"""What daemon and commands share. It loads nothing of the upper rooms itself, so commands may load it at once."""


@dataclass(frozen=True)
class Import:
    """One imported module; ``eager`` when loading the importing module loads it too."""

    module: str
    line: int
    eager: bool


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room of a dotted gmesh name; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imports(source: str, module: str, is_package: bool) -> list[Import]:
    """Every import of the source, those inside functions included. ``from x import y`` gives x and x.y."""
    found: list[Import] = []

    def visit(node: ast.AST, eager: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, eager) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                above = parts[: len(parts) - node.level + is_package]
                base = ".".join([*above, base] if base else above)
            found.append(Import(base, node.lineno, eager))
            found.extend(Import(f"{base}.{alias.name}", node.lineno, eager) for alias in node.names)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, eager and not inside)

    visit(ast.parse(source), True)
    return found


def is_within(module: str, names: set[str]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in names)


def may_be_eager(module: str) -> bool:
    """Whether a command may load the gmesh module at once."""
    return room_of(module) in EAGER_IN_CLI or is_within(module, LIGHT)


def complaints(source: str, module: str, is_package: bool = False) -> list[str]:
    """What is wrong with the imports of one module."""
    room = room_of(module)
    if room and room not in ROOMS:
        return [f"{module} is in no room of the table"]
    below = set(ROOMS[: ROOMS.index(room)]) if room else set()
    allowed = NARROWER.get(room, below) | {room, ""}
    wrong = []
    for found in imports(source, module, is_package):
        where = f"{module}:{found.line} imports {found.module}"
        if is_within(found.module, {"gmesh"}):
            target = room_of(found.module)
            if target in ROOMS and target not in allowed:
                wrong.append(f"{where}, which {room or 'the package itself'} may not see")
            elif room == "cli" and found.eager and target in ROOMS and not may_be_eager(found.module):
                wrong.append(f"{where} when it is loaded")
        elif room in PURE and is_within(found.module, IMPURE_MODULES):
            wrong.append(f"{where} in a pure room")
        elif found.eager and room not in GREENLETS and is_within(found.module, {"gevent", "greenlet"}):
            wrong.append(f"{where} when it is loaded")
    if room in PURE:
        wrong += [
            f"{module}:{node.lineno} calls {node.func.id} in a pure room"
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS
        ]
    return wrong


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_imports_keep_to_the_rooms(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert complaints(source, dotted(path), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gmesh.values", "from gmesh.crypto import nids"),
        ("gmesh.route.router", "import gmesh.mesh.registry"),
        ("gmesh.route.router", "from ..mesh import registry"),
        ("gmesh.mesh.graph", "def run():\n    from gmesh.net import dialer"),
        ("gmesh.mesh.graph", "def run():\n    import time"),
        ("gmesh.proto.meta", "from os import urandom"),
        ("gmesh.crypto.rsa", "from Crypto.Random import get_random_bytes"),
        ("gmesh.crypto.rsa", "from Crypto import Random"),
        ("gmesh.crypto.rsa", "open('/dev/urandom')"),
        ("gmesh.config.lexer", "import gevent"),
        ("gmesh.cli.main", "from gmesh.daemon import daemon"),
        ("gmesh.attic.box", ""),
    ],
)
def test_the_rule_itself_catches(module: str, source: str) -> None:
    assert complaints(source, module) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gmesh.mesh.graph", "import heapq\nfrom gmesh.proto.requests import AddEdge\nfrom . import registry"),
        ("gmesh.net.dialer", "import gevent\nfrom gmesh.mesh import actions"),
        ("gmesh.cli.gmeshd", "def main():\n    import gevent.monkey\n    from gmesh.daemon.daemon import Daemon"),
    ],
)
def test_the_rule_itself_allows(module: str, source: str) -> None:
    assert complaints(source, module) == []


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_what_commands_share_with_the_daemon_is_light(module: str) -> None:
    source = (PACKAGE.parent / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8")
    eager = [found for found in imports(source, module, False) if found.eager and is_within(found.module, {"gmesh"})]
    heavy = [found for found in eager if room_of(found.module) in ROOMS and not may_be_eager(found.module)]
    assert heavy == []


@pytest.mark.parametrize("entry", ["gmesh.cli.gmeshd", "gmesh.cli.main", "gmesh.cli.keygen"])
def test_entry_points_load_without_gevent(entry: str) -> None:
    program = f"import sys, {entry}; sys.exit('gevent' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=PACKAGE.parent).returncode == 0
