"""A rasteriser with a depth buffer: what each pixel shows of a mesh, and how far from a light its surfaces lie."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from engines.types import Floats
from tools.assets.compiled import kernel, parallel
from tools.assets.face_model import Ints


class Camera(NamedTuple):
    """A pinhole camera that looks down the z axis: the point it looks at, its distance, and the height it sees
    there."""

    x: float = 0.0
    y: float = 1.5
    z: float = 4.0
    distance: float = 125.0
    span: float = 50.0

    def project(self, points: Floats, height: int, width: int) -> Floats:
        """Return pixels and distance (V, 3) of points (V, 3)."""
        away = self.distance + self.z - points[:, 2]
        scale = height / self.span * self.distance / away
        x = width / 2 + (points[:, 0] - self.x) * scale
        y = height / 2 - (points[:, 1] - self.y) * scale
        return np.asarray(np.stack([x, y, away], -1), np.float32)


class Seen(NamedTuple):
    """What each pixel shows: ``triangle`` (H, W) int32, -1 for nothing; its weights (H, W, 3); ``depth`` (H, W)."""

    triangle: Ints
    weight: Floats
    depth: Floats


@parallel
def _visible(points: Floats, corners: Ints, height: int, width: int, bands: int) -> tuple[Ints, Floats, Floats]:
    triangle = np.full((height, width), -1, np.int32)
    weight = np.zeros((height, width, 3), np.float32)
    depth = np.full((height, width), np.float32(1e9))
    for band in numba.prange(bands):
        top, bottom = band * height // bands, (band + 1) * height // bands
        for t in range(corners.shape[0]):
            a, b, c = corners[t]
            ax, ay, az = points[a]
            bx, by, bz = points[b]
            cx, cy, cz = points[c]
            y0, y1 = max(int(min(ay, by, cy) + 0.5), top), min(int(max(ay, by, cy) + 0.5), bottom)
            if y0 >= y1:
                continue
            area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
            if abs(area) < 1e-9:
                continue
            x0, x1 = max(int(min(ax, bx, cx) + 0.5), 0), min(int(max(ax, bx, cx) + 0.5), width)
            for y in range(y0, y1):
                for x in range(x0, x1):
                    u = ((bx - x - 0.5) * (cy - y - 0.5) - (cx - x - 0.5) * (by - y - 0.5)) / area
                    v = ((cx - x - 0.5) * (ay - y - 0.5) - (ax - x - 0.5) * (cy - y - 0.5)) / area
                    w = 1 - u - v
                    if u < 0 or v < 0 or w < 0:
                        continue
                    near = u / az + v / bz + w / cz
                    z = 1 / near
                    if z < depth[y, x]:
                        depth[y, x] = z
                        triangle[y, x] = t
                        weight[y, x, 0], weight[y, x, 1], weight[y, x, 2] = u / az * z, v / bz * z, w / cz * z
    return triangle, weight, depth


def visible(pixels: Floats, corners: Ints, height: int, width: int) -> Seen:
    """Return what each pixel shows of triangles with projected ``pixels`` (V, 3)."""
    return Seen(*_visible(pixels, corners, height, width, 16))


@kernel
def shadow_map(points: Floats, corners: Ints, size: int) -> Floats:
    """Return the least distance (size, size) of triangles whose points (V, 3) are in pixels and distance."""
    depth = np.full((size, size), np.float32(1e9))
    for t in range(corners.shape[0]):
        a, b, c = corners[t]
        ax, ay, az = points[a]
        bx, by, bz = points[b]
        cx, cy, cz = points[c]
        y0, y1 = max(int(min(ay, by, cy) + 0.5), 0), min(int(max(ay, by, cy) + 0.5), size)
        x0, x1 = max(int(min(ax, bx, cx) + 0.5), 0), min(int(max(ax, bx, cx) + 0.5), size)
        if y0 >= y1 or x0 >= x1:
            continue
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if abs(area) < 1e-9:
            continue
        for y in range(y0, y1):
            for x in range(x0, x1):
                u = ((bx - x - 0.5) * (cy - y - 0.5) - (cx - x - 0.5) * (by - y - 0.5)) / area
                v = ((cx - x - 0.5) * (ay - y - 0.5) - (ax - x - 0.5) * (cy - y - 0.5)) / area
                if u < 0 or v < 0 or u + v > 1:
                    continue
                z = u * az + v * bz + (1 - u - v) * cz
                depth[y, x] = min(depth[y, x], z)
    return depth
