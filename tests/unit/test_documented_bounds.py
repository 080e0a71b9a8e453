"""Requirement 12: what can be made to grow is bounded, by the numbers that docs/security.md names."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
ROWS = re.findall(r"^\| ([^|]+) \| ([0-9.]+) \| `(gmesh[\w.]+)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def value_of(path: str) -> object:
    """A module's constant, or the default of a dataclass's field."""
    owner_path, _, name = path.rpartition(".")
    module_path, _, cls = owner_path.rpartition(".")
    if cls[:1].isupper():
        return getattr(importlib.import_module(module_path), cls).__dataclass_fields__[name].default
    return getattr(importlib.import_module(owner_path), name)


def test_the_table_is_read() -> None:
    assert len(ROWS) > 20


@pytest.mark.parametrize(("what", "number", "path"), ROWS, ids=[path for _, _, path in ROWS])
def test_requirement_12_bounds_are_as_documented(what: str, number: str, path: str) -> None:
    assert str(value_of(path)) == number, what
