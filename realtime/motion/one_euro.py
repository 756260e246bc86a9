"""The one-euro filter, on real elapsed time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engines.jit import compiled

WINDOW = 8
"""Samples over which a slow motion is looked for."""
MOVES, MOVES_SURELY = 2.0, 3.5
"""A speed of fewer standard deviations of what noise alone looks like counts as none, and of more in full."""
CALMER, STILL_CALMER = 1.5, 2.0
"""The exponent with which the cut-off of a still signal falls as the noise rises, and what stillness adds to it."""
NOTICED = 1.6
"""Up to this many times of the noise in good light nothing changes."""
WANDERS_FROM, WANDERS = 3.0, 4.0
"""Above the first noise ratio the tracker also drifts; while the face is still, noise is then weighted more, by the
second value."""
AHEAD, FAR_AHEAD = 3.0, 6.0
"""A sample at least AHEAD standard deviations from the filtered value counts as motion; from FAR_AHEAD on it passes
unfiltered."""
GAP_NS = 500_000_000
"""After a longer gap the last value no longer predicts the signal: the filter starts again."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How noisy the landmarks are, and how still the face is."""

    ratio: float = 1.0
    """Standard deviation over that in good light."""
    stillness: float = 0.0
    """1 where nothing has moved for a while, 0 at the first motion."""


_NO_NOISE = Noise()


