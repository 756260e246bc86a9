"""Recordings as PNG pictures with alpha."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from engines.errors import SinkLost, SinkMissing
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.sinks.sink import open_sink


def frame(index: int) -> Frame:
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 200, 4 * np.arange(64)
    pixels[..., 1] = index
    return Frame(pixels, PixelFormat.RGBA, index, Stamps(0), index * 40_000_000)


def test_every_frame_is_a_picture_with_alpha(tmp_path: Path) -> None:
    sink = open_sink(f"file:{tmp_path}/%03d.png", size=(64, 48), fps=25)
    assert sink.format is PixelFormat.RGBA
    for index in range(3):
        sink.send(frame(index))
    sink.close()
    sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000.png", "001.png", "002.png"]
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "002.png")), frame(2).pixels)


def test_pictures_of_an_earlier_recording_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "00000.png").touch()
    with pytest.raises(SinkMissing) as caught:
        open_sink(f"file:{tmp_path}/%05d.png", size=(64, 48), fps=25)
    assert caught.value.code == "recording-sequence-exists"
    with pytest.raises(SinkMissing) as caught:
        open_sink(f"file:{tmp_path}/none/%05d.png", size=(64, 48), fps=25)
    assert caught.value.code == "recording-no-folder"


def test_a_folder_that_is_removed_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    sink = open_sink(f"file:{folder}/%05d.png", size=(64, 48), fps=25)
    folder.rmdir()
    with pytest.raises(SinkLost) as caught:
        sink.send(frame(0))
    assert caught.value.code == "recording-write-failed"
