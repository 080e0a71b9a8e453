"""Writing back: files are replaced as a whole, so that a reader or a crash never sees half of one (requirement 10).

Not here: what is written; see `newkeys`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path


def replace_file(path: Path, data: bytes, mode: int, *, exact_mode: bool = False) -> None:
    """Write ``data`` to a new file beside ``path``, flush it to the disk and rename it over ``path``.

    An existing file's mode and owner are kept, unless ``exact_mode`` asks for ``mode``; a symbolic link stays one.
    Raises OSError that names ``path``; then the old file is untouched.
    """
    try:
        _replace(path, data, mode, exact_mode)
    except OSError as error:
        error.filename = str(path)
        raise


def _replace(path: Path, data: bytes, mode: int, exact_mode: bool) -> None:
    target = Path(os.path.realpath(path))
    try:
        old: os.stat_result | None = target.stat()
    except FileNotFoundError:
        old = None
    if old is not None and not stat.S_ISREG(old.st_mode):
        raise FileExistsError(17, "not a regular file", str(path))
    descriptor, temporary = tempfile.mkstemp(prefix=f"{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            if old is not None:
                # Only root may give files away; for anyone else the owner is right already, or cannot be kept.
                with contextlib.suppress(PermissionError):
                    os.fchown(descriptor, old.st_uid, old.st_gid)
            os.fchmod(descriptor, mode if old is None or exact_mode else stat.S_IMODE(old.st_mode))
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _flush_directory(target.parent)


def _flush_directory(path: Path) -> None:
    """Make the rename itself durable, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
