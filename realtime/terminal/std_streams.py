"""Keep the program running when standard output or standard error fails: a full disk, a closed terminal or pipe."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _UnfailingFile(io.FileIO):
    """A file that never fails: data that cannot be written is discarded."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write or discard ``data``. Return the number of bytes that are done with."""
        written: int | None = None
        with contextlib.suppress(OSError):
            written = super().write(data)
        return memoryview(data).nbytes if written is None else written


def protect_stderr() -> None:
    """Make standard error line-buffered and unfailing, and independent of later changes of file descriptor 2."""
    encoding = getattr(sys.stderr, "encoding", None)
    with contextlib.suppress(OSError):  # a program without a console on Windows has no standard error
        raw = io.BufferedWriter(_UnfailingFile(os.dup(2), "w"))
        sys.stderr = io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True)


def redirect_to_null(stream: TextIO) -> None:
    """Discard what is written to a stream that has failed. Otherwise the interpreter fails again at exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def flush_output(code: int = 0, *, last: str = "") -> int:
    """Flush standard output before the program exits. Return the exit code: ``code``, or 1 instead of 0 on failure.

    A failure is printed in one line, unless the pipe was closed; the interpreter would print a traceback and exit with
    120. ``last`` is written first: an empty line reveals an earlier failure where the stream has no buffered data.
    """
    try:
        if last:
            sys.stdout.write(last)
        sys.stdout.flush()
    except OSError as error:
        redirect_to_null(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            print(f"reenact: standard output fails ({error.strerror})", file=sys.stderr)
        return code or 1
    except ValueError:  # the stream was closed
        pass
    return code


def show_cursor() -> None:
    """Show the cursor again if standard output is a terminal. Signal handlers may call it.

    A terminal that accepts no output at the moment, as after Ctrl-S, is left as it is: the call would block.
    """
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout.isatty() and (sys.platform == "win32" or select.select([], [sys.stdout], [], 0)[1]):
            os.write(sys.stdout.fileno(), b"\x1b[?25h")
