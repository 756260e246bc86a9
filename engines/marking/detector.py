"""Finds a watermark: the place and scale of its tiles by the pilot, then its payload.

Frames are brought to one height and whitened, so that what the picture itself shows disturbs less, and added up. For
each scale in question the tiles are laid over one another and compared with the pilot at every place at once, by a
Fourier transform. The greatest correlation, in standard deviations of what an unmarked picture gives at one place, is
the statistic that decides.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.marking.pattern import DEFAULT_KEY, LONGEST, SHORTEST, TILE, waves
from engines.marking.payload import CODED, Payload, decode, encode
from engines.types import Floats

Spectrum = NDArray[np.complex64]

HEIGHT = 360
"""The shorter side to which pictures are brought."""
SIDE = round(TILE * HEIGHT)
"""The side of a tile there, if the picture is whole."""
SMALLEST, LARGEST = 0.5, 1.75
"""The range of scales that are tried: a frame that fills half the picture, one cropped to 57 %."""
STEP = 0.005
"""Two scales differ by this share: at the edge of a picture that is less than a third of the shortest wave."""
FOUND = 10.0
"""A statistic above this is a watermark, whether its payload can be read or not."""
SUSPECTED = 6.0
"""A statistic above this is a watermark if a payload with the right checksum can be read there."""
TAIL = (4.84, 0.01, 0.2)
"""Of an unmarked picture at one scale: a threshold, how often the statistic exceeds it, and the mean excess there, as
tools.bench_marking fits them. Beyond it the excess is taken as exponential."""
CHECKSUM_CHANCE = 2.0**-16
"""The probability that noise has the right checksum."""
_FINE, _COARSE = 3.5, 6.0
"""Deviations of the Gaussians that are taken away from a picture, and that its local contrast is measured with."""
_NOISE = 0.3
"""Variance of the noise of a flat picture, in levels of luma squared."""
_CLIP = 2.5
_RINGS = 5


@dataclass(frozen=True, slots=True)
class Detection:
    """What was found in one picture or several frames."""

    statistic: float
    """Correlation with the pilot, in standard deviations."""
    payload: Payload | None
    scale: float
    """Size of the tiles over that in a whole frame."""
    mirrored: bool
    place: tuple[float, float]
    """Where a tile begins, x and y as shares of a tile's side."""

    @property
    def marked(self) -> bool:
        """Whether there is a watermark."""
        return self.statistic >= FOUND or (self.payload is not None and self.statistic >= SUSPECTED)

    @property
    def false_alarm(self) -> float:
        """The probability that an unmarked picture looks marked to this degree."""
        return tail_probability(self.statistic) * (1.0 if self.payload is None else CHECKSUM_CHANCE)


def tail_probability(statistic: float) -> float:
    """Return the probability that the statistic of an unmarked picture exceeds a value."""
    threshold, share, excess = TAIL
    if statistic <= threshold:
        return 1.0
    return min(1.0, len(_scales()) * share * math.exp((threshold - statistic) / excess))


