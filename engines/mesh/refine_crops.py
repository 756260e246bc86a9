"""What the refiner's networks see of a frame, and how their changes are put back into it.

Each network looks at a square crop that moves, turns and grows with the head: 96x96 samples around the mouth, 64x64
around each eye, the left one mirrored. A crop has twelve planes (``Planes``), the same in training and at run time.
What a network answers is a difference, which is added to the frame at its own resolution: detail that the crop is too
coarse to show is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.head import own_pose
from engines.face.topology import (
    EYE_CORNERS,
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    IRISES,
    LOWER_LID_FOLDS,
    LOWER_LIDS,
    LOWER_LIP_ROWS,
    MOUTH_CORNERS,
    OUTER_MOUTH_CORNERS,
    OVAL,
    TRIANGLES,
    UPPER_LID_FOLDS,
    UPPER_LIDS,
    UPPER_LIP_ROWS,
    Indices,
)
from engines.jit import compiled
from engines.networks.refiner_layout import EYE_SIZE, MOUTH_SIZE
from engines.types import Bytes, Floats, Image, Points

STRETCH_LIMIT = 1.5
"""The largest change of scale that the stretch shows, as a natural logarithm."""
_MOUTH_SIDE, _EYE_SIDE = 1.7, 1.1
"""The side of a crop in face scales, about 90 and 58 mm."""
_MOUTH_DROP = 0.15
"""How far below the corners of the mouth its crop is centred, in face scales."""
_SHIFT = 4
"""Bits of a fraction of a pixel in what OpenCV draws."""
_COARSE = 1.7
"""Pixels of the image for each sample of a crop from which the image is averaged first."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the face that a network refines."""

    name: str
    size: int
    """Samples along each side of the crop."""
    side: float
    """The side of the crop, face scales."""
    centre: Indices
    """Landmarks whose mean is the middle of the crop."""
    drop: float
    """How far below it the crop is moved, face scales."""
    mirrored: bool
    inner: Indices
    """The outline of the opening between lips or lids, a closed polygon."""
    outer: Indices
    """The outline of the lips, a closed polygon, or centre and rim of the iris."""
    lines: tuple[Indices, ...]
    """Contours that are drawn, open polygons."""
    triangles: NDArray[np.int32]
    """(T, 3): the triangles of the face that lie in the crop."""


def _triangles_near(points: Indices, rings: int) -> NDArray[np.int32]:
    """Return the triangles within so many steps of the mesh from ``points``."""
    near = np.zeros(478, bool)
    near[points] = True
    for _ in range(rings):
        near[TRIANGLES[near[TRIANGLES].any(axis=1)]] = True
    return np.ascontiguousarray(TRIANGLES[near[TRIANGLES].all(axis=1)])


def _mouth() -> Region:
    inner = np.concatenate([MOUTH_CORNERS[:1], INNER_UPPER_LIP, MOUTH_CORNERS[1:], INNER_LOWER_LIP[::-1]])
    outer = np.concatenate(
        [OUTER_MOUTH_CORNERS[:1], UPPER_LIP_ROWS[2], OUTER_MOUTH_CORNERS[1:], LOWER_LIP_ROWS[2][::-1]]
    )
    lines = (np.append(inner, inner[0]), np.append(outer, outer[0]), OVAL[9:28])
    triangles = _triangles_near(np.concatenate([inner, outer]), 4)
    return Region(
        "mouth", MOUTH_SIZE, _MOUTH_SIDE, OUTER_MOUTH_CORNERS, _MOUTH_DROP, False, inner, outer, lines, triangles
    )


def _eye(index: int) -> Region:
    corners, upper, lower = EYE_CORNERS[index], UPPER_LIDS[index], LOWER_LIDS[index]
    inner = np.concatenate([corners[:1], upper, corners[1:], lower[::-1]])
    lines = (np.append(inner, inner[0]), UPPER_LID_FOLDS[index], LOWER_LID_FOLDS[index])
    return Region(
        "eye", EYE_SIZE, _EYE_SIDE, corners, 0.0, index == 1, inner, IRISES[index], lines, _triangles_near(inner, 4)
    )


MOUTH, EYES = _mouth(), (_eye(0), _eye(1))


def frame_of(pixels: Points, region: Region, scale: float | None = None) -> Floats:
    """Return where a crop lies: (2, 3) float32, from samples of the crop to pixels of the image.

    ``pixels``: the face's landmarks, (478, 3). The crop is level with the eyes, and its size follows the head's
    ``scale``, that of ``own_pose``, which is computed where it is not given.
    """
    right, left = pixels[EYE_CORNERS[0], :2].mean(axis=0), pixels[EYE_CORNERS[1], :2].mean(axis=0)
    along = left - right
    along /= max(float(np.hypot(*along)), 1e-6)
    across = np.array([-along[1], along[0]], np.float32)
    scale = own_pose(pixels).scale if scale is None else scale
    centre = pixels[region.centre, :2].mean(axis=0) + np.float32(region.drop * scale) * across
    step = np.float32(region.side * scale / region.size)
    x, y = step * along * np.float32(-1 if region.mirrored else 1), step * across
    corner = centre - (x + y) * np.float32((region.size - 1) / 2)
    return np.asarray(np.stack([x, y, corner], axis=1), np.float32)


