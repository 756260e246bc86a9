"""Standard output and standard error as what a program can do without: a disk is full, a terminal or a reader gone."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Heedless(io.FileIO):
    """A file that never fails: what cannot be written to it is lost."""

    def write(self, data: ReadableBuffer, /) -> int:
        """How much of it is dealt with, in bytes."""
        written: int | None = None
        with contextlib.suppress(OSError):
            written = super().write(data)
        return memoryview(data).nbytes if written is None else written


def open_error() -> None:
    """Let what is said on standard error arrive at once, whatever happens to file descriptor 2, and never fail."""
    encoding = getattr(sys.stderr, "encoding", None)
    with contextlib.suppress(OSError):  # a program without a console on Windows has none at all
        raw = io.BufferedWriter(_Heedless(os.dup(2), "w"))
        sys.stderr = io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True)


def give_up(stream: TextIO) -> None:
    """Let what is written to a stream that has failed go nowhere, or the interpreter fails at it once more at exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def settle(code: int = 0, *, last: str = "") -> int:
    """Write out what standard output still holds; the exit code to leave with, 1 instead of 0 where that fails.

    That is said in a line, unless nobody reads any more. The interpreter would show a traceback and leave with 120.
    Where a failure may have been standard output's, an empty line as the ``last`` tells: not every stream holds
    anything back.
    """
    try:
        if last:
            sys.stdout.write(last)
        sys.stdout.flush()
    except OSError as error:
        give_up(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            print(f"reenact: standard output fails ({error.strerror})", file=sys.stderr)
        return code or 1
    except ValueError:  # it was closed
        pass
    return code


def show_cursor() -> None:
    """Show the cursor again where standard output is a terminal. May be called from a signal handler.

    One that takes no text at the moment, after Ctrl-S, is left as it is: there one would wait.
    """
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout.isatty() and (sys.platform == "win32" or select.select([], [sys.stdout], [], 0)[1]):
            os.write(sys.stdout.fileno(), b"\x1b[?25h")
