"""The lips of a portrait as a layer of their own, drawn over skin that goes on beneath them.

A mouth that is pursed covers less than in the picture: warped with the skin, the old line of the lips would stick out
at both sides. Corners of the mouth that come in leave it behind, and fetch lip instead of line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.face.head import Pose
from engines.face.topology import LIP_ROWS, MOUTH_CORNERS
from engines.jit import compiled
from engines.layers import mesh_raster
from engines.mesh import mouth_raster
from engines.mesh.lip_removal import CORNER_MARGIN, MARGIN, SOFT, remove_lips
from engines.types import LANDMARKS, Floats, Image, Points

COLUMNS, ROWS = 11, 5
"""The grid of each lip: 11 columns from corner to corner, four rows of landmarks and one around the lips."""
AROUND, BESIDE = 1.25 * (MARGIN + SOFT) + 0.04, 1.1 * (CORNER_MARGIN + SOFT) + 0.03
"""How far the last row is from the lips above and below, and beside their corners, in mouth widths."""
PURSED = (0.95, 0.6)
"""The width of the mouth, over that in the portrait, at which lips begin to be pursed and are so completely."""
CORNER_COLUMNS = 1.8
"""How many columns at each corner pursed lips leave behind."""
PARTED = 0.25
"""How far from the inner edge parted lips begin, in rows: the line where they met belongs to closed lips."""
WIDE_APART = (0.12, 0.32)
"""By how much the gap grows over that in the portrait, in mouth widths, as the line beyond the corners fades."""
TAPER = 0.4
"""How much of their height pursed lips lose at the corners."""
WIDTHS = (0.35, 1.2)
"""The smallest and the largest factor of what is beside the corners."""
_GRIDS = np.stack([np.stack(rows) for rows in LIP_ROWS])
_AT_CORNERS = np.array([1, 0.5, 0, 0, 0, 0, 0, 0, 0, 0.5, 1], np.float32)
_PER_LIP = ROWS * COLUMNS


def _triangles() -> NDArray[np.int32]:
    """Return the triangles of both lips and of the slit between them, (180, 3) int32."""
    cells = []
    for lip in range(2):
        grid = lip * _PER_LIP + np.arange(_PER_LIP).reshape(ROWS, COLUMNS)
        cells.append(np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]]).reshape(4, -1))
    upper, lower = np.arange(COLUMNS), _PER_LIP + np.arange(COLUMNS)
    cells.append(np.stack([upper[:-1], upper[1:], lower[:-1], lower[1:]]))
    a, b, c, d = np.concatenate(cells, axis=1)
    return np.asarray(np.concatenate([np.stack([a, b, c], axis=1), np.stack([b, d, c], axis=1)]), np.int32)


LIP_TRIANGLES = _triangles()


def _around(pixels: Points) -> Floats:
    """Return the row around each lip, (2, 11, 2) pixels. ``pixels``: landmarks (478, 2 or more)."""
    outer = pixels[_GRIDS[:, -1], :2].astype(np.float32)
    across = outer[0, -1] - outer[0, 0]
    width = max(float(np.hypot(*across)), 1.0)
    right = across / width
    down = np.array([-right[1], right[0]], np.float32)
    side = np.linspace(-1, 1, COLUMNS, dtype=np.float32)[:, None]
    around = np.empty_like(outer)
    for lip, sign in enumerate((-1, 1)):
        # outwards: up or down in the middle, and to the side at the corners
        sideways = BESIDE * np.sign(side) * np.abs(side) ** 3
        around[lip] = outer[lip] + width * (sideways * right + sign * AROUND * (1 - np.abs(side) ** 12) * down)
    return around


@dataclass(frozen=True, slots=True)
class PortraitLips:
    """The lips of a portrait, see ``engines.mesh.lip_removal.RemovedLips``."""

    corner: tuple[int, int]
    skin: Image
    lips: Image
    source: Floats
    """(2, 5, 11, 2): where the grids of both lips are in ``lips``, pixels."""
    beside: Points
    """(2, 11, 3): the last row from the one before, in the head frame."""
    width: float
    """The distance of the inner corners in the head frame."""

    @staticmethod
    def of(image: Image, pixels: Points, pose: Pose, shape: Points) -> PortraitLips:
        """Compute the lips of a portrait: its landmarks in pixels and in the head frame of ``pose``, both (478, 3)."""
        around = _around(pixels)
        removed = remove_lips(image, pixels, np.concatenate([around[0], around[1, ::-1]]))
        grid = np.concatenate([pixels[_GRIDS, :2], around[:, None]], axis=1).astype(np.float32)
        deep = np.concatenate([around, pixels[_GRIDS[:, -1], 2:3]], axis=2)
        beside = pose.unproject(deep.reshape(-1, 3)).reshape(2, COLUMNS, 3) - shape[_GRIDS[:, -1]]
        return PortraitLips(
            removed.corner,
            removed.skin,
            removed.lips,
            np.asarray(grid - np.array(removed.corner, np.float32), np.float32),
            np.asarray(beside, np.float32),
            float(np.linalg.norm(shape[MOUTH_CORNERS[1]] - shape[MOUTH_CORNERS[0]])),
        )

    def without_lips(self, image: Image) -> Image:
        """Return a copy of the portrait without its lips."""
        skin = image.copy()
        left, top = self.corner
        skin[top : top + self.skin.shape[0], left : left + self.skin.shape[1]] = self.skin
        return skin


class LipLayer:
    """Draws the lips of one portrait."""

    def __init__(self, lips: PortraitLips) -> None:
        self._lips = lips
        self._target = np.empty((2, ROWS, COLUMNS, 3), np.float32)
        self._source = lips.source.copy()
        self._shares = np.empty(3, np.float32)
        self._maps = np.empty(0, np.float32)
        self._depths = np.empty(0, np.float32)

    def draw(self, out: Image, box: tuple[int, int, int, int], points: Points, shape: Points, pose: Pose) -> None:
        """Draw the lips over a face without lips.

        out: (H, W, 3), written to within ``box``: left, top, right, bottom; points: the landmarks in it, (478 or more,
        3) pixels; shape: the same in the head frame of ``pose``.
        """
        lips, target = self._lips, self._target
        left, top, right, bottom = lay(
            points, shape, lips.source, lips.beside, lips.width, pose.rotation, pose.scale, target, self._source,
            self._shares,
        )  # fmt: skip
        x, y = max(math.floor(left), box[0]), max(math.floor(top), box[1])
        width, height = min(math.ceil(right) + 1, box[2]) - x, min(math.ceil(bottom) + 1, box[3]) - y
        if width < 1 or height < 1:
            return
        if self._depths.size < width * height:
            self._maps, self._depths = (
                np.empty(4 * width * height, np.float32),
                np.empty(2 * width * height, np.float32),
            )
        depth = self._depths[: width * height].reshape(height, width)
        backward = self._maps[: 2 * width * height].reshape(height, width, 2)
        depth.fill(mesh_raster.FAR)
        mesh_raster.draw_mesh(
            target.reshape(-1, 3), self._source.reshape(-1, 2), LIP_TRIANGLES, x, y, 1, backward, depth
        )  # fmt: skip
        mouth_raster.draw_lips(out, x, y, lips.lips, self._shares, backward, depth)


@compiled()
def lay(
    points: Any, shape: Any, own: Any, beside: Any, width: float, rotation: Any, scale: float, target: Any, source: Any,
    shares: Any,
) -> Any:  # fmt: skip
    """Compute where the grids of both lips are, and where they are fetched from.

    points, shape: see ``LipLayer.draw``; own, beside, width: those of ``PortraitLips``; rotation, scale: of the head;
    target: (2, 5, 11, 3) and source: (2, 5, 11, 2), written to; shares: (3,), written to: of the opacity of lips as in
    the portrait, of pursed ones and of parted ones. Return the left, upper, right and lower edge of the grids, pixels.
    """
    square = np.float32(0)
    for k in range(3):
        square += (shape[MOUTH_CORNERS[1], k] - shape[MOUTH_CORNERS[0], k]) ** 2
    narrow = float(np.sqrt(square)) / max(width, 1e-6)
    pursed = min(max((PURSED[0] - narrow) / (PURSED[0] - PURSED[1]), 0.0), 1.0)
    # what is beside pursed lips is fetched from above and below them
    closer = min(max(narrow, WIDTHS[0]), WIDTHS[1]) * (1 - pursed) + pursed * 0.4 * AROUND / BESIDE
    low, high = np.full(2, np.float32(1e9)), np.full(2, np.float32(-1e9))
    for lip in range(2):
        for column in range(COLUMNS):
            taper = np.float32(TAPER * pursed) * _AT_CORNERS[column]
            x, y, z = beside[lip, column, 0] * closer, beside[lip, column, 1], beside[lip, column, 2]
            for k in range(3):
                inner = points[_GRIDS[lip, 0, column], k]
                target[lip, 0, column, k] = inner
                for row in range(1, ROWS - 1):
                    at = points[_GRIDS[lip, row, column], k]
                    target[lip, row, column, k] = at + taper * (inner - at)
                way = scale * (rotation[k, 0] * x + rotation[k, 1] * y + rotation[k, 2] * z)
                target[lip, ROWS - 1, column, k] = target[lip, ROWS - 2, column, k] + way
            for row in range(ROWS):
                for k in range(2):
                    low[k] = min(low[k], target[lip, row, column, k])
                    high[k] = max(high[k], target[lip, row, column, k])
    square = np.float32(0)
    for k in range(3):
        square += (target[0, 0, 5, k] - target[1, 0, 5, k]) ** 2
    gap = float(np.sqrt(square)) / max(width * scale, 1e-6)
    across, down = own[0, 0, COLUMNS - 1] - own[0, 0, 0], own[1, 0, 5] - own[0, 0, 5]
    resting = float(np.hypot(down[0], down[1])) / max(float(np.hypot(across[0], across[1])), 1e-6)
    # between lips that are wide apart, the line would be a block beside each corner
    apart = min(max((gap - resting - WIDE_APART[0]) / (WIDE_APART[1] - WIDE_APART[0]), 0.0), 1.0)
    shares[1], shares[2] = pursed, (1 - pursed) * apart
    shares[0] = 1 - shares[1] - shares[2]
    _fetch(own, pursed, apart, gap, source)
    return low[0], low[1], high[0], high[1]


@compiled()
def _fetch(own: Any, pursed: float, apart: float, gap: float, source: Any) -> None:
    """Compute where the grids are fetched from, for lips pursed and apart so far and a gap between them."""
    skipped = CORNER_COLUMNS * pursed
    parted = np.float32(PARTED * min(max((gap - 0.05) / 0.25, 0.0), 1.0))
    for column in range(COLUMNS):
        at = skipped + column * (COLUMNS - 1 - 2 * skipped) / (COLUMNS - 1)
        first = min(int(at), COLUMNS - 2)
        part = np.float32(at - first)
        # nor is there a line where flesh is folded: towards the corners, the lips begin at the second row
        inner = np.float32(max(pursed, apart)) * _AT_CORNERS[column]
        for lip in range(2):
            for k in range(2):
                for row in range(ROWS):
                    left = own[lip, row, first, k]
                    source[lip, row, column, k] = left + part * (own[lip, row, first + 1, k] - left)
                one, two = source[lip, 0, column, k], source[lip, 1, column, k]
                three = source[lip, 2, column, k]
                one += inner * (two - one) + inner * np.float32(0.5) * (three - two)
                two += inner * np.float32(0.6) * (three - two)
                source[lip, 0, column, k] = one + parted * (two - one)
                source[lip, 1, column, k] = two


def compile_all() -> None:
    """Compile every loop here, or load it from numba's cache, so that the first frame does not wait for it."""
    points, rotation = np.zeros((LANDMARKS, 3), np.float32), np.eye(3, dtype=np.float32)
    source, beside = np.zeros((2, ROWS, COLUMNS, 2), np.float32), np.zeros((2, COLUMNS, 3), np.float32)
    target = np.zeros((2, ROWS, COLUMNS, 3), np.float32)
    lay(points, points, source, beside, 1.0, rotation, 1.0, target, source.copy(), np.zeros(3, np.float32))
