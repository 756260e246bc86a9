"""Frames and the times at which they pass through the program. All times are ``time.monotonic_ns()``."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engines.types import FaceState


class PixelFormat(enum.Enum):
    """The memory layout of a frame's pixels."""

    RGB = "rgb"
    """(H, W, 3) uint8."""
    I420 = "i420"
    """(H * 3 / 2, W) uint8: Y, then U and V at half size, BT.601 limited range. Width and height are even."""
    RGBA = "rgba"
    """(H, W, 4) uint8; the colours are not multiplied by the alpha."""
    I420A = "i420a"
    """(H * 5 / 2, W) uint8: I420, then the alpha at full size; the colours are not multiplied by it."""


WITH_ALPHA = frozenset({PixelFormat.RGBA, PixelFormat.I420A})
"""The formats that say what is transparent."""


@dataclass(frozen=True, slots=True)
class Stamps:
    """When a frame passed each stage, in monotonic nanoseconds; 0 for a stage that it has not passed."""

    captured: int
    tracked: int = 0
    generated: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture with its number and its times. Its pixels are read-only once it is published."""

    pixels: NDArray[np.uint8]
    format: PixelFormat
    seq: int
    stamps: Stamps
    time_ns: int
    """When a live frame was captured (monotonic), or the presentation time of a file's frame."""
    tracked: bool = False
    """Whether the source has tracked the face itself. There is no picture then."""
    face: FaceState | None = None
    """The face that such a source has found."""

    def stamped(self, **times: int) -> Frame:
        """Return a frame with the same pixels and these stamps set."""
        return replace(self, stamps=replace(self.stamps, **times))
