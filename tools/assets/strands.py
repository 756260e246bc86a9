"""Strands of hair: their shadows, their shading and how they are drawn.

Shadows come from deep opacity maps (Yuksel and Keyser, 2008); the shading is Kajiya and Kay's (1989) with the two
shifted highlights of Scheuermann, "Hair rendering and shading" (2004). Segments are drawn from back to front, each
pixel blended by how much of it the segment covers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from engines.types import Floats
from tools.assets.compiled import kernel, parallel
from tools.assets.face_model import Ints
from tools.assets.hair import Strands
from tools.assets.light import SHADOW_SIZE, SHADOW_SPAN, Studio, light_axes, light_view
from tools.assets.raster import Camera, shadow_map
from tools.assets.shade import lamp_table

LAYERS = 12
THICKNESS = 0.4
"""The number of layers of an opacity map, and the depth of each in cm."""


@kernel
def _opacity(points: Floats, width: Floats, size: int, scale: float, layers: int, thickness: float) -> Floats:
    """Return where hair begins, then the optical depth up to each layer, (1 + layers, size, size)."""
    maps = np.zeros((1 + layers, size, size), np.float32)
    maps[0] = 1e6
    for turn in range(2):
        for i in range(points.shape[0]):
            for k in range(points.shape[1] - 1):
                fx, fy, depth = points[i, k, 0] - 0.5, points[i, k, 1] - 0.5, points[i, k, 2]
                ix, iy = math.floor(fx), math.floor(fy)
                if ix < 1 or iy < 1 or ix >= size - 2 or iy >= size - 2:
                    continue
                if turn == 0:
                    for b in range(-1, 3):
                        for a in range(-1, 3):
                            maps[0, iy + b, ix + a] = min(maps[0, iy + b, ix + a], depth)
                    continue
                dx, dy = points[i, k + 1, 0] - points[i, k, 0], points[i, k + 1, 1] - points[i, k, 1]
                dz = (points[i, k + 1, 2] - depth) * scale
                block = math.sqrt(dx * dx + dy * dy + dz * dz) * width[i, k] * scale
                for b in range(2):
                    for a in range(2):
                        weight = (fx - ix if a else 1.0 - fx + ix) * (fy - iy if b else 1.0 - fy + iy)
                        layer = int((depth - maps[0, iy + b, ix + a]) / thickness)
                        maps[1 + min(max(layer, 0), layers - 1), iy + b, ix + a] += weight * block
    for n in range(2, layers + 1):
        maps[n] += maps[n - 1]
    return maps


@parallel
def _lit(seen: Floats, maps: Floats, depth: Floats, thickness: float) -> Floats:
    """Return the share of a lamp's light that reaches points (N, 3) in its view."""
    size = depth.shape[0]
    out = np.ones(seen.shape[0], np.float32)
    for i in numba.prange(seen.shape[0]):
        fx, fy, z = seen[i, 0] - 0.5, seen[i, 1] - 0.5, seen[i, 2]
        ix, iy = math.floor(fx), math.floor(fy)
        if ix < 0 or iy < 0 or ix >= size - 1 or iy >= size - 1:
            continue
        stops, free = 0.0, 0.0
        for b in range(2):
            for a in range(2):
                weight = (fx - ix if a else 1.0 - fx + ix) * (fy - iy if b else 1.0 - fy + iy)
                layer = (z - maps[0, iy + b, ix + a]) / thickness
                k = min(max(int(layer), 0), maps.shape[0] - 2)
                low = maps[k, iy + b, ix + a] if k > 0 else 0.0
                stops += weight * (low + (maps[k + 1, iy + b, ix + a] - low) * min(max(layer - k, 0.0), 1.0))
                behind = z - depth[iy + b, ix + a]
                free += weight * min(max(1.0 - (behind - 0.3) / 0.8, 0.0), 1.0)
        out[i] = free * math.exp(-0.8 * stops)
    return out


