"""Pictures on paper: charcoal with white chalk, and watercolour."""

from __future__ import annotations

import cv2
import numba
import numpy as np

from engines.types import Floats
from tools.assets.compiled import parallel
from tools.assets.images import blurred, grey, resampled
from tools.assets.oil import directions
from tools.assets.skin import noise


def paper(size: tuple[int, ...], scale: float, seed: int) -> Floats:
    """Return the relief of rough paper (H, W), mean 0, deviation 1."""
    rough = (
        0.55 * noise(size, 2.2 * scale, seed)
        + 0.5 * noise(size, 4.5 * scale, seed + 1)
        + 0.3 * noise(size, 11 * scale, seed + 2)
    )
    return np.asarray(rough / rough.std(), np.float32)


@parallel
def _smeared(values: Floats, along_x: Floats, along_y: Floats, steps: int) -> Floats:
    """Return values averaged along a field of directions: line integral convolution (Cabral and Leedom, 1993)."""
    height, width = values.shape
    out = np.zeros((height, width), np.float32)
    for i in numba.prange(height):
        for j in range(width):
            total, count = values[i, j], 1.0
            for way in (-1.0, 1.0):
                x, y, px, py = float(j), float(i), 0.0, 0.0
                for _ in range(steps):
                    a, b = min(max(int(y + 0.5), 0), height - 1), min(max(int(x + 0.5), 0), width - 1)
                    dx, dy = along_x[a, b], along_y[a, b]
                    if px == 0 and py == 0:
                        dx, dy = way * dx, way * dy
                    elif px * dx + py * dy < 0:
                        dx, dy = -dx, -dy
                    x, y, px, py = x + dx, y + dy, dx, dy
                    total += values[min(max(int(y + 0.5), 0), height - 1), min(max(int(x + 0.5), 0), width - 1)]
                    count += 1
            out[i, j] = total / count
    return out


def _step(low: float, high: float, x: Floats) -> Floats:
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def charcoal(
    image: Floats, cover: Floats, tone: tuple[float, float, float] = (0.76, 0.70, 0.61), seed: int = 1
) -> Floats:
    """Return an sRGB picture (H, W, 3), 0 to 1, drawn in charcoal and white chalk on toned paper."""
    height, width = size = image.shape[:2]
    scale = height / 960
    light_of = grey(image)
    low, high = np.percentile(light_of[cover > 0.9], (3, 97))
    light_of = np.clip((light_of - low) / (high - low), 0, 1).astype(np.float32)
    grain = paper(size, scale, seed)
    along = directions(image, 9 * scale)
    lines = _unit(_smeared(noise(size, 1.6 * scale, seed + 3), *along, round(18 * scale)))
    slant = np.full(size, np.cos(-0.9), np.float32), np.full(size, np.sin(-0.9), np.float32)
    hatch = _unit(_smeared(noise(size, 2.0 * scale, seed + 4), *slant, round(30 * scale)))
    y = np.mgrid[0:height, 0:width][0].astype(np.float32) / height
    ragged = _step(0.97, 0.80, y + 0.025 * hatch + 0.035 * noise(size, 120 * scale, seed + 6))
    inside = cover * ragged
    soft = blurred(light_of, 1.0 * scale)
    dark = _step(0.74, 0.05, soft)
    stroked = dark * np.clip(0.30 * lines + 0.30 * hatch * (1 - dark) + 0.20 * grain, -1.2, 1.2)
    edges = np.clip((blurred(light_of, 3.2 * scale) - blurred(light_of, 1.0 * scale)) * 4.5, 0, 1)
    contour = np.clip(edges * (0.9 + 0.35 * grain + 0.2 * lines), 0, 0.9)
    coal = np.clip(np.clip(0.80 * dark**1.35 + 0.42 * stroked, 0, 0.97) + contour * (1 - 0.5 * dark), 0, 0.97) * inside
    light = _step(0.66, 1.0, blurred(light_of, 2.2 * scale)) * inside * _step(0.93, 1.0, blurred(cover, 4 * scale))
    chalk = np.clip(light * (0.62 + 0.28 * hatch + 0.28 * grain), 0, 0.9)
    behind = (1 - cover) * _wall(height, width) * (0.20 + 0.55 * _step(-0.2, 2.2, hatch + 0.5 * grain))
    outline = np.clip(np.abs(blurred(cover, 1.2 * scale) - blurred(cover, 3.5 * scale)) * 2.2, 0, 0.75) * ragged
    coal = np.maximum(np.maximum(coal, behind), outline * (0.8 + 0.3 * grain))
    ground = np.array(tone, np.float32) * (1 + 0.022 * grain + 0.02 * noise(size, 140 * scale, seed + 5))[..., None]
    ground = ground + (np.array([0.11, 0.10, 0.095], np.float32) - ground) * coal[..., None]
    result = ground + (np.array([0.985, 0.97, 0.94], np.float32) - ground) * chalk[..., None]
    return np.asarray(np.clip(result, 0, 1), np.float32)


def _unit(values: Floats) -> Floats:
    return np.asarray(values / values.std(), np.float32)


