"""One-euro smoothing on real elapsed time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

GAP_NS = 500_000_000
"""A longer silence than this says nothing about where the signal is now: the filter starts afresh."""


class OneEuro:
    """A low-pass filter that is slow on a still signal and quick on a moving one.

    Casiez, Roussel and Vogel, "1 € Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
    Interactive Systems", CHI 2012. The cut-off is ``min_cutoff + beta * |speed|`` hertz, the speed being low-passed at
    ``d_cutoff`` hertz. Each may be a number or an array that broadcasts against the signal. ``beta`` is in hertz per
    (unit of the signal a second), so its right size depends on that unit.
    """

    def __init__(self, min_cutoff: ArrayLike, beta: ArrayLike, d_cutoff: ArrayLike = 1.0) -> None:
        self._min_cutoff = np.asarray(min_cutoff, np.float32)
        self._beta = np.asarray(beta, np.float32)
        self._d_cutoff = np.asarray(d_cutoff, np.float32)
        if not (np.all(self._min_cutoff > 0) and np.all(self._beta >= 0) and np.all(self._d_cutoff > 0)):
            raise ValueError("min_cutoff and d_cutoff must be over 0 and beta must not be under 0")
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next sample passes through as it is."""
        self._value: NDArray[np.float32] | None = None
        self._raw: NDArray[np.float32] | None = None
        self._speed: NDArray[np.float32] | None = None
        self._time_ns = 0

    def __call__(self, x: NDArray[np.float32], time_ns: int) -> NDArray[np.float32]:
        """Filter one sample of any one shape, float32, seen at ``time_ns``; returns a new array.

        The first sample, one after more than half a second, one from the past and one of another shape start the
        filter afresh. A second sample of the same moment changes nothing.
        """
        sample = np.array(x, np.float32)
        elapsed_ns = time_ns - self._time_ns
        if self._value is None or self._value.shape != sample.shape or not 0 <= elapsed_ns <= GAP_NS:
            self._value, self._raw, self._speed = sample, sample, np.zeros_like(sample)
            self._time_ns = time_ns
            return sample.copy()
        assert self._raw is not None
        assert self._speed is not None
        if elapsed_ns == 0:
            return self._value.copy()
        seconds = elapsed_ns / 1e9
        speed = (sample - self._raw) / np.float32(seconds)
        self._speed = self._speed + _weight(self._d_cutoff, seconds) * (speed - self._speed)
        weight = _weight(self._min_cutoff + self._beta * np.abs(self._speed), seconds)
        self._value = self._value + weight * (sample - self._value)
        self._raw = sample
        self._time_ns = time_ns
        return self._value.copy()


def _weight(cutoff: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    """The share of the new sample in the output, in (0, 1), for a cut-off in hertz."""
    ratio = np.float32(2.0 * math.pi * seconds) * cutoff
    return np.asarray(ratio / (1.0 + ratio), np.float32)
