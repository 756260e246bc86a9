"""The mesh of what surrounds a face: hair, ears, neck and shoulders, which move with the head or hold it.

Rings of points run around the face, each point on a ray from the middle of the face through a point of its outline. The
second is where the skin of the face ends, at the outline or at the edge of the hair that hangs over it. On the outline
both meshes move alike. From there the surface curves back to the
silhouette of the head, towards the depth of the ears.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.topology import CHEEKS, CHIN_TIP, FOREHEAD_TOP, OVAL, TRIANGLES, Indices
from engines.jit import compiled
from engines.types import LANDMARKS, Floats, Mask, Points

RAYS = len(OVAL)
BOUND = 2
"""The innermost rings, which follow the face's expression."""
HAIR_LIES = 0.15, 0.7
"""Depth of the hair's edge over a face, from the surface of the face there (0) to its outline (1): on the side that
turns away, where it would hide too much of the face, and on the side that turns to the viewer."""
SWITCH = 4.0
"""Distance in pixels over which the two edge positions are blended."""
BARE = 0.012
"""Less hair than this over the outline is none, in widths of the face."""
SOFT = 0.05
"""The width of the soft edge of hair over a face, as a share of the distance from the middle of the face."""
UNDER = 0.7
"""The radius of the innermost ring over that of the skin's edge: it lies under the face."""
TO_SILHOUETTE = np.array([0.1, 0.3, 0.55, 0.8, 1.0], np.float32)
"""Where between the edge of the skin (0) and the silhouette (1) the next rings are."""
STRETCHES = np.array([0.8, 0.45, 0.15, 0.0, 0.0], np.float32)
"""The share of the skin's own change, such as a dropped jaw, that these rings follow."""
BEYOND = 1.3
"""The radius of the ring beyond the silhouette over that of the silhouette: strands of hair lie between."""
RINGS = BOUND + len(TO_SILHOUETTE) + 3
ROOM, LEAST_ROOM = 0.3, 6.0
"""What two rings keep of the distance between them where a turned head hides what lies there, as a share, and in pixels
if it was as far at all. A ring that folded under the cheek would be cut off there in steps, as large as the samples of
what is drawn.
"""
NEAREST, FARTHEST, NECK = 1.1, 2.4, 1.4
"""The smallest and the largest radius of a silhouette, and that of the neck, over that of the outline."""
STEEPEST = 1.0
"""The largest slope of the surface at the silhouette."""
NECK_FROM, NECK_TO = 0.35, 0.8
"""How far below the middle of the face, in half heights of it, a ray has no silhouette but the neck's."""
SHOULDERS = 0.55
"""How far below the chin nothing follows the head any more, in heights of the face, if the image reaches as far."""
SHORTEST = 0.25
"""The least length over which the neck bends, in heights of the face."""
WITHOUT_MATTE = np.array([1.25, 1.6, 1.9, 2.2], np.float32), np.array([1.0, 0.5, 0.1, 0.0], np.float32)
"""For an image that is one surface: radii over that of the outline, and how far what lies there follows the head."""


@dataclass(frozen=True, slots=True)
class Surround:
    """The rings around a face, from inside out."""

    bound: Indices
    """(RAYS, 3) the landmarks around the edge of the skin on each ray."""
    weights: Floats
    """(RAYS, 3) the share of each."""
    points: Points
    """(RINGS * RAYS, 3) pixels."""
    near: Points
    """(RAYS, 3) the second ring, where it lies nearer to the surface of the face, pixels."""
    follows: Floats
    """(RINGS * RAYS, 1) the share of the head's motion that each point follows."""
    stretches: Floats
    """(RINGS * RAYS, 1) the share of the change of the skin's edge that each point follows."""

    room: Floats
    """(RINGS - 1, RAYS) how far beyond the second ring each ring from there on lies at least, pixels."""
    bare: Floats
    """(RAYS, 1) from 0, where hair hangs over the outline, to 1, where it is skin."""

    def place(self, moved: Points, near: Points, changed: Floats, out: Floats) -> None:
        """Write the points of a frame, (RINGS * RAYS, 3) pixels, to ``out``.

        moved, near: ``points`` and ``near`` with the head's motion; changed: (478, 3) how far its expression moves each
        landmark. Of the two places of the edge of the hair, the one that covers less of the face is taken.
        """
        place(
            self.points, self.follows, self.stretches, self.bound, self.weights, moved, near, changed, out
        )  # fmt: skip
        unfold(self.room, out)

    def curtain(self, placed: Floats, out: Floats) -> None:
        """Write where hair covers the face in a frame, (2 * RAYS + 1, 3) pixels, to ``out``: see ``CURTAIN_TRIANGLES``.

        The face is seen within the first ring and hidden beyond the second. Where there is no hair both lie outside.
        """
        hang(placed, self.bare, out)


