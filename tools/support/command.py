"""How a tool's command line meets the person: errors in words, exit codes as the daemon has them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer

from engines.errors import ReenactError, UsageError
from realtime.terminal import std_streams


def new_app() -> typer.Typer:
    """A command line without the decorations that hide a traceback of ours."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run_app(app: Callable[..., Any], prog: str, arguments: list[str] | None = None) -> None:
    """Run a command line and leave: 0 done, 1 failure, 2 wrong use. A ReenactError shows no traceback.

    Nor does standard output that fails, which is a failure; standard error that fails is done without.
    """
    if sys.stderr is sys.__stderr__:
        std_streams.open_error()
    code: Any = 0
    try:
        app(args=arguments, prog_name=prog)
    except ReenactError as error:
        print(f"{error}" + (f"\n  {error.cure}" if error.cure else ""), file=sys.stderr)
        code = 2 if isinstance(error, UsageError) else 1
    except SystemExit as left:
        code = left.code
    except OSError:
        code = std_streams.settle(last="\n")
        if not code:
            raise
    sys.exit(std_streams.settle(code))
