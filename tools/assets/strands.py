"""Strands of hair: their shadows, their shading and how they are drawn.

Shadows come from deep opacity maps (Yuksel and Keyser, 2008); the shading is Kajiya and Kay's (1989) with the two
shifted highlights of Scheuermann, "Hair rendering and shading" (2004). Segments are drawn from back to front, each
pixel blended by how much of it the segment covers.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from tools.assets.hair import Strands
from tools.assets.light import FOCUS_Z, RGB, Camera, Floats, light_visibility, transmittance
from tools.assets.shape import Shape, kernel, parallel, smooth_step

LAYERS = 12
THICKNESS = 0.45
"""The number of layers of an opacity map, and the depth of each in cm."""


def light_frame(place: tuple[float, ...], half: float) -> Floats:
    """Return the frame (5, 3) of an opacity map for a light at ``place``, for ``light.transmittance``."""
    centre = np.array([0.0, -7.0, -2.0])
    forward = centre - np.array(place)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    return np.array([right, up, forward, centre, [half, THICKNESS, 0.0]], np.float32)


@kernel
def opacity_layers(points: Floats, width: Floats, frame: Floats, size: int, layers: int) -> Floats:
    """Return the opacity map (1 + layers, size, size) of strands along ``frame``."""
    maps = np.zeros((1 + layers, size, size), np.float32)
    maps[0] = 1e6
    texel = 2.0 * frame[4, 0] / size
    for turn in range(2):
        for i in range(points.shape[0]):
            for k in range(points.shape[1] - 1):
                x, y, z = points[i, k, 0] - frame[3, 0], points[i, k, 1] - frame[3, 1], points[i, k, 2] - frame[3, 2]
                u = (frame[0, 0] * x + frame[0, 1] * y + frame[0, 2] * z) / frame[4, 0]
                v = (frame[1, 0] * x + frame[1, 1] * y + frame[1, 2] * z) / frame[4, 0]
                depth = frame[2, 0] * x + frame[2, 1] * y + frame[2, 2] * z
                fx, fy = (u * 0.5 + 0.5) * size - 0.5, (v * 0.5 + 0.5) * size - 0.5
                ix, iy = math.floor(fx), math.floor(fy)
                if ix < 1 or iy < 1 or ix >= size - 2 or iy >= size - 2:
                    continue
                if turn == 0:
                    for b in range(-1, 3):
                        for a in range(-1, 3):
                            if depth < maps[0, iy + b, ix + a]:
                                maps[0, iy + b, ix + a] = depth
                    continue
                dx = points[i, k + 1, 0] - points[i, k, 0]
                dy = points[i, k + 1, 1] - points[i, k, 1]
                dz = points[i, k + 1, 2] - points[i, k, 2]
                block = math.sqrt(dx * dx + dy * dy + dz * dz) * width[i, k] / (texel * texel)
                for b in range(2):
                    for a in range(2):
                        weight = (fx - ix if a else 1.0 - fx + ix) * (fy - iy if b else 1.0 - fy + iy)
                        layer = int((depth - maps[0, iy + b, ix + a]) / frame[4, 1])
                        maps[1 + min(max(layer, 0), layers - 1), iy + b, ix + a] += weight * block
    for n in range(2, layers + 1):
        maps[n] += maps[n - 1]
    return maps


@kernel
def lobe(t: RGB, n: RGB, h: RGB, shift: float, power: float) -> float:
    """Return the highlight of a strand whose tangent is tilted by ``shift`` towards the normal."""
    sx, sy, sz = t[0] + shift * n[0], t[1] + shift * n[1], t[2] + shift * n[2]
    m = 1.0 / (math.sqrt(sx * sx + sy * sy + sz * sz) + 1e-9)
    th = (sx * h[0] + sy * h[1] + sz * h[2]) * m
    return math.pow(max(1.0 - th * th, 0.0), 0.5 * power)


@kernel
def reflect(tangent: RGB, normal: RGB, light: RGB, view: RGB, jitter: float) -> RGB:
    """Return how strongly a strand scatters light: diffusely, in its white and its tinted highlight. Unit vectors."""
    tl = tangent[0] * light[0] + tangent[1] * light[1] + tangent[2] * light[2]
    facing = normal[0] * light[0] + normal[1] * light[1] + normal[2] * light[2]
    form = 0.25 + 0.75 * smooth_step(-0.4, 0.9, facing)
    hx, hy, hz = light[0] + view[0], light[1] + view[1], light[2] + view[2]
    m = 1.0 / (math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9)
    half = (hx * m, hy * m, hz * m)
    first = lobe(tangent, normal, half, -0.1 + jitter, 110.0)
    second = lobe(tangent, normal, half, 0.16 + jitter, 22.0)
    return 0.55 * math.sqrt(max(1.0 - tl * tl, 0.0)) * form, form * first, form * second


@parallel
def shade_strands(
    points: Floats, colour: Floats, gloss: Floats, lights: Floats, sky: Floats, maps: Floats, frames: Floats,
    camera: Camera, s: Shape,
) -> Floats:  # fmt: skip
    """Return the light (n, k, 3) from every vertex. The last map is the sky's, from above in front."""
    count, steps = points.shape[0], points.shape[1]
    out = np.zeros((count, steps, 3), np.float32)
    for i in numba.prange(count):
        jitter = 0.14 * (gloss[i] - 1.0)
        blocked = np.ones(lights.shape[0])
        for k in range(steps):
            x, y, z = points[i, k, 0], points[i, k, 1], points[i, k, 2]
            a, b = max(k - 1, 0), min(k + 1, steps - 1)
            tx, ty, tz = (
                points[i, b, 0] - points[i, a, 0],
                points[i, b, 1] - points[i, a, 1],
                points[i, b, 2] - points[i, a, 2],
            )
            m = 1.0 / (math.sqrt(tx * tx + ty * ty + tz * tz) + 1e-9)
            tx, ty, tz = tx * m, ty * m, tz * m
            nx, ny, nz = x, 0.75 * (y - max(min(y, 3.0), -30.0)), z + 4.0
            m = 1.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9)
            nx, ny, nz = nx * m, ny * m, nz * m
            vx, vy, vz = -x, camera.y - y, camera.z - z
            m = 1.0 / math.sqrt(vx * vx + vy * vy + vz * vz)
            vx, vy, vz = vx * m, vy * m, vz * m
            for n in range(lights.shape[0]):
                lx, ly, lz = lights[n, 0] - x, lights[n, 1] - y, lights[n, 2] - z
                away = math.sqrt(lx * lx + ly * ly + lz * lz)
                lx, ly, lz = lx / away, ly / away, lz / away
                if k % 6 == 0 and n < 2:
                    lift = 0.35
                    blocked[n] = light_visibility(x + lift * nx, y + lift * ny, z + lift * nz, lx, ly, lz, 0.35, s)
                vis = blocked[n] * transmittance(maps[n], frames[n], x, y, z)
                diffuse, first, second = reflect((tx, ty, tz), (nx, ny, nz), (lx, ly, lz), (vx, vy, vz), jitter)
                for c in range(3):
                    tint = colour[i, c] * (0.09 + 1.1 * colour[i, c])
                    mirrored = gloss[i] * (0.15 * first + 1.2 * second * tint)
                    out[i, k, c] += vis * lights[n, 4 + c] * (diffuse * colour[i, c] + mirrored)
            last = maps.shape[0] - 1
            open_sky = transmittance(maps[last], frames[last], x, y, z) * 0.85 + 0.15
            up = smooth_step(-0.8, 0.8, ny)
            for c in range(3):
                out[i, k, c] += colour[i, c] * open_sky * (up * sky[0, c] + (1.0 - up) * sky[1, c])
    return out


