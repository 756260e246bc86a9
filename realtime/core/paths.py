"""Paths as people give them."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

from engines.errors import ConfigError


def given(text: str | Path) -> Path:
    """The path that is meant, its ``~`` written out. Raises ConfigError where nobody has such a home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{text}: there is no home folder {Path(text).parts[0]}", cure="write the path out, from / on"
        ) from None


def real(path: Path) -> Path:
    """The file that a path leads to, links followed; the path itself where that cannot be said.

    That is so for links that go round in a ring, and in a working directory that was deleted.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path


def write_protected(path: Path) -> bool:
    """Whether something is there, links followed, that may not be written: its folder might let us replace it."""
    return os.path.exists(path) and not os.access(path, os.W_OK)


def without_waiting(path: str, flags: int) -> int:
    """An ``opener`` for ``open`` that does not wait until somebody opens the other end of a pipe.

    Where nobody reads, opening for writing raises OSError (ENXIO); where nobody writes, what is read ends at once.
    Otherwise reading and writing wait as ever.
    """
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if sys.platform != "win32":
        os.set_blocking(handle, True)
    return handle


def text_of(path: Path) -> str:
    """The text of a file or of a pipe, without a byte order mark. Raises OSError, UnicodeDecodeError.

    A pipe that nobody writes into is an OSError (ENXIO).
    """
    with open(path, encoding="utf-8-sig", opener=without_waiting) as file:
        text = file.read()
        if not text and stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.ENXIO, "nobody writes into this pipe")
    return text