def to_crop(pixels: Points, frame: Floats) -> Floats:
    """Return landmarks in samples of a crop, (478, 2) float32, new."""
    inverse = np.linalg.inv(frame[:, :2])
    return np.asarray((pixels[:, :2] - frame[:, 2]) @ inverse.T, np.float32)


def crop(image: Image, frame: Floats, size: int, out: Image | None = None) -> Image:
    """Return a crop of an image, (size, size, 3) uint8; beyond its edge the image's last pixels are repeated."""
    step = float(np.hypot(*frame[:, 0]))
    if step > _COARSE:
        image, frame = _averaged(image, frame, size, step)
    return np.asarray(
        cv2.warpAffine(image, frame, (size, size), out, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE),
        np.uint8,
    )


def _averaged(image: Image, frame: Floats, size: int, step: float) -> tuple[Image, Floats]:
    """Return the part of an image around a crop at about the crop's resolution, and where the crop lies in it."""
    height, width = image.shape[:2]
    last = size - 1
    corners = np.array([[0, 0, 1], [last, 0, 1], [0, last, 1], [last, last, 1]], np.float32) @ frame.T
    low = np.clip(np.floor(corners.min(axis=0) - 2 * step), 0, (width - 1, height - 1)).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0) + 2 * step), low + 1, (width, height)).astype(int)
    part = image[low[1] : high[1], low[0] : high[0]]
    small = (max(1, round(part.shape[1] / step)), max(1, round(part.shape[0] / step)))
    shrink = np.array([small[0] / part.shape[1], small[1] / part.shape[0]], np.float32)
    moved = frame.copy()
    moved[:, 2] += 0.5 - low
    moved *= shrink[:, None]
    moved[:, 2] -= 0.5
    return np.asarray(cv2.resize(part, small, interpolation=cv2.INTER_AREA), np.uint8), moved


class Planes:
    """The drawn planes of a crop and its input array. One thread uses it; the arrays are overwritten by each call."""

    def __init__(self, region: Region) -> None:
        size = region.size
        self.region = region
        self.drawn = np.zeros((6, size, size), np.uint8)
        """Opening, lips or iris, contours, stretch; then opening and lips or iris of the portrait."""
        self._scratch = np.zeros((size, size), np.uint8)

    def draw_portrait(self, own: Floats) -> None:
        """Draw the portrait's own masks. ``own``: its landmarks in samples of its crop, (478, 2)."""
        self._draw_masks(own, self.drawn[4], self.drawn[5])

    def draw(self, own: Floats, now: Floats) -> None:
        """Draw the planes of a frame. ``own``: as in ``draw_portrait``; ``now``: those of the frame, likewise."""
        self._draw_masks(now, self.drawn[0], self.drawn[1])
        contours = self.drawn[2]
        contours.fill(0)
        paths = [_fixed(now[line]) for line in self.region.lines]
        cv2.polylines(contours, paths, False, (255,), 1, cv2.LINE_AA, _SHIFT)
        draw_stretch(own, now, self.region.triangles, self.drawn[3])

    def _draw_masks(self, points: Floats, inner: Bytes, outer: Bytes) -> None:
        region = self.region
        inner.fill(0)
        outer.fill(0)
        cv2.fillPoly(inner, [_fixed(points[region.inner])], (255,), cv2.LINE_AA, _SHIFT)
        if region.name == "mouth":
            cv2.fillPoly(outer, [_fixed(points[region.outer])], (255,), cv2.LINE_AA, _SHIFT)
            cv2.subtract(outer, inner, outer)
            return
        iris = points[region.outer]
        radius = float(np.hypot(*(iris[1:] - iris[0]).T).mean())
        centre = _fixed(iris[:1])[0]
        cv2.circle(
            outer, (int(centre[0]), int(centre[1])), round(max(radius, 0.5) * (1 << _SHIFT)), (255,), -1, cv2.LINE_AA,
            _SHIFT,
        )  # fmt: skip
        cv2.multiply(outer, inner, outer, 1 / 255)


def _fixed(points: Floats) -> NDArray[np.int32]:
    return np.asarray(np.rint(np.clip(points, -999, 999) * (1 << _SHIFT)), np.int32)


