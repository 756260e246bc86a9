"""A webcam as the driving picture, through OpenCV.

V4L2 on Linux, DirectShow or else Media Foundation on Windows, AVFoundation on macOS.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import cv2
import numpy as np

from engines.errors import SourceLost, SourceMissing
from realtime import v4l2
from realtime.frames import Frame, PixelFormat, Stamps

if TYPE_CHECKING:
    from engines.types import Image

_NS = 1_000_000_000
_FIRST_FRAME_NS = 3 * _NS
"""Cameras need up to a second or two to set their exposure before they send anything."""
_OTHER_CLOCK_NS = 60 * _NS
"""A driver's timestamp older than this is not on our clock."""
_OLD_NS = _NS // 2
_DEFAULT_SIZE = (1280, 720)
_DEFAULT_FPS = 30.0
_BUFFERS = 2
"""Few, so that a frame cannot grow old in the driver; with one, many drivers halve their rate."""
_CHOOSE = "choose another --camera, plug one in, or take --camera performer"
_WIDTH_HEIGHT = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
_VIDEO_GROUP = "sudo usermod -aG video $USER, then log out and in again"


class Webcam:
    """A Source that reads a camera. ``device`` is its index, or its path on Linux.

    Raises SourceMissing when there is no such camera, another program has it, or it may not be opened.
    """

    live = True
    frames: int | None = None

    def __init__(self, device: int | str, *, size: tuple[int, int] | None = None, fps: float | None = None) -> None:
        self._device = _path(device)
        node = _checked(self._device) if sys.platform == "linux" else None
        self._label = str(node) if node else f"camera {device}"
        self._capture = _open(self._device, size or _DEFAULT_SIZE, fps or _DEFAULT_FPS)
        self._closed = False
        self._seq = 0
        self._last_ns = 0
        try:
            width, height = (int(self._capture.get(key)) for key in _WIDTH_HEIGHT)
            self._shape = (height, width, 3)
            self._first = self._wait_for_first() if self._capture.isOpened() else None
            if self._first is None:
                self._capture.release()
                raise _why_not(self._device, self._label)
        except BaseException:
            self.close()
            raise
        height, width = self._first[0].shape[:2]
        self.size = (width, height)
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or _DEFAULT_FPS
        self.name = f"{self._label}, {width}x{height} {_fourcc(self._capture)} at {self.fps:g} fps"
        self.notes: tuple[str, ...] = ()

    def read(self) -> Frame:
        """Return the next frame, its pixels a new array; blocks about a second at most (on Linux).

        Raises SourceLost when the camera was unplugged or stopped sending.
        """
        got, self._first = self._first or self._grab(), None
        for _ in range(_BUFFERS):
            # Whoever reads after a pause wants a new picture, not those that have waited in the driver.
            if got is not None and time.monotonic_ns() - got[1] > _OLD_NS:
                got = self._grab()
        if got is None:
            raise self._lost()
        image, captured = got
        frame = Frame(image, PixelFormat.RGB, self._seq, Stamps(captured), captured)
        self._seq += 1
        return frame

    def close(self) -> None:
        """Let go of the camera; may be called twice."""
        self._closed = True
        self._capture.release()

    def _wait_for_first(self) -> tuple[Image, int] | None:
        until = time.monotonic_ns() + _FIRST_FRAME_NS
        while True:
            began = time.monotonic_ns()
            got = self._grab()
            # A refusal comes at once, a camera that is still starting lets the time-out pass.
            if got is not None or time.monotonic_ns() > until or time.monotonic_ns() - began < _NS // 10:
                return got

    def _grab(self) -> tuple[Image, int] | None:
        """The next picture as RGB and when it was captured; None where none came."""
        if self._closed:
            return None
        until = time.monotonic_ns() + _NS
        while self._capture.grab() and time.monotonic_ns() < until:
            captured = self._captured(time.monotonic_ns())
            came, picture = self._capture.retrieve()
            if came and picture is not None:
                if picture.shape[0] == 1:
                    # OpenCV 4.11 hands on the bytes of a camera that sends BGR by itself, in one row.
                    picture = picture.reshape(*self._shape)
                return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False), captured
            # A broken JPEG, as cheap cameras send now and then: take the next one.
        return None

    def _captured(self, now: int) -> int:
        """The driver's own time where it is on the monotonic clock, else ``now``; strictly increasing."""
        stamped = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        ours = sys.platform == "linux" and max(0, now - _OTHER_CLOCK_NS) < stamped <= now
        captured = stamped if ours else now
        self._last_ns = max(captured, self._last_ns + 1)
        return self._last_ns

    def _lost(self) -> SourceLost:
        if isinstance(self._device, str) and v4l2.inspect(self._device) is None:
            return SourceLost(f"{self._label} was unplugged", cure="plug it in again")
        return SourceLost(f"{self._label} stopped sending frames", cure="unplug it and plug it in again")


