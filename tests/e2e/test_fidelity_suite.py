"""Real drivers and portraits through the whole chain, measured with the official landmarker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from realtime.tracking.face_mesh import available
from tools.fidelity import main
from tools.fidelity_suite.measures import SCORED


@pytest.mark.parametrize(("tracker", "pairs"), [("facemesh", 3), ("landmarker", 1)])
def test_portraits_follow_their_drivers(
    shared_dir: Path,
    face_landmarker: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tracker: str,
    pairs: int,
) -> None:
    if tracker == "facemesh" and not available():
        pytest.skip("the installed mediapipe has no Face Mesh")
    words = f"suite --faces {shared_dir / 'faces'} --model {face_landmarker} --out {tmp_path} --frames 120"
    assert main([*words.split(), "--pairs", str(pairs), "--tracker", tracker]) == 0
    report = json.loads((tmp_path / "suite.json").read_text())
    assert f"tracked by the {tracker}" in capsys.readouterr().out
    assert report["tracker"] == tracker
    assert len(report["pairs"]) == pairs
    for pair in report["pairs"]:
        assert pair["output_found"] == pair["frames"]
        assert pair["mean_r"] > 0.75, pair["driver"]
        assert pair["jitter_px"] < 0.3
        assert (tmp_path / f"{Path(pair['driver']).stem}-{Path(pair['portrait']).stem}-sheet.png").is_file()
    assert set(SCORED) <= set(report["channels"])
