"""Decoded pictures on their way into a ring: as I420 of even size, within bounds, with the time they show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import VideoFrame

MAX_PIXELS = 1920 * 1080
"""Larger pictures are scaled down."""
_SMALLEST = 16
_CLOCK = 90_000
_SLACK = 0.0005
"""How fast the shortest way of a frame so far is forgotten: clocks of two machines drift far less."""


def planes_of(frame: VideoFrame) -> tuple[NDArray[np.uint8], ...] | None:
    """Y (h, w), U and V (h/2, w/2), views into the frame; None for a picture too small to be one."""
    if min(frame.width, frame.height) < _SMALLEST:
        return None
    if frame.width * frame.height > MAX_PIXELS:
        scale = math.sqrt(MAX_PIXELS / (frame.width * frame.height))
        width, height = (int(side * scale) // 2 * 2 for side in (frame.width, frame.height))
        frame = frame.reformat(width=width, height=height, format="yuv420p")
    elif frame.format.name != "yuv420p":
        frame = frame.reformat(format="yuv420p")
    # browsers send odd sizes when they scale: one row or column less
    half_width, half_height = frame.width // 2, frame.height // 2
    sizes = ((2 * half_height, 2 * half_width), (half_height, half_width), (half_height, half_width))
    planes = []
    for plane, (rows, columns) in zip(frame.planes, sizes, strict=True):
        lines: NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        planes.append(lines[:rows, :columns])
    return tuple(planes)


class PictureTimes:
    """The moment a picture shows, on our clock: the sender's timestamps, which do not jitter as arrivals do.

    The sender's clock is placed by the frame that took the shortest way so far.
    """

    def __init__(self) -> None:
        self._offset_ns: float | None = None
        self._last_ns = 0

    def shown(self, pts: int, arrived_ns: int) -> int:
        """For a picture with this timestamp (90 kHz, without wrap-around); later than the one before, in ns."""
        sent_ns = pts * 1_000_000_000 // _CLOCK
        offset = arrived_ns - sent_ns
        if self._offset_ns is None or offset < self._offset_ns or abs(offset - self._offset_ns) > 10e9:
            self._offset_ns = offset
        else:
            self._offset_ns += _SLACK * (offset - self._offset_ns)
        self._last_ns = max(self._last_ns + 1, int(sent_ns + self._offset_ns))
        return self._last_ns