def first_webcam(*, size: tuple[int, int] | None = None, fps: float | None = None) -> Webcam | None:
    """Open the first camera that really captures; None where there is none.

    On Linux virtual cameras are passed over: one of them may be what this program feeds. Raises SourceMissing
    where there are cameras and none can be used.
    """
    if sys.platform != "linux":
        try:
            return Webcam(0, size=size, fps=fps)
        except SourceMissing:
            return None
    reason: SourceMissing | None = None
    for node in v4l2.nodes():
        if (node.refused or node.captures) and not node.loopback:
            try:
                return Webcam(node.path, size=size, fps=fps)
            except SourceMissing as error:
                reason = reason or error
    if reason is not None:
        raise reason
    return None


def _path(device: int | str) -> int | str:
    """A path on Linux, where index N is /dev/videoN; else the index as it is."""
    return f"/dev/video{device}" if sys.platform == "linux" and isinstance(device, int) else device


def _checked(path: int | str) -> v4l2.Node:
    """Describe a camera before it is opened, which tells why it cannot be where OpenCV would not."""
    assert isinstance(path, str)
    if not os.path.exists(path):
        raise SourceMissing(f"there is no camera {path}; {_what_there_is()}", cure=_CHOOSE)
    node = v4l2.inspect(path)
    if node is None:
        raise SourceMissing(f"{path} is not a camera; {_what_there_is()}", cure=_CHOOSE)
    if node.refused:
        raise SourceMissing(f"{node} may not be opened by this user", cure=_VIDEO_GROUP)
    if not node.captures:
        idle = "a virtual camera that no program feeds" if node.loopback else "not a device that captures"
        raise SourceMissing(f"{node} is {idle}; {_what_there_is()}", cure=_CHOOSE)
    return node


def _what_there_is() -> str:
    cameras = [str(node) for node in v4l2.nodes() if node.captures or (node.refused and not node.loopback)]
    return f"this machine has {', '.join(cameras)}" if cameras else "this machine has no camera"


def _open(device: int | str, size: tuple[int, int], fps: float) -> cv2.VideoCapture:
    # Whole seconds; OpenCV reads it once, at the first frame it waits for, and takes 10 s without it.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")
    cv2.setLogLevel(0)
    wishes = [
        cv2.CAP_PROP_FRAME_WIDTH,
        size[0],
        cv2.CAP_PROP_FRAME_HEIGHT,
        size[1],
        cv2.CAP_PROP_FPS,
        round(fps),
    ]
    if size[1] >= 720:
        # USB 2 carries uncompressed pictures of this size at a few a second only.
        wishes = [cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"), *wishes]
    if sys.platform == "linux":
        wishes += [cv2.CAP_PROP_BUFFERSIZE, _BUFFERS]
        return _set_up(cv2.VideoCapture(str(device), cv2.CAP_V4L2), wishes)
    if sys.platform == "win32":
        capture = _set_up(cv2.VideoCapture(int(device), cv2.CAP_DSHOW), wishes)
        return capture if capture.isOpened() else _set_up(cv2.VideoCapture(int(device), cv2.CAP_MSMF), wishes)
    return _set_up(cv2.VideoCapture(int(device), cv2.CAP_AVFOUNDATION), wishes)


def _set_up(capture: cv2.VideoCapture, wishes: list[int]) -> cv2.VideoCapture:
    """Ask for each property; a camera that cannot comply takes what is nearest."""
    if capture.isOpened():
        for key, value in zip(wishes[::2], wishes[1::2], strict=True):
            capture.set(key, value)
    return capture


def _why_not(device: int | str, label: str) -> SourceMissing:
    if isinstance(device, str) and v4l2.busy(device):
        holders = v4l2.users(device)
        by = ", ".join(holders) if holders else "another program"
        return SourceMissing(f"{label} is in use by {by}", cure=f"close that program, or {_CHOOSE}")
    if sys.platform == "darwin":
        cure = f"allow this terminal the camera in System Settings > Privacy & Security, or {_CHOOSE}"
    elif sys.platform == "win32":
        cure = f"allow desktop apps the camera in Settings > Privacy, close other programs, or {_CHOOSE}"
    else:
        cure = f"unplug it and plug it in again, or {_CHOOSE}"
    return SourceMissing(f"{label} gives no picture", cure=cure)


def _fourcc(capture: cv2.VideoCapture) -> str:
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    letters = code.to_bytes(4, "little", signed=code < 0).decode("latin-1")
    return letters if letters.isprintable() and letters.strip() else "pictures"
