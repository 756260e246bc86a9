"""A recorded motion as a source: faces without pictures, at the recording's own rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engines.errors import SourceEnded, SourceMissing
from realtime.core import paths
from realtime.core.frames import Frame, PixelFormat, Stamps
from realtime.motion.motion_file import read_motion, with_bundled_motion
from realtime.motion.tracked import tracked_face

NO_PIXELS = np.empty((0, 0, 3), np.uint8)
GAP_S = 0.5
"""Without a frame for this long the face is lost, and frames without one come at a period of ``GAP_PERIOD_S``."""
GAP_PERIOD_S = 1 / 30
PAINTED = "no picture comes with it: the inside of the mouth is painted"


def parse_motion(spec: str) -> tuple[Path, float]:
    """Return the file and the second to begin at of ``motion:FILE[@SECONDS]``."""
    text = spec.removeprefix("motion:")
    name, at, seconds = text.rpartition("@")
    try:
        start = float(seconds) if at else 0.0
    except ValueError:
        name, start = text, 0.0
    return paths.expand(name if at and name else text), start


class MotionSource:
    """Plays a motion: live in a loop, each frame at its time, or once as fast as it is read."""

    def __init__(
        self,
        path: Path,
        start: float = 0.0,
        *,
        paced: bool = True,
        now_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Read the file; it is played from the second ``start`` on. Raises SourceMissing."""
        motion = read_motion(with_bundled_motion(path))
        if not 0 <= start <= motion.times[-1]:
            expected = f"0 to {motion.times[-1]:.1f}"
            found = f"a start at second {start:g} of {path}"
            raise SourceMissing("motion-bad-start", found, expected, "choose a second within it")
        self._motion = motion
        self._first = int(np.searchsorted(motion.times, start))
        self._begin = float(motion.times[self._first])
        self.size = (640, 480)
        self.fps = motion.fps
        self.live = paced
        self.frames: int | None = None if paced else len(motion.times) - self._first
        self.name = f"motion {path}, {motion.duration:.1f} s, {motion.fps:.0f} fps"
        self.notes = (*motion.notes, PAINTED)
        self._now_ns, self._sleep = now_ns, sleep
        self._start_ns = 0
        self.skipped = 0
        self._seq = 0
        self._next = 0
        """The number of the next frame of the motion, counted on from loop to loop."""
        self._lost = False

    def read(self) -> Frame:
        """Return the next frame. Raises SourceEnded.

        Live, frames whose time has passed are left out and counted in ``skipped``, and where the recording has none
        for a while, frames without a face come.
        """
        motion = self._motion
        count = len(motion.times)
        if not self._start_ns:
            self._start_ns = self._now_ns()
        if self.live:
            self._lost = not self._wait()
        elif self._first + self._next >= count:
            raise SourceEnded("motion-ended", "the motion has ended")
        index = (self._first + self._next) % count
        captured = self._now_ns()
        time_ns = captured if self.live else round((motion.times[index] - self._begin) * 1e9)
        face = None
        if not self._lost:
            face = tracked_face(motion.coefficients[index], motion.turns[index], self._seq, time_ns)
            self._next += 1
        frame = Frame(NO_PIXELS, PixelFormat.RGB, self._seq, Stamps(captured), time_ns, tracked=True, face=face)
        self._seq += 1
        return frame

    def _wait(self) -> bool:
        """Go on to the newest frame whose time has come, or wait for the next one's. Return False in a gap."""
        late = (self._now_ns() - self._start_ns) / 1e9
        loops, within = divmod(self._begin + late, self._motion.duration)
        newest = int(loops) * len(self._motion.times) + int(np.searchsorted(self._motion.times, within, "right")) - 1
        left_out = max(0, newest - self._first - self._next)
        self.skipped += left_out
        self._next += left_out
        wait = self._due(self._next) - late
        longest = GAP_PERIOD_S if self._lost else GAP_S
        if wait > 0:
            self._sleep(min(wait, longest))
        return wait <= longest

    def _due(self, number: int) -> float:
        loops, index = divmod(self._first + number, len(self._motion.times))
        return loops * self._motion.duration + float(self._motion.times[index]) - self._begin

    def close(self) -> None:
        """Do nothing: the file is read already."""