def whiten(luma: NDArray[np.uint8]) -> Floats:
    """Return a picture, (H, W) uint8, at the height for detection, without what is coarse and of even contrast."""
    height, width = luma.shape
    scale = HEIGHT / min(luma.shape)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    grey = cv2.resize(luma, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    fine = grey.astype(np.float32)
    fine -= cv2.GaussianBlur(fine, (0, 0), _FINE, borderType=cv2.BORDER_REFLECT)
    power = cv2.GaussianBlur(fine * fine, (0, 0), _COARSE, borderType=cv2.BORDER_REFLECT)
    fine /= np.sqrt(power + _NOISE)
    return np.clip(fine, -_CLIP, _CLIP, out=fine)


class Detector:
    """Looks for the watermark of one key. ``add`` frames that follow one another, then ``detect``."""

    def __init__(self, key: str = DEFAULT_KEY) -> None:
        self._waves = waves(key)
        self._pilots = self._pilot(False), self._pilot(True)
        self._sum: Floats | None = None
        self._hint: float | None = None

    def add(self, luma: NDArray[np.uint8]) -> None:
        """Add a frame, (H, W) uint8 luma. One of another size replaces those before."""
        picture = whiten(luma)
        if self._sum is None or self._sum.shape != picture.shape:
            self._sum = picture
        else:
            self._sum += picture

    def clear(self) -> None:
        """Forget the frames, but not at which scale the last watermark was."""
        self._sum = None

    def detect(self) -> Detection:
        """Return what the frames contain. Takes up to two seconds where the scale is unknown."""
        if self._sum is None:
            return Detection(0.0, None, 1.0, False, (0.0, 0.0))
        for scale in (1.0, self._hint):
            if scale is not None and (likely := self._at(self._sum, scale)).payload and likely.marked:
                return likely
        found = max(self._at_all_scales(self._sum), key=lambda each: each.statistic)
        nearby = (self._at(self._sum, found.scale * (1 + STEP * share)) for share in (-0.5, -0.25, 0.0, 0.25, 0.5))
        found = max(nearby, key=lambda each: each.statistic)
        if found.marked:
            self._hint = found.scale
        return found

    def profile(self) -> NDArray[np.float64]:
        """Return the statistic at each scale, (scales,) float64."""
        assert self._sum is not None
        return np.array([each.statistic for each in self._at_all_scales(self._sum)])

    def map(self, found: Detection) -> Floats:
        """Return where the watermark is, (h, w) float32 of the picture's shape: about 1 where it is whole, 0 without.

        It is the correlation of the frames with the pattern that was found, around each point.
        """
        assert self._sum is not None
        height, width = self._sum.shape
        pattern = self._pattern(found)
        rows, columns = (math.ceil(side / found.scale / SIDE) for side in (height, width))
        size = round(columns * SIDE * found.scale), round(rows * SIDE * found.scale)
        laid = cv2.resize(np.tile(pattern, (rows, columns)), size)[:height, :width]
        local = cv2.GaussianBlur(laid * self._sum, (0, 0), 18)
        power = cv2.GaussianBlur(self._sum**2, (0, 0), 18) * cv2.GaussianBlur(laid**2, (0, 0), 18)
        return np.asarray(local / np.sqrt(power + 1e-6), np.float32)

    def _pattern(self, found: Detection) -> Floats:
        """Return the tile that was found, where it was found, (SIDE, SIDE) float32."""
        of = self._waves
        sign = np.where(of.bit < 0, 1.0, 0.0 if found.payload is None else encode(found.payload)[of.bit])
        across = -of.x if found.mirrored else of.x
        x, y = found.place
        spectrum = np.zeros((SIDE, SIDE), np.complex64)
        spectrum[of.y, across] = of.phase * sign * np.exp(-2j * np.pi * (across * x + of.y * y))
        return np.asarray(np.fft.ifft2(spectrum).real, np.float32)

    def _at_all_scales(self, picture: Floats) -> Iterator[Detection]:
        return (self._at(picture, scale, read=False) for scale in _scales())

    def _at(self, picture: Floats, scale: float, *, read: bool = True) -> Detection:
        """Return what the picture contains at a scale, with its payload if it is to be read and above all noise."""
        spectrum = _flatten(np.fft.fft2(_fold(picture, scale)).astype(np.complex64))
        fits = [self._correlate(spectrum, mirrored) for mirrored in (False, True)]
        mirrored = bool(fits[1].max() > fits[0].max())
        fit = fits[mirrored]
        best = float(fit.max())
        x, y = _peak(fit)
        payload = self._read(spectrum, x, y, mirrored) if read and best >= SUSPECTED else None
        return Detection(best, payload, scale, mirrored, (x / SIDE, y / SIDE))

    def _correlate(self, spectrum: Spectrum, mirrored: bool) -> Floats:
        """Return the correlation with the pilot at each place, (SIDE, SIDE) float32, in standard deviations."""
        count = np.count_nonzero(self._waves.bit < 0)
        sums = np.fft.ifft2(spectrum * self._pilots[mirrored]).real * (SIDE * SIDE)
        # the real part of a wave of power 1 and unknown phase has the variance 1/2
        return np.asarray(sums / math.sqrt(count / 2), np.float32)

    def _pilot(self, mirrored: bool) -> Spectrum:
        """Return the conjugate of the pilot's spectrum, (SIDE, SIDE) complex64."""
        of = self._waves
        belongs = of.bit < 0
        across = -of.x if mirrored else of.x
        spectrum = np.zeros((SIDE, SIDE), np.complex64)
        spectrum[of.y[belongs], across[belongs]] = of.phase[belongs].conj()
        return spectrum

    def _read(self, spectrum: Spectrum, x: float, y: float, mirrored: bool) -> Payload | None:
        """Return the payload of a tile that begins at (x, y), in pixels; None if it cannot be read.

        How much of the waves is left at each length is estimated from the pilot.
        """
        of = self._waves
        across = -of.x if mirrored else of.x
        turned = np.exp(2j * np.pi * (across * x + of.y * y) / SIDE)
        values = (spectrum[of.y, across] * turned * of.phase.conj()).real
        ring = ((np.hypot(of.x, of.y) - LONGEST) * _RINGS / (SHORTEST - LONGEST + 1e-3)).astype(np.intp)
        belongs = of.bit < 0
        sums = np.bincount(ring[belongs], values[belongs], _RINGS)
        gains = np.maximum(sums / np.bincount(ring[belongs], minlength=_RINGS), 0.02)
        soft = np.bincount(of.bit[~belongs], (values * gains[ring])[~belongs], CODED)
        return decode(soft.astype(np.float32))


@functools.cache
def _scales() -> tuple[float, ...]:
    """Return the scales that are tried."""
    steps = round(math.log(LARGEST / SMALLEST) / STEP)
    return tuple(SMALLEST * math.exp(STEP * step) for step in range(steps + 1))


def _fold(picture: Floats, scale: float) -> Floats:
    """Return the sum of a picture's tiles of a scale, (SIDE, SIDE) float32."""
    height, width = picture.shape
    if scale != 1:
        size = max(1, round(width / scale)), max(1, round(height / scale))
        matrix = np.array([[1 / scale, 0, 0], [0, 1 / scale, 0]], np.float32)
        picture = np.asarray(cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR), np.float32)
    rows, columns = (math.ceil(side / SIDE) for side in picture.shape)
    padded = np.zeros((rows * SIDE, columns * SIDE), np.float32)
    padded[: picture.shape[0], : picture.shape[1]] = picture
    return np.asarray(padded.reshape(rows, SIDE, columns, SIDE).sum((0, 2)), np.float32)


def _flatten(spectrum: Spectrum) -> Spectrum:
    """Return a spectrum, each wave divided by the mean power of the waves around it."""
    around, margin = 7, 4
    power = np.pad(np.abs(spectrum) ** 2, margin, mode="wrap")
    local = cv2.blur(power, (around, around))[margin:-margin, margin:-margin]
    return np.asarray(spectrum / np.sqrt(local + 1e-9), np.complex64)


def _peak(correlation: Floats) -> tuple[float, float]:
    """Return where a correlation is greatest, x and y, to a fraction of a pixel."""
    y, x = (int(each) for each in np.unravel_index(int(correlation.argmax()), correlation.shape))
    before_x, after_x = correlation[y, x - 1], correlation[y, (x + 1) % SIDE]
    before_y, after_y = correlation[y - 1, x], correlation[(y + 1) % SIDE, x]
    here = correlation[y, x]
    return x + _vertex(before_x, here, after_x), y + _vertex(before_y, here, after_y)


def _vertex(before: float, here: float, after: float) -> float:
    """Return the vertex of the parabola through three values at -1, 0 and 1."""
    bend = before - 2 * here + after
    return 0.0 if bend == 0 else float(0.5 * (before - after) / bend)
