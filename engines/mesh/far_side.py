"""Unfold where the far side of a turned face is fetched from.

The outline that a tracker finds of a portrait that looks aside lies behind the far cheek. The triangles between cheek
and outline are seen from behind, so they would show the cheek's own skin mirrored, with a crease, once the head turns
to the viewer. Spread out on the skin that is seen, they show it stretched: the outline is fetched from the edge of the
cheek, and the points near it are moved inwards to make room. Between fixed points they are placed by a harmonic map,
which does not fold for positive weights (Tutte, "How to Draw a Graph", 1963; Floater, "Parametrization and smooth
approximation of surface triangulations", 1997).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.topology import EYE_CORNERS, LOWER_LIDS, NOSE_TIP, OVAL, TRIANGLES, UPPER_LIDS
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
_IRISES = LANDMARKS - 10
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
