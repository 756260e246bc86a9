"""MediaPipe is imported without what it imports for nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.documents import ROOT

pytest.importorskip("mediapipe", reason="MediaPipe is not installed")

CHECK = """
import importlib.util, sys
from realtime.tracking import mediapipe_loader
mediapipe_loader.load()
assert "mediapipe" in sys.modules
assert not [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]
if importlib.util.find_spec("matplotlib"):
    import matplotlib
    assert matplotlib.__version__
"""


def test_matplotlib_is_left_out_and_can_be_imported_afterwards() -> None:
    subprocess.run([sys.executable, "-c", CHECK], cwd=ROOT, check=True, timeout=120)
