"""Ray casting: the surface that each pixel shows, and how much light reaches it.

A pinhole camera looks down the z axis. Lights are spheres whose soft shadows are estimated along one ray each, after
Quilez, "Soft shadows in raymarched SDFs"; the sky is gathered along five cones.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from tools.assets.shape import Shape, distance, kernel, material, parallel, smooth_step

Floats = NDArray[np.float32]

RGB = tuple[float, float, float]

FOCUS_Z = 3.0
"""The plane in which ``Camera.span`` is measured, about that of the cheeks."""


class Camera(NamedTuple):
    """The camera, in centimetres: height, distance, and height of the field of view at ``FOCUS_Z``."""

    y: float = -1.8
    z: float = 125.0
    span: float = 50.0


class VisibleSurface(NamedTuple):
    """The surface that each pixel shows: ``position`` and ``normal`` (H, W, 3) float32, ``material`` (H, W) uint8."""

    position: Floats
    normal: Floats
    material: NDArray[np.uint8]


@kernel
def normal_at(x: float, y: float, z: float, e: float, s: Shape) -> tuple[float, float, float]:
    """Return the unit normal of the surface near a point, from four samples ``e`` away."""
    a = distance(x + e, y - e, z - e, s)
    b = distance(x - e, y - e, z + e, s)
    c = distance(x - e, y + e, z - e, s)
    d = distance(x + e, y + e, z + e, s)
    nx, ny, nz = a - b - c + d, -a - b + c + d, -a + b - c + d
    n = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    return nx / n, ny / n, nz / n


@parallel
def trace(height: int, width: int, camera: Camera, s: Shape) -> tuple[Floats, Floats, NDArray[np.uint8]]:
    """March one ray per pixel and return the arrays of ``VisibleSurface``."""
    position = np.zeros((height, width, 3), np.float32)
    normal = np.zeros((height, width, 3), np.float32)
    kind = np.zeros((height, width), np.uint8)
    scale = camera.span / height
    for i in numba.prange(height):
        for j in range(width):
            px = (j + 0.5 - width / 2) * scale
            py = -(i + 0.5 - height / 2) * scale
            length = math.sqrt(px * px + py * py + (camera.z - FOCUS_Z) ** 2)
            dx, dy, dz = px / length, py / length, -(camera.z - FOCUS_Z) / length
            t = (camera.z - 12.0) / -dz
            x, y, z = 0.0, 0.0, 0.0
            for _ in range(140):
                x, y, z = dx * t, camera.y + dy * t, camera.z + dz * t
                d = distance(x, y, z, s)
                if d < 0.003 or z < -16.0:
                    break
                t += d * 0.8
            if z < -16.0 or d > 0.08:
                continue
            nx, ny, nz = normal_at(x, y, z, 0.012, s)
            position[i, j, 0], position[i, j, 1], position[i, j, 2] = x, y, z
            normal[i, j, 0], normal[i, j, 1], normal[i, j, 2] = nx, ny, nz
            kind[i, j] = material(x, y, z, s)
    return position, normal, kind


@kernel
def light_visibility(x: float, y: float, z: float, dx: float, dy: float, dz: float, softness: float, s: Shape) -> float:
    """Return the visible share of a spherical light from a point; ``softness`` is its radius over its distance."""
    visible = 1.0
    t = 0.05
    for _ in range(60):
        h = distance(x + dx * t, y + dy * t, z + dz * t, s)
        visible = min(visible, h / (softness * t))
        if visible < -1.0:
            return 0.0
        t += min(max(h * 0.7, 0.03 + 0.04 * t), 2.5)
        if t > 28.0:
            break
    return 0.25 * (1.0 + visible) ** 2 * (2.0 - visible)


@kernel
def cone_visibility(x: float, y: float, z: float, dx: float, dy: float, dz: float, spread: float, s: Shape) -> float:
    """Return the visible share of the sky along a cone; ``spread`` is the tangent of its half-angle."""
    visible = 1.0
    t = 0.12
    for _ in range(6):
        h = distance(x + dx * t, y + dy * t, z + dz * t, s)
        visible = min(visible, max(h, 0.0) / (spread * t))
        t *= 2.1
    return min(visible, 1.0)


@kernel
def sky_light(x: float, y: float, z: float, nx: float, ny: float, nz: float, sky: Floats, s: Shape) -> RGB:
    """Return the light of the sky at a point with that normal: one cone along the normal and four around it."""
    r, g, b = 0.0, 0.0, 0.0
    for k in range(5):
        dx, dy, dz, weight = nx, ny, nz, 0.3
        if k > 0:
            a = (k - 0.5) * math.pi / 2
            ox, oy, oz = math.cos(a), math.sin(a), 0.25
            along = ox * nx + oy * ny + oz * nz
            ox, oy, oz = ox - along * nx, oy - along * ny, oz - along * nz
            m = 0.9 / math.sqrt(ox * ox + oy * oy + oz * oz + 1e-9)
            dx, dy, dz, weight = 0.65 * nx + m * ox, 0.65 * ny + m * oy, 0.65 * nz + m * oz, 0.175
            m = 1.0 / math.sqrt(dx * dx + dy * dy + dz * dz)
            dx, dy, dz = dx * m, dy * m, dz * m
        amount = weight * cone_visibility(x, y, z, dx, dy, dz, 0.62, s)
        up = smooth_step(-0.9, 0.9, dy)
        r += amount * (up * sky[0, 0] + (1.0 - up) * sky[1, 0])
        g += amount * (up * sky[0, 1] + (1.0 - up) * sky[1, 1])
        b += amount * (up * sky[0, 2] + (1.0 - up) * sky[1, 2])
    return r, g, b


@kernel
def transmittance(maps: Floats, frame: Floats, x: float, y: float, z: float) -> float:
    """Return the share of light that reaches a point through the hair, from a deep opacity map (see ``strands``).

    ``maps`` is (1 + layers, N, N): the depth at which hair begins, then the optical depth up to each layer. ``frame``
    is (5, 3): right, up and forward of the light, its centre, then (half size, layer thickness, 0).
    """
    n = maps.shape[1]
    if n < 2:
        return 1.0
    x, y, z = x - frame[3, 0], y - frame[3, 1], z - frame[3, 2]
    u = (frame[0, 0] * x + frame[0, 1] * y + frame[0, 2] * z) / frame[4, 0]
    v = (frame[1, 0] * x + frame[1, 1] * y + frame[1, 2] * z) / frame[4, 0]
    depth = frame[2, 0] * x + frame[2, 1] * y + frame[2, 2] * z
    fx, fy = (u * 0.5 + 0.5) * n - 0.5, (v * 0.5 + 0.5) * n - 0.5
    ix, iy = math.floor(fx), math.floor(fy)
    if ix < 0 or iy < 0 or ix >= n - 1 or iy >= n - 1:
        return 1.0
    total = 0.0
    for b in range(2):
        for a in range(2):
            weight = (fx - ix if a else 1.0 - fx + ix) * (fy - iy if b else 1.0 - fy + iy)
            layer = (depth - maps[0, iy + b, ix + a]) / frame[4, 1]
            k = min(max(int(layer), 0), maps.shape[0] - 2)
            low = maps[k, iy + b, ix + a] if k > 0 else 0.0
            high = maps[k + 1, iy + b, ix + a]
            total += weight * (low + (high - low) * min(max(layer - k, 0.0), 1.0))
    return math.exp(-total)


@parallel
def light(
    position: Floats, normal: Floats, kind: NDArray[np.uint8], lights: Floats, sky: Floats,
    maps: Floats, frames: Floats, s: Shape,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Compute the light that reaches every pixel.

    ``lights`` is (n, 7): position, radius, colour; ``sky`` (2, 3): the colours from above and from below; ``maps``
    and ``frames`` hold the hair's opacity map of each light, as in ``transmittance``.
    Returns the irradiance (H, W, 3) and the visible share of each light (H, W, n), with the shadows of the hair.
    """
    height, width = kind.shape
    count = lights.shape[0]
    irradiance = np.zeros((height, width, 3), np.float32)
    visible = np.zeros((height, width, count), np.float32)
    for i in numba.prange(height):
        for j in range(width):
            if kind[i, j] == 0:
                continue
            nx, ny, nz = normal[i, j, 0], normal[i, j, 1], normal[i, j, 2]
            x, y, z = (
                position[i, j, 0] + 0.02 * nx,
                position[i, j, 1] + 0.02 * ny,
                position[i, j, 2] + 0.02 * nz,
            )
            for n in range(count):
                dx, dy, dz = lights[n, 0] - x, lights[n, 1] - y, lights[n, 2] - z
                away = math.sqrt(dx * dx + dy * dy + dz * dz)
                dx, dy, dz = dx / away, dy / away, dz / away
                cosine = nx * dx + ny * dy + nz * dz
                if cosine < -0.25:
                    continue
                vis = light_visibility(x, y, z, dx, dy, dz, lights[n, 3] / away, s)
                hair = 0.0
                for k in range(5):
                    a = 0.4 * math.pi * k
                    hair += 0.2 * transmittance(maps[n], frames[n], x + 0.5 * math.cos(a), y + 0.5 * math.sin(a), z)
                vis *= hair
                visible[i, j, n] = vis
                wrapped = max(cosine, 0.0) * 0.85 + 0.15 * max((cosine + 0.25) / 1.25, 0.0)
                for c in range(3):
                    irradiance[i, j, c] += vis * wrapped * lights[n, 4 + c]
            hair = 0.4 + 0.6 * transmittance(maps[0], frames[0], x, y, z)
            r, g, b = sky_light(x, y, z, nx, ny, nz, sky, s)
            irradiance[i, j, 0] += hair * r
            irradiance[i, j, 1] += hair * g
            irradiance[i, j, 2] += hair * b
    return irradiance, visible


def visible_surface(height: int, width: int, camera: Camera, shape: Shape) -> VisibleSurface:
    """Return the surface that each pixel of a picture shows."""
    result: Any = trace(height, width, camera, shape)
    return VisibleSurface(*result)
