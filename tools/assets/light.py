"""Light of a studio on a mesh: soft shadows, the light of the surroundings, and its scattering beneath skin.

The surroundings are a sky, a ground and a few soft lamps, each a spherical Gaussian (Wang et al., "All-frequency
rendering of dynamic, spatially-varying reflectance", 2009). The light that reaches a vertex is summed over directions
spread over the sphere, with a shadow map for each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from engines.types import Floats
from tools.assets.compiled import kernel
from tools.assets.face_model import Ints
from tools.assets.raster import shadow_map

SHADOW_SIZE, SHADOW_SPAN = 320, 52.0
"""Texels and centimetres of a shadow map's side."""
CENTRE = np.array([0.0, -2.0, 1.0], np.float32)
"""What the shadow maps are centred on."""


class Lamp(NamedTuple):
    """A soft lamp: degrees to the picture's right and up, half-width in degrees, and colour."""

    right: float
    up: float
    width: float
    colour: tuple[float, float, float]

    def direction(self) -> Floats:
        """Return the unit vector towards the lamp."""
        right, up = np.radians(self.right), np.radians(self.up)
        return np.array([np.sin(right) * np.cos(up), np.sin(up), np.cos(right) * np.cos(up)], np.float32)

    def sharpness(self) -> float:
        """Return the sharpness of the spherical Gaussian, which is at a half at ``width``."""
        return float(np.log(2) / (1 - np.cos(np.radians(self.width))))


class Studio(NamedTuple):
    """Lamps, and the colours of the sky above and the ground below."""

    lamps: tuple[Lamp, ...]
    sky: tuple[float, float, float]
    ground: tuple[float, float, float]

    def radiance(self, directions: Floats) -> tuple[Floats, Floats]:
        """Return the light from ``directions`` (N, 3): in all (N, 3), and the weight of each lamp in it (N, lamps)."""
        up = np.clip(directions[:, 1:2] * 0.5 + 0.5, 0, 1)
        total = up * np.array(self.sky) + (1 - up) * np.array(self.ground)
        weights = []
        for lamp in self.lamps:
            weight = np.exp(lamp.sharpness() * (directions @ lamp.direction() - 1))
            weights.append(weight)
            total = total + weight[:, None] * np.array(lamp.colour)
        return total.astype(np.float32), np.stack(weights, -1).astype(np.float32)


def sphere(count: int) -> Floats:
    """Return ``count`` directions spread evenly over the sphere, (count, 3): a Fibonacci lattice."""
    i = np.arange(count) + 0.5
    up = 1 - 2 * i / count
    turn = np.pi * (1 + 5**0.5) * i
    flat = np.sqrt(1 - up * up)
    return np.asarray(np.stack([flat * np.cos(turn), up, flat * np.sin(turn)], -1), np.float32)


def light_axes(direction: Floats) -> Floats:
    """Return right, up and away (3, 3) of the view along a light that comes from ``direction``."""
    away = -direction
    side = np.array([0.0, 1.0, 0.0]) if abs(away[1]) < 0.95 else np.array([1.0, 0.0, 0.0])
    right = np.cross(away, side)
    right /= np.linalg.norm(right)
    return np.asarray(np.stack([right, np.cross(right, away), away]), np.float32)


def light_view(points: Floats, axes: Floats) -> Floats:
    """Return the texels and the distance (V, 3) of points in a shadow map along ``axes``."""
    seen = (points - CENTRE) @ axes.T
    scale = SHADOW_SIZE / SHADOW_SPAN
    seen[:, :2] = seen[:, :2] * scale + SHADOW_SIZE / 2
    return np.ascontiguousarray(seen, np.float32)


@kernel
def hair_map(points: Floats, width: Floats, size: int, scale: float) -> tuple[Floats, Floats]:
    """Return where hair begins and how much light it stops, (size, size) each, from a light's view of strands."""
    start = np.full((size, size), np.float32(1e9))
    stops = np.zeros((size, size), np.float32)
    for i in range(points.shape[0]):
        for k in range(points.shape[1] - 1):
            x, y = int(points[i, k, 0]), int(points[i, k, 1])
            if x < 1 or y < 1 or x >= size - 1 or y >= size - 1:
                continue
            length = np.hypot(points[i, k + 1, 0] - points[i, k, 0], points[i, k + 1, 1] - points[i, k, 1])
            stops[y, x] += length * width[i, k] * scale
            for b in range(-1, 2):
                for a in range(-1, 2):
                    start[y + b, x + a] = min(start[y + b, x + a], points[i, k, 2])
    return start, stops


