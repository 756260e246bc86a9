"""The commands that messages tell the user to run."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "reenact-live"
"""The name of the installed distribution; on PyPI ``reenact`` is an unrelated project."""
_ROOT = Path(__file__).parents[1]


def version() -> str:
    """Return the installed version, or ``unknown`` when the program runs from files that were never installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


def python() -> str:
    """Return what to type for the interpreter that runs this program.

    That is ``python``, but in a virtual environment that is not activated its path, relative to the current directory
    where it is below it, such as ``.venv/bin/python``.
    """
    activated = os.environ.get("VIRTUAL_ENV")
    if sys.prefix == sys.base_prefix or (activated and os.path.realpath(activated) == os.path.realpath(sys.prefix)):
        return "python"
    path = Path(sys.executable)
    with contextlib.suppress(OSError, ValueError):  # in a deleted directory, or one that the path is not below
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path)) if os.name == "posix" else str(path)


def in_checkout() -> bool:
    """Return True if the program runs from a checkout of its source code."""
    return (_ROOT / "pyproject.toml").is_file()


def install_command(extra: str = "") -> str:
    """Return how to install the project, with one of its extras such as ``neural``, into the environment in use.

    In a checkout it is the command that installs the checkout, at the versions that are known to work. Elsewhere the
    program was installed from a wheel or a checkout, which the user knows, by pipx, uv or pip.
    """
    suffix = f"[{extra}]" if extra else ""
    if in_checkout():
        what = f"'.{suffix}'" if suffix else "."
        return f"{python()} -m pip install -c constraints.txt -e {what}"
    if (Path(sys.prefix) / "pipx_metadata.json").is_file():
        installer = "pipx install --force"
    elif (Path(sys.prefix) / "uv-receipt.toml").is_file():
        installer = "uv tool install --force"
    else:
        installer = f"{python()} -m pip install"
    again = f"install it again with the extra {extra}" if extra else "install it again"
    what = f"'WHEEL{suffix}'" if suffix else "WHEEL"
    return f"{again}: {installer} {what}, where WHEEL is the wheel or the checkout that it came from"


SUBCOMMANDS = {
    "doctor": "doctor",
    "models": "models",
    "build-engine": "build_engine",
    "bench": "bench_latency",
    "fidelity": "fidelity",
    "verify": "verify",
    "consent": "consent",
    "panic": "marking.panic",
}
"""The subcommands of ``reenact``, and the modules in ``tools`` that they run."""


def command(name: str = "", program: str | None = None) -> str:
    """Return what to type to start the subcommand ``name``, or the program itself, as this program was started.

    That is ``reenact NAME`` for the console script, otherwise ``python -m tools.NAME`` or ``python run.py``,
    with the interpreter as ``python()`` names it.
    ``program`` is the path that this program was started by, ``sys.argv[0]`` by default.
    """
    started_by = Path(sys.argv[0] if program is None else program)
    if started_by.stem == "reenact":
        return f"reenact {name}".rstrip()
    return f"{python()} -m tools.{SUBCOMMANDS[name]}" if name else f"{python()} run.py"
