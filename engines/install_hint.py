"""The commands that messages tell the user to run."""

from __future__ import annotations

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


def install_command(extra: str = "") -> str:
    """Return the pip command that installs the project, with one of its extras such as ``neural``.

    In a checkout it installs the checkout, at the versions that are known to work.
    """
    suffix = f"[{extra}]" if extra else ""
    if (_ROOT / "pyproject.toml").is_file():
        what = f"'.{suffix}'" if suffix else "."
        return f"python -m pip install -c constraints.txt -e {what}"
    what = f"'{DISTRIBUTION}{suffix}'" if suffix else DISTRIBUTION
    return f"python -m pip install {what}"


SUBCOMMANDS = {
    "doctor": "doctor",
    "models": "models",
    "build-engine": "build_engine",
    "bench": "bench_latency",
    "fidelity": "fidelity",
}
"""The subcommands of ``reenact``, and the modules in ``tools`` that they run."""


def command(name: str = "", program: str | None = None) -> str:
    """Return what to type to start the subcommand ``name``, or the program itself, as this program was started.

    That is ``reenact NAME`` for the console script, otherwise ``python -m tools.NAME`` or ``python run.py``.
    ``program`` is the path that this program was started by, ``sys.argv[0]`` by default.
    """
    started_by = Path(sys.argv[0] if program is None else program)
    if started_by.stem == "reenact":
        return f"reenact {name}".rstrip()
    return f"python -m tools.{SUBCOMMANDS[name]}" if name else "python run.py"