@kernel
def _lobe(t: Floats, n: Floats, h: Floats, shift: float, power: float) -> float:
    """Return the highlight of a strand whose tangent is tilted by ``shift`` towards the normal."""
    sx, sy, sz = t[0] + shift * n[0], t[1] + shift * n[1], t[2] + shift * n[2]
    m = 1.0 / (math.sqrt(sx * sx + sy * sy + sz * sz) + 1e-9)
    th = (sx * h[0] + sy * h[1] + sz * h[2]) * m
    return math.pow(max(1.0 - th * th, 0.0), 0.5 * power)


@parallel
def _shade(
    points: Floats, colour: Floats, gloss: Floats, lit: Floats, lamps: Floats, sky: Floats, middle: Floats, eye: Floats
) -> Floats:
    """Return the light (n, k, 3) from every vertex; ``lit`` is (lamps + 1, n, k), the last one for the sky."""
    count, steps = points.shape[0], points.shape[1]
    out = np.zeros((count, steps, 3), np.float32)
    for i in numba.prange(count):
        jitter = 0.14 * (gloss[i] / 1.0 - 1.0) if gloss[i] > 0.5 else 0.0
        for k in range(steps):
            p = points[i, k]
            t = points[i, min(k + 1, steps - 1)] - points[i, max(k - 1, 0)]
            t = t / (math.sqrt((t * t).sum()) + 1e-9)
            n = p - middle
            n[1] = 0.75 * (p[1] - max(min(p[1], middle[1]), middle[1] - 20))
            n = n / (math.sqrt((n * n).sum()) + 1e-9)
            v = eye - p
            v = v / math.sqrt((v * v).sum())
            for m in range(lamps.shape[0]):
                d = lamps[m, :3]
                tl = t[0] * d[0] + t[1] * d[1] + t[2] * d[2]
                facing = n[0] * d[0] + n[1] * d[1] + n[2] * d[2]
                form = min(max((facing + 0.4) / 1.3, 0.0), 1.0)
                form = 0.2 + 0.8 * form * form * (3 - 2 * form)
                h = d + v
                h = h / (math.sqrt((h * h).sum()) + 1e-9)
                own = 6.28 / lamps[m, 6]
                diffuse = 0.42 * math.sqrt(max(1.0 - tl * tl, 0.0)) * form
                first = form * _lobe(t, n, h, -0.1 + jitter, 90.0)
                second = form * _lobe(t, n, h, 0.16 + jitter, 20.0)
                for c in range(3):
                    tint = colour[i, c] * (0.15 + 1.1 * colour[i, c])
                    shine = gloss[i] * (0.045 * first + 1.3 * second * tint)
                    out[i, k, c] += lit[m, i, k] * own * lamps[m, 3 + c] * (diffuse * colour[i, c] + shine)
            up = 0.5 + 0.5 * n[1]
            for c in range(3):
                around = up * sky[0, c] + (1 - up) * sky[1, c]
                out[i, k, c] += colour[i, c] * around * (0.12 + 0.8 * lit[lamps.shape[0], i, k])
    return out


class HairShadows(NamedTuple):
    """For each lamp, and last for the sky: the view along its light, the hair's opacity in it, the depth of the
    head."""

    axes: list[Floats]
    opacity: list[Floats]
    depth: list[Floats]
    studio: Studio


def hair_shadows(hair: Strands, studio: Studio, points: Floats, corners: Ints) -> HairShadows:
    """Return the shadows of ``hair`` and of a head on strands."""
    above = np.array([0.0, 0.75, 0.66], np.float32)
    scale = SHADOW_SIZE / SHADOW_SPAN
    axes = [light_axes(direction) for direction in [*(lamp.direction() for lamp in studio.lamps), above]]
    seen = [light_view(hair.points.reshape(-1, 3), a).reshape(hair.points.shape) for a in axes]
    opacity = [_opacity(view, hair.width, SHADOW_SIZE, scale, LAYERS, THICKNESS) for view in seen]
    return HairShadows(axes, opacity, [shadow_map(light_view(points, a), corners, SHADOW_SIZE) for a in axes], studio)


