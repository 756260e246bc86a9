from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from engines.errors import ConfigError, SourceMissing, TrackerError
from engines.types import Image
from realtime import assemble
from realtime.capture import v4l2_devices, webcam
from realtime.capture.source import open_source
from realtime.config import load
from realtime.core.stop_signal import StopSignal
from realtime.pipeline.loader import PipelineLoader
from realtime.pipeline.pipeline import STOP_S, Pipeline
from tests.support.clips import grey, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "grey.mp4"
    write_video(path, [grey(i, (64, 64)) for i in range(5)])
    return path


def opened(**options: object) -> tuple[Pipeline, list[tuple[str, str]]]:
    """A daemon that was put together and is closed again before it starts."""
    said: list[tuple[str, str]] = []

    def say(text: str, label: str) -> None:
        said.append((label, text))

    config = load(options)
    stop_signal = StopSignal()
    parts = assemble.loader(config, stop_signal, say)
    assert isinstance(parts, PipelineLoader)
    pipeline = assemble.open_run(config, parts, stop_signal, say).run
    assert isinstance(pipeline, Pipeline)
    pipeline.capture.source.close()
    for delivery in pipeline.deliveries:
        delivery.sink.close()
    return pipeline, said


def test_what_is_opened_is_introduced(clip: Path) -> None:
    pipeline, said = opened(camera=str(clip), sink=["null", "null"])
    assert [label for label, _ in said] == ["source", "sink", "sink"]
    assert "grey.mp4" in said[0][1]
    assert [delivery.label for delivery in pipeline.deliveries] == ["null", "null"]


def test_options_that_mean_nothing_are_told(clip: Path) -> None:
    options = {"camera": str(clip), "sink": ["null"]}
    _, said = opened(**options, fps=12.0, backend="onnx", device="cpu")
    notes = [text for label, text in said if not label]
    assert notes == [
        "a file is read at its own 30 fps, whatever --fps says",
        "--backend and --device: for other generators only, as the mesh runs no networks",
    ]
    for fitting in (
        {},
        {"fps": 30.0},
        {"generator": "liveportrait", "device": "cpu"},
        {"camera": "performer", "fps": 5.0},
    ):
        _, said = opened(**options | fitting)
        assert [text for label, text in said if not label] == []


def test_at_the_highest_pace_auto_records_all_of_it(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, said = opened(camera=str(clip), pace="max", sink=["auto"], size="64x64")
    assert any("reenact.mp4" in text for label, text in said if label == "sink")


def test_a_sink_that_cannot_be_had_leaves_nothing_behind(clip: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.mp4"
    with pytest.raises(Exception, match="nowhere"):
        opened(camera=str(clip), sink=[f"file:{good}", f"file:{tmp_path}/nowhere/x.mp4"], size="64x64")
    assert list(tmp_path.iterdir()) == []


class Lens:
    """A camera that streams, in memory."""

    size = (64, 48)
    fps = 30.0
    fourcc = "YUYV"
    stamping = "this program's clock"

    def __init__(self) -> None:
        self.closed = False

    def grab(self) -> tuple[Image, int, int]:
        return np.zeros((48, 64, 3), np.uint8), 0, time.monotonic_ns()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> list[v4l2_devices.Node]:
    """The cameras that are plugged in: two, and whatever the test makes of that."""
    there = [
        v4l2_devices.Node("/dev/video0", "Built-in", "uvcvideo", captures=True, bus="usb-1"),
        v4l2_devices.Node("/dev/video1", "Living room", "uvcvideo", captures=True, bus="usb-2"),
    ]
    monkeypatch.setattr(v4l2_devices, "list_nodes", lambda: list(there))
    monkeypatch.setattr(webcam, "_check", lambda path: next(node for node in there if node.path == path))
    monkeypatch.setattr(webcam, "_open", lambda *_: Lens())
    return there


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells cameras apart")
def test_nothing_steps_in_for_a_camera_that_was_lost(cameras: list[v4l2_devices.Node]) -> None:
    """Neither another camera nor the performer, also where the camera was found by itself."""
    config = load({"camera": "auto"})
    before = open_source("auto", size=None, fps=None, pace="live")
    assert before.name.startswith("/dev/video0 (Built-in)")
    ours = cameras.pop(0)
    with pytest.raises(SourceMissing, match="Built-in"):
        assemble._reopen_source(config, before)
    cameras.clear()
    with pytest.raises(SourceMissing, match="Built-in"):
        assemble._reopen_source(config, before)
    cameras.append(replace(ours, path="/dev/video2"))
    assert assemble._reopen_source(config, before).name.startswith("/dev/video2 (Built-in)")


@pytest.mark.skipif(sys.platform != "linux", reason="cameras have names on Linux")
def test_the_highest_pace_is_not_for_a_camera_whatever_names_it(
    cameras: list[v4l2_devices.Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    del cameras
    lens = Lens()
    monkeypatch.setattr(webcam, "_open", lambda *_: lens)
    with pytest.raises(ConfigError, match="--pace max works through a file, and --camera is living") as caught:
        opened(camera="living", pace="max", sink=["null"])
    assert caught.value.cure
    assert lens.closed


class Slow:
    """A run or a page that needs so many seconds to end, on a clock that goes on only meanwhile."""

    def __init__(self, needs: float, clock: SimpleNamespace) -> None:
        self.ended = False
        self.given = 0.0
        self._needs = needs
        self._clock = clock

    def close(self, timeout: float) -> bool:
        passed = min(timeout, self._needs)
        self._needs -= passed
        self._clock.now += passed
        self.given += timeout
        self.ended = self._needs <= 0
        return self.ended


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=100.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(assemble, "time", clock)
    return clock


@pytest.mark.parametrize(("run", "page"), [(math.inf, 0.2), (0.1, math.inf), (math.inf, math.inf)])
def test_it_stops_in_time_whatever_hangs(clock: SimpleNamespace, run: float, page: float) -> None:
    began, running, media = clock.now, Slow(run, clock), Slow(page, clock)
    assemble.Opened(cast(Any, running), cast(Any, media)).close()
    assert clock.now - began == pytest.approx(STOP_S)
    assert media.given >= assemble.PAGE_STOP_S - 1e-6


def test_a_recording_is_finished_in_the_time_that_the_page_leaves(clock: SimpleNamespace) -> None:
    running, media = Slow(1.7, clock), Slow(0.2, clock)
    assemble.Opened(cast(Any, running), cast(Any, media)).close()
    assert running.ended
    assert media.ended


def test_the_landmarker_is_not_replaced_by_another_tracker(own_cache: Path) -> None:
    del own_cache
    with pytest.raises(TrackerError) as caught:
        assemble._open_tracker(load({"tracker": "landmarker"}))
    assert "tools.models fetch" in caught.value.cure
