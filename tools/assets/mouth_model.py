"""Bake teeth, gums and tongue of the ICT face model into the small table that the painted mouth is drawn from.

    python -m tools.assets.mouth_model ICT_FACE.npz [OUT.npz]

ICT-FaceKit's light face model (USC Institute for Creative Technologies, MIT licence; Li et al., "Learning Formation of
Physically-Based Face Attributes", 2020) has the geometry: y up, z to the front, centimetres. Three surfaces are kept:
upper and lower teeth with their gums as seen from inside the arch outwards, and the floor of the mouth with the tongue
as seen from above. Each becomes a part of one texture and a coarse grid of points.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.layers.mesh_raster import FAR, draw_mesh
from engines.types import Floats

OUT = Path(__file__).parents[2] / "engines" / "assets" / "mouth.npz"
GUMS, UPPER_TEETH, LOWER_TEETH = (14062, 17039), (17039, 19247), (19247, 21451)
"""Ranges of the model's vertices."""
ANCHOR = np.array([0, -3.35, 11.2], np.float32)
"""Where the lips meet."""
AXIS_Z, HALF_ANGLE = 6.0, np.radians(80.0)
"""The arch of the teeth is seen from a vertical axis here, over this angle to each side."""
COLUMNS, FINE = 256, 4
"""The width of the texture, and by how much finer it is rendered."""
ENAMEL, ROOT, GUM, TONGUE = (
    np.array(colour, np.float32)
    for colour in ((0.93, 0.9, 0.84), (0.88, 0.81, 0.69), (0.74, 0.4, 0.38), (0.82, 0.46, 0.45))
)
"""Colours in white light, over white."""


@dataclass(frozen=True, slots=True)
class Surface:
    """A part of the texture, (rows, 256, 4) uint8, and its grid of points, (m, n, 3) in head axes, centimetres."""

    texture: NDArray[np.uint8]
    grid: Floats