@compiled()
def place(
    points: Any, follows: Any, stretches: Any, bound: Any, weights: Any, moved: Any, near: Any, changed: Any, out: Any
) -> None:
    """Write the points of a frame to ``out``: see ``Surround.place``."""
    for i in range(points.shape[0]):
        for k in range(3):
            out[i, k] = points[i, k] + follows[i, 0] * (moved[i, k] - points[i, k])
    middle = np.zeros(2, np.float32)
    for i in range(RAYS):
        for k in range(2):
            middle[k] += out[RAYS + i, k] / np.float32(RAYS)
    shares, before = np.empty(RAYS, np.float32), np.empty(RAYS, np.float32)
    for i in range(RAYS):
        x, y = out[RAYS + i, 0] - middle[0], out[RAYS + i, 1] - middle[1]
        gain = (near[i, 0] - out[RAYS + i, 0]) * x + (near[i, 1] - out[RAYS + i, 1]) * y
        gain /= max(np.sqrt(x * x + y * y), np.float32(1))
        shares[i] = min(max(gain / np.float32(SWITCH), np.float32(0)), np.float32(1))
    for _ in range(3):
        before[:] = shares
        for i in range(RAYS):
            shares[i] = (before[i - 1 if i else RAYS - 1] + 2 * before[i] + before[i + 1 - RAYS]) / 4
    for i in range(RAYS):
        for k in range(3):
            out[RAYS + i, k] += shares[i] * (near[i, k] - out[RAYS + i, k])
        for k in range(2):
            change = np.float32(0)
            for corner in range(3):
                change += weights[i, corner] * changed[bound[i, corner], k]
            for ring in range(RINGS):
                out[ring * RAYS + i, k] += stretches[ring * RAYS + i, 0] * change


@compiled()
def unfold(room: Any, out: Any) -> None:
    """Move rings outwards, from the second on, where they come closer to the one within than ``Surround.room`` says."""
    middle = np.zeros(2, np.float32)
    for i in range(RAYS):
        for k in range(2):
            middle[k] += out[RAYS + i, k] / np.float32(RAYS)
    for i in range(RAYS):
        edge_x, edge_y = out[RAYS + i, 0], out[RAYS + i, 1]
        x, y = edge_x - middle[0], edge_y - middle[1]
        length = max(np.sqrt(x * x + y * y), np.float32(1e-3))
        x, y = x / length, y / length
        reached = np.float32(0)
        for ring in range(1, RINGS - 1):
            at = (ring + 1) * RAYS + i
            along = (out[at, 0] - edge_x) * x + (out[at, 1] - edge_y) * y
            reached = max(reached + room[ring, i] - room[ring - 1, i], along)
            out[at, 0] += (reached - along) * x
            out[at, 1] += (reached - along) * y


@compiled()
def hang(placed: Any, bare: Any, out: Any) -> None:
    """Write where hair covers the face in a frame to ``out``: see ``Surround.curtain``."""
    for k in range(3):
        out[2 * RAYS, k] = 0
    for k in range(2):
        for i in range(RAYS):
            out[2 * RAYS, k] += placed[RAYS + i, k] / np.float32(RAYS)
    for i in range(RAYS):
        inner = np.float32(1 - SOFT) + np.float32(SOFT + 0.1) * bare[i, 0]
        outer = np.float32(1) + np.float32(0.2) * bare[i, 0]
        for k in range(2):
            centre = out[2 * RAYS, k]
            away = placed[RAYS + i, k] - centre
            out[i, k], out[RAYS + i, k] = centre + inner * away, centre + outer * away
        out[i, 2] = out[RAYS + i, 2] = 0


