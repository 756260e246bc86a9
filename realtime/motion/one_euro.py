"""The one-euro filter, on real elapsed time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engines.jit import compiled

GAP_NS = 500_000_000
"""After a longer gap the last value no longer predicts the signal: the filter starts again."""


class OneEuro:
    """A low-pass filter with a low cut-off for a still signal and a higher one for a moving signal.

    Casiez, Roussel and Vogel, "1 € Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive
    Systems", CHI 2012. The cut-off is ``min_cutoff + beta * |speed|`` hertz, where the speed is low-passed at
    ``d_cutoff`` hertz. Each may be a number or an array that broadcasts against the signal. ``beta`` is in hertz per
    (unit of the signal per second), so it must be chosen for that unit. Raises ValueError if ``beta`` is negative or
    one of the others is not positive.
    """

    def __init__(self, min_cutoff: ArrayLike, beta: ArrayLike, d_cutoff: ArrayLike = 1.0) -> None:
        self._min_cutoff = np.asarray(min_cutoff, np.float32)
        self._beta = np.asarray(beta, np.float32)
        self._d_cutoff = np.asarray(d_cutoff, np.float32)
        if not (np.all(self._min_cutoff > 0) and np.all(self._beta >= 0) and np.all(self._d_cutoff > 0)):
            raise ValueError("min_cutoff and d_cutoff must be over 0 and beta must not be under 0")
        self._broadcast: tuple[tuple[int, ...], tuple[NDArray[np.float32], ...]] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the signal: the next sample passes unchanged."""
        self._value: NDArray[np.float32] | None = None
        self._raw: NDArray[np.float32] | None = None
        self._speed: NDArray[np.float32] | None = None
        self._time_ns = 0

    def __call__(self, x: NDArray[np.float32], time_ns: int) -> NDArray[np.float32]:
        """Filter a sample, a float32 array of any shape, taken at ``time_ns``. Return a new array.

        The filter starts again with a sample more than ``GAP_NS`` after the last one, before it, or of another shape.
        A second sample of the same time is ignored.
        """
        sample = np.array(x, np.float32, order="C")
        elapsed_ns = time_ns - self._time_ns
        if self._value is None or self._value.shape != sample.shape or not 0 <= elapsed_ns <= GAP_NS:
            self._value, self._raw, self._speed = sample.copy(), sample.copy(), np.zeros_like(sample)
            self._time_ns = time_ns
            return sample
        assert self._raw is not None
        assert self._speed is not None
        if elapsed_ns == 0:
            return self._value.copy()
        smooth = np.empty_like(sample)
        min_cutoff, beta, d_cutoff = self._settings(sample.shape)
        _step(
            sample.reshape(-1), self._raw.reshape(-1), self._speed.reshape(-1), self._value.reshape(-1),
            min_cutoff, beta, d_cutoff, elapsed_ns / 1e9, smooth.reshape(-1),
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
    sample: Any, raw: Any, speed: Any, value: Any, min_cutoff: Any, beta: Any, d_cutoff: Any, seconds: float, out: Any
) -> None:
    """Filter flat float32 arrays element by element into ``out``. Updates ``raw``, ``speed`` and ``value`` in place.

    The share of a new sample for a cut-off of f hertz is 2 pi f t / (1 + 2 pi f t).
    """
    turn = np.float32(2.0 * math.pi * seconds)
    rate = np.float32(1.0 / seconds)
    one = np.float32(1.0)
    for i in range(sample.shape[0]):
        ratio = turn * d_cutoff[i]
        speed[i] += ratio / (one + ratio) * ((sample[i] - raw[i]) * rate - speed[i])
        ratio = turn * (min_cutoff[i] + beta[i] * abs(speed[i]))
        value[i] += ratio / (one + ratio) * (sample[i] - value[i])
        raw[i] = sample[i]
        out[i] = value[i]
