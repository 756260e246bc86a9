"""Processes of this program's own modules: how they are started, wherever the program itself was started from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])


def command(module: str) -> list[str]:
    """What runs a module of ours in this interpreter."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """Ours, in which such a module is found."""
    path = os.pathsep.join(part for part in (ROOT, os.environ.get("PYTHONPATH")) if part)
    return os.environ | {"PYTHONPATH": path}
