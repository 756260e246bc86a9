"""How what is not installed is installed."""

from __future__ import annotations

from importlib import metadata

DISTRIBUTION = "reenact-live"
"""The name of the installed distribution; on PyPI ``reenact`` is an unrelated project."""


def version() -> str:
    """Return the installed version, or ``unknown`` when the program runs from files that were never installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown"


def install(extra: str = "") -> str:
    """The command that installs the project with an extra of its own, such as ``neural``; for a person to run.

    From the checkout and at the versions known to work: on a registry its name may be somebody else's.
    """
    what = f"'.[{extra}]'" if extra else "."
    return f"python -m pip install -c constraints.txt -e {what}"
