"""Capture through OpenCV, where there is no V4L2: DirectShow or Media Foundation on Windows, AVFoundation on macOS."""

from __future__ import annotations

import sys
import time

import cv2
import numpy as np

from engines.types import Image

_BUFFERS = 2


class OpenCvStream:
    """A streaming camera. It owns the opened cv2.VideoCapture and releases it."""

    timestamp_source = "this program's clock"

    def __init__(self, capture: cv2.VideoCapture, fps: float) -> None:
        self._capture = capture
        self.size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        self.fps = float(capture.get(cv2.CAP_PROP_FPS)) or fps
        self.fourcc = _fourcc(capture)
        self.skipped = 0
        """The number of broken frames."""

    def grab(self) -> tuple[Image, int, int] | None:
        """Return the next frame as a new RGB array, the driver's timestamp (0 for none) and when it was received.

        Returns None if no frame came.
        """
        until = time.monotonic_ns() + 1_000_000_000
        while self._capture.isOpened() and self._capture.grab() and time.monotonic_ns() <= until:
            now = time.monotonic_ns()
            stamped = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6) if sys.platform == "linux" else 0
            decoded, picture = self._capture.retrieve()
            if decoded and picture is not None:
                if picture.shape[0] == 1:
                    # OpenCV 4.11 returns the bytes of a camera that sends BGR as one row.
                    picture = picture.reshape(self.size[1], self.size[0], 3)
                return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False), stamped, now
            # A broken JPEG, as cheap cameras send now and then: take the next one.
            self.skipped += 1
        return None

    def close(self) -> None:
        """Release the camera. close() is idempotent."""
        self._capture.release()


def open_stream(device: int, size: tuple[int, int], fps: float) -> OpenCvStream:
    """Open a camera by its index. One that cannot be opened gives no frames."""
    cv2.setLogLevel(0)
    properties = [cv2.CAP_PROP_FRAME_WIDTH, size[0], cv2.CAP_PROP_FRAME_HEIGHT, size[1], cv2.CAP_PROP_FPS, round(fps)]
    if size[1] >= 720:
        # USB 2 carries only a few uncompressed frames of this size a second.
        properties = [cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"), *properties]
    properties += [cv2.CAP_PROP_BUFFERSIZE, _BUFFERS]
    if sys.platform != "win32":
        return OpenCvStream(_configure(cv2.VideoCapture(device, cv2.CAP_AVFOUNDATION), properties), fps)
    capture = _configure(cv2.VideoCapture(device, cv2.CAP_DSHOW), properties)
    if not capture.isOpened():
        capture = _configure(cv2.VideoCapture(device, cv2.CAP_MSMF), properties)
    return OpenCvStream(capture, fps)


def _configure(capture: cv2.VideoCapture, properties: list[int]) -> cv2.VideoCapture:
    """Set each property, given as alternating keys and values; a camera uses the nearest value that it supports."""
    if capture.isOpened():
        for key, value in zip(properties[::2], properties[1::2], strict=True):
            capture.set(key, value)
    return capture


def _fourcc(capture: cv2.VideoCapture) -> str:
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    letters = code.to_bytes(4, "little", signed=code < 0).decode("latin-1")
    return letters if letters.isprintable() and letters.strip() else "video"
