"""The painted mouth: modelled teeth, gums and tongue that turn with the head and open with the jaw.

The model is a table made by ``tools.assets.mouth_model`` from the ICT face model: the front of both rows of teeth and
the floor of the mouth, each a grid of points with a part of one texture.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.face.head import Pose
from engines.face.opening import Opening, opening_box
from engines.face.topology import (
    CHIN_TIP,
    INNER_LOWER_LIP,
    LOWER_LIP_MIDDLE,
    MOUTH_CORNERS,
    OUTER_EYE_CORNERS,
    UPPER_LIP_MIDDLE,
)
from engines.layers import mesh_raster
from engines.mesh import mouth_raster
from engines.mesh.mouth_light import MouthLight
from engines.types import Floats, Motion, Points

Texture = NDArray[np.uint8]

EYES_APART, MOUTH_WIDTH = 8.9, 4.5
"""The distance of the outer corners of the eyes, and of the inner corners of the mouth, of the model's head, in cm."""
PARTS = ("floor", "lower", "upper")
"""The surfaces from back to front."""
ROWS = {"upper": (0, 72), "lower": (72, 144), "floor": (144, 256)}
"""The rows of the texture that each of them has."""
JAW_SHARE = 0.97
"""The share of the lower lip's way that the jaw takes."""
CHIN_SHARE = 0.5
"""The share of the lower lip's way that the chin is seen to take where the jaw opens."""
WIDE = (0.3, 0.6)
"""Gaps of the lips, over the width of the mouth, between which a grin becomes an open jaw."""
LEAST_DROP = 0.06
"""A way of the lower lip that is certainly more than noise, in face scales."""
TONGUE = 0.4
"""The share of the jaw's way that the tongue stays behind."""
CAVITY = np.array([0.17, 0.07, 0.075], np.float32)
"""The colour of the depth of a mouth in white light, over white."""
TEXELS = 27.0
"""Rows of the texture in a centimetre."""


@lru_cache(maxsize=1)
def _table() -> dict[str, NDArray[Any]]:
    with np.load(Path(__file__).parents[1] / "assets" / "mouth.npz", allow_pickle=False) as table:
        return {name: table[name] for name in table}


def _grid_triangles(rows: int, columns: int) -> NDArray[np.int32]:
    """Return two triangles for each cell of a grid, (T, 3) int32."""
    at = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (at[:-1, :-1], at[:-1, 1:], at[1:, :-1], at[1:, 1:]))
    return np.asarray(np.concatenate([np.stack([a, b, c], axis=1), np.stack([b, d, c], axis=1)]), np.int32)


