"""A fake camera driver."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
import pytest

from realtime.capture import v4l2_devices, webcam
from realtime.capture.opencv_stream import OpenCvStream


class FakeCapture:
    """A cv2.VideoCapture in memory that follows a script of "frame", "broken" and "gone"."""

    def __init__(self, *script: str, size: tuple[int, int] = (64, 48), stamp_ms: float = 0.0) -> None:
        self.script = list(script)
        self.values = {
            cv2.CAP_PROP_FRAME_WIDTH: float(size[0]),
            cv2.CAP_PROP_FRAME_HEIGHT: float(size[1]),
            cv2.CAP_PROP_FPS: 25.0,
            cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"YUYV")),
            cv2.CAP_PROP_POS_MSEC: stamp_ms,
        }
        self.size = size
        self.released = False
        self.flat = False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return not self.released

    def get(self, key: int) -> float:
        return self.values.get(key, 0.0)

    def grab(self) -> bool:
        return bool(self.script) and self.script[0] != "gone"

    def retrieve(self) -> tuple[bool, np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None]:
        if self.script.pop(0) == "broken":
            return False, None
        picture = np.zeros((self.size[1], self.size[0], 3), np.uint8)
        picture[..., 0] = 200
        return True, picture.reshape(1, -1) if self.flat else picture

    def release(self) -> None:
        self.released = True


def plug_in(monkeypatch: pytest.MonkeyPatch, camera: FakeCapture) -> FakeCapture:
    """Let every device that is opened be ``camera``."""
    node = v4l2_devices.Node("/dev/video0", "Fake Cam", "uvcvideo", captures=True)
    monkeypatch.setattr(webcam, "_check", lambda _path: node)
    monkeypatch.setattr(webcam, "_open", lambda *_: OpenCvStream(cast(Any, camera), 30))
    return camera
