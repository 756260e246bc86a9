"""What the tests of the networks share: torch where it is installed, and the parity fixtures where there are any."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from engines.install_hint import install_command

ROOT = Path(__file__).parents[2]


def needs(package: str) -> Any:
    """A package of the extra ``neural``; skips the test, or the whole module, where it is not installed."""
    return pytest.importorskip(package, reason=f"{package} is not installed: {install_command('neural')}")


def parity_dir() -> Path:
    """The folder of the parity fixtures; skips the test where there is none, or no torch."""
    needs("torch")
    folder = Path(os.environ.get("REENACT_SHARED") or ROOT.parent / "shared") / "parity"
    if not (folder / "weights.py").is_file():
        pytest.skip(f"no parity fixtures at {folder}: set REENACT_SHARED to a folder that has parity/")
    return folder
