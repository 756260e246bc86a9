"""Unfold where the far side of a turned face is fetched from.

The outline that a tracker finds of a portrait that looks aside lies behind the far cheek. The triangles between cheek
and outline are seen from behind, so they would show the cheek's own skin mirrored, with a crease, once the head turns
to the viewer. Spread out on the skin that is seen, they show it stretched: the outline is fetched from the edge of the
cheek, and the points near it are moved inwards to make room. Between fixed points they are placed by a harmonic map,
which does not fold for positive weights (Tutte, "How to Draw a Graph", 1963; Floater, "Parametrization and smooth
approximation of surface triangulations", 1997).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.topology import (
    BROW_LOWER_ROWS,
    BROW_UPPER_ROWS,
    EYE_CORNERS,
    LIP_ROWS,
    LOWER_LIDS,
    NOSE_TIP,
    OVAL,
    TRIANGLES,
    UPPER_LIDS,
)
from engines.layers.layer import Pixels
from engines.types import LANDMARKS, Floats, Points

RINGS = 2
"""How many edges from the folded triangles points are moved."""
INSET = 0.02
"""How far inside the edge of the cheek the outline is fetched, in widths of the face."""
SIDES = OVAL[6:13], OVAL[24:31]
"""The outline of the right and the left cheek, from the temple to the jaw; the subject's right and left."""
FOLD = 0.012, 0.032
"""How far the outline lies behind the cheek where its points begin to be moved and where they are moved all the way, in
widths of the face. Every mesh folds a little at the edge.
"""
STRETCHED = 1.4, 2.6
"""How much further skin is stretched one way than the other where its grain is smoothed more and more."""
SMOOTHED = 0.02
"""The standard deviation by which grain is smoothed across the way that it is stretched, in widths of the face."""
CLEAR = 0.05
"""How far from eyes, brows and mouth skin is smoothed, in widths of the face."""
_IRISES = LANDMARKS - 10
EYES_AND_BROWS = tuple(
    np.concatenate([EYE_CORNERS[eye], UPPER_LIDS[eye], LOWER_LIDS[eye], BROW_UPPER_ROWS[eye], BROW_LOWER_ROWS[eye]])
    for eye in range(2)
)
MOUTH = np.concatenate([LIP_ROWS[0][-1], LIP_ROWS[1][-1]])
_EYES = np.concatenate([*EYE_CORNERS, *UPPER_LIDS, *LOWER_LIDS])


def unfolding(pixels: Points, shape: Points) -> Floats:
    """Return how far to shift where each landmark is fetched from once the far side is seen, (478, 2) float32 pixels.

    ``pixels``: landmarks, (478, 3); ``shape``: the same in the head frame. All zero unless part of the face lies
    behind its own outline.
    """
    moved = np.zeros((LANDMARKS, 2), np.float32)
    skin = TRIANGLES[(TRIANGLES < _IRISES).all(axis=1)]
    # the cheek that is nearer to the middle of the face, as its outline lies behind it
    nose = float(pixels[NOSE_TIP, 0])
    side = min(SIDES, key=lambda points: abs(float(pixels[points, 0].mean()) - nose))
    folded = _behind(pixels, skin) & np.isin(skin, side).any(axis=1)
    hidden = np.intersect1d(skin[folded], side)
    edge, inside = _inside_edge(pixels, hidden)
    depth = float(np.linalg.norm(edge - pixels[hidden, :2], axis=1).max(initial=0)) / _width(pixels)
    share = min(max((depth - FOLD[0]) / (FOLD[1] - FOLD[0]), 0), 1)
    if share == 0:
        return moved
    links = _links(skin)
    free = np.zeros(_IRISES, bool)
    free[np.unique(skin[folded])] = True
    for _ in range(RINGS):
        free |= (links[free] > 0).any(axis=0)
    free[OVAL] = False
    free[_EYES] = False
    places = np.asarray(pixels[:_IRISES, :2], np.float64).copy()
    places[hidden] = inside
    weights = links / np.maximum(_lengths(shape), 1e-6)
    weights /= weights.sum(axis=1, keepdims=True)
    system = np.eye(int(free.sum())) - weights[np.ix_(free, free)]
    places[free] = np.linalg.solve(system, weights[np.ix_(free, ~free)] @ places[~free])
    moved[:_IRISES] = share * (places - pixels[:_IRISES, :2])
    return moved


