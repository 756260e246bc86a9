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

_LEAST_SIDE = 2.2
"""A cell needs so many pixels."""
_LEAST_SHARE = 0.0008
"""Of the picture that a code must cover to be considered."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen in one picture."""

    code: Code | None
    corners: Corners | None
    """Of the black ring's outer edge (4, 2), as the code is read; those of the likeliest shape where none was read."""
    light: float
    """Mean brightness of the picture, 0 to 255."""


class Finder:
    """Looks for one code in picture after picture, first where the last one was. Belongs to one thread."""

    def __init__(self) -> None:
        self._last: Corners | None = None

    def look(self, image: Image) -> Sight:
        """The code in a picture, if there is one that can be read."""
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        if self._last is not None:
            code = pixelcode.decode(pixelcode.levels_through(grey, self._last))
            if code is not None:
                return Sight(code, self._last, float(grey[::8, ::8].mean()))
        likeliest: Corners | None = None
        for corners in _quads(grey):
            likeliest = corners if likeliest is None else likeliest
            for turned in _turns(corners):
                code = pixelcode.decode(pixelcode.levels_through(grey, turned))
                if code is not None:
                    self._last = turned
                    return Sight(code, turned, float(grey[::8, ::8].mean()))
        return Sight(None, likeliest, float(grey[::8, ::8].mean()))


def advice(sights: list[Sight]) -> str:
    """What to do when codes are not read, by what the last pictures were like."""
    light = float(np.mean([sight.light for sight in sights])) if sights else 0.0
    shapes = [sight.corners for sight in sights if sight.corners is not None]
    if light < 25:
        return "the camera's picture is nearly black: take the cover off, or make the screen brighter"
    if light > 235:
        return "the camera's picture is nearly white: make the screen darker, or lower the camera's exposure"
    if len(shapes) * 3 < len(sights):
        return "no code is in sight: point the camera at the window, so that it sees all of its upper left corner"
    side = float(np.median([_side(corners) for corners in shapes]))
    if side < _LEAST_SIDE:
        return f"the code is too small ({side:.1f} pixels a cell): come closer, or make the window larger"
    return (
        "the code is in sight but not sharp: hold the camera still, avoid reflections, let it focus, "
        "lower its exposure time (more light in the room, a darker screen), or come closer"
    )


def _side(corners: Corners) -> float:
    """Of a cell, in pixels."""
    across = float(np.linalg.norm(corners[1] - corners[0]) + np.linalg.norm(corners[2] - corners[3])) / 2
    down = float(np.linalg.norm(corners[3] - corners[0]) + np.linalg.norm(corners[2] - corners[1])) / 2
    long, short = max(across, down), min(across, down)
    return min(long / (pixelcode.COLUMNS - 2), short / (pixelcode.ROWS - 2))


def _quads(grey: NDArray[np.uint8]) -> list[Corners]:
    """Dark four-sided shapes of about the right proportions, the largest first."""
    height, width = grey.shape
    block = max(31, min(height, width) // 6 | 1)
    dark = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, block, 5)
    outlines, _ = cv2.findContours(dark, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    found: list[tuple[float, Corners]] = []
    for outline in outlines:
        area = cv2.contourArea(outline)
        if area < _LEAST_SHARE * height * width:
            continue
        hull = cv2.convexHull(outline)
        shape = cv2.approxPolyDP(hull, 0.03 * cv2.arcLength(hull, True), True)
        if len(shape) != 4:
            continue
        corners = shape.reshape(4, 2).astype(np.float32)
        sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
        proportion = max(sides[0] + sides[2], sides[1] + sides[3]) / max(
            1.0, min(sides[0] + sides[2], sides[1] + sides[3])
        )
        if 1.6 < proportion < 6:
            found.append((area, _outer(corners, grey)))
    return [corners for _, corners in sorted(found, key=lambda item: -item[0])[:6]]


def _outer(corners: Corners, grey: NDArray[np.uint8]) -> Corners:
    """The corners to a fraction of a pixel, at the edge between black and white."""
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


def _turns(corners: Corners) -> list[Corners]:
    """The eight ways to read four corners: turned, and flipped."""
    return [np.roll(some, -step, axis=0) for some in (corners, corners[::-1]) for step in range(4)]