@compiled(fastmath=True)
def draw_stretch(own: Any, now: Any, triangles: Any, out: Any) -> None:
    """Draw by how much each triangle of the face has grown, to ``out`` (H, W) uint8.

    own, now: (478, 2) float32, before and after; triangles: (T, 3) int32. The value is 128 for a triangle that keeps
    its area, and 127 more or less for one whose scale changes by exp(``STRETCH_LIMIT``) or its inverse.
    """
    height, width = out.shape
    out[:] = 128
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        before = abs(
            (own[b, 0] - own[a, 0]) * (own[c, 1] - own[a, 1]) - (own[b, 1] - own[a, 1]) * (own[c, 0] - own[a, 0])
        )
        ax, ay, bx, by, cx, cy = now[a, 0], now[a, 1], now[b, 0], now[b, 1], now[c, 0], now[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 0.05:
            continue
        change = 0.5 * np.log(abs(area) / max(before, 0.05))
        value = np.uint8(min(max(128 + 127 / STRETCH_LIMIT * change, 1), 255))
        inverse = np.float32(1.0) / area
        for y in range(max(0, int(np.ceil(min(ay, by, cy)))), min(height - 1, int(np.floor(max(ay, by, cy)))) + 1):
            for x in range(max(0, int(np.ceil(min(ax, bx, cx)))), min(width - 1, int(np.floor(max(ax, bx, cx)))) + 1):
                second = ((cy - ay) * (x - ax) - (cx - ax) * (y - ay)) * inverse
                third = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) * inverse
                if second >= 0 and third >= 0 and second + third <= 1:
                    out[y, x] = value


@compiled(fastmath=True)
def pack(warped: Any, source: Any, drawn: Any, out: Any) -> None:
    """Write the input of a network: out (12, H, W) float32, pictures in -1 to 1, drawn planes in 0 to 1.

    warped, source: (H, W, 3) uint8; drawn: (6, H, W) uint8, see ``Planes.drawn``.
    """
    for y in range(out.shape[1]):
        for x in range(out.shape[2]):
            for c in range(3):
                out[c, y, x] = warped[y, x, c] * np.float32(1 / 127.5) - np.float32(1)
                out[3 + c, y, x] = source[y, x, c] * np.float32(1 / 127.5) - np.float32(1)
    for p in range(6):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                out[6 + p, y, x] = drawn[p, y, x] * np.float32(1 / 255)


@compiled(fastmath=True)
def paste(change: Any, frame: Any, share: Any, out: Any) -> None:
    """Add a network's change to the image.

    change: (3, h, w) float32, in parts of full scale, 0 at its border; frame: as of ``frame_of``;
    share: how much of the change is added, 0 to 1; out: (H, W, 3) uint8, written to.
    """
    height, width = change.shape[1], change.shape[2]
    a, b, c, d = frame[0, 0], frame[0, 1], frame[1, 0], frame[1, 1]
    inverse = np.float32(1) / (a * d - b * c)
    left = frame[0, 2] + min(a * (width - 1), np.float32(0)) + min(b * (height - 1), np.float32(0))
    right = frame[0, 2] + max(a * (width - 1), np.float32(0)) + max(b * (height - 1), np.float32(0))
    top = frame[1, 2] + min(c * (width - 1), np.float32(0)) + min(d * (height - 1), np.float32(0))
    bottom = frame[1, 2] + max(c * (width - 1), np.float32(0)) + max(d * (height - 1), np.float32(0))
    full = np.float32(255) * np.float32(share)
    last_u, last_v = np.float32(width - 1.001), np.float32(height - 1.001)
    for y in range(max(0, int(np.ceil(top))), min(out.shape[0] - 1, int(np.floor(bottom))) + 1):
        dy = np.float32(y) - frame[1, 2]
        for x in range(max(0, int(np.ceil(left))), min(out.shape[1] - 1, int(np.floor(right))) + 1):
            dx = np.float32(x) - frame[0, 2]
            u, v = (d * dx - b * dy) * inverse, (a * dy - c * dx) * inverse
            if u < 0 or v < 0 or u > last_u or v > last_v:
                continue
            column, row = int(u), int(v)
            fu, fv = u - np.float32(column), v - np.float32(row)
            for k in range(3):
                first = change[k, row, column] + (change[k, row, column + 1] - change[k, row, column]) * fu
                second = change[k, row + 1, column] + (change[k, row + 1, column + 1] - change[k, row + 1, column]) * fu
                value = out[y, x, k] + full * (first + (second - first) * fv) + np.float32(0.5)
                out[y, x, k] = np.uint8(min(max(value, np.float32(0)), np.float32(255)))


def compile_all() -> None:
    """Compile every function here, or load it from numba's cache, so that the first frame does not wait for it."""
    points, image = np.zeros((478, 2), np.float32), np.zeros((4, 4, 3), np.uint8)
    drawn, frame = np.zeros((6, 4, 4), np.uint8), np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    draw_stretch(points, points, MOUTH.triangles, drawn[3])
    pack(image, image, drawn, np.zeros((12, 4, 4), np.float32))
    paste(np.zeros((3, 4, 4), np.float32), frame, 1.0, image)