class MouthModel:
    """Teeth, gums and tongue of one portrait."""

    def __init__(self, shape: Points, scale: float, light: MouthLight) -> None:
        """Fit the model to a portrait's own face: ``shape`` (478, 3) in the head frame, of this scale in pixels."""
        table = _table()
        apart, wide = (
            float(np.linalg.norm(shape[ends[1]] - shape[ends[0]])) for ends in (OUTER_EYE_CORNERS, MOUTH_CORNERS)
        )
        self._unit = float(np.sqrt(apart / EYES_APART * wide / MOUTH_WIDTH))
        self._own = shape
        anchor = shape[UPPER_LIP_MIDDLE]
        self._anchor = anchor
        self._hinge = np.asarray(table["hinge"] * np.float32(self._unit), np.float32)
        self._points = {part: table[part].reshape(-1, 3).astype(np.float32) * np.float32(self._unit) for part in PARTS}
        floor = table["floor"].reshape(-1, 3).astype(np.float32)
        self._tongue = np.clip((2.0 - np.abs(floor[:, 0])) / 0.7, 0, 1) * np.clip((floor[:, 2] - 1.6) / 1.0, 0, 1)
        """(N,) how much each point of the floor is the tongue's."""
        self._triangles = {part: _grid_triangles(*table[part].shape[:2]) for part in PARTS}
        self._places = {part: _texture_places(table[part].shape[:2], ROWS[part]) for part in PARTS}
        blur = light.blur * TEXELS / max(self._unit * scale, 1e-3)
        self._texture = _blurred(np.asarray(table["texture"], np.uint8), blur)
        self._maps = np.empty(0, np.float32)
        self._depths = np.empty(0, np.float32)

    def place(self, shape: Points, pose: Pose, jaw: float = 1.0) -> dict[str, Floats]:
        """Return the points of each surface in the picture, (N, 3) pixels.

        shape: the portrait's face now, (478, 3) in the head frame of ``pose``; jaw: how much of the lower lip's way is
        the jaw's, see ``jaw_share``.
        """
        drop = jaw * JAW_SHARE * float(shape[LOWER_LIP_MIDDLE, 1] - self._own[LOWER_LIP_MIDDLE, 1])
        angle = max(drop, 0.0) / max(float(self._hinge[2] - self._points["lower"][:, 2].min()), 1e-3)
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        # about the axis between the ears: what is in front of it goes down and then back
        turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]], np.float32)
        side = float(shape[INNER_LOWER_LIP[4], 0] - self._own[INNER_LOWER_LIP[4], 0])
        aside = np.array([0.5 * side, 0, 0], np.float32)
        placed = {}
        for part, points in self._points.items():
            moved = points if part == "upper" else (points - self._hinge) @ turn.T + self._hinge + aside
            if part == "floor":
                moved[:, 1] -= self._tongue * np.float32(TONGUE * max(drop, 0.0))
            placed[part] = pose.project(moved + self._anchor)
        return placed

    def draw(
        self, out: NDArray[np.uint8], box: tuple[int, int, int, int], opening: Opening, shape: Points, pose: Pose,
        jaw: float, light: MouthLight, grain: Floats, opacity: float, feather: float,
    ) -> None:  # fmt: skip
        """Draw the mouth into an opening of ``out``, (H, W, 3), within ``box``; the rest as in ``place``."""
        left, top, right, bottom = raster_box = opening_box(opening.ends, opening.upper, opening.lower, box, feather)
        width, height = right - left, bottom - top
        if width < 1 or height < 1:
            return
        if self._depths.size < 3 * width * height:
            self._maps, self._depths = (
                np.empty(12 * width * height, np.float32),
                np.empty(6 * width * height, np.float32),
            )
        depths = self._depths[: 3 * width * height].reshape(3, height, width)
        maps = self._maps[: 6 * width * height].reshape(3, height, width, 2)
        depths.fill(mesh_raster.FAR)
        placed = self.place(shape, pose, jaw)
        for index, part in enumerate(PARTS):
            mesh_raster.draw_mesh(
                placed[part], self._places[part], self._triangles[part], left, top, 1, maps[index], depths[index]
            )  # fmt: skip
        front = float(placed["upper"][:, 2].min())
        mouth_raster.draw_model(
            out, raster_box, opening.ends, opening.upper, opening.lower, self._texture, maps, depths, front,
            self._unit * pose.scale, CAVITY, light.white, light.tint, light.colour, grain, opacity, feather,
        )  # fmt: skip


def jaw_share(motion: Motion, gap: float) -> float:
    """Return how much of the lower lip's way is the jaw's, in [0, 1]: in a grin the teeth stay together.

    gap: that of the lips, over the width of the mouth. Where it is wide, the jaw is open whatever the chin does, as
    trackers see little of a chin.
    """
    lip, chin = (float(motion.expression[at, 1] - motion.neutral[at, 1]) for at in (LOWER_LIP_MIDDLE, CHIN_TIP))
    by_chin = chin / max(lip, LEAST_DROP) / CHIN_SHARE
    return min(max(by_chin, (gap - WIDE[0]) / (WIDE[1] - WIDE[0]), 0.0), 1.0)


def _texture_places(shape: tuple[int, ...], rows: tuple[int, int]) -> Floats:
    """Return where each point of a grid is in the texture, (N, 2) pixels, within the outermost texels of the part."""
    x = np.linspace(0.5, 254.5, shape[1], dtype=np.float32)
    y = np.linspace(rows[0] + 0.5, rows[1] - 1.5, shape[0], dtype=np.float32)
    return np.ascontiguousarray(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))


def _blurred(texture: Texture, blur: float) -> Texture:
    """Return a texture (256, 256, 4) whose parts are blurred by a standard deviation in texels."""
    if blur < 0.3:
        return np.ascontiguousarray(texture)
    done = np.empty_like(texture)
    for first, last in ROWS.values():
        part = texture[first:last].astype(np.float32)
        part[..., :3] *= part[..., 3:] / 255
        soft = cv2.GaussianBlur(part, (0, 0), min(blur, 12.0), borderType=cv2.BORDER_REPLICATE).astype(np.float32)
        soft[..., :3] *= 255 / np.maximum(soft[..., 3:], 1)
        done[first:last] = np.rint(np.clip(soft, 0, 255))
    return done
