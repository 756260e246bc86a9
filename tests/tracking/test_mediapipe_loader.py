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
print("mediapipe" in sys.modules, any(name.partition(".")[0] == "matplotlib" for name in sys.modules))
if importlib.util.find_spec("matplotlib"):
    import matplotlib
    print(bool(matplotlib.__version__))
"""


def test_matplotlib_is_left_out_and_can_be_imported_afterwards() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CHECK], cwd=ROOT, check=False, timeout=120, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    loaded, *afterwards = ended.stdout.splitlines()
    assert loaded == "True False"
    assert afterwards in ([], ["True"])
