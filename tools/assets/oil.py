"""Pictures painted in oil: curved brush strokes in layers, from coarse to fine, and the relief of the paint.

After Hertzmann, "Painterly rendering with curved brush strokes of multiple sizes" (1998).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Floats
from tools.assets.images import blurred, draw_line, grey
from tools.assets.skin import noise


class Brushes(NamedTuple):
    """Radii of the brushes in pixels of a picture 960 high, from coarse to fine, and how each one is used.

    ``error`` is the difference of colour (0 to 1) above which a stroke is laid; ``relief`` how much the paint stands
    out.
    """

    radii: tuple[float, ...] = (24, 12, 6, 3, 1.6)
    error: tuple[float, ...] = (0.0, 0.07, 0.045, 0.035, 0.03)
    longest: int = 12
    relief: float = 0.5
    vary: float = 0.035
    canvas: float = 0.25
    seed: int = 1


def directions(image: Floats, sigma: float) -> tuple[Floats, Floats]:
    """Return the unit directions (H, W) along the edges of an image: the structure tensor's minor axis.

    Where there is no edge they wander.
    """
    light = grey(image)
    gx, gy = (np.asarray(cv2.Scharr(light, cv2.CV_32F, *axis), np.float32) for axis in ((1, 0), (0, 1)))
    xx, yy, xy = (blurred(part, sigma) for part in (gx * gx, gy * gy, gx * gy))
    size = image.shape[:2]
    wander = 2.5 * noise(size, size[0] / 7, 5)
    calm = 2e-4 * float(np.mean(xx + yy)) + 2e-3
    xx, xy, yy = (
        xx + calm * np.sin(wander) ** 2,
        xy + calm * np.sin(wander) * np.cos(wander),
        yy + calm * np.cos(wander) ** 2,
    )
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def _stroke(
    x: float,
    y: float,
    radius: float,
    colour: Floats,
    reference: Floats,
    canvas: Floats,
    along: tuple[Floats, Floats],
    longest: int,
) -> NDArray[np.float32]:
    """Return the points of a stroke from (x, y): it follows the edges while its colour fits better than the canvas."""
    height, width = reference.shape[:2]
    points = [(x, y)]
    dx, dy = 0.0, 0.0
    for step in range(longest):
        i, j = int(y), int(x)
        if step > 2 and np.abs(reference[i, j] - canvas[i, j]).sum() < np.abs(reference[i, j] - colour).sum():
            break
        nx, ny = float(along[0][i, j]), float(along[1][i, j])
        if dx * nx + dy * ny < 0:
            nx, ny = -nx, -ny
        if step:
            nx, ny = 0.6 * nx + 0.4 * dx, 0.6 * ny + 0.4 * dy
            size = (nx * nx + ny * ny) ** 0.5 + 1e-6
            nx, ny = nx / size, ny / size
        x, y, dx, dy = x + radius * nx, y + radius * ny, nx, ny
        if not (0 <= x < width and 0 <= y < height):
            break
        points.append((x, y))
    return np.array(points, np.float32)


def _lay(
    canvas: Floats, relief: Floats, points: NDArray[np.float32], radius: float, colour: Floats, rng: np.random.Generator
) -> None:
    """Draw a stroke as bristles side by side, each a little lighter or darker, and add to the relief."""
    ahead = np.gradient(points, axis=0) if len(points) > 1 else np.array([[1.0, 0.0]], np.float32)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-6
    aside = np.stack([-ahead[:, 1], ahead[:, 0]], -1)
    count = max(1, int(radius / 1.6))
    tall = float(rng.uniform(0.5, 1))
    taper = np.ones(len(points), np.float32)
    if len(points) > 3:
        taper[-1], taper[-2] = 0.45, 0.8
    for bristle in range(count):
        off = (bristle + 0.5) / count * 2 - 1
        path = points + aside * (off * radius * 0.9 * taper)[:, None]
        shade = float(rng.normal(0, 0.018)) if count > 1 else 0.0
        thick = max(1, round(2 * radius / count * 1.25))
        draw_line(canvas, path, (colour + shade).tolist(), thick)
        edge = 1.0 if abs(off) > 0.75 else float(rng.uniform(0.3, 0.8))
        draw_line(relief, path, tall * edge, thick)


def oil(image: Floats, detail: Floats, brushes: Brushes) -> Floats:
    """Return an sRGB picture (H, W, 3), 0 to 1, painted in oil. ``detail`` (H, W) is 1 where fine strokes are
    wanted."""
    rng = np.random.default_rng(brushes.seed)
    height, width = image.shape[:2]
    scale = height / 960
    ground = blurred(image, 60 * scale) * 0.75 + np.array([0.10, 0.07, 0.05], np.float32)
    canvas, relief = np.ascontiguousarray(ground, np.float32), np.zeros((height, width), np.float32)
    for radius, error in zip(brushes.radii, brushes.error, strict=True):
        size = radius * scale
        reference = blurred(image, max(0.45 * size, 0.4))
        along = directions(reference, 1.2 * size + 1)
        step = max(1, round(0.75 * size))
        off = np.sqrt(((canvas - reference) ** 2).sum(-1))
        off = blurred(off, 0.5 * size) * (1 + 1.5 * detail)
        if radius < 4:
            off = off * ((0.5 if radius > 2 else 0.12) + detail)
        ys, xs = np.mgrid[step // 2 : height : step, step // 2 : width : step]
        places = np.stack([xs.ravel(), ys.ravel()], -1).astype(np.float32)
        places += rng.uniform(-0.5, 0.5, places.shape).astype(np.float32) * step
        places = places.clip(0, [width - 1, height - 1])
        rng.shuffle(places)
        for x, y in places.tolist():
            if off[int(y), int(x)] < error:
                continue
            colour = reference[int(y), int(x)]
            tint = rng.normal(0, 1, 3) * [1, 0.7, 0.9] * (0.3 + 1.2 * float(colour.mean()))
            colour = colour * (1 + rng.normal(0, 0.05)) + brushes.vary * min(1, radius / 10) * tint
            path = _stroke(x, y, size, colour, reference, canvas, along, brushes.longest)
            _lay(canvas, relief, path, size, colour.astype(np.float32), rng)
    return _lit_relief(np.clip(canvas, 0, 1), relief, brushes, scale)


def _lit_relief(canvas: Floats, relief: Floats, brushes: Brushes, scale: float) -> Floats:
    """Return paint lit from the upper left: its own relief, and the weave of the canvas."""
    height, width = relief.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    pitch = 4.2 * scale
    weave = (
        np.sin(x * 2 * np.pi / pitch) * np.sin(y * 2 * np.pi / pitch) * (1 + 0.3 * noise((height, width), 5 * scale, 3))
    )
    surface = blurred(relief, 0.9 * scale) + 0.12 * brushes.canvas * weave
    lit = (np.gradient(surface, axis=1) + np.gradient(surface, axis=0)) * brushes.relief * scale
    glint = 0.25 * np.clip(lit - 0.05, 0, 0.2)[..., None]
    return np.asarray(np.clip(canvas * (1 + np.clip(lit, -0.3, 0.3))[..., None] + glint, 0, 1), np.float32)
