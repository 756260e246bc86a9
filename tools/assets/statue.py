"""Heads of marble and bronze: hair that is carved, one material, and its reflections."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from engines.types import Floats
from tools.assets.clothes import around, garment
from tools.assets.compiled import parallel
from tools.assets.face_model import CLOTH, EYE, SKIN, normals
from tools.assets.hair import Haircut, distance_field, hairline
from tools.assets.images import looked_up
from tools.assets.light import Studio, light_mesh, scatter
from tools.assets.raster import Camera, visible
from tools.assets.scene import HeadMesh, posed
from tools.assets.shade import EYE_CENTRE, interpolate, lamp_table
from tools.assets.skin import BROW, RGB, SCALE, SIZE, beard_area, both, chart, line_mask, noise, smooth_curve


class Stone(NamedTuple):
    """A material. ``metal`` is 1 for bronze; ``patina`` its colour in the hollows."""

    colour: RGB
    vein: RGB
    metal: float
    patina: RGB
    scatter: tuple[int, int, int]


MARBLE = Stone((0.80, 0.775, 0.735), (0.50, 0.505, 0.52), 0.0, (0.62, 0.55, 0.45), (14, 10, 8))
BRONZE = Stone((0.34, 0.195, 0.095), (0.26, 0.145, 0.07), 1.0, (0.085, 0.17, 0.14), (0, 0, 0))


class Statue(NamedTuple):
    """A sculpted head. ``hair``: waves or curls; ``beard`` is how far a carved beard stands out, in cm."""

    identity: dict[int, float]
    stone: Stone
    hair: str
    studio: Studio
    face: dict[str, float]
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    beard: float = 0.0
    camera: Camera = Camera(y=0.3, span=42.0)
    seed: int = 1


@parallel
def _curls(at: Floats, centres: Floats, spin: Floats, size: float) -> Floats:
    """Return the height (N,) of round curls at points (N, 3): a mound for each centre, with a spiral groove."""
    out = np.zeros(at.shape[0], np.float32)
    for i in numba.prange(at.shape[0]):
        best, second, which = 1e9, 1e9, 0
        for k in range(centres.shape[0]):
            square = 0.0
            for c in range(3):
                square += (at[i, c] - centres[k, c]) ** 2
            if square < best:
                best, second, which = square, best, k
            elif square < second:
                second = square
        away = np.sqrt(best) / size
        gap = (np.sqrt(second) - np.sqrt(best)) / size
        turn = np.arctan2(
            at[i, 1] - centres[which, 1], at[i, 0] + 0.7 * at[i, 2] - centres[which, 0] - 0.7 * centres[which, 2]
        )
        groove = np.sin(spin[which, 0] * turn + spin[which, 1] + 9.0 * away)
        mound = max(1 - 0.9 * away * away, 0.0) + 0.35 * min(gap * 2.5, 1.0)
        out[i] = 0.42 * mound + 0.09 * groove * min(gap * 3, 1.0)
    return out


def _waves(at: Floats, seed: int) -> Floats:
    """Return the height (N,) of locks that are combed from a parting to the back of the head."""
    x, y, z = np.abs(at[:, 0]), at[:, 1], at[:, 2]
    around_head = np.arctan2(x, z + 1.0)
    up = np.arctan2(y - 4.0, np.hypot(x, z + 1.0))
    warp = 0.10 * np.sin(5.5 * around_head + 2.0 * np.sin(3 * up) + seed) + 0.05 * np.sin(11 * around_head + 4 * up)
    flow = up * 0.85 + 0.42 * around_head + warp
    locks = np.sin(flow * 24) + 0.5 * np.sin(flow * 47 + 3 * np.sin(6 * around_head))
    fine = np.sin(flow * 150 + 2 * np.sin(8 * around_head))
    return np.asarray(0.20 * locks + 0.035 * fine, np.float32)


class _Carving:
    """How far the hair and the beard of a statue stand out, at points of the mean face."""

    def __init__(self, mesh: HeadMesh, statue: Statue) -> None:
        self.statue = statue
        rng = np.random.default_rng(statue.seed)
        neutral = mesh.model.neutral[mesh.model.kind == SKIN]
        neutral = neutral[neutral[:, 1] > -11]
        chosen: list[Floats] = []
        for place in neutral[rng.permutation(len(neutral))]:
            if all(((place - other) ** 2).sum() > 1.05**2 for other in chosen):
                chosen.append(place)
        self.centres = np.array(chosen, np.float32)
        self.spin = np.stack([rng.choice([-1.0, 1.0], len(chosen)), rng.uniform(0, 6.3, len(chosen))], -1).astype(
            np.float32
        )
        self.cut = Haircut("short", (0, 0, 0))
        self.beard = beard_area()

    def mask(self, rest: Floats) -> Floats:
        """Return how much of a place is hair, (N,)."""
        above = hairline(rest, self.cut)
        hair = np.clip((above + 0.3) / 2.4, 0, 1)
        if self.statue.beard:
            at = chart(rest)
            area = looked_up(self.beard, at)
            hair = np.maximum(hair, np.where(rest[:, 2] > -1, np.clip(area * 1.6 - 0.4, 0, 1), 0))
        return np.asarray(hair * hair * (3 - 2 * hair), np.float32)

    def height(self, rest: Floats) -> Floats:
        """Return how far it stands out, (N,) in cm."""
        mask = self.mask(rest)
        pattern = (
            _waves(rest, self.statue.seed)
            if self.statue.hair == "waves"
            else _curls(rest, self.centres, self.spin, 1.15)
        )
        low = rest[:, 1] < 1.5
        base = np.where(low & (rest[:, 2] > 2), self.statue.beard, 0.75 + 0.35 * np.clip((rest[:, 1] - 8) / 5, 0, 1))
        return np.asarray(mask * (base + pattern), np.float32)


def _carved_face() -> Floats:
    """Return slopes (H, W, 2) of what is carved into the face: brows, irises apart."""
    curve = smooth_curve(np.array(BROW), 60)
    height = np.zeros(SIZE, np.float32)
    for off in np.linspace(-0.22, 0.22, 5):
        strand = (
            curve
            + np.array([0, off, 0])
            + np.stack([0 * curve[:, 0], 0.05 * np.sin(curve[:, 0] * 9 + off * 20), 0 * curve[:, 0]], -1)
        )
        height += 0.5 * line_mask(strand, 0.05, 0.04)
    height = both(height + 0.6 * line_mask(curve, 0.4, 0.16)) * 0.05 * SCALE
    return np.asarray(np.stack([np.gradient(height, axis=1), -np.gradient(height, axis=0)], -1), np.float32)


def _shifted(rest: Floats, carving: _Carving, normal: Floats) -> Floats:
    """Return normals (N, 3) tilted by the fine relief of the hair: its slope is measured along each axis."""
    step = 0.03
    here = carving.height(rest)
    slope = np.stack([(carving.height(rest + step * axis) - here) / step for axis in np.eye(3, dtype=np.float32)], -1)
    slope -= normal * (slope * normal).sum(1, keepdims=True)
    tilted = normal - 0.9 * np.clip(slope, -1.6, 1.6)
    return np.asarray(tilted / np.linalg.norm(tilted, axis=1, keepdims=True), np.float32)


def carve(mesh: HeadMesh, statue: Statue, size: tuple[int, int], directions: int) -> tuple[Floats, Floats]:
    """Return the linear light (H, W, 3) of a statue and what it covers (H, W)."""
    carving = _Carving(mesh, statue)
    surface = mesh.model.head(statue.identity, statue.face)
    neutral = mesh.model.head(statue.identity, {}).points
    points = mesh.subdivision.smooth(surface.points)
    follow = mesh.subdivision.smooth(mesh.follow[:, None])[:, 0]
    on_skin = mesh.fine_kind == SKIN
    raised = np.where(on_skin, carving.height(mesh.fine_rest), 0)
    # carved relief is added per pixel, so that the mesh takes only what it can hold
    points = points + normals(points, mesh.fine) * (raised * 0.92)[:, None]
    points = posed(points.astype(np.float32), follow, statue.turn)
    body = distance_field(mesh.subdivision.smooth(neutral), mesh.fine)
    robe = around(garment("crew", 1.0, 0.5, statue.seed), body, 0.35)
    joined = np.concatenate([points, robe.points])
    corners = np.concatenate([mesh.fine, robe.corners + np.int32(len(points))])
    normal = normals(joined, corners)
    light = light_mesh(joined, normal, corners, statue.studio, directions)
    total, share = light.total.copy(), light.share
    if statue.stone.scatter[0]:
        edges = np.concatenate([corners[:, :2], corners[:, 1:]]).astype(np.int32)
        total = scatter(total, edges, np.ones(len(edges), np.float32), statue.stone.scatter)
    rest = np.concatenate([mesh.fine_rest, robe.points])
    seen = visible(statue.camera.project(joined, *size), corners, *size)
    values = np.concatenate([normal, total, share, rest], 1).astype(np.float32)
    flat = interpolate(seen.triangle, seen.weight, corners, values)
    kinds = np.concatenate([mesh.fine_kind, np.full(len(robe.points), CLOTH, np.uint8)])
    kind = np.where(seen.triangle >= 0, kinds[corners[seen.triangle][..., 0]], 0)
    lamps = share.shape[1]
    parts = flat[..., :3], flat[..., 3:6], flat[..., 6 : 6 + lamps], flat[..., 6 + lamps :]
    image = _finish(kind, *parts, carving, statue, size)
    return image, (kind > 0).astype(np.float32)


def _finish(
    kind: Floats,
    normal: Floats,
    light: Floats,
    share: Floats,
    rest: Floats,
    carving: _Carving,
    statue: Statue,
    size: tuple[int, int],
) -> Floats:
    """Return the linear light (H, W, 3) of stone or bronze."""
    on = kind > 0
    n, lit, part, at = normal[on], light[on], share[on], rest[on]
    n = n / (np.linalg.norm(n, axis=1, keepdims=True) + 1e-9)
    skin = kind[on] == SKIN
    pixels = chart(at)
    slopes = looked_up(_carved_face(), pixels)
    front = skin & (at[:, 2] > 4)
    before = n.copy()
    n[front, 0] -= slopes[front, 0]
    n[front, 1] -= slopes[front, 1]
    hairy = skin & (carving.mask(at) > 0.05)
    n[hairy] = _shifted(at[hairy], carving, n[hairy])
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    hollow = _iris(at, kind[on] == EYE)
    stone = statue.stone
    colour = _veined(at, stone, statue.seed) * (1 - hollow)[:, None]
    lamps = lamp_table(statue.studio)[: len(statue.studio.lamps)]
    relief = np.ones(len(n), np.float32)
    shine = np.zeros((len(n), 3), np.float32)
    view = np.array([0, 0, 1], np.float32)
    facing = np.clip(n @ view, 0.02, 1)
    mirror = 2 * facing[:, None] * n - view
    for k, lamp in enumerate(lamps):
        relief += 0.9 * part[:, k] * ((n - before) @ lamp[:3])
        along, own = mirror @ lamp[:3], lamp[6]
        for sharp, weight in ((7.0, 0.75), (40.0, 0.55)) if stone.metal else ((40.0, 0.6),):
            both_ = sharp * own / (sharp + own)
            amount = part[:, k] * weight * sharp / (sharp + own) * np.exp(both_ * (along - 1))
            shine += amount[:, None] * lamp[3:6]
    image = np.zeros((*size, 3), np.float32)
    image[on] = _material(statue, at, lit, n, colour, relief, shine)
    return image


def _material(
    statue: Statue, at: Floats, lit: Floats, n: Floats, colour: Floats, relief: Floats, shine: Floats
) -> Floats:
    """Return the light (N, 3) from stone or metal with normals ``n``, in the light ``lit`` and the reflections
    ``shine``."""
    stone, studio = statue.stone, statue.studio
    facing = np.clip(n[:, 2], 0.02, 1)
    mirror_y = 2 * facing * n[:, 1]
    relief = np.clip(relief, 0.25, 1.8)[:, None]
    occluded = np.clip(lit.mean(1) / max(float(np.percentile(lit.mean(1), 85)), 1e-6), 0, 1)
    if stone.metal:
        up = np.clip(mirror_y[:, None] * 0.5 + 0.5, 0, 1)
        around = up * np.array(studio.sky) * 1.6 + (1 - up) * np.array(studio.ground)
        fresnel = colour + (1 - colour) * 0.5 * ((1 - facing) ** 5)[:, None]
        shine = fresnel * (shine + around * (0.25 + 0.75 * occluded)[:, None])
        green = np.clip(1.05 - 2.2 * occluded + 0.35 * _cloud(at, 1.1, statue.seed), 0, 1)[:, None] * 0.85
        body = colour * 0.10 * (1 - green) + np.array(stone.patina) * green
        return np.asarray(shine * (1 - 0.75 * green) * np.clip(relief, 0.5, 1.5) + body * lit * relief, np.float32)
    dirt = np.clip(0.75 - 1.7 * occluded, 0, 1)[:, None] * 0.5
    body = colour * (1 - dirt) + colour * np.array(stone.patina) * dirt
    fresnel = (0.035 + 0.4 * (1 - facing) ** 5)[:, None]
    return np.asarray(body * lit * relief + 0.5 * fresnel * shine, np.float32)


def _iris(at: Floats, eye: Floats) -> Floats:
    """Return how dark the carving of the irises is, (N,): a groove around each, and a drilled pupil."""
    away = np.hypot(np.abs(at[:, 0]) - EYE_CENTRE[0], at[:, 1] - EYE_CENTRE[1])
    ring = np.exp(-(((away - 0.66) / 0.06) ** 2)) * 0.45
    pupil = 1 / (1 + np.exp(np.clip((away - 0.30) / 0.03, -30, 30))) * 0.62
    notch = (
        np.exp(-(((np.hypot(np.abs(at[:, 0]) - EYE_CENTRE[0] + 0.02, at[:, 1] - EYE_CENTRE[1] - 0.17)) / 0.11) ** 2))
        * 0.6
    )
    return np.asarray(np.where(eye, np.clip(ring + 0.10 * (away < 0.66) + pupil - notch, 0, 0.8), 0), np.float32)


def _cloud(at: Floats, cell: float, seed: int) -> Floats:
    """Return smooth noise (N,) at points in space: the mean of three planes of it."""
    plane = noise((512, 512), 16, seed)
    scale = 16 / cell
    total = np.zeros(len(at), np.float32)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        u, v = ((at[:, k] * scale + 250) % 510 for k in (a, b))
        total += looked_up(np.roll(plane, 97 * a, 0), np.stack([u, v], -1))
    return np.asarray(total / 1.7, np.float32)


def _veined(at: Floats, stone: Stone, seed: int) -> Floats:
    bent = at + 0.9 * np.stack([_cloud(at, 3.5, seed + k) for k in range(3)], -1)
    ridge = np.abs(_cloud(bent.astype(np.float32), 5.0, seed + 5))
    vein = np.exp(-((ridge / 0.05) ** 2)) * np.clip(0.5 + 0.6 * _cloud(at, 6.0, seed + 6), 0, 1) * 0.35
    tone = 1 + 0.03 * _cloud(at, 2.0, seed + 7)
    colour = np.array(stone.colour, np.float32) * tone[:, None]
    return np.asarray(colour + (np.array(stone.vein, np.float32) - colour) * vein[:, None], np.float32)