@kernel
def draw(
    image: Floats, cover: Floats, depth: Floats, points: Floats, width: Floats, light: Floats,
    order: NDArray[np.int64], camera: Camera,
) -> None:  # fmt: skip
    """Blend strand segments, in ``order``, into ``image`` (H, W, 3) and ``cover`` (H, W) where nothing is nearer.

    ``depth`` (H, W) holds the z of the surface at each pixel; ``order`` numbers segments strand by strand.
    """
    height, wide = depth.shape
    steps = points.shape[1]
    scale = height / camera.span
    for n in range(order.shape[0]):
        i = order[n] // (steps - 1)
        k = order[n] % (steps - 1)
        near = (camera.z - FOCUS_Z) / (camera.z - points[i, k, 2]) * scale
        far = (camera.z - FOCUS_Z) / (camera.z - points[i, k + 1, 2]) * scale
        ax, ay = points[i, k, 0] * near + wide / 2, height / 2 - (points[i, k, 1] - camera.y) * near
        bx, by = points[i, k + 1, 0] * far + wide / 2, height / 2 - (points[i, k + 1, 1] - camera.y) * far
        half = 0.5 * width[i, k] * near
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
                z = points[i, k, 2] + t * (points[i, k + 1, 2] - points[i, k, 2])
                if alpha <= 0.0 or z < depth[y, x]:
                    continue
                for c in range(3):
                    here = light[i, k, c] + t * (light[i, k + 1, c] - light[i, k, c])
                    image[y, x, c] += alpha * (here - image[y, x, c])
                cover[y, x] += alpha * (1.0 - cover[y, x])


def back_to_front(points: Floats) -> NDArray[np.int64]:
    """Return the order in which to draw the segments of strands (n, k, 3)."""
    middle = 0.5 * (points[:, :-1, 2] + points[:, 1:, 2])
    return np.argsort(middle.ravel(), kind="stable").astype(np.int64)


def draw_strands(image: Floats, cover: Floats, depth: Floats, strands: Strands, light: Floats, camera: Camera) -> None:
    """Draw ``strands`` with the light of ``shade_strands`` into ``image`` and ``cover``, as ``draw``."""
    draw(image, cover, depth, strands.points, strands.width, light, back_to_front(strands.points), camera)
