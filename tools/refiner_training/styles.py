"""Random styles for samples, so that networks trained on videos also repair paintings, drawings and statues.

All pictures of a sample get the same style. What a style adds to a place, such as grain, is the same in the warped and
the real frame, so that a network learns to keep it; the portrait has its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engines.types import Image


@dataclass(frozen=True, slots=True)
class Style:
    """A random style."""

    gains: tuple[float, float, float]
    gamma: float
    saturation: float
    blur: float
    """Standard deviation in samples."""
    grain: float
    """Standard deviation, 0 to 255."""
    coarse: float
    """Size of the grain, samples."""
    painterly: str
    """``""``, or the filter: ``median``, ``bilateral``, ``levels``, ``oil``."""

    @staticmethod
    def random(random: np.random.Generator) -> Style:
        """Return a style; one in three is plain but for its colours."""
        painted = random.random() < 0.22
        gains = np.exp(random.normal(0, 0.15) + random.normal(0, 0.08, 3))
        grey = random.random() < 0.08
        return Style(
            gains=(float(gains[0]), float(gains[1]), float(gains[2])),
            gamma=float(np.exp(random.normal(0, 0.18))),
            saturation=0.0 if grey else float(np.exp(random.normal(0, 0.25))),
            blur=float(random.uniform(0.4, 1.2)) if random.random() < 0.15 else 0.0,
            grain=float(random.uniform(2, 10)) if random.random() < 0.25 else 0.0,
            coarse=float(random.uniform(0.01, 1.2)),
            painterly=str(random.choice(["median", "bilateral", "levels", "oil"])) if painted else "",
        )


def styled(pictures: list[Image], style: Style, random: np.random.Generator) -> list[Image]:
    """Return pictures of equal size in a style. The last one is the portrait, which has grain of its own."""
    out = [_filtered(_coloured(picture, style), style) for picture in pictures]
    if style.grain:
        shared, own = (_grain(pictures[0].shape, style, random) for _ in range(2))
        last = len(out) - 1
        out = [_added(picture, own if k == last else shared) for k, picture in enumerate(out)]
    return out


def _coloured(picture: Image, style: Style) -> Image:
    table = np.linspace(0, 1, 256) ** style.gamma * 255
    tables = np.stack([np.clip(table * gain, 0, 255) for gain in style.gains], axis=1).astype(np.uint8)[None]
    toned = cv2.LUT(picture, tables)
    grey = cv2.cvtColor(cv2.cvtColor(toned, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(toned, style.saturation, grey, 1 - style.saturation, 0), np.uint8)


def _filtered(picture: Image, style: Style) -> Image:
    made: object = picture
    if style.painterly == "median":
        made = cv2.medianBlur(picture, 5)
    elif style.painterly == "bilateral":
        made = cv2.bilateralFilter(picture, 7, 40, 3)
    elif style.painterly == "levels":
        made = cv2.bilateralFilter(np.asarray((picture // 24) * 24 + 12, np.uint8), 5, 30, 2)
    elif style.painterly == "oil":
        # strokes: the mean of the calmest of four windows around a sample (Kuwahara's filter)
        made = _kuwahara(picture)
    if style.blur:
        made = cv2.GaussianBlur(np.asarray(made, np.uint8), (0, 0), style.blur)
    return np.asarray(made, np.uint8)


def _kuwahara(picture: Image, reach: int = 2) -> Image:
    values = picture.astype(np.float32)
    mean = cv2.blur(values, (reach + 1, reach + 1))
    spread = (cv2.blur(values * values, (reach + 1, reach + 1)) - mean * mean).sum(axis=2)
    half = reach // 2 + 1
    best, out = np.full(spread.shape, np.inf, np.float32), mean.copy()
    for dy in (-half, half):
        for dx in (-half, half):
            moved = np.roll(spread, (dy, dx), axis=(0, 1))
            calmer = moved < best
            best[calmer] = moved[calmer]
            out[calmer] = np.roll(mean, (dy, dx), axis=(0, 1))[calmer]
    return np.asarray(np.clip(out + 0.5, 0, 255), np.uint8)


def _grain(
    shape: tuple[int, ...], style: Style, random: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    noise = random.normal(0, 1, shape[:2]).astype(np.float32)
    if style.coarse > 0.3:
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), style.coarse), np.float32)
        noise /= max(float(noise.std()), 1e-6)
    return (style.grain * noise)[..., None]


def _added(picture: Image, grain: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Image:
    return np.asarray(np.clip(picture + grain + 0.5, 0, 255), np.uint8)
