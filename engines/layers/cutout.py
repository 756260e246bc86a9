"""A portrait taken apart into its layers: the face, head and body, and what is behind them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engines.layers.background import fill_background
from engines.layers.foreground import foreground
from engines.layers.layer import Layer
from engines.layers.layer_raster import BLOCK
from engines.layers.strands import with_strands
from engines.types import Floats, Image, Mask

FEATHER = 0.035
"""The width over which the edge of a face fades into what surrounds it, as a share of the face's width."""
ARC = 0.75
"""The radius of the top of a head, in heights of the face."""
MARGIN = 8
"""Pixels of the image around the face that its layer includes."""
BEYOND = 0.16
"""Padding of head and body beyond the image, as a share of the shorter side. Mirrored pixels fill it, for heads cut by
the frame."""


@dataclass(frozen=True, slots=True)
class Cutout:
    """The layers of a portrait."""

    whole: Image
    """The portrait, (H, W, 3)."""
    behind: Image
    """The background, filled where it was hidden, (H, W, 3); the portrait itself where it is one surface."""
    body: Layer
    """Head and body, ``beyond`` larger than the image on each side."""
    beyond: tuple[int, int]
    """Columns and rows."""
    face: Layer
    corner: tuple[int, int]
    """Left and top of the face's layer in the image."""

    @staticmethod
    def of(image: Image, matte: Mask | None, edge: Floats, bare: Image, behind: Image | None = None) -> Cutout:
        """Take apart an image (H, W, 3). ``edge``: (n, 2) the outline of the skin of the face, pixels; ``bare``: the
        image of the face's layer, (H, W, 3); ``behind``: the background, (H, W, 3), where it is known.

        Without a ``matte`` head and body are the whole image.
        """
        height, width = image.shape[:2]
        colours = image
        opacity: Mask = np.full((height, width), 255, np.uint8)
        if matte is None:
            behind = image
        else:
            # a custom background adds no strands beyond the matte
            opacity = with_strands(image, matte) if behind is None else matte
            behind = fill_background(image, opacity) if behind is None else behind
            colours = foreground(image, opacity, behind)
        beyond = round(BEYOND * min(height, width) / BLOCK) * BLOCK
        sides = (beyond,) * 4
        body = Layer.of(
            np.asarray(cv2.copyMakeBorder(colours, *sides, cv2.BORDER_REFLECT_101), np.uint8),
            _continued(opacity, beyond, float(np.ptp(edge[:, 1]))),
        )
        left, top = (max(int(at) - MARGIN, 0) for at in edge.min(axis=0))
        right, bottom = (int(at) + MARGIN + 1 for at in edge.max(axis=0))
        part = np.ascontiguousarray(bare[top:bottom, left:right])
        face = Layer.of(part, _face_opacity(edge - (left, top), part.shape[:2]))
        return Cutout(image, behind, body, (beyond, beyond), face, (left, top))

    def still(self, outline: Floats) -> Mask | None:
        """Return a mask of the image, 255 where nothing may change although the rings may fold over; None if there are
        layers, of which only head and body move.
        """
        if self.behind is not self.whole:
            return None
        outside = np.full(self.whole.shape[:2], 255, np.uint8)
        cv2.fillPoly(outside, [np.rint(outline).astype(np.int32)], (0,))
        return outside

    def box(self, points: Floats) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of the pixels of the image that may change."""
        height, width = self.behind.shape[:2]
        low, high = points.min(axis=0) - 4, points.max(axis=0) + 5
        # aligned, so that its cells are those of the face
        left, top = (max(int(at), 0) // BLOCK * BLOCK for at in low[:2])
        return left, top, min(int(high[0]), width), min(int(high[1]), height)

    def identity(self, box: tuple[int, int, int, int], step: int) -> Floats:
        """Return the backward map of a body that stands still, for every ``step``-th pixel of a box of the image."""
        columns, rows = (
            np.arange(-(-(high - low) // step) + 1, dtype=np.float32) * step + low + beyond
            for low, high, beyond in zip(box[:2], box[2:], self.beyond, strict=True)
        )
        return np.ascontiguousarray(np.stack(np.meshgrid(columns, rows), axis=-1))


def _continued(opacity: Mask, beyond: int, face: float) -> Mask:
    """Return an opacity that is continued ``beyond`` pixels on each side of an image whose face is that high, pixels.

    It is mirrored as far as it is connected with the edge. Above the image the head is closed by an arc.
    """
    mirrored = np.asarray(cv2.copyMakeBorder(opacity, *(beyond,) * 4, cv2.BORDER_REFLECT_101), np.uint8)
    for side in (mirrored, mirrored.T, mirrored[::-1], mirrored[:, ::-1].T):
        strip = side[: beyond + 1][::-1]
        strip[:] = np.minimum.accumulate(strip, axis=0)
    cut = mirrored[beyond]
    starts, ends = (
        np.flatnonzero(np.diff((cut > 127).astype(np.int8), prepend=0, append=0) == sign) for sign in (1, -1)
    )
    for start, end in zip(starts, ends, strict=True):
        half = (end - start) / 2
        across = np.arange(start, end) + 0.5 - start - half
        height = (half * half - across * across) / (2 * ARC * face)
        above = np.arange(beyond, 0, -1)[:, None]
        closed = np.clip(height - above + 1, 0, 1) * 255
        mirrored[:beyond, start:end] = np.minimum(mirrored[:beyond, start:end], closed.astype(np.uint8))
    mirrored[:beyond, cut <= 127] = 0
    return mirrored


def _face_opacity(edge: Floats, shape: tuple[int, ...]) -> Mask:
    """Return the opacity of the face's layer of this shape, which fades towards ``edge`` (n, 2), from within."""
    inside = np.zeros(shape[:2], np.uint8)
    # the outline between its points is a curve
    curve = _smooth(edge)
    cv2.fillPoly(inside, [np.rint(curve * 16).astype(np.int32)], (255,), cv2.LINE_AA, 4)
    feather = max(FEATHER * float(np.ptp(edge[:, 0])), 3.0)
    distance = cv2.distanceTransform((inside > 127).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ramp = np.clip(distance / feather, 0, 1)
    return np.asarray(255 * ramp * ramp * (3 - 2 * ramp) + 0.5, np.uint8)


def _smooth(points: Floats, steps: int = 4) -> Floats:
    """Return a closed Catmull-Rom curve through points (n, 2), (n * steps, 2)."""
    before, after, beyond = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0), np.roll(points, -2, axis=0)
    at = np.linspace(0, 1, steps, endpoint=False, dtype=np.float32)[None, :, None]
    p, q, r, s = (of[:, None] for of in (before, points, after, beyond))
    curve = q + 0.5 * at * (r - p + at * (2 * p - 5 * q + 4 * r - s + at * (3 * (q - r) + s - p)))
    return np.asarray(curve.reshape(-1, 2), np.float32)
