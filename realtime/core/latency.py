"""Durations, recorded in memory that does not grow, and what a run counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_FLOOR_NS = 1_000
_STEP = 1.01
_BUCKETS = math.ceil(math.log(1e9) / math.log(_STEP)) + 2
"""1 µs to 1000 s in steps of one per cent; the first bucket takes all that is shorter, the last the rest."""
_PER_STEP = 1 / math.log(_STEP)
_RECENT = 256
_LATELY_NS = 5_000_000_000
"""What a display calls lately. It is renewed that often where it cannot stand in one place."""

QUANTILES = (50, 95, 99)


class Durations:
    """Percentiles of any number of durations, to within half a per cent.

    One thread records; any thread may read. A histogram with logarithmic buckets holds the whole run
    and a ring the last 256 with the moments at which they ended, about 21 kB in all.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._ring = np.zeros(_RECENT, np.int64)
        self._ended_ns = np.zeros(_RECENT, np.int64)
        self.count = 0
        self.total_ns = 0
        self.max_ns = 0

    def record(self, duration_ns: int, ended_ns: int) -> None:
        """Count one duration in nanoseconds, and when it ended, monotonic."""
        bucket = 0
        if duration_ns > _FLOOR_NS:
            bucket = min(1 + int(math.log(duration_ns / _FLOOR_NS) * _PER_STEP), _BUCKETS - 1)
        self._counts[bucket] += 1
        self._ring[self.count % _RECENT] = duration_ns
        self._ended_ns[self.count % _RECENT] = ended_ns
        self.count += 1
        self.total_ns += duration_ns
        self.max_ns = max(self.max_ns, duration_ns)

    def add(self, other: Durations) -> None:
        """Take in what another has recorded; its recent durations are not carried over."""
        self._counts += other._counts
        self.count += other.count
        self.total_ns += other.total_ns
        self.max_ns = max(self.max_ns, other.max_ns)

    def percentile_ms(self, percent: float) -> float:
        """The duration in milliseconds that ``percent`` of all stay within; 0.0 before there is any."""
        total = int(self._counts.sum())
        if total == 0:
            return 0.0
        rank = max(1, math.ceil(total * percent / 100))
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        middle_ns = _FLOOR_NS * _STEP ** (bucket - 0.5) if bucket else _FLOOR_NS
        return min(middle_ns, self.max_ns) / 1e6

    def within_ms(self, bounds: Sequence[float]) -> list[int]:
        """How many durations stay within each of these, in milliseconds."""
        upper_ns = _FLOOR_NS * _STEP ** np.arange(_BUCKETS)
        sums = np.concatenate([[0], np.cumsum(self._counts)])
        return [int(sums[np.searchsorted(upper_ns, 1e6 * bound, side="right")]) for bound in bounds]

    def recent_ms(self, percent: float) -> float:
        """The same for a display: over the latest and those of five seconds before it, 256 at most."""
        count = self.count
        if count == 0:
            return 0.0
        ended_ns = self._ended_ns[:count]
        lately = ended_ns > ended_ns[(count - 1) % _RECENT] - _LATELY_NS
        return float(np.percentile(self._ring[:count][lately], percent)) / 1e6

    def latest_ns(self) -> NDArray[np.int64]:
        """The last durations in nanoseconds, 256 at most, the newest first: a new array."""
        count = self.count
        return np.roll(self._ring, -(count % _RECENT))[::-1][:count]

    def summary(self) -> dict[str, float]:
        """p50, p95, p99 and max in milliseconds, rounded to the microsecond."""
        figures = {f"p{q}": round(self.percentile_ms(q), 3) for q in QUANTILES}
        return figures | {"max": round(self.max_ns / 1e6, 3)}


@dataclass(slots=True)
class Ledger:
    """What the compute stage counts; only that stage writes. Frames without a face stay out of the durations."""

    frames: int = 0
    """Pictures published, start-up and failure slates left out."""
    faces: int = 0
    """Those of them in whose driving frame a face was found."""
    starting: int = 0
    """Driving frames that came before the tracker and the portrait were ready."""
    first_ns: int = 0
    """When the first picture was generated, monotonic; 0 before that."""
    last_ns: int = 0
    """When the latest was."""
    track: Durations = field(default_factory=Durations)
    generate: Durations = field(default_factory=Durations)
    pace: Durations = field(default_factory=Durations)
    """From one picture to the next: what the frame rate on display comes from."""

    def published(self, now_ns: int) -> None:
        """Count one picture, published at this moment."""
        if self.frames:
            self.pace.record(now_ns - self.last_ns, now_ns)
        else:
            self.first_ns = now_ns
        self.frames += 1
        self.last_ns = now_ns

    @property
    def fps(self) -> float:
        """Pictures a second over the whole run; 0.0 before there are two."""
        return (self.frames - 1) * 1e9 / (self.last_ns - self.first_ns) if self.last_ns > self.first_ns else 0.0

    def fps_now(self, now_ns: int) -> float:
        """Pictures a second lately, at this moment; 0.0 before there are two.

        A picture that is longer in coming than the ones before it slows the rate while it is waited for.
        """
        gaps = self.pace.latest_ns()
        if not gaps.size:
            return 0.0
        waiting = np.concatenate([[max(0, now_ns - self.last_ns)], gaps])
        period_ns = max(_period_ns(gaps), _period_ns(waiting))
        return 1e9 / period_ns if period_ns else 0.0


def _period_ns(gaps: NDArray[np.int64]) -> float:
    """The mean of the gaps, the newest first, that reach five seconds back; of all where they do not."""
    sums = np.cumsum(gaps)
    last = min(int(np.searchsorted(sums, _LATELY_NS)), gaps.size - 1)
    return float(sums[last]) / (last + 1)
