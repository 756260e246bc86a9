"""The lips of a portrait as a layer of their own, drawn over skin that goes on beneath them.

A mouth that is pursed covers less than in the picture: warped with the skin, the old line of the lips would stick out
at both sides. Corners of the mouth that come in leave it behind, and fetch lip instead of line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.face.head import Pose
from engines.face.topology import LIP_ROWS, MOUTH_CORNERS
from engines.mesh import mouth_raster, raster
from engines.mesh.lip_removal import CORNER_MARGIN, MARGIN, SOFT, remove_lips
from engines.types import Image, Points

Floats = NDArray[np.float32]

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
TAPER = 0.4
"""How much of their height pursed lips lose at the corners."""
WIDTHS = (0.35, 1.2)
"""The smallest and the largest factor of what is beside the corners."""
_GRIDS = np.stack([np.stack(rows) for rows in LIP_ROWS])
_AT_CORNERS = np.array([1, 0.5, 0, 0, 0, 0, 0, 0, 0, 0.5, 1], np.float32)[:, None]
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
        self._maps = np.empty(0, np.float32)
        self._depths = np.empty(0, np.float32)

    def draw(self, out: Image, box: tuple[int, int, int, int], points: Points, shape: Points, pose: Pose) -> None:
        """Draw the lips over a face without lips.

        out: (H, W, 3), written to within ``box``: left, top, right, bottom; points: the landmarks in it, (478 or more,
        3) pixels; shape: the same in the head frame of ``pose``.
        """
        lips, target = self._lips, self._target
        narrow = float(np.linalg.norm(shape[MOUTH_CORNERS[1]] - shape[MOUTH_CORNERS[0]])) / max(lips.width, 1e-6)
        target[:, :-1] = points[_GRIDS]
        pursed = min(max((PURSED[0] - narrow) / (PURSED[0] - PURSED[1]), 0.0), 1.0)
        # what is beside pursed lips is fetched from above and below them
        closer = min(max(narrow, WIDTHS[0]), WIDTHS[1]) * (1 - pursed) + pursed * 0.4 * AROUND / BESIDE
        taper = np.float32(TAPER * pursed) * _AT_CORNERS
        target[:, 1:-1] += taper * (target[:, :1] - target[:, 1:-1])
        beside = lips.beside * np.array([closer, 1, 1], np.float32)
        target[:, -1] = target[:, -2] + np.float32(pose.scale) * (beside @ pose.rotation.T)
        gap = float(np.linalg.norm(target[0, 0, 5] - target[1, 0, 5])) / max(lips.width * pose.scale, 1e-6)
        self._fetch(pursed, gap)
        low = np.maximum(np.floor(target[..., :2].min(axis=(0, 1, 2))), box[:2]).astype(int)
        high = np.minimum(np.ceil(target[..., :2].max(axis=(0, 1, 2))) + 1, box[2:]).astype(int)
        width, height = (int(v) for v in high - low)
        if width < 1 or height < 1:
            return
        if self._depths.size < width * height:
            self._maps, self._depths = (
                np.empty(4 * width * height, np.float32),
                np.empty(2 * width * height, np.float32),
            )
        depth = self._depths[: width * height].reshape(height, width)
        backward = self._maps[: 2 * width * height].reshape(height, width, 2)
        depth.fill(raster.FAR)
        x, y = int(low[0]), int(low[1])
        raster.draw_mesh(
            target.reshape(-1, 3), self._source.reshape(-1, 2), LIP_TRIANGLES, x, y, 1, backward, depth
        )  # fmt: skip
        mouth_raster.draw_lips(out, x, y, lips.lips, pursed, backward, depth)

    def _fetch(self, pursed: float, gap: float) -> None:
        """Compute where the grids are fetched from, for lips pursed so far and a gap between them."""
        own, source = self._lips.source, self._source
        skipped = CORNER_COLUMNS * pursed
        at = skipped + np.arange(COLUMNS) * (COLUMNS - 1 - 2 * skipped) / (COLUMNS - 1)
        first = np.minimum(at.astype(int), COLUMNS - 2)
        part = (at - first).astype(np.float32)[:, None]
        source[...] = own[:, :, first] + part * (own[:, :, first + 1] - own[:, :, first])
        # nor is there a line where flesh is folded: towards the corners, the lips begin at the second row
        inner = np.float32(pursed) * _AT_CORNERS
        source[:, 0] += inner * (source[:, 1] - source[:, 0]) + inner * np.float32(0.5) * (source[:, 2] - source[:, 1])
        source[:, 1] += inner * np.float32(0.6) * (source[:, 2] - source[:, 1])
        parted = np.float32(PARTED * min(max((gap - 0.05) / 0.25, 0.0), 1.0))
        source[:, 0] += parted * (source[:, 1] - source[:, 0])
