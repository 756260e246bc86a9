"""Contact sheets: driver and output side by side at the extremes of each channel."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from engines.errors import ReenactError
from engines.types import Image
from tools.fidelity_suite.reference_tracker import Track

MOMENTS = {
    "mouth open": ("jawOpen", 1),
    "eyes shut": ("blink", 1),
    "smile": ("smile", 1),
    "turned right": ("yaw", 1),
    "turned left": ("yaw", -1),
    "chin down": ("pitch", 1),
    "chin up": ("pitch", -1),
    "pucker": ("pucker", 1),
}
"""Label: the channel of the driver, and whether the frame of its largest (1) or smallest (-1) value is shown."""

_TILE = 300


def moments(driver: Track) -> dict[str, int]:
    """Return the frame number of each moment; empty when the driver never has a face."""
    if not driver.found.any():
        return {}
    return {name: int(np.nanargmax(sign * driver.channel(channel))) for name, (channel, sign) in MOMENTS.items()}


class Sheet:
    """The pairs of pictures of chosen frames, laid out in a grid."""

    def __init__(self, frames: dict[str, int]) -> None:
        """``frames`` maps the label of each frame to its number."""
        self._frames = frames
        self._pairs: dict[int, tuple[Image, Image]] = {}

    def add(self, index: int, driving: Image, output: Image) -> None:
        """Add one frame of both videos; a frame that was not chosen is ignored."""
        if index in self._frames.values():
            self._pairs[index] = (_tile(driving), _tile(output))

    def image(self) -> Image | None:
        """Return the sheet, each driver over its output, four to a row; None when no frame was added."""
        cells = [
            _labelled(np.vstack(self._pairs[index]), f"{name} #{index}")
            for name, index in self._frames.items()
            if index in self._pairs
        ]
        if not cells:
            return None
        blank = np.zeros_like(cells[0])
        cells += [blank] * (-len(cells) % 4)
        return np.vstack([np.hstack(cells[start : start + 4]) for start in range(0, len(cells), 4)])


def sheet_of(driver: Track, driving: Iterable[Image], output: Iterable[Image], path: Path) -> None:
    """Write the sheet of two videos. Raises ReenactError when it cannot be written."""
    sheet = Sheet(moments(driver))
    for index, pair in enumerate(zip(driving, output, strict=False)):
        sheet.add(index, *pair)
    write(sheet, path)


def write(sheet: Sheet, path: Path) -> None:
    """Write a sheet. Raises ReenactError when it is empty or cannot be written."""
    image = sheet.image()
    if image is None:
        raise ReenactError("sheet-empty", "no frame has a face to show", cure="choose a driver with a visible face")
    try:
        written = cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:
        written = False
    if not written:
        raise ReenactError(
            "sheet-not-writable",
            f"the sheet cannot be written to {path}",
            cure="give a path in a folder that exists, ending in .png",
        )


def _tile(image: Image) -> Image:
    """Return the picture inside a square tile, its proportions kept."""
    height, width = image.shape[:2]
    scale = _TILE / max(height, width)
    small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    tile = np.zeros((_TILE, _TILE, 3), np.uint8)
    top, left = (_TILE - small.shape[0]) // 2, (_TILE - small.shape[1]) // 2
    tile[top : top + small.shape[0], left : left + small.shape[1]] = small
    return tile


def _labelled(cell: Image, text: str) -> Image:
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(cell, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thickness, cv2.LINE_AA)
    return cell