def surround(pixels: Points, covered: Floats, matte: Mask | None, size: tuple[int, int]) -> Surround:
    """Return the rings around a face with these landmarks (478, 3) in an image of ``size``, all in pixels.

    covered: (RAYS,) how far inside the outline the skin ends, pixels. matte: (H, W) what belongs to the head and body.
    """
    oval = pixels[OVAL]
    centre = (pixels[FOREHEAD_TOP] + pixels[CHIN_TIP]) / 2
    out = (oval - centre)[:, :2]
    reach = np.maximum(np.linalg.norm(out, axis=1), 1).astype(np.float32)
    skin = 1 - covered / reach
    bound, weights, edge = _bound(pixels, centre[:2] + skin[:, None] * out, covered)
    near = edge.copy()
    near[:, 2] += HAIR_LIES[0] * (oval[:, 2] - edge[:, 2])
    edge[:, 2] += HAIR_LIES[1] * (oval[:, 2] - edge[:, 2])
    inner = centre + UNDER * (edge - centre)
    inner[:, 2] = edge[:, 2]
    down = np.clip((oval[:, 1] - centre[1]) / max(float(np.abs(oval[:, 1] - centre[1]).max()), 1.0), -1, 1)
    silhouette = _silhouette(centre, out, down, matte)
    rest = _neck(pixels, size[1])[1] - centre[1]
    radii, shares = _radii(skin, silhouette, reach, matte is None, size)
    if matte is not None:
        # a ring lies where nothing follows the head any more, so that all beyond it stands still
        still = np.where(out[:, 1] > 0.1 * reach, rest / np.maximum(out[:, 1], 1), np.inf)
        radii[-3] = np.clip(radii[-3], 1.01 * silhouette, np.maximum(0.97 * still, 1.01 * silhouette))
        radii[-2] = np.clip(np.where(still < 0.9 * radii[-1], still, radii[-2]), 1.02 * radii[-3], 0.95 * radii[-1])
    rings = [inner, edge]
    # a steeper surface would fold over itself where it turns away, and be a smear where it turns to the viewer
    steepest = 0.5 * STEEPEST * (silhouette - skin) * reach
    deeper = np.clip(pixels[CHEEKS, 2].mean() - edge[:, 2], -steepest, steepest)
    deeper = _evened(edge[:, 2] + deeper, 8) - edge[:, 2]
    for ring in radii:
        points = np.empty((RAYS, 3), np.float32)
        points[:, :2] = centre[:2] + ring[:, None] * out
        along = np.clip((ring - skin) / (silhouette - skin), 0, 1)
        points[:, 2] = edge[:, 2] + deeper * along * along
        rings.append(points)
    points = np.concatenate(rings).astype(np.float32)
    follows = _follows(points, pixels, size[1]) * np.concatenate([np.ones((BOUND, RAYS)), shares]).ravel()
    of_rings = np.concatenate([np.ones(BOUND), STRETCHES, np.zeros(RINGS - BOUND - len(STRETCHES))])
    return Surround(
        bound,
        weights,
        points,
        near,
        follows.astype(np.float32)[:, None],
        np.repeat(of_rings, RAYS)[:, None].astype(np.float32),
        _room(points),
        np.clip(1 - covered / (BARE * np.ptp(oval[:, 0])), 0, 1).astype(np.float32)[:, None],
    )


def ring_triangles() -> NDArray[np.int32]:
    """Return two triangles for each gap between the rings, (n, 3) int32."""
    rows = [ring * RAYS + np.arange(RAYS) for ring in range(RINGS)]
    triangles = []
    for inner, outer in pairwise(rows):
        after_inner, after_outer = np.roll(inner, -1), np.roll(outer, -1)
        triangles.append(np.stack([inner, outer, after_inner], axis=1))
        triangles.append(np.stack([after_inner, outer, after_outer], axis=1))
    return np.asarray(np.concatenate(triangles), np.int32)


def _curtain_triangles() -> NDArray[np.int32]:
    """Return the triangles of a curtain, (3 * RAYS, 3) int32, the inner ones first."""
    ray = np.arange(RAYS)
    after = np.roll(ray, -1)
    middle = np.stack([ray, after, np.full(RAYS, 2 * RAYS)], axis=1)
    soft = [np.stack([ray, ray + RAYS, after], axis=1), np.stack([after, ray + RAYS, after + RAYS], axis=1)]
    return np.asarray(np.concatenate([middle, *soft]), np.int32)


CURTAIN_TRIANGLES = _curtain_triangles()
CURTAIN_SEEN: Floats = np.stack(
    [np.concatenate([np.ones(RAYS), np.zeros(RAYS), np.ones(1)]), np.zeros(2 * RAYS + 1)], axis=1
).astype(np.float32)
"""(2 * RAYS + 1, 2) how much of the face is seen at each point of a curtain, in the first column."""


def _room(points: Points) -> Floats:
    """Return the room that rings with these points (RINGS * RAYS, 3) keep, see ``Surround.room``."""
    rings = points[RAYS:, :2].reshape(RINGS - 1, RAYS, 2)
    apart = np.linalg.norm(np.diff(rings, axis=0), axis=2)
    kept = np.minimum(apart, np.maximum(ROOM * apart, LEAST_ROOM))
    return np.asarray(np.concatenate([np.zeros((1, RAYS)), np.cumsum(kept, axis=0)]), np.float32)


