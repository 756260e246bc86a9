"""The networks in the whole program, with random weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.engines.neural import needs

ROOT = Path(__file__).parents[2]


# a frame of liveportrait takes a processor ten seconds and more
@pytest.mark.parametrize(
    ("generator", "backend", "count", "more"),
    [("liveportrait", "torch", 1, ["--retarget", "both"]), ("liveportrait", "onnx", 2, []), ("fomm", "onnx", 2, [])],
)
def test_a_few_frames_of_the_performer(
    tmp_path: Path, generator: str, backend: str, count: int, more: list[str]
) -> None:
    needs("torch")
    needs("onnxruntime")
    options = ["--generator", generator, "--backend", backend, "--weights", "random:1", "--camera", "performer"]
    options += ["--pace", "max", "--frames", str(count), "--size", "320x240", "--report", "r.json", *more]
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *options, "--sink", "file:out.mp4"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "random:1" in done.stdout
    assert f"{generator}, " in done.stdout
    assert ("eyes and lips retargeted" in done.stdout) == bool(more)
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["frames"], report["config"]["weights"]) == (count, "random:1")
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == count
    # the networks' output is pasted into the portrait: the portrait's corner stays, its middle moves
    assert np.abs(frames[0][:8, :8].astype(int) - frames[-1][:8, :8]).mean() < 3
    assert frames[0][80:160, 120:200].std() > 2


def test_absent_weights_are_an_error_of_one_line(tmp_path: Path) -> None:
    needs("torch")
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "run.py"),
            "--generator",
            "liveportrait",
            "--camera",
            "performer",
            "--sink",
            "null",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)},
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "python -m tools.models fetch liveportrait" in done.stderr
