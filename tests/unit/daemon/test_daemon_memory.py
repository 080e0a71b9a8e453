"""Memory that was freed goes back to the system."""

from __future__ import annotations

import gevent
import pytest

from gmesh.daemon import memory


def test_freed_memory_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CHECK_SECONDS", 0.01)
    trims: list[int] = []

    class Library:
        def malloc_trim(self, padding: int) -> int:
            trims.append(padding)
            return 1

    sizes = iter([50_000_000, 50_500_000, 60_000_000, 52_000_000, 52_500_000])
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: Library())
    monkeypatch.setattr(memory, "resident", lambda: next(sizes))
    with pytest.raises(StopIteration), gevent.Timeout(5):
        memory.keep_small()
    assert trims == [0]


def test_a_library_that_cannot_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    with gevent.Timeout(5):
        memory.keep_small()


def test_resident_is_what_the_system_says() -> None:
    assert 1_000_000 < memory.resident() < 10_000_000_000
