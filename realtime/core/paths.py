"""Paths that the user gives."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

from engines.errors import ConfigError


def expand(text: str | Path) -> Path:
    """Return a path with ``~`` expanded. Raises ConfigError if there is no such home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(
            "path-no-home",
            f"no home folder {Path(text).parts[0]} for {text}",
            "the name of a user of this machine after ~",
            "write the full path, from /",
        ) from None


def resolve(path: Path) -> Path:
    """Return the file that a path leads to, links followed.

    A path that cannot be resolved, such as a ring of links or one in a deleted working directory, is returned as is.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path


def is_write_protected(path: Path) -> bool:
    """Return True if a file exists, links followed, and may not be written. Its folder may still allow replacing it."""
    return os.path.exists(path) and not os.access(path, os.W_OK)


def open_without_waiting(path: str, flags: int) -> int:
    """Open a file descriptor without waiting for the other end of a named pipe: an ``opener`` for ``open``.

    Opening a pipe that has no reader for writing raises OSError (ENXIO); reading from one that has no writer ends at
    once. Reads and writes block as usual.
    """
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if sys.platform != "win32":
        os.set_blocking(handle, True)
    return handle


def read_text(path: Path) -> str:
    """Return the text of a file or a pipe, without a byte order mark.

    Raises OSError (ENXIO for a pipe that has no writer) and UnicodeDecodeError.
    """
    with open(path, encoding="utf-8-sig", opener=open_without_waiting) as file:
        text = file.read()
        if not text and stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.ENXIO, "nothing writes to this pipe")
    return text
