"""Finding a code in a picture that a camera took of a screen: at an angle, blurred, badly lit."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Image
from realtime.core import pixelcode
from realtime.core.pixelcode import Code

Corners = NDArray[np.float32]

_MIN_CELL = 2.2
"""The smallest readable side of a cell, in pixels."""
_MIN_AREA = 0.0008
"""The smallest area that is searched for a code, as a share of the picture."""
_MAX_CANDIDATES = 6


@dataclass(frozen=True, slots=True)
class Detection:
    """The result of searching one picture."""

    code: Code | None
    corners: Corners | None
    """The outer corners of the code's black ring (4, 2), in reading order; without a code those of the likeliest
    shape."""
    brightness: float
    """Mean brightness of the picture, 0 to 255."""


class CodeFinder:
    """Searches one picture after the other for one code, first where the last one was. Not thread-safe."""

    def __init__(self) -> None:
        self._last: Corners | None = None

    def find(self, image: Image) -> Detection:
        """Search a picture (H, W, 3) for a code."""
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        brightness = float(grey[::8, ::8].mean())
        if self._last is not None:
            code = pixelcode.decode(pixelcode.levels_through(grey, self._last))
            if code is not None:
                return Detection(code, self._last, brightness)
        likeliest: Corners | None = None
        for corners in _candidates(grey):
            likeliest = corners if likeliest is None else likeliest
            for ordered in _orders(corners):
                code = pixelcode.decode(pixelcode.levels_through(grey, ordered))
                if code is not None:
                    self._last = ordered
                    return Detection(code, ordered, brightness)
        return Detection(None, likeliest, brightness)


def advice(detections: list[Detection]) -> str:
    """Return what the user can do when codes are not read, judging by the last pictures."""
    brightness = float(np.mean([each.brightness for each in detections])) if detections else 0.0
    shapes = [each.corners for each in detections if each.corners is not None]
    if brightness < 25:
        return "the camera's picture is nearly black: take the cover off, or make the screen brighter"
    if brightness > 235:
        return "the camera's picture is nearly white: make the screen darker, or lower the camera's exposure"
    if len(shapes) * 3 < len(detections):
        return "no code is visible: point the camera at the window, so that it sees all of its upper left corner"
    side = float(np.median([_cell_side(corners) for corners in shapes]))
    if side < _MIN_CELL:
        return f"the code is too small ({side:.1f} pixels per cell): move closer, or make the window larger"
    return (
        "the code is visible but not sharp: hold the camera still, avoid reflections, let it focus, "
        "lower its exposure time (more light in the room, a darker screen), or move closer"
    )


def _cell_side(corners: Corners) -> float:
    """Return the side of a cell, in pixels."""
    across = float(np.linalg.norm(corners[1] - corners[0]) + np.linalg.norm(corners[2] - corners[3])) / 2
    down = float(np.linalg.norm(corners[3] - corners[0]) + np.linalg.norm(corners[2] - corners[1])) / 2
    long, short = max(across, down), min(across, down)
    return min(long / (pixelcode.COLUMNS - 2), short / (pixelcode.ROWS - 2))


def _candidates(grey: NDArray[np.uint8]) -> list[Corners]:
    """Return the corners of dark quadrilaterals with about the right proportions, the largest first."""
    height, width = grey.shape
    block = max(31, min(height, width) // 6 | 1)
    dark = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, block, 5)
    outlines, _ = cv2.findContours(dark, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    candidates: list[tuple[float, Corners]] = []
    for outline in outlines:
        area = cv2.contourArea(outline)
        if area < _MIN_AREA * height * width:
            continue
        hull = cv2.convexHull(outline)
        polygon = cv2.approxPolyDP(hull, 0.03 * cv2.arcLength(hull, True), True)
        if len(polygon) != 4:
            continue
        corners = polygon.reshape(4, 2).astype(np.float32)
        sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
        one, other = sides[0] + sides[2], sides[1] + sides[3]
        if 1.6 < max(one, other) / max(1.0, min(one, other)) < 6:
            candidates.append((area, _refined(corners, grey)))
    return [corners for _, corners in sorted(candidates, key=lambda item: -item[0])[:_MAX_CANDIDATES]]


def _refined(corners: Corners, grey: NDArray[np.uint8]) -> Corners:
    """Return the corners with sub-pixel precision, at the edge between black and white."""
    reach = (5, 5)
    refined = cv2.cornerSubPix(
        grey,
        corners.reshape(4, 1, 2).copy(),
        reach,
        (-1, -1),
        (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.1),
    ).reshape(4, 2)
    moved = np.linalg.norm(refined - corners, axis=1).max()
    return np.asarray(refined if moved < 4 else corners + 0.0, np.float32)


def _orders(corners: Corners) -> list[Corners]:
    """Return the eight orders in which four corners can be read: rotated, and mirrored."""
    return [np.roll(some, -step, axis=0) for some in (corners, corners[::-1]) for step in range(4)]
