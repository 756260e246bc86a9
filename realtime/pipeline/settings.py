"""The settings of a run, and the functions that it calls."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.marking.marks import Marking

Notice = Callable[[str], None]
"""Shows a line of text to the user."""
Clock = Callable[[], int]
"""Returns monotonic nanoseconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run has done enough. Its duration is wall-clock time when live, the file's own time at the highest pace.

    None means no limit.
    """

    frames: int | None = None
    duration_ns: int | None = None

    def reached(self, frames: int, elapsed_ns: int) -> bool:
        """Return True if that many frames or that much time are enough."""
        if self.frames is not None and frames >= self.frames:
            return True
        return self.duration_ns is not None and elapsed_ns >= self.duration_ns

    def expected_frames(self, frames: int | None, fps: float) -> int | None:
        """Return about how many of a source's ``frames`` there will be; None if neither it nor a limit says."""
        seconds = None if self.duration_ns is None else math.ceil(self.duration_ns / 1e9 * fps)
        return min((count for count in (frames, self.frames, seconds) if count is not None), default=None)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run produces, and how fast."""

    size: tuple[int, int]
    """Width and height of the output in pixels."""
    fps: float
    """The frame rate of the output; what the source delivers decides as long as it delivers."""
    lossless: bool = False
    """Generate a frame for every driving frame, in order and as fast as possible, rather than for the newest one."""
    limits: Limits = Limits()
    relay_code: bool = False
    """Copy the code of ``realtime.core.pixelcode`` from the driving frame to the generated one."""
    marking: Marking | None = None
    """The label and watermark of generated frames; None only where a part of the program runs on its own."""


@dataclass(frozen=True, slots=True)
class RunHooks:
    """The functions that a run calls, on any of its threads."""

    notice: Notice
    ready: Callable[[], object] = lambda: None
    """Called once, when everything is ready and before the first frame."""
    clock: Clock = time.monotonic_ns
    cures: Mapping[str, str] = field(default_factory=dict)
    """What a notice about a failed command advises, by the error's code, in place of the error's own cure."""
