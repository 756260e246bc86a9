"""What leaves the program while parts of it fail: a part of what ``python -m tools.faults.run`` does at large."""

from __future__ import annotations

import json
from pathlib import Path

from tools.faults import run


def test_no_fault_lets_the_camera_out_or_a_frame_without_a_mark(tmp_path: Path) -> None:
    report = tmp_path / "faults.json"
    assert run.main(["--count", "40", "--json", str(report)]) == 0
    found = json.loads(report.read_text())
    assert sum(found["faults"].values()) == 40
    assert set(found["faults"]) == set(run.PLACES)
    assert found["faults_with_camera"] == 0
    assert found["marked"] > 0
