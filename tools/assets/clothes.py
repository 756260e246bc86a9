"""Clothes, glasses and a head scarf: simple meshes around the shoulders and the head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engines.types import Floats
from tools.assets.face_model import CLOTH, GLASSES, FaceModel, Ints
from tools.assets.hair import Field, pushed_out
from tools.assets.images import blurred
from tools.assets.scene import Extra
from tools.assets.skin import smooth_curve

ROWS, COLUMNS = 120, 240

TORSO = (
    (-18.2, 19.9, 9.7, -2.6, 2.5),
    (-22.5, 21.4, 10.8, -2.4, 2.6),
    (-32, 22.4, 11.6, -2.2, 2.6),
    (-44, 22.6, 11.8, -2.2, 2.6),
)
SHOULDERS = (
    (-14.0, 12.5, 7.9, -2.2, 2.1),
    (-15.7, 17.2, 8.7, -2.6, 2.3),
    *TORSO,
)
"""The lower rings of garments, see ``GARMENT``."""
GARMENT = {
    # height, half-width, half-depth and middle z of a garment's rings, from the collar down; squareness
    "crew": (
        (-11.2, 6.3, 5.6, -1.2, 2.0),
        (-11.5, 6.9, 6.2, -1.2, 2.0),
        (-12.6, 8.2, 7.0, -1.6, 2.0),
        *SHOULDERS,
    ),
    "roll": (
        (-7.6, 6.1, 6.2, -1.0, 2.0),
        (-7.3, 6.6, 6.7, -1.0, 2.0),
        (-8.2, 7.0, 7.0, -1.0, 2.0),
        (-10.2, 7.0, 6.9, -1.1, 2.0),
        (-11.4, 6.8, 6.6, -1.2, 2.0),
        (-12.4, 7.9, 7.0, -1.6, 2.0),
        *SHOULDERS,
    ),
    "wide": (
        (-13.2, 10.6, 7.4, -1.6, 2.0),
        (-13.5, 11.2, 7.9, -1.8, 2.0),
        (-14.6, 14.4, 8.4, -2.3, 2.1),
        (-15.9, 17.4, 8.9, -2.6, 2.3),
        *TORSO,
    ),
}


def _grid(rows: int, columns: int, closed: bool) -> Ints:
    number = np.arange(rows * columns).reshape(rows, columns)
    right = np.roll(number, -1, axis=1) if closed else number[:, 1:]
    left = number if closed else number[:, :-1]
    a, b, c, d = left[:-1], right[:-1], right[1:], left[1:]
    pairs = [np.stack([a, d, b], -1), np.stack([b, d, c], -1)]
    return np.asarray(np.concatenate([p.reshape(-1, 3) for p in pairs]), np.int32)


def garment(cut: str, size: float = 1.0, folds: float = 0.12, seed: int = 1, dip: float = 1.0) -> Extra:
    """Return a garment around the shoulders. ``size`` scales it; ``folds`` is their depth, ``dip`` the collar's, in
    cm."""
    rows, columns = ROWS, COLUMNS
    rings = smooth_curve(np.array(GARMENT[cut], np.float32), rows)
    angle = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    sine, cosine = np.sin(angle), np.cos(angle)
    power = 2 / rings[:, 4:5]
    x = rings[:, 1:2] * np.sign(sine) * np.abs(sine) ** power
    z = rings[:, 3:4] + rings[:, 2:3] * np.sign(cosine) * np.abs(cosine) ** power
    near = np.exp(-np.maximum(rings[0, 0] - rings[:, :1], 0) / 3.0)
    y = rings[:, :1] - dip * near * (0.5 + 0.5 * cosine) ** 1.5 + 0.7 * near * (0.5 - 0.5 * cosine)
    droop = -0.9 * np.clip((np.abs(x) - 13) / 7, 0, 1) ** 2
    rng = np.random.default_rng(seed)
    fold = np.zeros_like(x)
    for _ in range(9):
        turn, wave, phase = rng.uniform(-0.9, 0.9), rng.uniform(0.25, 0.75), rng.uniform(0, 6.3)
        fold += np.sin((x * np.cos(turn) + y * np.sin(turn)) * wave + phase + 0.25 * np.sin(y * 0.3))
    fold *= folds / 2.2 * np.clip((rings[0, 0] - 1.0 - rings[:, :1]) / 4.0, 0, 1)
    points = np.stack([x * size * (1 + 0.012 * fold), y + droop + 0.3 * fold, (z + fold) * (0.5 + 0.5 * size)], -1)
    return Extra(points.reshape(-1, 3).astype(np.float32), _grid(rows, columns, True), CLOTH)


def around(extra: Extra, field: Field, gap: float) -> Extra:
    """Return a garment that lies at least ``gap`` cm outside of a body."""
    points = extra.points
    for _ in range(4):
        grid = pushed_out(points, field, gap).reshape(ROWS, COLUMNS, 3)
        grid = np.concatenate([grid[:, -15:], grid, grid[:, :15]], 1)
        grid = np.pad(grid, ((15, 15), (0, 0), (0, 0)), mode="edge")
        points = blurred(grid, 5)[15:-15, 15:-15].reshape(-1, 3)
    last = pushed_out(np.asarray(points, np.float32), field, 0.6 * gap)
    # beyond, the bust ends and is not drawn
    middle = np.clip((9 - np.abs(points[:, :1])) / 1.5, 0, 1)
    return replace(extra, points=np.asarray(points + (last - points) * middle, np.float32))


def tube(path: Floats, radius: float, tall: float, closed: bool) -> tuple[Floats, Ints]:
    """Return a tube along ``path`` (N, 3), ``radius`` thick and ``tall`` times as high: its points and triangles."""
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    up = np.array([0, 1, 0.0]) - ahead * ahead[:, 1:2]
    flat = np.linalg.norm(up, axis=1, keepdims=True)
    up = np.where(flat > 0.15, up / np.maximum(flat, 1e-6), np.cross(np.array([0, 0, 1.0]), ahead))
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    aside = np.cross(ahead, up)
    sides = 10
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.cos(angle)[None, :, None] * up[:, None] * tall + np.sin(angle)[None, :, None] * aside[:, None]
    points = path[:, None] + radius * ring
    rows = len(path) + (1 if closed else 0)
    corners = _grid(rows, sides, True)
    return points.reshape(-1, 3).astype(np.float32), (corners % (len(path) * sides)).astype(np.int32)


def glasses(model: FaceModel, points: Floats, shape: str = "round") -> Extra:
    """Return glasses for a head with ``points`` (V, 3): two rims, a bridge and the sides."""
    neutral = model.neutral

    def at(x: float, y: float, z: float) -> Floats:
        nearest = int(((neutral - np.array([x, y, z])) ** 2).sum(1).argmin())
        return np.asarray(points[nearest], np.float32)

    bridge = at(0, 2.9, 11.4)
    ear = at(7.6, 3.6, 0.0)
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    wide, high, power = {"round": (2.35, 2.15, 2.2), "square": (2.6, 1.85, 3.4), "oval": (2.5, 1.6, 2.4)}[shape]
    x = wide * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / power)
    y = high * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / power)
    eye = at(3.2, 3.6, 9.6)
    middle = np.array([max(eye[0], wide + 0.55), eye[1] - 0.35, bridge[2] - 0.1])
    parts = []
    for side in (1, -1):
        away = np.abs(middle[0] + x)
        rim = np.stack([side * (middle[0] + x), middle[1] + y, middle[2] - 0.012 * away**2 - 0.05 * y + 0.25], -1)
        parts.append(tube(rim.astype(np.float32), 0.09, 1.3, True))
        corner = np.array(
            [side * (middle[0] + wide), middle[1] + 0.55 * high, middle[2] - 0.012 * (middle[0] + wide) ** 2 + 0.2]
        )
        hinge = corner + np.array([side * 0.35, 0.05, -0.6])
        end = np.array([side * (abs(ear[0]) + 0.25), ear[1] + 0.9, ear[2]])
        arm = smooth_curve(np.array([corner, hinge, 0.5 * (hinge + end) + [side * 0.25, 0.1, 0], end]), 30)
        parts.append(tube(arm.astype(np.float32), 0.08, 1.8, False))
    inner = middle[0] - wide
    arch = np.linspace(-inner, inner, 14)
    over = np.stack([arch, middle[1] + 0.45 + 0.3 * (1 - (arch / inner) ** 2), np.full(14, middle[2] + 0.32)], -1)
    parts.append(tube(over.astype(np.float32), 0.09, 1.3, False))
    starts = np.cumsum([0, *(len(p) for p, _ in parts[:-1])])
    corners = np.concatenate([c + np.int32(s) for (_, c), s in zip(parts, starts, strict=True)])
    return Extra(np.concatenate([p for p, _ in parts]), corners.astype(np.int32), GLASSES, follows=True)