def _bound(pixels: Points, at: Floats, covered: Floats) -> tuple[Indices, Floats, Points]:
    """Return the landmarks and weights that make up points (RAYS, 2) of the face, and the points themselves, (RAYS, 3).

    Points that are not covered are those of the outline.
    """
    corners: Floats = np.asarray(pixels[TRIANGLES], np.float32)
    a, b, c = (np.asarray(corners[None, :, k, :2], np.float32) for k in range(3))
    p = at[:, None]
    area: Floats = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])
    area = np.where(np.abs(area) < 1e-6, 1e-6, area)
    wb = ((p[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (p[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])) / area
    wc = ((b[..., 0] - a[..., 0]) * (p[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (p[..., 0] - a[..., 0])) / area
    weights = np.stack([1 - wb - wc, wb, wc], axis=-1)
    depth = (weights * corners[None, :, :, 2]).sum(axis=-1)
    # the nearest triangle that contains the point, or the one that it is least outside of
    outside = np.maximum(-weights.min(axis=-1), 0)
    cost = np.where(outside < 1e-3, -1e6 + depth, outside)
    best = np.argmin(cost, axis=1)
    bound = TRIANGLES[best].astype(np.intp)
    chosen = np.clip(np.take_along_axis(weights, best[:, None, None], axis=1)[:, 0], 0, 1)
    chosen /= chosen.sum(axis=1, keepdims=True)
    on_outline = covered <= 0
    bound[on_outline] = OVAL[on_outline, None]
    chosen[on_outline] = (1, 0, 0)
    points = np.einsum("ij,ijk->ik", chosen, pixels[bound])
    return bound, chosen.astype(np.float32), points.astype(np.float32)


def _silhouette(centre: Floats, out: Floats, down: Floats, matte: Mask | None) -> Floats:
    """Return the radius of the silhouette of the head along each ray, (RAYS,) multiples of the outline's."""
    if matte is None:
        return np.full(RAYS, WITHOUT_MATTE[0][0], np.float32)
    steps = np.linspace(1, FARTHEST, 57, dtype=np.float32)
    at = centre[:2] + steps[None, :, None] * out[:, None]
    seen = cv2.remap(
        matte, at.astype(np.float32), np.empty(0, np.int16), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    outside = seen < 128
    found = np.where(outside.any(axis=1), steps[np.argmax(outside, axis=1)], FARTHEST)
    found = np.maximum(found, NEAREST)
    neck = np.clip((down - NECK_FROM) / (NECK_TO - NECK_FROM), 0, 1)
    found += neck * (np.minimum(found, NECK) - found)
    return _evened(found, 2)


def _evened(values: Floats, times: int) -> Floats:
    """Return values along the rays, smoothed ``times`` times with a [1 2 1]/4 kernel, (RAYS,)."""
    for _ in range(times):
        values = (np.roll(values, 1) + 2 * values + np.roll(values, -1)) / 4
    return np.asarray(values, np.float32)


def _radii(
    skin: Floats, silhouette: Floats, reach: Floats, one_surface: bool, size: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Return the radius of each ring that is not bound to the face, and how far it follows the head, (RINGS - 2, RAYS).

    The outermost ring of a head that was cut out lies beyond the image.
    """
    within = skin + TO_SILHOUETTE[:, None] * (silhouette - skin)
    if one_surface:
        far, share = WITHOUT_MATTE
        beyond = np.repeat(far[1:, None], RAYS, axis=1)
        follow = np.repeat(share[1:, None], RAYS, axis=1)
    else:
        outermost = 1.3 * np.hypot(*size) / reach
        near = BEYOND * silhouette
        beyond = np.stack([near, np.sqrt(near * outermost), outermost])
        follow = np.repeat(np.array([[1.0], [0.5], [0.0]], np.float32), RAYS, axis=1)
    return np.concatenate([within, beyond]), np.concatenate([np.ones_like(within), follow])


def _follows(points: Points, pixels: Points, height: int) -> Floats:
    """Return how far points (N, 3) follow the head for their place above or below the chin alone, (N,).

    All that is above the chin follows it fully; what touches the lower edge of the image stands still.
    """
    chin, rest = _neck(pixels, height)
    below = np.clip((points[:, 1] - chin) / (rest - chin), 0, 1)
    return np.asarray((1 - below) ** 2 * (1 + 2 * below), np.float32)


def _neck(pixels: Points, height: int) -> tuple[float, float]:
    """Return the rows between which an image of this height follows the head less and less, pixels."""
    chin = float(pixels[CHIN_TIP, 1])
    face = float(np.ptp(pixels[: LANDMARKS - 10, 1]))
    return chin, chin + max(min(SHOULDERS * face, height - 1 - chin), SHORTEST * face)


def compile_all() -> None:
    """Compile every loop here, or load it from numba's cache, so that the first frame does not wait for it."""
    count = RINGS * RAYS
    points, column, landmarks = np.zeros((count, 3), np.float32), np.zeros((count, 1), np.float32), np.zeros((RAYS, 3))
    weights = landmarks.astype(np.float32)
    place(points, column, column, landmarks.astype(np.intp), weights, points, weights, points, points.copy())
    unfold(np.zeros((RINGS - 1, RAYS), np.float32), points.copy())
    hang(points, column, np.zeros((2 * RAYS + 1, 3), np.float32))
