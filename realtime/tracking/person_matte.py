"""Finds which pixels of a portrait are its subject, with MediaPipe's selfie segmentation.

The model is inside the mediapipe 0.10 wheel. It sees 256 pixels a side, so that its edge is refined at full resolution
with a guided filter, which lets the edge follow that of the image down to strands of hair.

He et al., "Guided Image Filtering", 2010.
"""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import LANDMARKS, FaceState, Floats, Image, Mask
from realtime.core.quiet_libraries import quiet_libraries
from realtime.tracking import mediapipe_loader

MODEL_FILE = "modules/selfie_segmentation/selfie_segmentation.tflite"
"""Path of the model inside the mediapipe package."""
RADIUS, SMOOTHNESS = 0.012, 2e-4
"""The guided filter's window as a share of the image's shorter side, and the variance below which it blurs."""
CERTAIN = 0.9
"""Of the face, this share has to be found by the model; otherwise what it found is something else."""
LOW, HIGH = 0.12, 0.88
"""Shares that the refined matte is stretched from to 0 and 1."""


def available() -> bool:
    """Return True if the installed mediapipe includes the model. Does not import mediapipe."""
    spec = importlib.util.find_spec("mediapipe")
    folders = (spec.submodule_search_locations if spec else None) or []
    return any((Path(folder) / MODEL_FILE).is_file() for folder in folders)


class PersonSegmenter:
    """Selfie segmentation, loaded at the first use. Threads may share it."""

    def __init__(self) -> None:
        self._model: Any = None
        self._lock = threading.Lock()

    def matte(self, image: Image, face: FaceState) -> Mask | None:
        """Return how much of each pixel belongs to the subject whose ``face`` was found in an RGB image, (H, W).

        None if the model is missing, or does not find the face to be part of anything.
        """
        if not available():
            return None
        with self._lock:
            likely = self._likely(image, face)
        return refined(image, face, likely)

    def close(self) -> None:
        """Release the model. Idempotent."""
        with self._lock:
            if self._model is not None:
                self._model.close()
                self._model = None

    def _likely(self, image: Image, face: FaceState) -> Floats:
        """Return the model's output for each pixel, (H, W) in [0, 1].

        The model is run on the largest square around the face, and on the whole image for what that leaves out.
        """
        height, width = image.shape[:2]
        likely = self._run(image)
        side = min(height, width)
        if side == max(height, width):
            return likely
        middle = face.pixels()[: LANDMARKS - 10, :2].mean(axis=0)
        left, top = (
            round(min(max(float(at) - side / 2, 0), room - side))
            for at, room in zip(middle, (width, height), strict=True)
        )
        square = self._run(np.ascontiguousarray(image[top : top + side, left : left + side]))
        # the model sees least at its own border
        fade = np.minimum(np.arange(side) + 1, np.arange(side, 0, -1)).astype(np.float32) / (0.1 * side)
        share = np.ones((side, side), np.float32)
        if width > height:
            share *= np.clip(np.where(_inner(left, side, width), fade, 1), 0, 1)[None, :]
        else:
            share *= np.clip(np.where(_inner(top, side, height), fade, 1), 0, 1)[:, None]
        part = likely[top : top + side, left : left + side]
        part += share * (square - part)
        return likely

    def _run(self, image: Image) -> Floats:
        if self._model is None:
            with quiet_libraries():
                mediapipe_loader.load()
                from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

                self._model = SelfieSegmentation(model_selection=0)
                return np.array(self._model.process(image).segmentation_mask, np.float32)
        return np.array(self._model.process(image).segmentation_mask, np.float32)


def refined(image: Image, face: FaceState, likely: Floats) -> Mask | None:
    """Return a matte (H, W) whose edge is that of the image; None if ``likely`` (H, W) leaves the face out.

    All within the hull of the face is part of it, and so are holes; what is not connected with the face is not.
    """
    hull = np.asarray(cv2.convexHull(np.rint(face.pixels()[: LANDMARKS - 10, :2]).astype(np.int32)), np.int32)
    inside = np.zeros(likely.shape, np.uint8)
    cv2.fillConvexPoly(inside, hull, (1,))
    if not inside.any() or float(likely[inside > 0].mean()) < CERTAIN:
        return None
    likely = np.maximum(likely, inside)
    radius = max(2, round(RADIUS * min(likely.shape)))
    found = likely > 0.5
    body = _connected(found, inside > 0)
    likely[body & ~found] = 1
    near = cv2.dilate(body.astype(np.uint8), np.ones((2 * radius + 1, 2 * radius + 1), np.uint8))
    likely *= near
    alpha = likely
    for window in (radius, max(radius // 2, 1)):
        # the first pass leaves some of its blur beside the edge
        alpha = np.clip((guided(image, alpha, window, SMOOTHNESS) - LOW) / (HIGH - LOW), 0, 1)
    alpha = np.maximum(alpha, inside)
    return np.asarray(alpha * 255 + 0.5, np.uint8)


def guided(image: Image, values: Floats, radius: int, smoothness: float) -> Floats:
    """Return ``values`` (H, W) filtered so that their edges follow those of an RGB image.

    In each window of ``radius`` pixels the result is a linear function of the image's three channels, fitted to the
    values, He et al. eq. 14 to 16. ``smoothness``: variance of a channel in [0, 1] below which a window has no edge.
    """
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(of: Any) -> Floats:
        return np.asarray(cv2.blur(of, size, borderType=cv2.BORDER_REFLECT), np.float32)

    guide = image.astype(np.float32) / 255
    middle, level = mean(guide), mean(values)
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    a, b, c, d, e, f = (
        mean(guide[..., i] * guide[..., j]) - middle[..., i] * middle[..., j] + np.float32(smoothness * (i == j))
        for i, j in pairs
    )
    shared = mean(guide * values[..., None]) - middle * level[..., None]
    # the inverse of the symmetric matrix [[a b c] [b d e] [c e f]] by its adjugate
    adjugate = (d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b)
    scale = 1 / np.maximum(a * adjugate[0] + b * adjugate[1] + c * adjugate[2], 1e-15)
    x, y, z = (shared[..., channel] * scale for channel in range(3))
    slope = np.stack(
        [
            adjugate[0] * x + adjugate[1] * y + adjugate[2] * z,
            adjugate[1] * x + adjugate[3] * y + adjugate[4] * z,
            adjugate[2] * x + adjugate[4] * y + adjugate[5] * z,
        ],
        axis=-1,
    )
    offset = level - (slope * middle).sum(axis=-1)
    return np.asarray((mean(slope) * guide).sum(axis=-1) + mean(offset), np.float32)


def _connected(mask: NDArray[np.bool_], seed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the part of a mask that is connected with ``seed``, its holes filled."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    kept = np.isin(labels, np.unique(labels[seed & mask])) & mask
    _, outside = cv2.connectedComponents((~kept).astype(np.uint8), connectivity=4)
    rim = np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]])
    return np.asarray(~np.isin(outside, rim[rim > 0]))


def _inner(start: int, length: int, limit: int) -> NDArray[np.bool_]:
    """Return for each position of an interval whether its nearer end lies inside [0, limit], (length,)."""
    first = np.arange(length) < length / 2
    return np.where(first, start > 0, start + length < limit)
