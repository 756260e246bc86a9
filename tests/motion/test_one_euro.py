"""The one-euro filter: properties that hold for any signal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from realtime.motion.one_euro import GAP_NS, Noise, OneEuro

FRAME_NS = 33_000_000

values = st.floats(-1000, 1000, width=32)
signals = hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=values)
gaps = st.integers(1, GAP_NS)


def run(smooth: OneEuro, signal: NDArray[np.float32], step_ns: int = FRAME_NS) -> NDArray[np.float32]:
    return np.array([smooth(sample, index * step_ns) for index, sample in enumerate(signal)])


@given(signals)
def test_the_first_sample_passes_unchanged(signal: NDArray[np.float32]) -> None:
    first = OneEuro(1.0, 0.1)(signal[0], 12345)
    np.testing.assert_array_equal(first, signal[0])
    assert first is not signal[0]


@given(values, st.lists(gaps, min_size=1, max_size=30))
def test_a_constant_signal_stays_constant(value: float, steps: list[int]) -> None:
    smooth = OneEuro(0.5, 2.0)
    time_ns = 0
    for step in steps:
        time_ns += step
        np.testing.assert_array_equal(smooth(np.full(3, value, np.float32), time_ns), np.float32(value))


@given(signals, st.floats(0.01, 50), st.floats(0, 10), gaps)
def test_the_output_stays_between_the_input_values(
    signal: NDArray[np.float32], min_cutoff: float, beta: float, step_ns: int
) -> None:
    smoothed = run(OneEuro(min_cutoff, beta), signal, step_ns)
    slack = 1e-5 * np.abs(signal).max() + 1e-6
    low, high = np.minimum.accumulate(signal), np.maximum.accumulate(signal)
    assert (smoothed >= low - slack).all()
    assert (smoothed <= high + slack).all()


def test_dropped_frames_hardly_change_the_result() -> None:
    times = np.arange(0, 4_000_000_000, FRAME_NS)
    signal = np.sin(times / 1e9 * 2 * np.pi * 0.5).astype(np.float32)[:, None]
    every, some = OneEuro(2.0, 0.5), OneEuro(2.0, 0.5)
    differences = []
    for index, (time_ns, sample) in enumerate(zip(times.tolist(), signal, strict=True)):
        whole = every(sample, time_ns)
        if index % 3 != 1:
            differences.append(float(np.abs(whole - some(sample, time_ns)).max()))
    assert max(differences) < 0.05


def test_a_larger_beta_follows_a_step_sooner() -> None:
    def after_step(beta: float) -> float:
        signal = np.array([[0.0]] * 5 + [[1.0]] * 3, np.float32)
        return float(run(OneEuro(0.5, beta), signal)[-1, 0])

    answers = [after_step(beta) for beta in (0.0, 0.1, 1.0, 10.0)]
    assert answers == sorted(answers)
    assert answers[0] < 0.4
    assert answers[-1] > 0.9


def test_noise_on_a_still_signal_is_damped() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (300, 50)).astype(np.float32)
    smoothed = run(OneEuro(0.5, 0.0), noise)
    assert smoothed[50:].std() < 0.3 * noise.std()


def test_every_element_has_its_own_parameters() -> None:
    signal = np.array([[0, 0]] * 3 + [[1, 1]] * 3, np.float32)
    both = run(OneEuro(np.array([0.5, 5.0]), np.array([0.0, 1.0])), signal)
    slow, quick = run(OneEuro(0.5, 0.0), signal), run(OneEuro(5.0, 1.0), signal)
    np.testing.assert_allclose(both[:, 0], slow[:, 0], rtol=1e-6)
    np.testing.assert_allclose(both[:, 1], quick[:, 1], rtol=1e-6)


@pytest.mark.parametrize("time_ns", [FRAME_NS - 1, FRAME_NS + GAP_NS + 1])
def test_a_gap_or_a_time_that_goes_back_restarts_the_filter(time_ns: int) -> None:
    smooth = OneEuro(0.1, 0.0)
    smooth(np.zeros(2, np.float32), FRAME_NS)
    np.testing.assert_array_equal(smooth(np.ones(2, np.float32), time_ns), 1)


def test_a_second_sample_of_the_same_time_is_ignored() -> None:
    smooth = OneEuro(0.1, 0.0)
    smooth(np.zeros(2, np.float32), 0)
    before = smooth(np.ones(2, np.float32), FRAME_NS)
    np.testing.assert_array_equal(smooth(np.full(2, 9, np.float32), FRAME_NS), before)


def test_after_a_reset_the_next_sample_passes_unchanged() -> None:
    smooth = OneEuro(0.1, 0.0)
    smooth(np.zeros(2, np.float32), 0)
    smooth.reset()
    np.testing.assert_array_equal(smooth(np.ones(2, np.float32), FRAME_NS), 1)


def test_results_are_float32_and_belong_to_the_caller() -> None:
    smooth = OneEuro(1.0, 0.1)
    sample = np.zeros((478, 3), np.float32)
    smooth(sample, 0)[:] = 7
    second = smooth(sample, FRAME_NS)
    assert second.dtype == np.float32
    np.testing.assert_array_equal(second, 0)


@pytest.mark.parametrize("parameters", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, 0.0), (float("nan"), 1.0, 1.0)])
def test_impossible_parameters_are_refused(parameters: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="must be over 0"):
        OneEuro(*parameters)


# --- the estimate of the noise

CLEAN = 0.0015


def noisy(noise: float, signal: NDArray[np.float64], seed: int = 0) -> NDArray[np.float32]:
    """Return (frames, 30) samples of a signal with white noise of that standard deviation."""
    random = np.random.default_rng(seed)
    return (signal[:, None] + random.normal(0, noise, (len(signal), 30))).astype(np.float32)


def filtered(
    samples: NDArray[np.float32], *, clean: float | None, noise: float = CLEAN, stillness: float = 0.0
) -> NDArray[np.float32]:
    one_euro = OneEuro(2.5, 60.0, 3.0, clean=clean)
    return np.stack(
        [one_euro(sample, round(i * 1e9 / 30), Noise(noise / CLEAN, stillness)) for i, sample in enumerate(samples)]
    )


def movement(values: NDArray[np.float32]) -> float:
    """Return the mean change from one frame to the next, after the first second."""
    return float(np.abs(np.diff(values[30:], axis=0)).mean())


@pytest.mark.parametrize(("noise", "share"), [(3 * CLEAN, 0.6), (6 * CLEAN, 0.3)])
def test_a_still_signal_in_noise_is_calmer_than_by_speed_alone(noise: float, share: float) -> None:
    samples = noisy(noise, np.zeros(150))
    assert movement(filtered(samples, clean=CLEAN, noise=noise, stillness=1)) < share * movement(
        filtered(samples, clean=None)
    )


def test_in_good_light_nothing_changes() -> None:
    samples = noisy(CLEAN, np.zeros(150))
    np.testing.assert_allclose(
        movement(filtered(samples, clean=CLEAN)), movement(filtered(samples, clean=None)), rtol=0.2
    )


@pytest.mark.parametrize("noise", [CLEAN, 3 * CLEAN, 6 * CLEAN])
def test_a_signal_that_moves_is_not_late(noise: float) -> None:
    """A step as of a nod or an opening mouth has arrived after a few frames, however dark it is."""
    signal = np.where(np.arange(150) < 100, 0.0, 0.3)
    values = filtered(noisy(noise, signal), clean=CLEAN, noise=noise).mean(axis=1)
    assert values[103] > 0.85 * 0.3
    assert abs(values[-1] - 0.3) < 0.02


@pytest.mark.parametrize("noise", [CLEAN, 3 * CLEAN])
def test_what_is_far_beyond_the_noise_passes_at_once(noise: float) -> None:
    """A jaw that drops from one frame to the next is not a frame late."""
    signal = np.where(np.arange(60) < 50, 0.0, 10 * noise)
    values = filtered(noisy(noise, signal), clean=CLEAN, noise=noise).mean(axis=1)
    assert values[50] > 0.95 * 10 * noise
