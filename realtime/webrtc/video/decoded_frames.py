"""Decoded frames on their way into a ring buffer: I420 of even size, within bounds, on our clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from realtime.webrtc.settings import MAX_PIXELS

if TYPE_CHECKING:
    from av import VideoFrame

_MIN_SIDE = 16
_CLOCK = 90_000
_FORGETTING = 0.0005
"""The share of a frame's extra delay by which the least delay grows: the clocks of two machines drift far less."""
_JUMP_NS = 10e9
"""A change of the offset that is larger than this is a new clock of the sender."""


def planes_of(frame: VideoFrame) -> tuple[NDArray[np.uint8], ...] | None:
    """Return Y (h, w), U and V (h/2, w/2) as views of the frame, or None if the frame is too small to be one."""
    if min(frame.width, frame.height) < _MIN_SIDE:
        return None
    if frame.width * frame.height > MAX_PIXELS:
        scale = math.sqrt(MAX_PIXELS / (frame.width * frame.height))
        width, height = (int(side * scale) // 2 * 2 for side in (frame.width, frame.height))
        frame = frame.reformat(width=width, height=height, format="yuv420p")
    elif frame.format.name != "yuv420p":
        frame = frame.reformat(format="yuv420p")
    # browsers send odd sizes when they scale: drop a row or column
    half_width, half_height = frame.width // 2, frame.height // 2
    sizes = ((2 * half_height, 2 * half_width), (half_height, half_width), (half_height, half_width))
    planes = []
    for plane, (rows, columns) in zip(frame.planes, sizes, strict=True):
        lines: NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        planes.append(lines[:rows, :columns])
    return tuple(planes)


class SenderClock:
    """Maps the sender's timestamps to our clock. Unlike arrival times, they do not jitter.

    The offset between the clocks comes from the frame with the least delay so far.
    """

    def __init__(self, rate: int = _CLOCK) -> None:
        """``rate`` is that of the timestamps in Hz."""
        self._rate = rate
        self._offset_ns: float | None = None
        self._last_ns = 0

    @property
    def offset_ns(self) -> float | None:
        """What is added to a time of the sender (ns); None before the first frame."""
        return self._offset_ns

    def to_monotonic(self, pts: int, arrived_ns: int) -> int:
        """Return the monotonic time (ns) of a timestamp without wrap-around, later than the one before."""
        sent_ns = pts * 1_000_000_000 // self._rate
        offset = arrived_ns - sent_ns
        if self._offset_ns is None or offset < self._offset_ns or abs(offset - self._offset_ns) > _JUMP_NS:
            self._offset_ns = offset
        else:
            self._offset_ns += _FORGETTING * (offset - self._offset_ns)
        self._last_ns = max(self._last_ns + 1, int(sent_ns + self._offset_ns))
        return self._last_ns