def _wall(height: int, width: int) -> Floats:
    """Return the shade behind a head: darker on the lit side, as draughtsmen do."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.asarray(np.exp(-(((x / width - 0.25) / 0.2) ** 2) - ((y / height - 0.45) / 0.35) ** 2), np.float32)


@parallel
def _kuwahara(image: Floats, mean: Floats, square: Floats, radius: int) -> Floats:
    """Return the mean of the calmest of four squares at each pixel; ``mean`` and ``square`` are box means of size
    r+1."""
    height, width, channels = image.shape
    out = np.empty_like(image)
    half = radius // 2
    for i in numba.prange(height):
        for j in range(width):
            total = 0.0
            acc = np.zeros(3, np.float32)
            for a in (-half, half):
                for b in (-half, half):
                    y, x = min(max(i + a, 0), height - 1), min(max(j + b, 0), width - 1)
                    spread = 0.0
                    for c in range(channels):
                        spread += max(square[y, x, c] - mean[y, x, c] ** 2, 0.0)
                    weight = 1.0 / (1e-5 + spread) ** 2
                    total += weight
                    for c in range(channels):
                        acc[c] += weight * mean[y, x, c]
            for c in range(channels):
                out[i, j, c] = acc[c] / total
    return out


def kuwahara(image: Floats, radius: int) -> Floats:
    """Return an image flattened into patches with sharp edges (Kuwahara et al., 1976, with soft weights)."""
    size = (radius + 1, radius + 1)
    mean, square = (np.asarray(cv2.blur(each, size), np.float32) for each in (image, image * image))
    return _kuwahara(image, mean, square, radius)


def _denser(colour: Floats, density: Floats) -> Floats:
    """Return a colour under more or less pigment: Bousseau et al., "Interactive watercolor rendering" (2006)."""
    return np.asarray(colour - (colour - colour * colour) * (density - 1)[..., None], np.float32)


def watercolour(
    image: Floats, cover: Floats, detail: Floats, tint: tuple[float, float, float] = (0.55, 0.70, 0.76), seed: int = 1
) -> Floats:
    """Return an sRGB picture (H, W, 3), 0 to 1, painted in watercolour on white paper.

    ``detail`` (H, W) is 1 on eyes and lips; ``tint`` is the colour of the wash behind.
    """
    height, width = size = image.shape[:2]
    scale = height / 960
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    shift = [noise(size, 30 * scale, seed + k) * 1.8 * scale * (1 - 0.85 * detail) for k in (0, 1)]
    bent = resampled(image, x + shift[0], y + shift[1])
    mask = resampled(cover, x + 1.5 * shift[0], y + 1.5 * shift[1])
    coarse = kuwahara(kuwahara(bent, round(11 * scale)), round(8 * scale))
    fine = kuwahara(bent, max(2, round(3 * scale)))
    mix = np.clip(0.18 + detail, 0, 1)[..., None]
    washed = _vivid(coarse * (1 - mix) + fine * mix, 1.35, 0.80)
    light = grey(washed)
    level = blurred(light, 3 * scale) * 6 + 0.12 * noise(size, 40 * scale, seed + 2)
    flat = (np.floor(level) + _step(0.25, 0.75, level - np.floor(level))) / 6
    toned = washed * np.clip(0.72 + 0.28 * flat / np.maximum(blurred(light, 3 * scale), 0.05), 0.6, 1.25)[..., None]
    toned = np.clip(toned, 0.02, 0.985).astype(np.float32)
    grain = paper(size, scale, seed + 3)
    turbulence = noise(size, 130 * scale, seed + 4) + 0.6 * noise(size, 45 * scale, seed + 5)
    # the paint ends in a wet edge above the picture's own
    low = y / height + 0.020 * noise(size, 60 * scale, seed + 6) + 0.012 * noise(size, 18 * scale, seed + 7)
    washes = mask * _step(0.905, 0.895, low + 0.35 * np.abs(x / width - 0.5) ** 2)
    edge = np.abs(blurred(grey(toned), 1.0 * scale) - blurred(grey(toned), 4.0 * scale))
    rim = np.abs(washes - blurred(washes, 4.5 * scale))
    density = 1 + 2.2 * np.clip(edge, 0, 0.3) + 0.12 * turbulence + 0.07 * grain + 0.85 * rim
    sheet = np.array([0.98, 0.97, 0.945], np.float32) * (1 + 0.012 * grain)[..., None]
    wall = _wash(size, scale, seed)
    wet = np.abs(wall - blurred(wall, 5 * scale))
    behind = sheet * (1 - wall[..., None] * (1 - np.array(tint, np.float32)))
    behind = _denser(behind.astype(np.float32), 1 + 1.1 * wet + (0.12 * turbulence + 0.05 * grain) * wall)
    result = behind * (1 - washes[..., None]) + _denser(toned, density) * sheet * washes[..., None]
    return np.asarray(np.clip(result, 0, 1), np.float32)


def _vivid(image: Floats, saturation: float, gamma: float) -> Floats:
    """Return an image with stronger and lighter colours."""
    lighter = np.clip(image, 0, 1) ** gamma
    grey = lighter.mean(-1, keepdims=True)
    return np.asarray(np.clip(grey + (lighter - grey) * saturation, 0, 1), np.float32)


def _wash(size: tuple[int, ...], scale: float, seed: int) -> Floats:
    """Return a loose wash behind a head, (H, W)."""
    height, width = size[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    away = np.hypot((x / width - 0.5) / 0.40, (y / height - 0.45) / 0.47)
    away = away + 0.10 * noise(size, 130 * scale, seed + 20) + 0.03 * noise(size, 32 * scale, seed + 21)
    cloud = noise((height // 8, width // 8), 12 * scale, seed + 22)
    smooth = np.asarray(
        cv2.resize(blurred(cloud, 5 * scale), (width, height), interpolation=cv2.INTER_CUBIC), np.float32
    )
    depth = 0.36 + 0.17 * _unit(smooth)
    return np.asarray(_step(1.01, 0.995, away) * np.clip(depth, 0.08, 0.8), np.float32)
