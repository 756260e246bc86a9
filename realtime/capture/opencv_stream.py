"""Capture through OpenCV, where there is no V4L2: DirectShow or Media Foundation on Windows, AVFoundation on macOS."""

from __future__ import annotations

import sys
import time

import cv2
import numpy as np

from engines.types import Image

_BUFFERS = 2


class OpenCvStream:
    """A camera that streams; it takes over an opened cv2.VideoCapture, and lets go of it."""

    stamping = "this program's clock"

    def __init__(self, capture: cv2.VideoCapture, fps: float) -> None:
        self._capture = capture
        self.size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        self.fps = float(capture.get(cv2.CAP_PROP_FPS)) or fps
        self.fourcc = _fourcc(capture)
        self.skipped = 0
        """Pictures that were broken."""

    def grab(self) -> tuple[Image, int, int] | None:
        """The next picture as a new RGB array, the driver's time and when it was had; None where none came."""
        until = time.monotonic_ns() + 1_000_000_000
        while self._capture.isOpened() and self._capture.grab() and time.monotonic_ns() <= until:
            now = time.monotonic_ns()
            stamped = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6) if sys.platform == "linux" else 0
            came, picture = self._capture.retrieve()
            if came and picture is not None:
                if picture.shape[0] == 1:
                    # OpenCV 4.11 hands on the bytes of a camera that sends BGR by itself, in one row.
                    picture = picture.reshape(self.size[1], self.size[0], 3)
                return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False), stamped, now
            # A broken JPEG, as cheap cameras send now and then: take the next one.
            self.skipped += 1
        return None

    def close(self) -> None:
        """Let go of the camera; may be called twice."""
        self._capture.release()


def open_stream(device: int, size: tuple[int, int], fps: float) -> OpenCvStream:
    """Open a camera by its index; where it cannot be, what comes back gives no picture."""
    cv2.setLogLevel(0)
    wishes = [cv2.CAP_PROP_FRAME_WIDTH, size[0], cv2.CAP_PROP_FRAME_HEIGHT, size[1], cv2.CAP_PROP_FPS, round(fps)]
    if size[1] >= 720:
        # USB 2 carries uncompressed pictures of this size at a few a second only.
        wishes = [cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"), *wishes]
    wishes += [cv2.CAP_PROP_BUFFERSIZE, _BUFFERS]
    if sys.platform != "win32":
        return OpenCvStream(_set_up(cv2.VideoCapture(device, cv2.CAP_AVFOUNDATION), wishes), fps)
    capture = _set_up(cv2.VideoCapture(device, cv2.CAP_DSHOW), wishes)
    if not capture.isOpened():
        capture = _set_up(cv2.VideoCapture(device, cv2.CAP_MSMF), wishes)
    return OpenCvStream(capture, fps)


def _set_up(capture: cv2.VideoCapture, wishes: list[int]) -> cv2.VideoCapture:
    """Ask for each property; a camera that cannot comply takes what is nearest."""
    if capture.isOpened():
        for key, value in zip(wishes[::2], wishes[1::2], strict=True):
            capture.set(key, value)
    return capture


def _fourcc(capture: cv2.VideoCapture) -> str:
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    letters = code.to_bytes(4, "little", signed=code < 0).decode("latin-1")
    return letters if letters.isprintable() and letters.strip() else "pictures"
