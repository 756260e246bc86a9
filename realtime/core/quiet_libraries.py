"""Filter the start-up messages of native libraries out of standard error."""

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

START_UP_MESSAGE = re.compile(
    rb"[IW]\d{4} \S+ .*"
    rb"|INFO: Created TensorFlow Lite .*"
    rb"|WARNING: (All log messages before absl::InitializeLog|Logging before InitGoogle)\(\) .*"
)
"""A line that the libraries below MediaPipe print on every start: information and warnings, never errors."""

_one_at_a_time = threading.Lock()
_redirection = threading.Lock()
_real_stderr: list[int] = []
"""While standard error is redirected: a descriptor of the real one."""


@contextmanager
def stderr_descriptor() -> Iterator[int]:
    """Provide a descriptor of the real standard error for a child process, also while ``quiet_libraries`` is active.

    The descriptor is valid within the block; it is ``subprocess.DEVNULL`` where standard error is closed.
    """
    with _redirection:
        try:
            error = os.dup(_real_stderr[0] if _real_stderr else 2)
        except OSError:
            error = subprocess.DEVNULL
    try:
        yield error
    finally:
        if error >= 0:
            os.close(error)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Filter start-up messages out of standard error while the block runs.

    The libraries write to file descriptor 2 from their own threads and have no setting to prevent it. All other
    output is held back too and written when the block ends. Only one thread at a time runs such a block; the others
    wait. Where standard error is closed, or no temporary file can be created, nothing is filtered.
    """
    with _one_at_a_time, contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(_temporary_file())
            saved = os.dup(2)
        except OSError:
            yield
            return
        _flush()
        with _redirection:
            _real_stderr.append(saved)
            os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            with _redirection:
                os.dup2(saved, 2)
                os.close(_real_stderr.pop())
            held.seek(0)
            with contextlib.suppress(OSError):  # standard error may have failed
                for line in held:
                    if not START_UP_MESSAGE.fullmatch(line.rstrip()):
                        os.write(2, line)


def _temporary_file() -> IO[bytes]:
    """Open an anonymous file, in memory where the system supports it. Raises OSError."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.fdopen(os.memfd_create("held"), "w+b")
    return tempfile.TemporaryFile()


def _flush() -> None:
    if sys.stderr is not None:  # None in a Windows program without a console
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
