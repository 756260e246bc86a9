from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.latency import Durations, Ledger


@given(st.lists(st.integers(1_500, 10**11), min_size=1, max_size=200), st.sampled_from([50, 95, 99]))
def test_percentiles_are_right_to_one_per_cent(durations: list[int], percent: int) -> None:
    recorded = Durations()
    for duration in durations:
        recorded.record(duration)
    exact = np.percentile(durations, percent, method="inverted_cdf") / 1e6
    assert recorded.percentile_ms(percent) == pytest.approx(exact, rel=0.01)
    assert recorded.max_ns == max(durations)


@pytest.mark.parametrize("duration", [0, 1, 999, 1_000, 1_001, 10**12, 10**18])
def test_extreme_durations_are_counted(duration: int) -> None:
    recorded = Durations()
    recorded.record(duration)
    assert recorded.count == 1
    assert recorded.percentile_ms(50) <= duration / 1e6


def test_memory_does_not_grow() -> None:
    recorded = Durations()
    before = [array.nbytes for array in vars(recorded).values() if isinstance(array, np.ndarray)]
    for duration in range(5_000):
        recorded.record(duration * 1_000)
    after = [array.nbytes for array in vars(recorded).values() if isinstance(array, np.ndarray)]
    assert before == after
    assert sum(after) < 40_000


def test_recent_forgets_the_start() -> None:
    recorded = Durations()
    recorded.record(10**10)
    for _ in range(256):
        recorded.record(5_000_000)
    assert recorded.recent_ms(99) == 5.0
    assert recorded.summary()["max"] == 10_000.0


def test_adding_up_several() -> None:
    one, two = Durations(), Durations()
    for _ in range(90):
        one.record(1_000_000)
    for _ in range(10):
        two.record(50_000_000)
    one.add(two)
    summary = one.summary()
    assert one.count == 100
    assert summary["p50"] == pytest.approx(1.0, rel=0.01)
    assert summary["p95"] == pytest.approx(50.0, rel=0.01)


def test_nothing_recorded_is_zero() -> None:
    assert Durations().summary() == {"p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}
    assert Ledger().fps == 0.0


def test_a_ledger_knows_its_frame_rate() -> None:
    ledger = Ledger()
    for i in range(31):
        ledger.published(10**9 + i * 33_333_333)
    assert ledger.frames == 31
    assert ledger.fps == pytest.approx(30, rel=1e-3)
    assert ledger.fps_now == pytest.approx(30, rel=1e-3)
