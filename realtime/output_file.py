"""Text files that the user names for figures: written whole or not at all, or appended to where that is meant."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engines.atomic_write import atomic_write
from realtime.core import paths


def check(path: Path) -> None:
    """Raise OSError unless ``path`` can be appended to, or a file can be created in its folder."""
    if not is_appended_to(path):
        with tempfile.TemporaryFile(dir=paths.resolve(path).parent):
            pass


def write(path: Path, text: str) -> None:
    """Write text in UTF-8 where links lead to; a regular file is replaced only by a whole one.

    Raises OSError, which is ENXIO for a pipe that has no reader.
    """
    if is_appended_to(path):
        with open(path, "a", encoding="utf-8", opener=paths.open_without_waiting) as file:
            file.write(text)
        return
    with atomic_write(paths.resolve(path)) as partial:
        partial.write_text(text, "utf-8")
        partial.chmod(0o644)


def is_appended_to(path: Path) -> bool:
    """Return True for what is appended to, not replaced: a pipe, a device, or our own output, such as /dev/stdout."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(status.st_mode) or any(os.path.samestat(status, own) for own in _own_output())


def _own_output() -> Iterator[os.stat_result]:
    for number in (1, 2):
        with contextlib.suppress(OSError):
            yield os.fstat(number)
