"""Child processes that run a module of this program, wherever the program itself was started from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])
"""The folder that holds the packages of this program."""


def command(module: str) -> list[str]:
    """Return the command line that runs a module with this interpreter."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """Return this process's environment with ``ROOT`` in front of PYTHONPATH."""
    path = os.pathsep.join(part for part in (ROOT, os.environ.get("PYTHONPATH")) if part)
    return os.environ | {"PYTHONPATH": path}
