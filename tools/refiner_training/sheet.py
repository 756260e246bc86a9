"""A sheet of held-out samples: a row each with the portrait, the warp, the refined and the real frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import Image
from tools.refiner_training.batches import Batch
from tools.refiner_training.clips import SIDE
from tools.refiner_training.evaluation import METHODS, Pair
from tools.support.files import write_picture

ROWS, COLUMNS = 12, 4
"""Samples on a sheet."""
_ENLARGED = 2


def write_sheet(path: Path, check: Batch, made: NDArray[np.float32]) -> None:
    """Write a sheet of evenly spread samples. ``made``: what the network makes of them, (B, 3, S, S) in [0, 1]."""
    picked = np.linspace(0, len(made) - 1, ROWS * COLUMNS).astype(int)
    tiles = []
    for k in picked:
        planes = check.planes[k]
        source, warped = (planes[3:6] + 1) / 2, (planes[:3] + 1) / 2
        tiles.append(np.concatenate([source, warped, made[k], check.true[k]], axis=2))
    rows = [np.concatenate(tiles[row * COLUMNS : (row + 1) * COLUMNS], axis=2) for row in range(ROWS)]
    sheet = np.clip(255 * np.concatenate(rows, axis=1).transpose(1, 2, 0) + 0.5, 0, 255).astype(np.uint8)
    sheet = np.asarray(cv2.resize(sheet, None, fx=_ENLARGED, fy=_ENLARGED, interpolation=cv2.INTER_CUBIC), np.uint8)
    write_picture(path, sheet, "--work")


def write_pairs(path: Path, pairs: list[Pair], most: int = 16) -> None:
    """Write a sheet of evaluated pairs at true size: portrait, truth, then the methods but the still portrait."""
    rows = []
    for k in np.unique(np.linspace(0, len(pairs) - 1, min(most, len(pairs))).astype(int)) if pairs else []:
        pair = pairs[k]
        pictures = [pair.source.image, pair.true.image, *(pair.pictures[name] for name in METHODS[1:])]
        rows.append(np.hstack([_face(picture) for picture in pictures]))
    sheet = np.vstack(rows) if rows else np.zeros((8, 8, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, sheet, "--sheet")


def _face(picture: Image) -> Image:
    """Return the middle of a cut frame, where the face is."""
    return picture[int(0.26 * SIDE) : int(0.82 * SIDE), int(0.24 * SIDE) : int(0.76 * SIDE)]
