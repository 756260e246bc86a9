"""Test the choice of a source by its name."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import pytest

from engines.errors import SourceMissing
from realtime.capture import v4l2_devices, webcam
from realtime.capture.opencv_stream import OpenCvStream
from realtime.capture.source import Pace, Source, open_source
from tests.support import clips
from tests.support.cameras import FakeCapture

SIZE = (64, 48)


def open_by_name(camera: Path | str, pace: Pace = "max") -> Source:
    return open_source(str(camera), size=None, fps=None, pace=pace)


def error_of(camera: Path | str, pace: Pace = "max") -> SourceMissing:
    """Return the error that opening a source raises."""
    with pytest.raises(SourceMissing) as caught:
        open_by_name(camera, pace)
    return caught.value


def test_an_address_is_an_error() -> None:
    assert error_of(f"https://example.org/a.mp4?key={'k' * 300}").code == "source-is-address"


@pytest.mark.skipif(sys.platform == "win32", reason="names and links of another kind")
def test_a_path_that_cannot_be_examined_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ring").symlink_to("ring")
    for name in ("ring", "n" * 300):
        assert error_of(tmp_path / name).code == "source-unreadable"


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no files under /dev")
def test_a_file_under_dev_is_not_a_camera() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        clips.write_video(Path(folder) / "clip.mp4", [clips.grey(i, SIZE) for i in range(3)])
        source = open_by_name(Path(folder) / "clip.mp4")
        assert source.frames == 3
        source.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_file_names_may_have_colons_and_spaces(tmp_path: Path) -> None:
    path = clips.write_video(tmp_path / "a.mp4", [clips.grey(0, SIZE)] * 3)
    source = open_by_name(path.rename(tmp_path / "http: me %03d.mp4"))
    assert source.frames == 3
    source.close()


@pytest.mark.skipif(sys.platform != "linux", reason="names devices as Linux does")
def test_a_camera_that_does_not_exist_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    there = [v4l2_devices.Node("/dev/video7", "Integrated Camera", "uvcvideo", captures=True)]
    monkeypatch.setattr(v4l2_devices, "list_nodes", lambda: there)
    for name in ("60", "/dev/video60"):
        error = error_of(name, "live")
        assert error.code == "camera-missing"
        assert "/dev/video60" in error.found
        assert error.expected == "/dev/video7 (Integrated Camera)"
    assert error_of("/dev/null", "live").code == "camera-not-a-camera"


@pytest.mark.skipif(sys.platform != "linux", reason="chooses among /dev/videoN")
def test_auto_skips_devices_that_do_not_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        v4l2_devices.Node("/dev/video0", "Camera's metadata", "uvcvideo"),
        v4l2_devices.Node("/dev/video1", "OBS", v4l2_devices.LOOPBACK_DRIVER, captures=True, has_producer=True),
        v4l2_devices.Node("/dev/video2", "A display", "vivid", outputs=True),
        v4l2_devices.Node("/dev/video3", "Camera", "uvcvideo", captures=True),
    ]
    monkeypatch.setattr(v4l2_devices, "list_nodes", lambda: nodes)
    monkeypatch.setattr(webcam, "_check", lambda path: next(node for node in nodes if node.path == path))
    monkeypatch.setattr(webcam, "_open", lambda *_: OpenCvStream(cast(Any, FakeCapture("frame")), 30))
    source = open_source("auto", size=None, fps=None, pace="live")
    assert source.name.startswith("/dev/video3 (Camera)")
    source.close()


@pytest.mark.skipif(sys.platform != "linux", reason="chooses among /dev/videoN")
def test_auto_falls_back_to_the_performer_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v4l2_devices, "list_nodes", list)
    source = open_source("auto", size=(320, 240), fps=30, pace="live")
    assert source.notes == ("no webcam found, so the performer, a scripted face, is the source",)
    assert source.size == (320, 240)
    source.close()


def test_the_performer_can_be_named() -> None:
    source = open_source("performer", size=(320, 240), fps=25, pace="max")
    assert source.fps == 25
    assert source.read().pixels.shape == (240, 320, 3)
    source.close()
