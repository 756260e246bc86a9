"""Hair, brows and lashes for the modelled head: the roots of the strands and their shapes.

The functions ``grow_*`` return ``Strands``: polylines in the head's space. Long hair follows guides that are combed
away from a parting, fall under gravity and slide over head, shoulders and clothes; each strand follows its guide, so
that the hair forms locks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

from tools.assets.light import Floats
from tools.assets.paint import brow_height, chance, hairline, noise
from tools.assets.shape import (
    EYE_RADIUS,
    EYE_X,
    EYE_Z,
    LID,
    Shape,
    cloth,
    ear,
    kernel,
    lid_lower,
    lid_upper,
    parallel,
    skin,
    skull,
    smooth_step,
)


class Strands(NamedTuple):
    """``points`` (n, k, 3) and ``width`` (n, k), in cm; ``colour`` (n, 3), linear; ``gloss`` (n,); all float32."""

    points: Floats
    width: Floats
    colour: Floats
    gloss: Floats


class Haircut(NamedTuple):
    """A haircut. Lengths in centimetres; ``wave`` is the amplitude of the waves, ``grey`` the share of grey strands."""

    strands: int
    long: bool
    length: float
    parting: float
    volume: float
    wave: float
    width: float
    grey: float


@kernel
def scalp_distance(x: float, y: float, z: float, s: Shape) -> float:
    """Return the distance to what hair lies on: skull, ears, neck and clothes, without the features of the face."""
    ax = abs(x)
    d = skull(ax, y, z, s)
    d = min(d, ear(ax, y, z, s) + 0.1)
    if y < -4.0:
        d = min(d, cloth(x, y, z, s), skin(x, y, z, s))
    return d


@parallel
def scalp_roots(tries: int, seed: int, line: Floats, s: Shape) -> Floats:
    """Return points spread evenly over the scalp, (tries, 4); the last column is 1 above the hairline, otherwise 0."""
    roots = np.zeros((tries, 4), np.float32)
    for i in numba.prange(tries):
        up = 2.0 * chance(i, seed, 1) - 1.0
        turn = 2.0 * math.pi * chance(i, seed, 2)
        flat = math.sqrt(1.0 - up * up)
        dx, dy, dz = flat * math.cos(turn), up, flat * math.sin(turn)
        t = 14.0
        for _ in range(30):
            t -= 0.9 * skull(abs(dx * t), 2.8 + dy * t, -3.4 + dz * t, s)
        x, y, z = dx * t, 2.8 + dy * t, -3.4 + dz * t
        roots[i, 0], roots[i, 1], roots[i, 2] = x, y, z
        above = hairline(x, y, z, line)
        if above > -0.3 + 1.1 * chance(i, seed, 3):
            roots[i, 3] = 1.0
    return roots


@kernel
def outwards(x: float, y: float, z: float, s: Shape) -> tuple[float, float, float]:
    """Return the direction away from what hair lies on."""
    e = 0.15
    nx = scalp_distance(x + e, y, z, s) - scalp_distance(x - e, y, z, s)
    ny = scalp_distance(x, y + e, z, s) - scalp_distance(x, y - e, z, s)
    nz = scalp_distance(x, y, z + e, s) - scalp_distance(x, y, z - e, s)
    n = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
    return nx / n, ny / n, nz / n


@kernel
def face_clearance(x: float, y: float, z: float) -> float:
    """Return the distance to the space in front of face and throat that long hair keeps out of."""
    half = 6.5 - 1.9 * smooth_step(-4.0, -13.0, y)
    return max(abs(x) - half * smooth_step(7.6, 2.5, y), -z - 1.0)


@parallel
def comb_long(roots: Floats, steps: int, cut: Haircut, s: Shape) -> Floats:
    """Return guides of long hair, (n, steps, 3), from ``roots`` (n, 3)."""
    count = roots.shape[0]
    points = np.zeros((count, steps, 3), np.float32)
    for i in numba.prange(count):
        x, y, z = roots[i, 0], roots[i, 1], roots[i, 2]
        side = 1.0 if x > cut.parting else -1.0
        nx, ny, nz = outwards(x, y, z, s)
        away = smooth_step(0.0, 3.0, abs(x - cut.parting))
        dx, dy, dz = 0.6 * nx + 0.75 * side, (0.25 + 0.35 * away) * ny + 0.1, 0.5 * nz - 0.2
        layer = 0.15 + cut.volume * (0.15 + 0.85 * chance(i, 5, 9)) * smooth_step(-6.0, 5.0, y)
        length = cut.length * (0.86 + 0.2 * chance(i, 6, 9)) * (0.7 + 0.3 * smooth_step(-7.0, 4.0, y))
        step = length / (steps - 1)
        for k in range(steps):
            points[i, k, 0], points[i, k, 1], points[i, k, 2] = x, y, z
            run = k * step
            top = smooth_step(0.0, 8.0, y)
            wx, wy, wz = (
                side * 1.15 * top * smooth_step(8.0, 3.0, abs(x)),
                -1.0 + 0.45 * top,
                -0.5 * smooth_step(-2.0, 4.0, z) * smooth_step(-9.0, -3.0, y),
            )
            wz += 0.35 * smooth_step(-9.0, -15.0, y) * smooth_step(3.0, -3.0, z)
            turn = 0.16 * step / 0.5
            dx, dy, dz = dx + turn * (wx - dx) * 2.0, dy + turn * (wy - dy) * 2.0, dz + turn * (wz - dz) * 2.0
            n = math.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
            dx, dy, dz = dx / n, dy / n, dz / n
            x, y, z = x + dx * step, y + dy * step, z + dz * step
            lift = layer * smooth_step(0.0, 4.0, run) + 0.04
            d = scalp_distance(x, y, z, s) - lift
            if d < 0.0:
                nx, ny, nz = outwards(x, y, z, s)
                x, y, z = x - d * nx, y - d * ny, z - d * nz
                into = min(dx * nx + dy * ny + dz * nz, 0.0)
                dx, dy, dz = dx - into * nx, dy - into * ny, dz - into * nz
            clear = face_clearance(x, y, z) - 0.2 * layer
            if clear < 0.0 and y < 6.0:
                give = smooth_step(6.0, 3.0, y) * min(-clear, 0.5)
                sx = 1.0 if x > 0.0 else -1.0
                x, z = x + sx * give, z - 0.5 * give
    return points


@parallel
def follow(guides: Floats, roots: Floats, nearest: Floats, cut: Haircut, seed: int) -> Floats:
    """Return strands from ``roots`` (n, 3) that follow the guides ``nearest`` (n, 2), with waves and stray hairs."""
    count, steps = roots.shape[0], guides.shape[1]
    points = np.zeros((count, steps, 3), np.float32)
    for i in numba.prange(count):
        g, h = int(nearest[i, 0]), int(nearest[i, 1])
        blend = 0.5 * chance(i, seed, 4)
        stray = chance(i, seed, 5) ** 6
        phase = 6.0 * noise(roots[i, 0] * 0.25, roots[i, 1] * 0.25, roots[i, 2] * 0.25) + 0.9 * chance(g, seed, 6)
        tight = 0.75 + 0.5 * chance(g, seed, 7)
        ox, oy, oz = chance(i, seed, 10) - 0.5, chance(i, seed, 11) - 0.5, chance(i, seed, 12) - 0.5
        short = 0.8 + 0.2 * chance(i, seed, 13)
        for k in range(steps):
            f = k / (steps - 1) * short * (steps - 1)
            a = min(int(f), steps - 2)
            t = f - a
            run = f / (steps - 1) * cut.length
            cling = 1.0 - 0.72 * smooth_step(1.0, 14.0, run)
            for c in range(3):
                one = guides[g, a, c] * (1 - t) + guides[g, a + 1, c] * t
                two = guides[h, a, c] * (1 - t) + guides[h, a + 1, c] * t
                own = roots[i, c] - (guides[g, 0, c] * (1 - blend) + guides[h, 0, c] * blend)
                points[i, k, c] = one * (1 - blend) + two * blend + own * cling
            wave = cut.wave * smooth_step(6.0, 20.0, run)
            turn = run * 2.0 * math.pi / (7.5 * tight) + phase
            wide = 0.35 + 1.6 * stray * smooth_step(0.0, 10.0, run)
            points[i, k, 0] += wave * math.cos(turn) + wide * ox * 1.6
            points[i, k, 1] += wide * oy * 0.8 * min(run / 4.0, 1.0)
            points[i, k, 2] += wave * 0.8 * math.sin(turn) + wide * oz * 1.6
    return points


@parallel
def crop_short(roots: Floats, steps: int, cut: Haircut, seed: int, s: Shape) -> Floats:
    """Return short hair, (n, steps, 3): brushed up and back on top, close and downwards at the sides."""
    count = roots.shape[0]
    points = np.zeros((count, steps, 3), np.float32)
    for i in numba.prange(count):
        x, y, z = roots[i, 0], roots[i, 1], roots[i, 2]
        nx, ny, nz = outwards(x, y, z, s)
        top = smooth_step(3.0, 9.0, y)
        side = math.tanh((x - cut.parting) / 3.0)
        lock = noise(x * 0.9 + 40.0, y * 0.9, z * 0.9) - 0.5
        lean = noise(x * 0.9, y * 0.9 + 40.0, z * 0.9) - 0.5
        wx = side * 0.55 * top + 1.3 * lock * top + 0.25 * (chance(i, seed, 1) - 0.5)
        wy = 0.15 * top - 0.9 * (1.0 - top) + 0.35 * (chance(i, seed, 2) - 0.5)
        wz = -0.45 + 0.5 * lean + 0.35 * (chance(i, seed, 3) - 0.5)
        length = cut.length * (0.3 + 0.7 * top) * (0.7 + 0.45 * chance(i, seed, 4))
        step = length / (steps - 1)
        lift = 0.35 + 0.5 * top
        dx, dy, dz = nx * lift + wx * 0.5, ny * lift + wy * 0.5, nz * lift + wz * 0.5
        curl = 2.0 * math.pi * chance(i, seed, 6)
        for k in range(steps):
            points[i, k, 0], points[i, k, 1], points[i, k, 2] = x, y, z
            bend = 0.32
            dx, dy, dz = dx + bend * (wx - dx * 0.5), dy + bend * (wy - dy * 0.5), dz + bend * (wz - dz * 0.5)
            n = math.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
            dx, dy, dz = dx / n, dy / n, dz / n
            swirl = cut.wave * step
            x += dx * step + swirl * math.cos(curl + 1.1 * k)
            y += dy * step + swirl * math.sin(curl + 1.1 * k)
            z += dz * step
            d = scalp_distance(x, y, z, s) - 0.05 - 0.1 * k / steps
            if d < 0.0:
                nx, ny, nz = outwards(x, y, z, s)
                x, y, z = x - d * nx, y - d * ny, z - d * nz
    return points


def tapered(count: int, steps: int, width: float, sharp: float) -> Floats:
    """Return widths of strands that narrow towards their tips, (count, steps)."""
    along = np.linspace(0.0, 1.0, steps, dtype=np.float32)
    return np.tile((width * (1.0 - along**sharp * 0.85)).astype(np.float32), (count, 1))


def tinted(rng: np.random.Generator, count: int, base: tuple[float, ...], grey: float, vary: float) -> Floats:
    """Return colours of strands around ``base``, a share of them grey."""
    colour = np.array(base, np.float32) * np.exp(rng.normal(0.0, vary, (count, 1)))
    colour[:, 0] *= np.exp(rng.normal(0.0, 0.05, count))
    is_grey = rng.random(count) < grey
    colour[is_grey] = np.array([0.42, 0.42, 0.43]) * np.exp(rng.normal(0.0, 0.25, (int(is_grey.sum()), 1)))
    result: Floats = colour.astype(np.float32)
    return result


def grow_hair(cut: Haircut, line: Floats, colour: tuple[float, ...], shape: Shape, seed: int) -> Strands:
    """Return the hair of the head."""
    rng = np.random.default_rng(seed)
    found: Floats = scalp_roots(int(cut.strands * 2.4), seed, line, shape)
    roots = np.ascontiguousarray(found[found[:, 3] > 0.5][: cut.strands, :3])
    if cut.long:
        guides: Floats = comb_long(np.ascontiguousarray(roots[:: max(len(roots) // 900, 1)]), 72, cut, shape)
        first = guides[:, 0]
        nearest = np.empty((len(roots), 2), np.float32)
        for i in range(0, len(roots), 4096):
            gap = ((roots[i : i + 4096, None] - first[None]) ** 2).sum(2)
            across = (roots[i : i + 4096, None, 0] > cut.parting) != (first[None, :, 0] > cut.parting)
            nearest[i : i + 4096] = np.argsort(gap + 1e3 * across, axis=1)[:, :2]
        points: Floats = follow(guides, roots, nearest, cut, seed)
        width = tapered(len(roots), 72, cut.width, 4.0)
    else:
        points = crop_short(roots, 12, cut, seed, shape)
        width = tapered(len(roots), 12, cut.width, 2.0)
    tint = tinted(rng, len(roots), colour, cut.grey, 0.22)
    return Strands(points, width, tint, np.exp(rng.normal(0.0, 0.22, len(roots))).astype(np.float32))


@kernel
def front(x: float, y: float, s: Shape) -> float:
    """Return the depth z of the skin from the front at (x, y)."""
    z = 8.0
    for _ in range(60):
        d = skin(x, y, z, s)
        if d < 0.01:
            break
        z -= 0.8 * d
    return z


@parallel
def brow_strands(count: int, seed: int, s: Shape) -> Floats:
    """Return both eyebrows, (2 count, 6, 3): upright near the nose, lying outwards further along."""
    points = np.zeros((2 * count, 6, 3), np.float32)
    for i in numba.prange(2 * count):
        side = 1.0 if i < count else -1.0
        t = chance(i, seed, 1)
        across = chance(i, seed, 2) - 0.5
        ax = 1.2 + 3.8 * t + 0.35 * (chance(i, seed, 5) - 0.5)
        thick = (0.62 - 0.4 * smooth_step(0.45, 1.0, t)) * smooth_step(-0.3, 0.25, t)
        y = brow_height(ax) + across * thick
        angle = 0.75 * smooth_step(0.3, 0.0, t) + 0.4 - 0.85 * t - across * 1.1 + 0.35 * (chance(i, seed, 3) - 0.5)
        length = (0.62 + 0.25 * chance(i, seed, 4)) * (1.0 - 0.3 * t)
        for k in range(6):
            f = k / 5.0
            a = angle * (1.0 - 0.5 * f)
            px, py = ax + length * f * math.cos(a), y + length * f * math.sin(a)
            points[i, k, 0], points[i, k, 1] = side * px, py
            points[i, k, 2] = front(px, py, s) + 0.03 + 0.1 * f * (1.0 - 0.6 * f)
    return points


@parallel
def lash_strands(count: int, upper: bool, length: float, seed: int, s: Shape) -> Floats:
    """Return the lashes of both eyes, (2 count, 7, 3), from the edge of the upper or of the lower lid."""
    points = np.zeros((2 * count, 7, 3), np.float32)
    for i in numba.prange(2 * count):
        side = 1.0 if i < count else -1.0
        u = -0.82 + 1.8 * ((i % count) + 0.9 * chance(i, seed, 1)) / count
        long = length * (0.75 + 0.35 * chance(i, seed, 2)) * (0.55 + 0.45 * smooth_step(-0.8, 0.5, u))
        x = u * s.eye_width
        y = lid_upper(u, s) + 0.02 if upper else lid_lower(u, s) - 0.05
        z = math.sqrt(max((EYE_RADIUS + LID * 0.8) ** 2 - x * x - y * y, 0.05))
        fan = 0.15 + 0.75 * u + 0.25 * (chance(i, seed, 3) - 0.5)
        for k in range(7):
            f = k / 6.0
            rise = -0.16 * f + 0.75 * f * f if upper else 0.05 * f - 0.6 * f * f
            points[i, k, 0] = side * (EYE_X + x + long * fan * 0.62 * f)
            points[i, k, 1] = y + long * rise * (1.0 if upper else 0.8)
            points[i, k, 2] = EYE_Z + z + long * 0.75 * f * (1.0 - 0.25 * f)
    return points


def grow_details(
    hair: tuple[float, ...], grey: float, lashes: float, shape: Shape, seed: int, density: float
) -> list[Strands]:
    """Return brows, upper lashes and lower lashes; ``lashes`` scales the length of lashes, ``density`` the numbers."""
    rng = np.random.default_rng(seed + 1)
    grown: list[Strands] = []
    brows: Floats = brow_strands(max(int(520 * density), 1), seed + 1, shape)
    upper: Floats = lash_strands(max(int(95 * density), 1), True, 0.75 * lashes, seed + 2, shape)
    lower: Floats = lash_strands(max(int(48 * density), 1), False, 0.36 * lashes, seed + 3, shape)
    for points, width, colour, share, gloss in (
        (brows, 0.014, hair, grey, 0.35),
        (upper, 0.03, (0.008, 0.006, 0.005), 0.0, 0.1),
        (lower, 0.012, (0.02, 0.014, 0.012), 0.0, 0.1),
    ):
        n, k = points.shape[:2]
        tint = tinted(rng, n, colour, share, 0.15)
        grown.append(Strands(points, tapered(n, k, width / density**0.5, 1.5), tint, np.full(n, gloss, np.float32)))
    return grown
