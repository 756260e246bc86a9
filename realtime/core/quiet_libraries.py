"""Keeping the start-up chatter of native libraries off the person's terminal."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

CHATTER = re.compile(
    rb"[IW]\d{4} \S+ .*"
    rb"|INFO: Created TensorFlow Lite .*"
    rb"|WARNING: (All log messages before absl::InitializeLog|Logging before InitGoogle)\(\) .*"
)
"""What the libraries below MediaPipe say on every start: information and warnings, never their errors."""

_turn = threading.Lock()
_switch = threading.Lock()
_outside: list[int] = []
"""While a block runs: standard error as it is outside of it."""


@contextmanager
def standard_error() -> Iterator[int]:
    """What a process that is started writes its errors to: standard error itself, never what holds it back meanwhile.

    A descriptor that is good within the block, or ``subprocess.DEVNULL`` where standard error is closed.
    """
    with _switch:
        try:
            error = os.dup(_outside[0] if _outside else 2)
        except OSError:
            error = subprocess.DEVNULL
    try:
        yield error
    finally:
        if error >= 0:
            os.close(error)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep that chatter off standard error while the block runs.

    The libraries write to file descriptor 2 from threads of their own and heed no setting. What anybody else
    writes there meanwhile is held too, and passed on when the block ends. Threads that want this at once take
    turns. Where standard error is closed, or there is no place to hold anything, nothing is held back.
    """
    with _turn, contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(_place())
            saved = os.dup(2)
        except OSError:
            yield
            return
        _flush()
        with _switch:
            _outside.append(saved)
            os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            with _switch:
                os.dup2(saved, 2)
                os.close(_outside.pop())
            held.seek(0)
            with contextlib.suppress(OSError):  # nobody may be there to read it
                for line in held:
                    if not CHATTER.fullmatch(line.rstrip()):
                        os.write(2, line)


def _place() -> IO[bytes]:
    """A file of nobody else's, in memory where the system has such files. Raises OSError."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.fdopen(os.memfd_create("held"), "w+b")
    return tempfile.TemporaryFile()


def _flush() -> None:
    if sys.stderr is not None:  # None in a Windows program without a console
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