@dataclass(frozen=True, slots=True)
class FarSkin:
    """The skin of a far side as it is shown once it is unfolded: stretched grain would be seen as waves."""

    where: NDArray[np.int64]
    """(n,) indices of the face layer's pixels."""
    pixels: NDArray[np.uint32]
    """(n,) what they are then."""

    @staticmethod
    def of(
        pixels: Points, moved: Floats, shape: Points, corner: Points, layer: Pixels, size: tuple[int, int]
    ) -> FarSkin:
        """Smooth the skin that is stretched.

        pixels, moved, shape: see ``unfolding``; corner: (2,) that of the face layer; layer, size: its pixels, (h * w,)
        as in ``engines.layers.layer.Layer``, and (h, w).
        """
        if not moved.any():
            return NO_FAR_SKIN
        width = _width(pixels)
        source = pixels[:_IRISES, :2] + moved[:_IRISES] - corner
        share = _stretched(source, shape, np.flatnonzero(moved[:_IRISES].any(axis=1)), size)
        soft = np.asarray(cv2.GaussianBlur(share, (0, 0), CLEAR * width / 2), np.float32)
        features = np.full(size, 255, np.uint8)
        for outline in (*EYES_AND_BROWS, MOUTH):
            cv2.fillConvexPoly(features, cv2.convexHull(np.rint(source[outline]).astype(np.int32)), (0,))
        away = cv2.distanceTransform(features, cv2.DIST_L2, 5)
        share = soft * np.clip(away / (CLEAR * width), 0, 1)
        where = np.flatnonzero(share.ravel() > 0.02).astype(np.int64)
        own = np.ascontiguousarray(layer).view(np.uint8).reshape(*size, 4)
        across = SMOOTHED * width
        smooth = cv2.GaussianBlur(own, (0, 0), sigmaX=max(0.3 * across, 0.5), sigmaY=max(across, 0.5))
        mixed = own + share[..., None] * (smooth.astype(np.float32) - own)
        made = np.ascontiguousarray(np.rint(mixed).astype(np.uint8)).view(np.uint32).ravel()
        return FarSkin(where, made[where])


NO_FAR_SKIN = FarSkin(np.zeros(0, np.int64), np.zeros(0, np.uint32))


def _stretched(source: Floats, shape: Points, free: NDArray[np.intp], size: tuple[int, int]) -> Floats:
    """Return how much the skin at each pixel is to be smoothed as it is seen from the front, (h, w) 0 to 1.

    source: (468, 2) where landmarks are fetched, pixels; shape: (478, 3) in the head frame; free: those that moved.
    """
    share = np.zeros(size, np.float32)
    skin = TRIANGLES[(TRIANGLES < _IRISES).all(axis=1)]
    for triangle in skin[np.isin(skin, free).any(axis=1)]:
        a, b, c = source[triangle].astype(np.float64)
        before = np.stack([b - a, c - a], axis=1)
        a, b, c = shape[triangle, :2].astype(np.float64)
        if abs(float(np.linalg.det(before))) < 1e-3:
            continue
        most, least = np.linalg.svd(np.stack([b - a, c - a], axis=1) @ np.linalg.inv(before), compute_uv=False)
        amount = (most / max(least, 1e-9) - STRETCHED[0]) / (STRETCHED[1] - STRETCHED[0])
        corners = np.rint(source[triangle]).astype(np.int32)
        cv2.fillConvexPoly(share, corners, (float(min(max(amount, 0.0), 1.0)),))
    return share


def _behind(pixels: Points, triangles: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which triangles are seen from behind, (n,)."""
    a, b, c = (np.asarray(pixels[triangles[:, corner], :2], np.float32) for corner in range(3))
    areas = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    return np.asarray(areas * np.sign(np.median(areas)) < 0)


def _links(triangles: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return 1 where two landmarks have an edge in common, (468, 468)."""
    links = np.zeros((_IRISES, _IRISES))
    for start, end in ((0, 1), (1, 2), (2, 0)):
        links[triangles[:, start], triangles[:, end]] = links[triangles[:, end], triangles[:, start]] = 1
    return links


def _lengths(shape: Points) -> NDArray[np.float64]:
    """Return the distances of all landmarks of each other, (468, 468)."""
    points = np.asarray(shape[:_IRISES], np.float64)
    return np.asarray(np.linalg.norm(points[:, None] - points[None], axis=2))


def _inside_edge(pixels: Points, points: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the places on the outline of the whole face that are nearest to some landmarks, and places just inside of
    it, (n, 2) each.
    """
    face = np.ascontiguousarray(pixels[:_IRISES, :2], np.float32)
    hull = cv2.convexHull(face)[:, 0].astype(np.float64)
    along = np.roll(hull, -1, axis=0) - hull
    offset = face[points].astype(np.float64)[:, None] - hull
    at = np.clip((offset * along).sum(axis=2) / np.maximum((along * along).sum(axis=1), 1e-9), 0, 1)
    near = hull + at[..., None] * along
    best = np.argmin(np.linalg.norm(near - face[points][:, None], axis=2), axis=1)
    edge = near[np.arange(len(points)), best]
    inwards = face[OVAL].mean(axis=0) - edge
    inwards /= np.maximum(np.linalg.norm(inwards, axis=1, keepdims=True), 1)
    return edge, edge + INSET * _width(pixels) * inwards


def _width(pixels: Points) -> float:
    """Return the width of a face, pixels."""
    return float(np.linalg.norm(pixels[OVAL[8], :2] - pixels[OVAL[28], :2]))
