"""What is imported late is imported before rights are dropped: the list is complete."""

from __future__ import annotations

import ast
from pathlib import Path

import gmesh
from gmesh.daemon.late_imports import LATE_MODULES

ROOT = Path(gmesh.__file__).parent
AT_START = {"name_helper.py", "newkeys.py", "chmod.py", "tuntap.py", "choose.py"}
"""Files whose functions run before rights are dropped, or in other programs only."""


def late_imports(path: Path) -> set[str]:
    found: set[str] = set()
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    return found


def test_all_late_imports_are_listed() -> None:
    rooms = [path for path in ROOT.iterdir() if path.is_dir() and path.name not in {"cli", "__pycache__"}]
    missing = {}
    for path in (file for room in rooms for file in room.rglob("*.py") if file.name not in AT_START):
        listed = {name for name in late_imports(path) if _is_covered(name)}
        if rest := late_imports(path) - listed:
            missing[str(path.relative_to(ROOT))] = rest
    assert not missing


def _is_covered(name: str) -> bool:
    """Listed itself, or a package of something listed."""
    return any(module == name or module.startswith(f"{name}.") for module in LATE_MODULES)
