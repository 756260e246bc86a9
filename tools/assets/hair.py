"""Hair, brows, lashes and beards: strands that grow from the head's mesh, combed along it and kept out of it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from engines.types import Floats
from tools.assets.compiled import kernel
from tools.assets.face_model import EYE, SKIN, SOCKET, Ints, normals
from tools.assets.scene import HeadMesh
from tools.assets.skin import BROW, RGB, smooth_curve

CELL = 0.5
ORIGIN = np.array([-20.0, -26.0, -16.0], np.float32)
CELLS = (80, 88, 66)
REACH = 2.0
"""A field of distances: the size of a cell, the first one, their number, and how far the field reaches, in cm."""

HAIRLINE = (
    (0, 11.0),
    (20, 10.7),
    (34, 9.6),
    (46, 7.9),
    (55, 6.2),
    (63, 5.0),
    (70, 2.6),
    (78, 2.2),
    (84, 5.2),
    (98, 5.6),
    (108, 2.0),
    (120, -2.5),
    (150, -5.5),
    (180, -6.0),
)
"""Degrees from the front, and the height at which hair begins there in the mean face."""


class Strands(NamedTuple):
    """``points`` (n, k, 3) and ``width`` (n, k), in cm; ``colour`` (n, 3), linear; ``gloss`` (n,); all float32."""

    points: Floats
    width: Floats
    colour: Floats
    gloss: Floats


class Haircut(NamedTuple):
    """How hair is cut and combed. Lengths in cm.

    ``comb`` is one of short, back, long, curls. ``line`` raises the hairline, ``parting`` is its x; ``grey`` the share
    of grey strands; ``volume`` is how far hair stands off, ``wave`` the size of waves and curls.
    """

    comb: str
    colour: RGB
    length: float = 3.0
    strands: int = 26000
    width: float = 0.02
    parting: float = 2.0
    volume: float = 0.6
    wave: float = 0.2
    grey: float = 0.0
    line: float = 0.0
    recede: float = 0.0
    gloss: float = 1.0
    seed: int = 1
    fringe: float = 0.0
    """The length of hair that falls over the forehead."""
    locks: int = 90
    cling: float = 0.3
    """The hairs of a lock, and how closely they keep together."""


class Field(NamedTuple):
    """Distances (X, Y, Z) to the surface of a body, in cells of ``CELL`` cm; negative inside."""

    distance: Floats


@kernel
def _field(
    points: Floats, normal: Floats, shape: tuple[int, int, int], origin: Floats, cell: float, reach: float
) -> Floats:
    best = np.full(shape, np.float32(reach * reach))
    out = np.full(shape, np.float32(reach))
    span = int(reach / cell) + 1
    for v in range(points.shape[0]):
        gx = int((points[v, 0] - origin[0]) / cell)
        gy = int((points[v, 1] - origin[1]) / cell)
        gz = int((points[v, 2] - origin[2]) / cell)
        for i in range(max(gx - span, 0), min(gx + span + 1, shape[0])):
            for j in range(max(gy - span, 0), min(gy + span + 1, shape[1])):
                for k in range(max(gz - span, 0), min(gz + span + 1, shape[2])):
                    dx = origin[0] + i * cell - points[v, 0]
                    dy = origin[1] + j * cell - points[v, 1]
                    dz = origin[2] + k * cell - points[v, 2]
                    square = dx * dx + dy * dy + dz * dz
                    if square < best[i, j, k]:
                        best[i, j, k] = square
                        out[i, j, k] = dx * normal[v, 0] + dy * normal[v, 1] + dz * normal[v, 2]
    return out


def distance_field(points: Floats, corners: Ints) -> Field:
    """Return the distances to a head on a bust, without the edge at which the bust ends."""
    kept = (np.abs(points[:, 0]) < 10) | (points[:, 1] > -9)
    return Field(_field(points[kept], normals(points, corners)[kept], CELLS, ORIGIN, CELL, REACH))


@kernel
def _at(field: Floats, origin: Floats, cell: float, x: float, y: float, z: float) -> float:
    fx, fy, fz = (x - origin[0]) / cell, (y - origin[1]) / cell, (z - origin[2]) / cell
    i, j, k = int(fx), int(fy), int(fz)
    if i < 0 or j < 0 or k < 0 or i >= field.shape[0] - 1 or j >= field.shape[1] - 1 or k >= field.shape[2] - 1:
        return 2.0
    fx, fy, fz = fx - i, fy - j, fz - k
    total = 0.0
    for a in range(2):
        for b in range(2):
            for c in range(2):
                part = (fx if a else 1 - fx) * (fy if b else 1 - fy) * (fz if c else 1 - fz)
                total += part * field[i + a, j + b, k + c]
    return total


@kernel
def _outwards(field: Floats, origin: Floats, cell: float, x: float, y: float, z: float) -> tuple[float, float, float]:
    e = 0.4
    nx = _at(field, origin, cell, x + e, y, z) - _at(field, origin, cell, x - e, y, z)
    ny = _at(field, origin, cell, x, y + e, z) - _at(field, origin, cell, x, y - e, z)
    nz = _at(field, origin, cell, x, y, z + e) - _at(field, origin, cell, x, y, z - e)
    n = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
    return nx / n, ny / n, nz / n


@kernel
def _pushed(points: Floats, field: Floats, origin: Floats, cell: float, gap: float) -> Floats:
    out = points.copy()
    for i in range(points.shape[0]):
        for _ in range(12):
            d = _at(field, origin, cell, out[i, 0], out[i, 1], out[i, 2]) - gap
            if d >= 0:
                break
            nx, ny, nz = _outwards(field, origin, cell, out[i, 0], out[i, 1], out[i, 2])
            give = min(-d, 0.5)
            out[i, 0] += give * nx
            out[i, 1] += give * ny
            out[i, 2] += give * nz
    return out


def pushed_out(points: Floats, field: Field, gap: float) -> Floats:
    """Return points (N, 3) moved to lie at least ``gap`` cm outside of a body."""
    return np.asarray(_pushed(np.ascontiguousarray(points), field.distance, ORIGIN, CELL, gap), np.float32)


def hairline(rest: Floats, cut: Haircut) -> Floats:
    """Return how far above the hairline points of the mean face (N, 3) lie, in cm."""
    angle = np.degrees(np.arctan2(np.abs(rest[:, 0]), rest[:, 2] - 0.5))
    line = np.array(HAIRLINE, np.float32)
    start = np.interp(angle, line[:, 0], line[:, 1]) + cut.line * (angle < 70)
    start = start + cut.recede * np.exp(-(((angle - 30) / 16) ** 2)) * 2.2
    above = rest[:, 1] - start
    ear = (np.abs(rest[:, 0]) > 7.75) & (rest[:, 1] < 5.3) & (rest[:, 2] > -3.5)
    return np.asarray(np.where(ear, -1.0, above), np.float32)


def roots(
    points: Floats, rest: Floats, corners: Ints, count: int, above: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Return ``count`` places spread over a mesh where ``above`` (V,) is positive, softly: their points, rest,
    normals."""
    score = above[corners]
    chosen = corners[(score > -0.5).any(1)]
    a, b, c = (points[chosen[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    pick = rng.choice(len(chosen), int(count * 1.6), p=area / area.sum())
    u, v = rng.random((2, len(pick)))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    weight = np.stack([1 - u - v, u, v], 1)[..., None]
    mixed = [
        (array[chosen[pick]] * weight).sum(1) for array in (points, rest, normals(points, corners), above[:, None])
    ]
    kept = mixed[3][:, 0] > rng.normal(0.15, 0.25, len(pick))
    place, at, normal = (np.ascontiguousarray(m[kept][:count], np.float32) for m in mixed[:3])
    return place, at, normal


class _Comb(NamedTuple):
    """How strands are combed. ``mode`` 1 draws them to (x, y, z), 2 parts them at x and keeps them y from the face.

    ``stiff`` is how fast they turn, ``rise`` how far they leave along the normal, ``keep`` their distance to the skin.
    """

    steps: int = 10
    mode: int = 0
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    stiff: float = 0.3
    gravity: float = 0.0
    rise: float = 1.0
    keep: float = 0.06


@kernel
def _aim(comb: _Comb, side: float, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Return the direction in which a strand is combed at a point, in modes 1 and 2."""
    if comb.mode == 1:
        ax, ay, az = comb.x - x, comb.y - y, comb.z - z
        m = 1 / (math.sqrt(ax * ax + ay * ay + az * az) + 1e-6)
        return ax * m, ay * m, az * m
    top = min(max((y - 5.0) / 8.0, 0.0), 1.0)
    front = min(max(z / 8.0, 0.0), 1.0)
    over = min(max((7.5 - abs(x)) / 3.5, 0.0), 1.0)
    return side * (1.1 * top * over - 0.12 * (1 - over)), -1.0 + 0.5 * top * over, -0.45 * front - 0.1


@kernel
def _comb(
    places: Floats, aims: Floats, normal: Floats, lengths: Floats, lift: Floats, comb: _Comb, field: Floats,
    origin: Floats, cell: float,
) -> Floats:  # fmt: skip
    """Return strands (n, steps, 3) from ``places``, which leave along ``normal`` and turn towards ``aims``."""
    out = np.zeros((places.shape[0], comb.steps, 3), np.float32)
    for i in range(places.shape[0]):
        x, y, z = places[i]
        ax, ay, az = aims[i]
        side = 1.0 if x > comb.x else -1.0
        dx, dy, dz = comb.rise * normal[i, 0] + ax, comb.rise * normal[i, 1] + ay, comb.rise * normal[i, 2] + az
        step = lengths[i] / (comb.steps - 1)
        for k in range(comb.steps):
            out[i, k] = x, y, z
            if comb.mode > 0:
                ax, ay, az = _aim(comb, side, x, y, z)
            dx, dy, dz = dx + comb.stiff * (ax - dx), dy + comb.stiff * (ay - dy), dz + comb.stiff * (az - dz)
            dy -= comb.gravity * step
            m = 1 / (math.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9)
            dx, dy, dz = dx * m, dy * m, dz * m
            x, y, z = x + dx * step, y + dy * step, z + dz * step
            d = _at(field, origin, cell, x, y, z) - lift[i] * min(k * step / 2.0, 1.0) - comb.keep
            if d < 0:
                nx, ny, nz = _outwards(field, origin, cell, x, y, z)
                x, y, z = x - d * nx, y - d * ny, z - d * nz
                into = min(dx * nx + dy * ny + dz * nz, 0.0)
                dx, dy, dz = dx - into * nx, dy - into * ny, dz - into * nz
            half = comb.y - 0.10 * max(-6.0 - y, 0.0)
            if comb.mode == 2 and z > 0 and y < 9.0 and side * x < half:
                x += side * min(half - side * x, 0.4) * min((9.0 - y) / 3.0, 1.0)
    return out


def _tapered(count: int, steps: int, width: float, sharp: float) -> Floats:
    along = np.linspace(0, 1, steps, dtype=np.float32)
    return np.tile((width * (1 - along**sharp * 0.85)).astype(np.float32), (count, 1))


def _tinted(rng: np.random.Generator, count: int, base: RGB, grey: float, vary: float) -> Floats:
    colour = np.array(base, np.float32) * np.exp(rng.normal(0, vary, (count, 1)))
    colour[:, 0] *= np.exp(rng.normal(0, 0.05, count))
    is_grey = rng.random(count) < grey
    colour[is_grey] = np.array([0.30, 0.295, 0.29]) * np.exp(rng.normal(0, 0.22, (int(is_grey.sum()), 1)))
    return np.asarray(colour, np.float32)


def _clumped(points: Floats, rng: np.random.Generator, size: int, amount: float) -> Floats:
    """Return strands (n, k, 3) drawn towards every ``size``-th one near them, more at the tips, as locks."""
    leaders = np.arange(0, len(points), size)
    heads = points[leaders, 0]
    nearest = np.empty(len(points), np.int64)
    for i in range(0, len(points), 2048):
        nearest[i : i + 2048] = ((points[i : i + 2048, None, 0] - heads[None]) ** 2).sum(2).argmin(1)
    along = np.linspace(0, 1, points.shape[1], dtype=np.float32)[None, :, None] ** 0.8
    pull = amount * along * rng.uniform(0.5, 1, (len(points), 1, 1)).astype(np.float32)
    return np.asarray(points + (points[leaders[nearest]] - points) * pull, np.float32)


def _waved(points: Floats, cut: Haircut, period: float, rng: np.random.Generator) -> Floats:
    """Return strands with waves: neighbours wave alike."""
    count, steps = points.shape[:2]
    run = np.linspace(0, cut.length, steps, dtype=np.float32)[None]
    start = points[:, 0]
    phase = 1.3 * np.sin(start[:, 0] * 0.9) + 1.1 * np.sin(start[:, 1] * 0.8 + 1) + rng.normal(0, 0.5, count)
    angle = run * 2 * np.pi / period + phase[:, None]
    size = cut.wave * np.clip(run / (0.5 * period), 0, 1)
    offset = np.stack([np.cos(angle) * size, 0.35 * np.sin(1.7 * angle) * size, np.sin(angle) * size], -1)
    return np.asarray(points + offset, np.float32)


def _aims(cut: Haircut, at: Floats, normal: Floats, rng: np.random.Generator) -> Floats:
    """Return the directions in which short hair is combed at places of the mean face."""
    top = np.clip((at[:, 1] - 7.0) / 5.0, 0, 1)[:, None]
    side = np.tanh((at[:, :1] - cut.parting) / 2.0)
    over = np.clip((np.abs(at[:, :1]) - 2.5) / 4.0, 0, 1)
    swirl = np.sin(at[:, :1] * 1.9 + at[:, 2:] * 1.3) * 0.2
    up = np.concatenate(
        [side * (1 - 0.8 * over) + swirl, 0.05 - 0.8 * over, 0.2 * (1 - np.abs(side)) - 0.35 + swirl], 1
    )
    down = np.concatenate([0 * side, -1 + 0 * side, -0.45 + 0 * side], 1)
    aim = top * up + (1 - top) * down + rng.normal(0, 0.14, at.shape)
    aim -= normal * (aim * normal).sum(1, keepdims=True)
    aim /= np.linalg.norm(aim, axis=1, keepdims=True)
    aim += normal * (0.08 + 0.45 * cut.volume * top * (1 - 0.7 * over))
    return np.asarray(aim, np.float32)


def _combing(cut: Haircut, place: Floats, at: Floats) -> tuple[_Comb, Floats]:
    """Return how hair from ``place`` (N, 3) is combed, and its lengths (N,)."""
    top = np.clip((at[:, 1] - 6.5) / 6.0, 0, 1)
    if cut.comb == "short":
        return _Comb(rise=0.45), cut.length * (0.28 + 0.72 * top)
    if cut.comb == "back":
        knot = np.array([0, 6.5, -9.5], np.float32)
        return _Comb(26, 1, 0.0, 6.5, -9.5, stiff=0.5), np.linalg.norm(place - knot, axis=1) * 1.15
    if cut.comb == "long":
        steps = int(1.4 * cut.length) + 4
        return _Comb(steps, 2, cut.parting, 6.3, gravity=0.05), cut.length * (0.75 + 0.25 * top)
    return _Comb(22, stiff=0.05), cut.length * (0.45 + 0.55 * top)


def grow_hair(mesh: HeadMesh, points: Floats, field: Field, cut: Haircut) -> Strands:
    """Return the hair of a head with ``points`` (V, 3), looking ahead."""
    rng = np.random.default_rng(cut.seed)
    above = hairline(mesh.model.neutral, cut)
    above = np.where(mesh.model.kind == SKIN, above, -9).astype(np.float32)
    place, at, normal = roots(points, mesh.model.neutral, mesh.coarse, cut.strands, above, rng)
    count = len(place)
    vary = rng.uniform(0.75, 1.1, count)
    lift = (cut.volume * (0.3 + 0.7 * rng.random(count))).astype(np.float32)
    comb, lengths = _combing(cut, place, at)
    if cut.comb == "back":
        lift *= np.clip((at[:, 1] - 4.7) / 6.0, 0, 1).astype(np.float32)
    aims = _aims(cut, at, normal, rng) if cut.comb == "short" else normal.copy()
    lengths = (lengths * vary).astype(np.float32)
    strands = _comb(place, aims, normal, lengths, lift, comb, field.distance, ORIGIN, CELL)
    if cut.comb == "short":
        strands = _clumped(strands, rng, min(cut.locks, 60), 0.35)
    elif cut.comb == "curls":
        strands = _clumped(_curled(strands, cut, rng), rng, 24, 0.5)
    else:
        strands = _clumped(_waved(strands, cut, 7.5, rng) if cut.wave else strands, rng, cut.locks, cut.cling)
    if cut.fringe:
        front = (at[:, 2] > 3.0) & (np.abs(at[:, 0]) < 6.0)
        strands[front] = _fringe(place[front], at[front], normal[front], comb.steps, field, cut, rng)
    gloss = (cut.gloss * np.exp(rng.normal(0, 0.22, count))).astype(np.float32)
    width = _tapered(count, comb.steps, cut.width, 3.0)
    return Strands(strands, width, _tinted(rng, count, cut.colour, cut.grey, 0.2), gloss)


def _fringe(
    place: Floats, at: Floats, normal: Floats, steps: int, field: Field, cut: Haircut, rng: np.random.Generator
) -> Floats:
    """Return strands (n, steps, 3) that fall over the forehead, a little to the sides."""
    aims = np.stack([0.10 * at[:, 0], np.full(len(at), -0.75), np.full(len(at), 0.65)], -1)
    aims += rng.normal(0, 0.05, aims.shape)
    behind = np.clip(at[:, 1] - 10.5, 0, 4)
    lengths = (cut.fringe + 1.2 * behind - 0.02 * at[:, 0] ** 2) * rng.uniform(0.92, 1.03, len(at))
    lift = (0.15 + 0.25 * rng.random(len(at))).astype(np.float32)
    lengths = lengths.astype(np.float32)
    comb = _Comb(steps, stiff=0.25, gravity=0.03, rise=0.5, keep=0.12)
    strands = _comb(place, aims.astype(np.float32), normal, lengths, lift, comb, field.distance, ORIGIN, CELL)
    return _clumped(strands, rng, cut.locks, max(cut.cling, 0.4))


def _curled(points: Floats, cut: Haircut, rng: np.random.Generator) -> Floats:
    """Return strands as helices around their way, each lock with a turn of its own."""
    count, steps = points.shape[:2]
    run = np.linspace(0, 1, steps, dtype=np.float32)[None]
    start = points[:, 0]
    phase = 2.1 * np.sin(start[:, 0] * 1.7 + start[:, 2]) + 1.9 * np.sin(start[:, 1] * 1.5) + rng.normal(0, 0.35, count)
    turns = 2 * np.pi * run * cut.length * 0.62 + phase[:, None]
    size = cut.wave * np.clip(run * 3, 0, 1)
    offset = np.stack([np.cos(turns) * size, np.sin(turns * 0.9 + 1) * size, np.sin(turns) * size], -1)
    drop = np.stack([0 * run, -0.10 * cut.length * run**2, 0 * run], -1)
    return np.asarray(points + offset + drop, np.float32)


def grow_beard(mesh: HeadMesh, points: Floats, cut: Haircut, area: Floats) -> Strands:
    """Return a beard where ``area`` (V,) is above a half."""
    rng = np.random.default_rng(cut.seed + 3)
    above = np.where(mesh.model.kind == SKIN, (area - 0.45) * 2, -9).astype(np.float32)
    place, at, normal = roots(points, mesh.model.neutral, mesh.coarse, cut.strands, above, rng)
    count = len(place)
    steps = 9
    down = np.stack([0.10 * at[:, 0], np.full(count, -1.0), np.where(at[:, 1] < -5, 0.25, -0.1)], 1)
    moustache = at[:, 1] > -2.9
    down[moustache, 0] = np.sign(at[moustache, 0]) * 1.1
    aim = down + rng.normal(0, 0.25, at.shape)
    chin = np.exp(-((at[:, 0] / 3.0) ** 2) - ((at[:, 1] + 7.5) / 3.0) ** 2)
    lengths = cut.length * (0.45 + 0.75 * chin) * rng.uniform(0.7, 1.1, count)
    lengths[moustache] *= 0.45
    along = np.linspace(0, 1, steps, dtype=np.float32)[None, :, None]
    direction = aim / np.linalg.norm(aim, axis=1, keepdims=True)
    out = normal[:, None] * (0.55 * along - 0.35 * along**2) + direction[:, None] * (0.45 * along + 0.55 * along**2)
    strands = place[:, None] + out * lengths[:, None, None]
    curl = cut.wave * np.sin(along[..., 0] * 7 + rng.uniform(0, 6.3, (count, 1)))
    strands = strands + np.stack([curl, 0 * curl, 0.5 * curl], -1)
    strands = _clumped(strands.astype(np.float32), rng, 30, 0.35)
    gloss = np.full(count, 0.6 * cut.gloss, np.float32)
    return Strands(
        strands, _tapered(count, steps, cut.width, 2.0), _tinted(rng, count, cut.colour, cut.grey, 0.25), gloss
    )


class Anchors:
    """Places on the mesh that strands of brows and lashes are fixed to, so that these follow the face."""

    def __init__(self, mesh: HeadMesh, places: Floats, kind: int = SKIN) -> None:
        """Find the nearest vertices to ``places`` (N, 3) of the mean face."""
        here = np.flatnonzero((mesh.model.kind == kind) & (mesh.model.neutral[:, 2] > 4))
        near = ((places[:, None] - mesh.model.neutral[here][None]) ** 2).sum(2)
        order = np.argsort(near, axis=1)[:, :3]
        distance = np.take_along_axis(near, order, 1)
        weight = 1 / (distance + 0.01)
        self.vertices = here[order]
        self.weight = (weight / weight.sum(1, keepdims=True)).astype(np.float32)[..., None]
        self.offset = places - (mesh.model.neutral[self.vertices] * self.weight).sum(1)

    def moved(self, points: Floats) -> Floats:
        """Return where the places are on a head with ``points`` (V, 3)."""
        return np.asarray((points[self.vertices] * self.weight).sum(1) + self.offset, np.float32)


class Brows:
    """The eyebrows of a face."""

    def __init__(self, mesh: HeadMesh, colour: RGB, count: int, width: float, grey: float, seed: int) -> None:
        """Choose the places and the directions of ``count`` hairs for each brow; ``width`` in cm."""
        rng = np.random.default_rng(seed)
        along = rng.random(2 * count) ** 0.9
        curve = smooth_curve(np.array(BROW), 200)
        middle = curve[(along * 199).astype(int)]
        across = rng.uniform(-0.5, 0.5, 2 * count)
        thick = width * (1 - 0.65 * np.clip((along - 0.5) / 0.5, 0, 1)) * np.clip(0.55 + along * 3, 0, 1)
        middle[:, 1] += across * thick
        side = np.where(np.arange(2 * count) < count, 1.0, -1.0)
        angle = (
            1.15 * np.clip(0.35 - along, 0, 1) / 0.35
            + 0.35
            - 0.8 * along
            - across * 1.0
            + rng.normal(0, 0.13, 2 * count)
        )
        self.direction = np.stack([side * np.cos(angle), np.sin(angle), -0.35 * along], -1).astype(np.float32)
        self.length = (rng.uniform(0.5, 0.85, 2 * count) * (1 - 0.3 * along)).astype(np.float32)
        middle[:, 0] *= side
        self.anchors = Anchors(mesh, middle.astype(np.float32))
        self.colour = _tinted(rng, 2 * count, colour, grey, 0.15)
        self.gloss = np.full(2 * count, 0.3, np.float32)

    def strands(self, points: Floats, normal: Floats) -> Strands:
        """Return the brows on a head with ``points`` and ``normal`` (V, 3)."""
        start = self.anchors.moved(points)
        out = (normal[self.anchors.vertices] * self.anchors.weight).sum(1)
        flat = self.direction - out * (self.direction * out).sum(1, keepdims=True)
        along = np.linspace(0, 1, 6, dtype=np.float32)[None, :, None]
        grown = start[:, None] + self.length[:, None, None] * (
            flat[:, None] * along + out[:, None] * (0.02 + 0.20 * along * (1 - 0.7 * along))
        )
        return Strands(grown.astype(np.float32), _tapered(len(grown), 6, 0.026, 1.5), self.colour, self.gloss)


def lid_margins(mesh: HeadMesh) -> list[Ints]:
    """Return the vertices along the margin of each lid: upper and lower of the picture's right eye, then of the
    left."""
    model, edges = mesh.model, mesh.edges
    kinds = model.kind[edges]
    inner = np.zeros(len(model.kind), bool)
    inner[edges[(kinds == SOCKET).any(1) & (kinds == SKIN).any(1)].ravel()] = True
    inner &= model.kind == SKIN
    touching = edges[inner[edges].sum(1) == 1]
    margin = np.unique(touching[~inner[touching] & (model.kind[touching] == SKIN)])
    found = []
    for side in (1, -1):
        here = margin[side * model.neutral[margin, 0] > 0]
        here = here[np.argsort(np.abs(model.neutral[here, 0]))]
        x, y = np.abs(model.neutral[here, 0]), model.neutral[here, 1]
        middle = np.interp(x, [x[0], x[-1]], [y[:2].mean(), y[-2:].mean()])
        found += [here[y > middle].astype(np.int32), here[y <= middle].astype(np.int32)]
    return found


class Lashes:
    """The lashes of both eyes."""

    def __init__(self, mesh: HeadMesh, count: int, length: float, seed: int) -> None:
        """Choose the places and directions of ``count`` lashes for each upper lid and half as many for each lower
        one."""
        rng = np.random.default_rng(seed)
        kinds, neutral = mesh.model.kind, mesh.model.neutral
        self._eyes = [np.flatnonzero((kinds == EYE) & (side * neutral[:, 0] > 0)) for side in (1, -1)]
        self._parts = []
        for number, margin in enumerate(lid_margins(mesh)):
            upper = number % 2 == 0
            many = count if upper else count // 2
            at = np.sort(rng.uniform(0.04 if upper else 0.25, 1, many)) * (len(margin) - 1.001)
            along = at / (len(margin) - 1)
            long = length * (1 if upper else 0.42) * (0.55 + 0.5 * along) * rng.uniform(0.75, 1.1, many)
            fan = (along - 0.42) * 1.5 + rng.normal(0, 0.12, many)
            side = 1 if number < 2 else -1
            self._parts.append((margin, at, long.astype(np.float32), (side * fan).astype(np.float32), upper))
        total = sum(len(part[1]) for part in self._parts)
        self.colour = np.full((total, 3), 0.008, np.float32)
        self.gloss = np.full(total, 0.1, np.float32)

    def strands(self, points: Floats) -> Strands:
        """Return the lashes on a head with ``points`` (V, 3)."""
        along = np.linspace(0, 1, 6, dtype=np.float32)[None, :, None]
        grown = []
        for number, (margin, at, long, fan, upper) in enumerate(self._parts):
            low, t = at.astype(int), (at % 1)[:, None].astype(np.float32)
            root = points[margin[low]] * (1 - t) + points[margin[low + 1]] * t
            out = root - points[self._eyes[number // 2]].mean(0)
            out[:, 0] += fan
            out /= np.linalg.norm(out, axis=1, keepdims=True)
            up = np.array([0, 1.0 if upper else -1.0, 0], np.float32) - out * out[:, 1:2] * (1.0 if upper else -1.0)
            bend = (0.10 * along + 0.55 * along**2) if upper else (0.35 * along**2)
            grown.append(root[:, None] + long[:, None, None] * (out[:, None] * along * 0.9 + up[:, None] * bend))
        joined = np.concatenate(grown).astype(np.float32)
        return Strands(joined, _tapered(len(joined), 6, 0.022, 1.2), self.colour, self.gloss)
