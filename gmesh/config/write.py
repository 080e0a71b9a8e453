"""Writing back: files are replaced as a whole, so that a reader or a crash never sees half of one (requirement 10).

Not here: what is written; see `newkeys` and `edit`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class NewFile:
    """What a file is to become. An existing one keeps mode and owner, unless ``exact_mode`` asks for ``mode``."""

    path: Path
    data: bytes
    mode: int
    exact_mode: bool = False

    def __repr__(self) -> str:
        return f"NewFile({str(self.path)!r}, {len(self.data)} bytes)"


def replace_file(path: Path, data: bytes, mode: int, *, exact_mode: bool = False) -> None:
    """Write ``data`` to a new file beside ``path``, flush it to the disk and rename it over ``path``.

    An existing file's mode and owner are kept, unless ``exact_mode`` asks for ``mode``; a symbolic link stays one.
    Raises OSError that names ``path``; then the old file is untouched.
    """
    replace_files([NewFile(path, data, mode, exact_mode)])


def replace_files(files: Sequence[NewFile]) -> None:
    """The same for files that belong together: all are on the disk before the first takes its place.

    Raises OSError that names one of them; then, short of a directory that is changed meanwhile, all are untouched.
    """
    staged: list[tuple[str, Path]] = []
    try:
        for new in files:
            with _naming(new.path):
                staged.append(_stage(new))
        for new in files:
            temporary, target = staged[0]
            with _naming(new.path):
                os.rename(temporary, target)
            del staged[0]
            _flush_directory(target.parent)
    finally:
        for temporary, _ in staged:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors are about the file itself, not about the new one beside it, which nobody knows."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _stage(new: NewFile) -> tuple[str, Path]:
    """Write a file's future content beside it; returns the path, and the place to which it belongs."""
    target = Path(os.path.realpath(new.path))
    try:
        old: os.stat_result | None = target.stat()
    except FileNotFoundError:
        old = None
    if old is not None and not stat.S_ISREG(old.st_mode):
        raise FileExistsError(17, "not a regular file", str(new.path))
    descriptor, temporary = tempfile.mkstemp(prefix=f"{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            if old is not None:
                # Only root may give files away; for anyone else the owner is right already, or cannot be kept.
                with contextlib.suppress(PermissionError):
                    os.fchown(descriptor, old.st_uid, old.st_gid)
            os.fchmod(descriptor, new.mode if old is None or new.exact_mode else stat.S_IMODE(old.st_mode))
            file.write(new.data)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return temporary, target


def _flush_directory(path: Path) -> None:
    """Make the rename itself durable, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
