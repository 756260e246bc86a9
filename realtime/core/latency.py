"""Percentiles of durations in constant memory, and the counters of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_SHORTEST_NS = 1_000
_STEP = 1.01
_BUCKETS = math.ceil(math.log(1e9) / math.log(_STEP)) + 2
"""1 µs to 1000 s in steps of one per cent; the first bucket counts shorter durations, the last one longer ones."""
_BUCKETS_PER_E = 1 / math.log(_STEP)
_RECENT = 256
_RECENT_NS = 5_000_000_000
"""The period of the recent figures: that of the status line where it is printed repeatedly."""

QUANTILES = (50, 95, 99)


class Durations:
    """Percentiles of any number of durations, accurate to half a per cent.

    One thread records; any thread may read. A histogram with logarithmic buckets covers the whole run, and a ring
    buffer holds the last 256 durations and when they ended: about 21 kB in all.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._ring = np.zeros(_RECENT, np.int64)
        self._ended_ns = np.zeros(_RECENT, np.int64)
        self.count = 0
        self.total_ns = 0
        self.max_ns = 0

    def record(self, duration_ns: int, ended_ns: int) -> None:
        """Record one duration, and when it ended, in monotonic nanoseconds."""
        bucket = 0
        if duration_ns > _SHORTEST_NS:
            bucket = min(1 + int(math.log(duration_ns / _SHORTEST_NS) * _BUCKETS_PER_E), _BUCKETS - 1)
        self._counts[bucket] += 1
        self._ring[self.count % _RECENT] = duration_ns
        self._ended_ns[self.count % _RECENT] = ended_ns
        self.count += 1
        self.total_ns += duration_ns
        self.max_ns = max(self.max_ns, duration_ns)

    def add(self, other: Durations) -> None:
        """Add the durations of another to the histogram. Its recent durations are not carried over."""
        self._counts += other._counts
        self.count += other.count
        self.total_ns += other.total_ns
        self.max_ns = max(self.max_ns, other.max_ns)

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of all durations in milliseconds; 0.0 if there are none."""
        total = int(self._counts.sum())
        if total == 0:
            return 0.0
        rank = max(1, math.ceil(total * percent / 100))
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        middle_ns = _SHORTEST_NS * _STEP ** (bucket - 0.5) if bucket else _SHORTEST_NS
        return min(middle_ns, self.max_ns) / 1e6

    def within_ms(self, bounds: Sequence[float]) -> list[int]:
        """Return, for each bound in milliseconds, the number of durations that do not exceed it."""
        upper_ns = _SHORTEST_NS * _STEP ** np.arange(_BUCKETS)
        sums = np.concatenate([[0], np.cumsum(self._counts)])
        return [int(sums[np.searchsorted(upper_ns, 1e6 * bound, side="right")]) for bound in bounds]

    def recent_ms(self, percent: float) -> float:
        """Return a percentile of the last five seconds in ms, 256 durations at most; 0.0 if there are none."""
        count = self.count
        if count == 0:
            return 0.0
        ended_ns = self._ended_ns[:count]
        recent = ended_ns > ended_ns[(count - 1) % _RECENT] - _RECENT_NS
        return float(np.percentile(self._ring[:count][recent], percent)) / 1e6

    def latest_ns(self) -> NDArray[np.int64]:
        """Return the last durations in nanoseconds, 256 at most, newest first, as a new array (N,) int64."""
        count = self.count
        return np.roll(self._ring, -(count % _RECENT))[::-1][:count]

    def summary(self) -> dict[str, float]:
        """Return p50, p95, p99 and max in milliseconds, rounded to the microsecond."""
        figures = {f"p{q}": round(self.percentile_ms(q), 3) for q in QUANTILES}
        return figures | {"max": round(self.max_ns / 1e6, 3)}


@dataclass(slots=True)
class FrameCounts:
    """The counters of the compute thread, which alone writes them. Frames without a face are not in the durations."""

    frames: int = 0
    """Pictures published, without the slates of start-up and failure."""
    faces: int = 0
    """Pictures published whose driving frame had a face."""
    starting: int = 0
    """Driving frames captured before the tracker and the portrait were ready."""
    first_ns: int = 0
    """When the first picture was generated, in monotonic nanoseconds; 0 before that."""
    last_ns: int = 0
    """When the latest picture was generated."""
    track: Durations = field(default_factory=Durations)
    generate: Durations = field(default_factory=Durations)
    pace: Durations = field(default_factory=Durations)
    """Time from one picture to the next, from which the displayed frame rate is computed."""

    def record(self, now_ns: int) -> None:
        """Count one picture that was published now."""
        if self.frames:
            self.pace.record(now_ns - self.last_ns, now_ns)
        else:
            self.first_ns = now_ns
        self.frames += 1
        self.last_ns = now_ns

    @property
    def fps(self) -> float:
        """The mean frame rate of the whole run; 0.0 before the second picture."""
        return (self.frames - 1) * 1e9 / (self.last_ns - self.first_ns) if self.last_ns > self.first_ns else 0.0

    def fps_now(self, now_ns: int) -> float:
        """Return the frame rate of the last five seconds; 0.0 before the second picture.

        A picture that is overdue lowers the rate before it comes.
        """
        gaps = self.pace.latest_ns()
        if not gaps.size:
            return 0.0
        waiting = np.concatenate([[max(0, now_ns - self.last_ns)], gaps])
        period_ns = max(_period_ns(gaps), _period_ns(waiting))
        return 1e9 / period_ns if period_ns else 0.0


def _period_ns(gaps: NDArray[np.int64]) -> float:
    """Return the mean of the gaps of the last five seconds. ``gaps`` (N,) are newest first."""
    sums = np.cumsum(gaps)
    last = min(int(np.searchsorted(sums, _RECENT_NS)), gaps.size - 1)
    return float(sums[last]) / (last + 1)