@kernel
def _gather(
    seen: Floats, normal: Floats, direction: Floats, colour: Floats, lamps: Floats, depth: Floats, start: Floats,
    stops: Floats, total: Floats, share: Floats,
) -> None:  # fmt: skip
    """Add the light from one direction to ``total`` (V, 3), and its part in each lamp to ``share`` (V, lamps)."""
    size = depth.shape[0]
    for v in range(seen.shape[0]):
        cosine = normal[v, 0] * direction[0] + normal[v, 1] * direction[1] + normal[v, 2] * direction[2]
        if cosine < -0.2:
            continue
        x, y = seen[v, 0] - 0.5, seen[v, 1] - 0.5
        ix, iy = int(x), int(y)
        lit = 1.0
        if ix >= 0 and iy >= 0 and ix < size - 1 and iy < size - 1:
            lit = 0.0
            bias = 0.12 + 0.25 * (1 - max(cosine, 0.0))
            for b in range(2):
                for a in range(2):
                    part = (x - ix if a else 1 - x + ix) * (y - iy if b else 1 - y + iy)
                    behind = seen[v, 2] - bias - depth[iy + b, ix + a]
                    open_ = 1.0 if behind < 0 else 0.0
                    deep = min(max((seen[v, 2] - start[iy + b, ix + a] - 0.1) / 0.8, 0.0), 1.0)
                    lit += part * open_ * np.exp(-deep * stops[iy + b, ix + a])
        wrapped = max(cosine, 0.0) * 0.9 + 0.1 * max((cosine + 0.2) / 1.2, 0.0)
        for c in range(3):
            total[v, c] += lit * wrapped * colour[c]
        for k in range(lamps.shape[0]):
            share[v, k] += lit * lamps[k]


class Light(NamedTuple):
    """The light at vertices: ``total`` (V, 3), and the visible ``share`` of each lamp (V, lamps)."""

    total: Floats
    share: Floats


def light_mesh(
    points: Floats, normal: Floats, corners: Ints, studio: Studio, count: int, hair: tuple[Floats, Floats] | None = None
) -> Light:
    """Return the light on a mesh from ``count`` directions. ``hair``: points (N, K, 3) and widths (N, K) of strands."""
    directions = sphere(count)
    colours, lamps = studio.radiance(directions)
    total, share = np.zeros((len(points), 3), np.float32), np.zeros((len(points), lamps.shape[1]), np.float32)
    empty = np.full((SHADOW_SIZE, SHADOW_SIZE), np.float32(1e9)), np.zeros((SHADOW_SIZE, SHADOW_SIZE), np.float32)
    for direction, colour, weight in zip(directions, colours * (4.0 / count), lamps / lamps.sum(0), strict=True):
        if direction[2] < -0.75 and weight.max() < 1e-3:
            continue
        axes = light_axes(direction)
        seen = light_view(points, axes)
        start, stops = empty
        if hair is not None:
            strands = light_view(hair[0].reshape(-1, 3), axes).reshape(hair[0].shape)
            start, stops = hair_map(strands, hair[1], SHADOW_SIZE, SHADOW_SIZE / SHADOW_SPAN)
        depth = shadow_map(seen, corners, SHADOW_SIZE)
        _gather(seen, normal, direction, colour, weight, depth, start, stops, total, share)
    return Light(total, np.minimum(share, 1))


@kernel
def _average(values: Floats, edges: Ints, same: Floats) -> Floats:
    out = values.copy()
    weight = np.ones(values.shape[0], np.float32)
    for e in range(edges.shape[0]):
        if same[e] == 0:
            continue
        a, b = edges[e]
        weight[a] += 1
        weight[b] += 1
        for c in range(values.shape[1]):
            out[a, c] += values[b, c]
            out[b, c] += values[a, c]
    for v in range(values.shape[0]):
        for c in range(values.shape[1]):
            out[v, c] /= weight[v]
    return out


def scatter(light: Floats, edges: Ints, same: Floats, steps: tuple[int, int, int] = (12, 4, 2)) -> Floats:
    """Return light (V, 3) that was spread along a mesh, red furthest, as beneath skin; ``steps`` for each colour.

    Only edges where ``same`` is 1 carry light.
    """
    out = light.copy()
    current = light
    for step in range(1, max(steps) + 1):
        current = _average(current, edges, same)
        for c in range(3):
            if step <= steps[c]:
                out[:, c] = current[:, c]
    return out
