"""Helpers of the tests of networks: optional packages, and the parity fixtures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from engines.install_hint import install_command

ROOT = Path(__file__).parents[3]


def needs(package: str) -> Any:
    """Import a package of the extra ``neural``; skip the test, or the whole module, if it is not installed."""
    return pytest.importorskip(package, reason=f"{package} is not installed: {install_command('neural')}")


def parity_dir() -> Path:
    """Return parity/ of the folder ``REENACT_SHARED``; skip the test if it or torch is missing."""
    needs("torch")
    folder = Path(os.environ.get("REENACT_SHARED") or ROOT.parent / "shared") / "parity"
    if not (folder / "weights.py").is_file():
        pytest.skip(f"no parity fixtures at {folder}: set REENACT_SHARED to a folder that has parity/")
    return folder
