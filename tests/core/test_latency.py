from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.core.latency import Durations, FrameCounts

NS = 1_000_000_000


@given(st.lists(st.integers(1_500, 10**11), min_size=1, max_size=200), st.sampled_from([50, 95, 99]))
def test_percentiles_are_accurate_to_one_per_cent(durations: list[int], percent: int) -> None:
    recorded = Durations()
    for duration in durations:
        recorded.record(duration, 0)
    exact = np.percentile(durations, percent, method="inverted_cdf") / 1e6
    assert recorded.percentile_ms(percent) == pytest.approx(exact, rel=0.01)
    assert recorded.max_ns == max(durations)


@pytest.mark.parametrize("duration", [0, 1, 999, 1_000, 1_001, 10**12, 10**18])
def test_extreme_durations_are_counted(duration: int) -> None:
    recorded = Durations()
    recorded.record(duration, 0)
    assert recorded.count == 1
    assert recorded.percentile_ms(50) <= duration / 1e6


def test_memory_does_not_grow() -> None:
    recorded = Durations()
    before = [array.nbytes for array in vars(recorded).values() if isinstance(array, np.ndarray)]
    for duration in range(5_000):
        recorded.record(duration * 1_000, duration)
    after = [array.nbytes for array in vars(recorded).values() if isinstance(array, np.ndarray)]
    assert before == after
    assert sum(after) < 40_000


def test_recent_percentiles_cover_the_last_five_seconds_only() -> None:
    recorded = Durations()
    for number in range(300):
        recorded.record(9_000_000, number * NS // 30)
    recorded.record(500_000_000, 17 * NS)
    assert (recorded.recent_ms(50), recorded.recent_ms(99)) == (500.0, 500.0)
    for number in range(10):
        recorded.record(400_000_000, 18 * NS + number * NS // 10)
    assert recorded.recent_ms(50) == 400.0
    assert recorded.percentile_ms(50) == pytest.approx(9.0, rel=0.01), "the percentiles of the whole run stay"


def test_recent_percentiles_cover_the_last_256_durations_only() -> None:
    recorded = Durations()
    recorded.record(10**10, 0)
    for _ in range(256):
        recorded.record(5_000_000, 0)
    assert recorded.recent_ms(99) == 5.0
    assert recorded.summary()["max"] == 10_000.0


def test_histograms_can_be_added() -> None:
    one, two = Durations(), Durations()
    for _ in range(90):
        one.record(1_000_000, 0)
    for _ in range(10):
        two.record(50_000_000, 0)
    one.add(two)
    summary = one.summary()
    assert one.count == 100
    assert summary["p50"] == pytest.approx(1.0, rel=0.01)
    assert summary["p95"] == pytest.approx(50.0, rel=0.01)


def test_figures_are_zero_where_nothing_was_recorded() -> None:
    assert Durations().summary() == {"p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}
    assert Durations().recent_ms(50) == 0.0
    assert FrameCounts().fps == FrameCounts().fps_now(NS) == 0.0


def test_a_ledger_computes_the_frame_rate() -> None:
    counts = FrameCounts()
    for i in range(31):
        counts.record(10**9 + i * 33_333_333)
    assert counts.frames == 31
    assert counts.fps == pytest.approx(30, rel=1e-3)
    assert counts.fps_now(counts.last_ns) == pytest.approx(30, rel=1e-3)


def test_the_current_frame_rate_falls_when_frames_are_overdue() -> None:
    counts = FrameCounts()
    for i in range(301):
        counts.record(NS + i * NS // 30)
    end = counts.last_ns
    assert counts.fps_now(end + NS // 30) == pytest.approx(30, rel=1e-3)
    waited = [counts.fps_now(end + seconds * NS) for seconds in range(7)]
    assert waited == sorted(waited, reverse=True)
    assert waited[2] < 25
    assert waited[6] == pytest.approx(1 / 6), "nothing for six seconds"
    for late in (7, 14, 21):
        counts.record(end + late * NS)
        assert counts.fps_now(counts.last_ns) == pytest.approx(1 / 7)
        assert counts.fps_now(counts.last_ns + 3 * NS) == pytest.approx(1 / 7), "the next one is not late yet"
    for i in range(1, 151):
        counts.record(end + 21 * NS + i * NS // 30)
    assert counts.fps_now(counts.last_ns) == pytest.approx(30, rel=1e-3)
