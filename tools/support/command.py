"""The command line of the tools: errors without tracebacks, and the exit codes of the daemon."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer

from engines.errors import ReenactError, UsageError
from engines.install_hint import python
from realtime.terminal import std_streams

Notice = Callable[[str], None]
"""A callback that shows one line of progress to the user."""


_CommandLineError: Any = typer.BadParameter.__mro__[2]
"""Typer's base class of errors in a command line. Where it is imported from depends on the version."""


def new_app() -> typer.Typer:
    """Return an application whose bugs show Python's own traceback."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run_app(app: Callable[..., Any], prog: str, arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 success, 1 failure, 2 wrong usage.

    ``prog`` is the command as the user typed it, which the help names. ``arguments`` are those of the process by
    default; the command finds them as ``obj`` of its context. A ReenactError is printed without a traceback, and a
    mistake in the command line in one line. A failure of standard output is printed too and gives exit code 1; a
    failure of standard error is ignored.
    """
    if sys.stderr is sys.__stderr__:
        std_streams.protect_stderr()
    if prog.startswith("python "):
        prog = python() + prog.removeprefix("python")
    words = sys.argv[1:] if arguments is None else arguments
    code: Any = 0
    try:
        code = app(args=words, prog_name=prog, obj=words, standalone_mode=False)
    except _CommandLineError as error:
        text = " ".join(str(error.format_message()).split()).replace("Value error, ", "").rstrip(".")
        print(f"{text}; {prog} --help lists the options", file=sys.stderr)
        code = 2
    except typer.Abort:
        print("Aborted", file=sys.stderr)
        code = 1
    except ReenactError as error:
        print(with_cure(error), file=sys.stderr)
        code = 2 if isinstance(error, UsageError) else 1
    except SystemExit as ended:
        code = ended.code
    except OSError:
        code = std_streams.flush_output(last="\n")
        if not code:
            raise
    return std_streams.flush_output(code or 0)


def with_cure(error: ReenactError) -> str:
    """Return the error and, indented below it, its cure."""
    return f"{error}\n  {error.cure}" if error.cure else str(error)
