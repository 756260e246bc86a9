"""Test the sinks that ``--sink`` names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.errors import SinkMissing, UsageError
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.sinks import virtual_camera
from realtime.sinks.sink import Sink, open_sink

SIZE = (64, 48)


def frame(index: int) -> Frame:
    pixels = np.full((SIZE[1] * 3 // 2, SIZE[0]), 16 + index, np.uint8)
    return Frame(pixels, PixelFormat.I420, index, Stamps(0), index * 33_333_333)


def open_one(spec: str) -> Sink:
    return open_sink(spec, size=SIZE, fps=30)


def no_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise SinkMissing("virtualcam-missing", "no virtual camera", cure="sudo modprobe v4l2loopback")

    monkeypatch.setattr(virtual_camera, "VirtualCamera", missing)


def test_null_discards_frames() -> None:
    sink = open_one("null")
    assert sink.format is PixelFormat.I420
    for index in range(3):
        sink.send(frame(index))
    sink.close()
    sink.close()
    assert sink.notes == ()


def test_file_writes_a_recording(tmp_path: Path) -> None:
    sink = open_one(f"file:{tmp_path / 'out.mp4'}")
    for index in range(5):
        sink.send(frame(index))
    sink.close()
    assert (tmp_path / "out.mp4").stat().st_size > 0


def test_nothing_replaces_a_virtual_camera_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    no_camera(monkeypatch)
    with pytest.raises(SinkMissing):
        open_one("virtualcam")
    with pytest.raises(SinkMissing):
        open_one("virtualcam:/dev/video10")


@pytest.mark.parametrize("spec", ["", "nul", "file", "file:", "virtualcam:", "null:x", "auto:1", "auto", "webrtc"])
def test_any_other_name_is_an_error(spec: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_one(spec)
    assert caught.value.code == "sink-unknown"
    assert "virtualcam" in caught.value.expected
