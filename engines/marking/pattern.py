"""The watermark's pattern: one square tile, repeated over the frame, made of waves of middle length.

A tile is a sum of ``len(waves)`` plane waves of known phase that are periodic in it. Some, the pilot, are always the
same: they tell where the tile is and how large. The others carry the coded bits, each several of them, in their signs.
(Spread spectrum: Cox et al., IEEE Trans. Image Processing 6, 1997; periodic tiles against cropping and scaling: Kutter,
SPIE 3528, 1998.)

The side of a tile is ``TILE`` times the shorter side of the frame, so that scaling a frame does not change it.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.marking.payload import CODED, Payload, encode

DEFAULT_KEY = "reenact"
"""The public key, which anyone can check."""
TILE = 128 / 360
"""The side of a tile, as a share of the frame's shorter side."""
MIN_TILE = 64
"""The smallest tile in pixels, so that all waves fit in."""
LONGEST, SHORTEST = 7, 26
"""The waves' numbers of periods in a tile, least and most: 10 to 37 pixels at 1280x720."""
PILOT = 0.3
"""The share of waves that belong to the pilot."""


@dataclass(frozen=True, slots=True)
class Waves:
    """The waves of a key, W of them, in a fixed order."""

    x: NDArray[np.intp]
    """(W,) periods across a tile, negative too."""
    y: NDArray[np.intp]
    """(W,) periods down a tile, 0 or more."""
    phase: NDArray[np.complex64]
    """(W,) of size 1."""
    bit: NDArray[np.intp]
    """(W,) which coded bit a wave carries; -1 for the pilot."""


@functools.lru_cache(maxsize=4)
def waves(key: str = DEFAULT_KEY) -> Waves:
    """Return the waves of a key. The random numbers are those of MT19937, which stay the same for all time."""
    seed = np.frombuffer(hashlib.sha256(key.encode()).digest(), np.uint32)
    random = np.random.RandomState(seed.astype(np.int64))
    across, down = np.meshgrid(np.arange(-SHORTEST, SHORTEST + 1), np.arange(SHORTEST + 1))
    radius = np.hypot(across, down)
    half = (down > 0) | (across > 0)
    inside = half & (radius >= LONGEST) & (radius <= SHORTEST)
    x, y = across[inside], down[inside]
    order = random.permutation(len(x))
    x, y = x[order], y[order]
    phase = np.exp(2j * np.pi * random.random_sample(len(x))).astype(np.complex64)
    bit = np.full(len(x), -1, np.intp)
    first = round(PILOT * len(x))
    bit[first:] = np.arange(len(x) - first) % CODED
    return Waves(x, y, phase, bit)


def tile_side(size: tuple[int, int]) -> int:
    """Return the side of the tile in pixels for frames of that width and height."""
    return max(MIN_TILE, round(TILE * min(size)))


def tile(payload: Payload, side: int, key: str = DEFAULT_KEY) -> NDArray[np.float32]:
    """Return the tile of a payload, (side, side) float32, of mean 0 and standard deviation 1."""
    of = waves(key)
    sign = np.where(of.bit < 0, 1, encode(payload)[of.bit])
    spectrum = np.zeros((side, side), np.complex64)
    spectrum[of.y, of.x] = of.phase * sign
    picture = np.fft.ifft2(spectrum).real
    return np.asarray(picture / picture.std(), np.float32)