class OneEuro:
    """A low-pass filter with a low cut-off for a still signal and a higher one for a moving signal.

    Casiez, Roussel and Vogel, "1 € Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive
    Systems", CHI 2012. The cut-off is ``min_cutoff + beta * |speed|`` hertz, where the speed is low-passed at
    ``d_cutoff`` hertz. Each may be a number or an array that broadcasts against the signal. ``beta`` is in hertz per
    (unit of the signal per second), so it must be chosen for that unit. Raises ValueError if ``beta`` is negative or
    one of the others is not positive.

    With ``clean``, the standard deviation of a sample in good light, the filter takes into account how many times of it
    the samples' noise is. What is far beyond it passes at once. The speed then counts only where it is more than noise
    alone would show, over two samples or as the slope over ``WINDOW``, and the cut-off of a still signal falls as the
    noise rises: a still face in poor light is calm, and one that moves is not late.
    """

    def __init__(
        self, min_cutoff: ArrayLike, beta: ArrayLike, d_cutoff: ArrayLike = 1.0, *, clean: float | None = None
    ) -> None:
        self._min_cutoff = np.asarray(min_cutoff, np.float32)
        self._beta = np.asarray(beta, np.float32)
        self._d_cutoff = np.asarray(d_cutoff, np.float32)
        if not (np.all(self._min_cutoff > 0) and np.all(self._beta >= 0) and np.all(self._d_cutoff > 0)):
            raise ValueError("min_cutoff and d_cutoff must be over 0 and beta must not be under 0")
        self._clean = clean
        self._broadcast: tuple[tuple[int, ...], tuple[NDArray[np.float32], ...]] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the signal: the next sample passes unchanged."""
        self._value: NDArray[np.float32] | None = None
        self._raw: NDArray[np.float32] | None = None
        self._speed: NDArray[np.float32] | None = None
        self._window: NDArray[np.float32] | None = None
        self._count = 0
        self._time_ns = 0

    def __call__(self, x: NDArray[np.float32], time_ns: int, noise: Noise = _NO_NOISE) -> NDArray[np.float32]:
        """Filter a sample, a float32 array of any shape, taken at ``time_ns``. Return a new array.

        ``noise`` is that of the samples, relative to ``clean``.

        The filter starts again with a sample more than ``GAP_NS`` after the last one, before it, or of another shape.
        A second sample of the same time is ignored.
        """
        sample = np.array(x, np.float32, order="C")
        elapsed_ns = time_ns - self._time_ns
        if self._value is None or self._value.shape != sample.shape or not 0 <= elapsed_ns <= GAP_NS:
            self._value, self._raw, self._speed = sample.copy(), sample.copy(), np.zeros_like(sample)
            self._window, self._count = np.empty((WINDOW, sample.size), np.float32), 1
            self._window[0] = sample.reshape(-1)
            self._time_ns = time_ns
            return sample
        assert self._raw is not None
        assert self._speed is not None
        if elapsed_ns == 0:
            return self._value.copy()
        smooth = np.empty_like(sample)
        min_cutoff, beta, d_cutoff = self._settings(sample.shape)
        deviation, calm, ahead = 0.0, 1.0, math.inf
        assert self._window is not None
        if self._clean is not None:
            self._window[self._count % WINDOW] = sample.reshape(-1)
            self._count += 1
            ahead = max(noise.ratio, 1.0) * self._clean
            if noise.ratio > NOTICED:
                # in poor light a tracker jumps now and then, which shows on a still face only
                ahead /= max(1 - noise.stillness, 1e-3)
            calm = max(noise.ratio / NOTICED, 1.0) ** -(CALMER + STILL_CALMER * noise.stillness)
            if noise.ratio > NOTICED and self._count >= WINDOW:
                wandering = WANDERS * max(noise.ratio - WANDERS_FROM, 0.0) * noise.stillness
                deviation = noise.ratio * self._clean * (1 + wandering)
        _step(
            sample.reshape(-1), self._raw.reshape(-1), self._speed.reshape(-1), self._value.reshape(-1),
            min_cutoff, beta, d_cutoff, elapsed_ns / 1e9, deviation, calm, ahead, self._window, self._count,
            smooth.reshape(-1),
        )  # fmt: skip
        self._time_ns = time_ns
        return smooth

    def _settings(self, shape: tuple[int, ...]) -> tuple[NDArray[np.float32], ...]:
        """Return min_cutoff, beta and d_cutoff for each element of a signal, flat. Cached for one shape."""
        if self._broadcast is None or self._broadcast[0] != shape:
            flat = tuple(
                np.ascontiguousarray(np.broadcast_to(setting, shape)).reshape(-1)
                for setting in (self._min_cutoff, self._beta, self._d_cutoff)
            )
            self._broadcast = (shape, flat)
        return self._broadcast[1]


@compiled()
def _step(
    sample: Any, raw: Any, speed: Any, value: Any, min_cutoff: Any, beta: Any, d_cutoff: Any, seconds: float,
    noise: float, calm: float, ahead: float, window: Any, count: int, out: Any,
) -> None:  # fmt: skip
    """Filter flat float32 arrays element by element into ``out``. Updates ``raw``, ``speed`` and ``value`` in place.

    ``noise`` is the standard deviation of the samples, 0 if it is not known; ``calm`` is the factor of the cut-off of a
    still signal; ``ahead`` is the unit of ``AHEAD``. ``window`` has the last samples (``WINDOW``, N), the next one of
    which goes to ``count % WINDOW``.

    The share of a new sample for a cut-off of f hertz is 2 pi f t / (1 + 2 pi f t).
    """
    turn = np.float32(2.0 * math.pi * seconds)
    rate = np.float32(1.0 / seconds)
    one = np.float32(1.0)
    size = window.shape[0]
    # of a least squares slope over evenly spaced samples: the sum of the squares of its weights, per sample interval
    spread = np.float32(size * (size * size - 1) / 12.0)
    slope_noise = np.float32(noise) / np.sqrt(spread)
    for i in range(sample.shape[0]):
        ratio = turn * d_cutoff[i]
        share = ratio / (one + ratio)
        speed[i] += share * ((sample[i] - raw[i]) * rate - speed[i])
        moving = one
        if noise > 0.0:
            slope = np.float32(0.0)
            for back in range(size):
                slope += (np.float32(0.5 * (size - 1)) - np.float32(back)) * window[(count - 1 - back) % size, i]
            slow = abs(slope) / spread / slope_noise
            fast_noise = np.float32(noise) * rate * np.sqrt(np.float32(2.0) * share / (np.float32(2.0) - share))
            fast = abs(speed[i]) / fast_noise
            moving = (max(slow, fast) - np.float32(MOVES)) / np.float32(MOVES_SURELY - MOVES)
            moving = min(max(moving, np.float32(0.0)), one)
        ratio = turn * (min_cutoff[i] * np.float32(calm) + beta[i] * moving * abs(speed[i]))
        error = sample[i] - value[i]
        passed = (abs(error) / np.float32(ahead) - np.float32(AHEAD)) / np.float32(FAR_AHEAD - AHEAD)
        value[i] += min(max(ratio / (one + ratio), passed), one) * error
        raw[i] = sample[i]
        out[i] = value[i]