def shade_strands(strands: Strands, shadows: HairShadows, camera: Camera) -> Floats:
    """Return the light (n, k, 3) from strands."""
    studio = shadows.studio
    lit = np.empty((len(shadows.axes), *strands.points.shape[:2]), np.float32)
    for row, axes, maps, depth in zip(lit, shadows.axes, shadows.opacity, shadows.depth, strict=True):
        row[...] = _lit(light_view(strands.points.reshape(-1, 3), axes), maps, depth, THICKNESS).reshape(row.shape)
    eye = np.array([camera.x, camera.y, camera.z + camera.distance], np.float32)
    middle = np.array([0, 5.5, 0], np.float32)
    sky = np.array([studio.sky, studio.ground], np.float32)
    lamps = lamp_table(studio)[: len(studio.lamps)]
    return np.asarray(_shade(strands.points, strands.colour, strands.gloss, lit, lamps, sky, middle, eye), np.float32)


@kernel
def _draw(
    image: Floats,
    cover: Floats,
    hairs: Floats,
    depth: Floats,
    pixels: Floats,
    width: Floats,
    light: Floats,
    order: NDArray[np.int64],
    scale: float,
) -> None:
    """Blend strand segments, in ``order``, into ``image`` (H, W, 3), ``cover`` and ``hairs`` (H, W) where nothing is
    nearer."""
    height, wide = depth.shape
    steps = pixels.shape[1]
    for n in range(order.shape[0]):
        i = order[n] // (steps - 1)
        k = order[n] % (steps - 1)
        ax, ay, az = pixels[i, k]
        bx, by, bz = pixels[i, k + 1]
        half = 0.5 * width[i, k] * scale
        reach = max(half, 0.5) + 0.5
        x0, x1 = int(max(min(ax, bx) - reach, 0)), int(min(max(ax, bx) + reach, wide - 1))
        y0, y1 = int(max(min(ay, by) - reach, 0)), int(min(max(ay, by) + reach, height - 1))
        dx, dy = bx - ax, by - ay
        square = dx * dx + dy * dy + 1e-9
        strength = min(half / 0.5, 1.0)
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                t = ((x + 0.5 - ax) * dx + (y + 0.5 - ay) * dy) / square
                if t < 0.0 or t >= 1.0:
                    continue
                gap = math.sqrt((x + 0.5 - ax - t * dx) ** 2 + (y + 0.5 - ay - t * dy) ** 2)
                alpha = min(max(reach - gap, 0.0), 1.0) * strength
                if alpha <= 0.0 or az + t * (bz - az) > depth[y, x] + 0.15:
                    continue
                for c in range(3):
                    here = light[i, k, c] + t * (light[i, k + 1, c] - light[i, k, c])
                    image[y, x, c] += alpha * (here - image[y, x, c])
                cover[y, x] += alpha * (1.0 - cover[y, x])
                hairs[y, x] += alpha * (1.0 - hairs[y, x])


def draw_strands(
    image: Floats, cover: Floats, hairs: Floats, depth: Floats, strands: Strands, light: Floats, camera: Camera
) -> None:
    """Draw strands with the ``light`` of ``shade_strands`` into ``image`` (H, W, 3).

    ``cover`` and ``hairs`` (H, W) grow by how much of a pixel they cover.
    """
    height, width = depth.shape
    pixels = camera.project(strands.points.reshape(-1, 3), height, width).reshape(strands.points.shape)
    order = np.argsort(-(pixels[:, :-1, 2] + pixels[:, 1:, 2]).ravel(), kind="stable").astype(np.int64)
    _draw(image, cover, hairs, depth, pixels, strands.width, light, order, height / camera.span)
