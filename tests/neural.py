"""What the tests of the networks share: torch where it is installed, and the parity fixtures where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def parity_dir() -> Path:
    """The folder of the parity fixtures; skips the test where there is none, or no torch."""
    pytest.importorskip("torch", reason="torch is not installed: pip install 'reenact[neural]'")
    folder = Path(os.environ.get("REENACT_SHARED") or ROOT.parent / "shared") / "parity"
    if not (folder / "weights.py").is_file():
        pytest.skip(f"no parity fixtures at {folder}: set REENACT_SHARED to a folder that has parity/")
    return folder
