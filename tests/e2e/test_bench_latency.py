"""The latency tool as a user runs it, with real threads and processes, and devices where there are some."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.types import Image
from realtime.config import load
from realtime.core.frames import Frame, PixelFormat, Stamps
from tests.e2e.v4l2.guest import work_folder
from tools.latency import screen
from tools.latency.figures import summary

ROOT = Path(__file__).parents[2]


def tool(*words: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.bench_latency", *words],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def checkout(folder: Path) -> Path:
    """Copy the program's files into a new repository, with what numba has compiled beside them."""
    root = folder / "checkout"
    root.mkdir()
    for name in ("realtime", "engines", "tools", "run.py", ".gitignore"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("*.pyc"))
        else:
            shutil.copy(ROOT / name, root / name)
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "test"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], dict[str, Path]]:
    """A measurement with every output and two budgets, one of which is violated."""
    folder = tmp_path_factory.mktemp("measured")
    paths = {name: folder / f"out.{name}" for name in ("json", "html", "trace.json")}
    ended = tool(
        *("stages", "--seconds", "12", "--json", str(paths["json"]), "--html", str(paths["html"])),
        *("--trace", str(paths["trace.json"]), "--budget", "p99=5000", "--budget", "track.p50=0.01"),
    )
    return ended, paths


def test_every_output_is_written_and_a_violated_budget_is_an_error(
    measured: tuple[subprocess.CompletedProcess[str], dict[str, Path]],
) -> None:
    ended, paths = measured
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "over budget: stages, track: p50" in ended.stderr
    assert "p99" not in ended.stderr
    assert "end to end" in ended.stdout
    found = json.loads(paths["json"].read_text())
    figures = found["parts"]["stages"]["stages_ms"]
    assert list(figures)[-1] == "end to end"
    assert 0 < figures["track"]["p50"] < figures["end to end"]["p50"]
    events = json.loads(paths["trace.json"].read_text())["traceEvents"]
    assert {"track", "generate"} <= {event["name"] for event in events}
    assert "<svg" in paths["html"].read_text()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_sleep_is_found_in_its_stage_and_nowhere_else(
    measured: tuple[subprocess.CompletedProcess[str], dict[str, Path]], tmp_path: Path
) -> None:
    root = checkout(tmp_path)
    # the report of the same files, as if it had been measured in that checkout
    report = json.loads(measured[1]["json"].read_text())
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout
    old = tmp_path / "old.json"
    old.write_text(json.dumps(report | {"commit": head.strip(), "changed": False}))
    mesh = root / "engines" / "mesh" / "generator.py"
    text = mesh.read_text()
    line = "    def drive(self, portrait: Portrait, motion: Motion, driving: Image | None) -> Image:\n"
    assert line in text
    at = text.index('"""', text.index('"""', text.index(line)) + 3) + 3
    mesh.write_text(text[:at] + '\n        __import__("time").sleep(0.015)' + text[at:])
    ended = tool("stages", "--seconds", "12", "--against", str(old), root=root)
    assert ended.returncode == 0, ended.stderr
    assert "alternated with this one" in ended.stdout
    worse = [line.partition(":")[0] for line in ended.stdout.splitlines() if line.startswith("WORSE")]
    assert "WORSE stages, generate" in worse, ended.stdout
    # a frame that comes later may meet the end of the one before it, so the wait can grow as well
    assert set(worse) <= {f"WORSE stages, {stage}" for stage in ("generate", "wait", "end to end")}, ended.stdout


def test_without_virtual_cameras_the_cure_is_a_command() -> None:
    if any(Path("/dev").glob("video*")):
        pytest.skip("this machine has video devices")
    ended = tool("device")
    assert ended.returncode == 1
    assert "modprobe v4l2loopback devices=2" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_through_two_virtual_cameras(shared_dir: Path) -> None:
    script = shared_dir / "tools" / "v4l2-uml.sh"
    if not script.is_file() or not (work_folder() / "umlk" / "linux").exists():
        pytest.skip("no guest with real V4L2 drivers here")
    out = work_folder() / "out" / "latency.json"
    command = f"cd {ROOT} && {sys.executable} -m tools.bench_latency device --seconds 10 --json {out}"
    ended = subprocess.run(
        ["bash", str(script), "env", f"PYTHONPATH={ROOT}", "sh", "-c", command],
        env={**os.environ, "LIMIT": "200"},
        capture_output=True,
        text=True,
        timeout=260,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    part = json.loads(out.read_text())["parts"]["device"]
    assert part["frames"] > 150
    assert part["missed"] < part["frames"] // 10
    assert 1 < part["stages_ms"]["end to end"]["p50"] < 150


class FilmedWindow:
    """A window, and a camera that films it from an angle, in memory. The camera exposes over time, then delivers."""

    live = True
    frames: int | None = None
    skipped = 0
    notes: tuple[str, ...] = ()
    name = "a simulated camera"
    size = (960, 540)
    fps = 30.0
    skipped = 0

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._shown: deque[tuple[float, Image]] = deque(maxlen=64)
        self._lock = threading.Lock()
        self._seq = 0
        self._start = 0.0
        corners = np.array([[0, 0], [1280, 0], [1280, 720], [0, 720]], np.float32)
        filmed = np.array([[90, 60], [880, 20], [900, 500], [70, 470]], np.float32)
        self._view = cv2.getPerspectiveTransform(corners, filmed)
        self._noise = np.random.default_rng(3).normal(12, 3, (540, 960, 3)).astype(np.float32)

    def show(self, image: Image) -> bool:
        with self._lock:
            self._shown.append((time.monotonic(), image.copy()))
        return True

    def read(self) -> Frame:
        self._start = self._start or time.monotonic()
        # a camera drops frames that were not read in time
        self._seq = max(self._seq + 1, int((time.monotonic() - self._start) * self.fps))
        end = self._start + self._seq / self.fps
        time.sleep(max(0.0, end + self._delay_s - time.monotonic()))
        exposed = cv2.addWeighted(self._at(end - 0.008), 0.5, self._at(end), 0.5, 0)
        picture = cv2.GaussianBlur(cv2.warpPerspective(exposed, self._view, self.size), (0, 0), 1.2)
        picture = picture * np.float32(0.8) + self._noise
        now = time.monotonic_ns()
        return Frame(np.clip(picture, 0, 255).astype(np.uint8), PixelFormat.RGB, self._seq, Stamps(now), now)

    def close(self) -> None:
        """Do nothing: it holds no resources."""

    def _at(self, when: float) -> Image:
        with self._lock:
            past = [image for at, image in self._shown if at <= when]
        return past[-1] if past else np.zeros((720, 1280, 3), np.uint8)


def test_a_camera_that_sees_the_window_gives_its_own_share() -> None:
    window = FilmedWindow(delay_s=0.06)
    notices: list[str] = []
    config = load({"camera": "auto", "size": "640x480", "sink": ["null"]})
    measurement = screen.run(config, window, window, 6.0, notices.append)
    share = summary(measurement.samples("screen and camera"))["p50"]
    # the delay, and a wait for an exposure that shows the new code alone: one interval at most at best
    assert 60 < share < 160, share
    assert summary(measurement.samples("program"))["p50"] > 1
    assert measurement.missed <= measurement.frames // 3