def triangles_of(faces: NDArray[np.int32], chosen: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the triangles (T, 3) of faces (N, 4), -1 for no corner, of which every vertex (V,) is chosen."""
    quads = faces[(chosen[faces] | (faces < 0)).all(axis=1)]
    whole = quads[quads[:, 3] >= 0]
    return np.asarray(np.concatenate([quads[:, :3], whole[:, [0, 2, 3]]]), np.int32)


def seen(target: Floats, values: Floats, triangles: NDArray[np.int32], rows: int) -> tuple[Floats, Floats]:
    """Return what is nearest at each sample: values (rows, 256, 2) and depth (rows, 256), FAR where there is nothing.

    ``target``: (N, 3), columns, rows and depth of each vertex; both sizes are multiplied by ``FINE``.
    """
    shape = rows * FINE, COLUMNS * FINE
    backward, depth = np.zeros((*shape, 2), np.float32), np.full(shape, FAR, np.float32)
    fine = (target * np.array([FINE, FINE, 1], np.float32)).astype(np.float32)
    draw_mesh(fine, values, triangles, 0, 0, 1, backward, depth)
    return backward, depth


def filled(depth: Floats, hit: NDArray[np.bool_]) -> Floats:
    """Return a depth without holes: each takes the mean of what is near it."""
    value, weight = np.where(hit, depth, 0).astype(np.float32), hit.astype(np.float32)
    total = np.zeros_like(value)
    known = np.zeros_like(weight)
    for size in (3, 9, 27, 81, 243, 729):
        near, share = (cv2.blur(part, (size, size)) for part in (value, weight))
        new = (known == 0) & (share > 1e-4)
        total[new] = (near / np.maximum(share, 1e-6))[new]
        known[new] = 1
    return np.asarray(np.where(hit, depth, total), np.float32)


def shaded(
    albedo: Floats, points: Floats, hollow: Floats, hit: NDArray[np.bool_], wet: Floats, up: float
) -> NDArray[np.uint8]:
    """Return the texture (rows, 256, 4) of a surface that is lit softly from the front, and from ``up`` above it.

    albedo: (h, w, 3); points: (h, w, 3), model axes; hollow: (h, w), how deep below what is around it, centimetres;
    wet: (h, w), how much a point shines.
    """
    smooth = cv2.GaussianBlur(points, (0, 0), 1.6 * FINE)
    across, down = np.gradient(smooth, axis=1), np.gradient(smooth, axis=0)
    normal = np.cross(down, across)
    normal /= np.maximum(np.linalg.norm(normal, axis=2, keepdims=True), 1e-9)
    light = np.array([0, up, 1.0]) / np.hypot(up, 1)
    facing = np.clip(normal @ light, 0, 1)
    shade = (0.5 + 0.5 * facing) * (1 - np.clip(hollow / 0.14, 0, 0.85))
    colour = albedo * shade[..., None] + (0.16 * wet * facing**40)[..., None]
    alpha = hit.astype(np.float32)
    premultiplied = np.dstack([np.clip(colour, 0, 1) * alpha[..., None], alpha])
    small = cv2.resize(premultiplied, (COLUMNS, len(albedo) // FINE), interpolation=cv2.INTER_AREA).astype(np.float32)
    small[..., :3] /= np.maximum(small[..., 3:], 1e-3)
    return np.asarray(np.rint(255 * np.clip(small, 0, 1)), np.uint8)


def head_axes(points: Floats) -> Floats:
    """Return points of the model relative to where the lips meet: x right, y down, z away."""
    return np.asarray((points - ANCHOR) * np.array([1, -1, -1], np.float32), np.float32)


def sampled(points: Floats, rows: int, columns: int) -> Floats:
    """Return a grid (rows, columns, 3) of points (h, w, 3), from edge to edge."""
    smooth = cv2.GaussianBlur(points, (0, 0), 2.0 * FINE).astype(np.float32)
    at = [
        np.rint(np.linspace(0, size - 1, count)).astype(int)
        for size, count in zip(points.shape[:2], (rows, columns), strict=True)
    ]
    return head_axes(smooth[np.ix_(*at)])


def arch(vertices: Floats, triangles: NDArray[np.int32], teeth: tuple[int, int], top: float, bottom: float) -> Surface:
    """Return a row of teeth and its gum between two heights, as seen from the middle of the mouth outwards."""
    rows = 72
    around = np.arctan2(vertices[:, 0], vertices[:, 2] - AXIS_Z)
    radius = np.hypot(vertices[:, 0], vertices[:, 2] - AXIS_Z)
    target = np.stack(
        [(around / HALF_ANGLE + 1) / 2 * COLUMNS, (top - vertices[:, 1]) / (top - bottom) * rows, -radius], axis=1
    ).astype(np.float32)
    tooth = np.zeros((len(vertices), 2), np.float32)
    tooth[teeth[0] : teeth[1], 0] = 1
    # what spans the back of the head belongs to neither side
    triangles = triangles[np.ptp(target[triangles, 0], axis=1) < COLUMNS / 8]
    values, depth = seen(target, tooth, triangles, rows)
    # the tongue behind a row of teeth is not a part of it
    hit = (depth < FAR) & (depth < depth.min(axis=0) + 1)
    outwards = -filled(depth, hit)
    angles = ((np.arange(COLUMNS * FINE) + 0.5) / (COLUMNS * FINE) * 2 - 1) * HALF_ANGLE
    heights = top + (np.arange(rows * FINE) + 0.5) / (rows * FINE) * (bottom - top)
    points = np.dstack(
        [
            outwards * np.sin(angles),
            np.broadcast_to(heights[:, None], outwards.shape),
            outwards * np.cos(angles) + AXIS_Z,
        ]
    ).astype(np.float32)
    is_tooth = cv2.GaussianBlur(values[..., 0], (0, 0), 1.2)[..., None]
    # enamel is thinner and warmer towards the gum
    from_gum = cv2.GaussianBlur(values[..., 0], (0, 0), 5.0 * FINE)[..., None]
    enamel = ROOT + np.clip(2 * from_gum - 0.7, 0, 1) * (ENAMEL - ROOT)
    hollow = np.maximum(cv2.GaussianBlur(outwards, (0, 0), 2.5 * FINE) - outwards, 0).astype(np.float32)
    texture = shaded(GUM + is_tooth * (enamel - GUM), points, hollow, hit, is_tooth[..., 0].astype(np.float32), 0.35)
    return Surface(texture, sampled(points, 7, 33))


def floor(vertices: Floats, triangles: NDArray[np.int32]) -> Surface:
    """Return the floor of the mouth with the tongue and the backs of the lower teeth, as seen from above."""
    rows, half, front, back = 112, 2.9, 10.3, 3.0
    target = np.stack(
        [(vertices[:, 0] / half + 1) / 2 * COLUMNS, (vertices[:, 2] - back) / (front - back) * rows, -vertices[:, 1]],
        axis=1,
    ).astype(np.float32)
    tooth = np.zeros((len(vertices), 2), np.float32)
    tooth[LOWER_TEETH[0] : LOWER_TEETH[1], 0] = 1
    values, depth = seen(target, tooth, triangles, rows)
    hit = depth < FAR
    height = -filled(depth, hit)
    x = ((np.arange(COLUMNS * FINE) + 0.5) / (COLUMNS * FINE) * 2 - 1) * half
    z = back + (np.arange(rows * FINE) + 0.5) / (rows * FINE) * (front - back)
    points = np.dstack(
        [np.broadcast_to(x, height.shape), height, np.broadcast_to(z[:, None], height.shape)]
    ).astype(np.float32)  # fmt: skip
    is_tooth = cv2.GaussianBlur(values[..., 0], (0, 0), 1.2)[..., None]
    hollow = np.clip(cv2.GaussianBlur(height, (0, 0), 5.0 * FINE) - height, 0, None) * 0.4
    texture = shaded(TONGUE + is_tooth * (ENAMEL - TONGUE), points, hollow, hit, 0.3 + 0 * hollow, 2.0)
    return Surface(texture, sampled(points, 17, 17))


def jaw_hinge(vertices: Floats, opening: Floats) -> Floats:
    """Return where the jaw turns, (3,) in head axes, from where its teeth are closed and open, both (N, 3)."""
    before, after = vertices[:, 1:].astype(float), (vertices + opening)[:, 1:].astype(float)
    one, other = before - before.mean(axis=0), after - after.mean(axis=0)
    product = one.T @ other
    angle = np.arctan2(product[1, 0] - product[0, 1], product[0, 0] + product[1, 1])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    at = np.linalg.solve(np.eye(2) - turn, after.mean(axis=0) - turn @ before.mean(axis=0))
    return head_axes(np.array([0, *at], np.float32))


def bake(model: Path, out: Path) -> None:
    """Write the table of the painted mouth."""
    with np.load(model, allow_pickle=False) as data:
        vertices, faces = data["neutral"].astype(np.float32), data["faces"].astype(np.int32)
        opening = data["expressions"][list(data["expression_names"]).index("jawOpen")].astype(np.float32)
    moved = np.linalg.norm(opening, axis=1) > 0.3
    inside = np.zeros(len(vertices), np.bool_)
    inside[GUMS[0] : LOWER_TEETH[1]] = True
    skull, jaw = triangles_of(faces, inside & ~moved), triangles_of(faces, inside & moved)
    upper = arch(vertices, skull, UPPER_TEETH, -1.0, -3.7)
    lower = arch(vertices, jaw, LOWER_TEETH, -3.2, -5.3)
    tongue = floor(vertices, jaw)
    lowers = slice(*LOWER_TEETH)
    np.savez_compressed(
        out,
        texture=np.concatenate([upper.texture, lower.texture, tongue.texture]),
        upper=upper.grid.astype(np.float16),
        lower=lower.grid.astype(np.float16),
        floor=tongue.grid.astype(np.float16),
        hinge=jaw_hinge(vertices[lowers], opening[lowers]),
    )
    print(f"{out}: {out.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    bake(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else OUT)
