"""A machine-readable number and time in the pixels of a picture, which survive scaling, mirroring and video codecs.

Layout, for implementations in other languages:

- The code is a grid of 20 x 8 square cells, row by row from the top left. The outer ring of cells is white, the ring
  inside it black, and the 16 x 4 cells within are data: white is 1, black is 0.
- It is in the top left corner of the picture, from (0, 0). A cell's side is min(width, height) / 48 pixels, not
  rounded: cell (column, row) covers x from column * side to (column + 1) * side, and y likewise. A code in a picture
  that was scaled is therefore found in the same way. In a mirrored picture it is at the top right, mirrored.
- The 64 bits of data, most significant first: a counter (16 bits), a time in microseconds modulo 2^32 (32 bits), and
  the CRC-16 of those six bytes, big-endian (polynomial 0x1021, initial value 0xFFFF, nothing reflected, no final XOR:
  "CRC-16/CCITT-FALSE", whose check value for "123456789" is 0x29B1).
- To read: average the luma over the middle half of each cell, use the middle between the mean of the white ring and
  the mean of the black ring as the threshold, and accept the bits if both rings and the CRC are right.

The levels are 16 and 235 in RGB, so that clipping does not reduce the contrast.
"""

from __future__ import annotations

import binascii
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

COLUMNS, ROWS = 20, 8
CELLS_ACROSS = 48
"""The length of a picture's shorter side, in cells."""
BLACK, WHITE = 16, 235
_DATA = (slice(2, 6), slice(2, 18))
_SAMPLES = 8
"""Samples of a cell in each direction, of which the middle half is used."""
_LEAST_CONTRAST = 24.0

Grey = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Code:
    """The contents of a code. Both numbers wrap around, the time after 71 minutes."""

    counter: int
    """0 to 65535."""
    time_us: int
    """Microseconds of the monotonic clock, modulo 2^32."""

    @classmethod
    def at(cls, counter: int, time_ns: int) -> Code:
        """Return the code for a monotonic time in nanoseconds; both numbers are wrapped."""
        return cls(counter & 0xFFFF, (time_ns // 1000) & 0xFFFFFFFF)

    @classmethod
    def now(cls, counter: int) -> Code:
        """Return the code for the current time."""
        return cls.at(counter, time.monotonic_ns())

    def age_ns(self, now_ns: int) -> int:
        """Return the time from the code to ``now_ns`` in nanoseconds, from -2^31 to 2^31 microseconds."""
        age_us = (now_ns // 1000 - self.time_us) & 0xFFFFFFFF
        return (age_us - (1 << 32) if age_us >= 1 << 31 else age_us) * 1000 + now_ns % 1000


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a code in a picture, in pixels."""

    x: float
    y: float
    side: float
    """The side of one cell."""


def place_in(width: int, height: int) -> Place:
    """Return the standard place in a picture of this size: the top left corner."""
    return Place(0.0, 0.0, min(width, height) / CELLS_ACROSS)


def grid(code: Code) -> Grey:
    """Return the cells of a code, (8, 20) uint8, 16 or 235."""
    cells = np.full((ROWS, COLUMNS), WHITE, np.uint8)
    cells[1:-1, 1:-1] = BLACK
    body = (code.counter & 0xFFFF).to_bytes(2, "big") + (code.time_us & 0xFFFFFFFF).to_bytes(4, "big")
    message = body + binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big")
    bits = np.unpackbits(np.frombuffer(message, np.uint8)).reshape(4, 16)
    cells[_DATA] = np.where(bits, np.uint8(WHITE), np.uint8(BLACK))
    return cells


def decode(levels: NDArray[Any]) -> Code | None:
    """Return the code whose cells have these levels, (8, 20), or None if they are not a code."""
    outer, inner = _rings()
    white, black = float(levels[outer].mean()), float(levels[inner].mean())
    if white - black < _LEAST_CONTRAST:
        return None
    middle = (white + black) / 2
    bits = levels > middle
    if not bits[outer].all() or bits[inner].any():
        return None
    message = np.packbits(bits[_DATA]).tobytes()
    if binascii.crc_hqx(message[:6], 0xFFFF) != int.from_bytes(message[6:], "big"):
        return None
    return Code(int.from_bytes(message[:2], "big"), int.from_bytes(message[2:6], "big"))


def draw(image: NDArray[np.uint8], code: Code, place: Place | None = None) -> None:
    """Draw a code into ``image``, (H, W) or (H, W, 3) uint8, in place.

    Raises ValueError if the code does not fit: a cell would be smaller than a pixel or outside the image.
    """
    height, width = image.shape[:2]
    index, top, left = _cell_of_pixels(place or place_in(width, height), width, height)
    cells = grid(code).ravel()[index]
    if image.ndim == 3:
        cells = cv2.cvtColor(cells, cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False)
    image[top : top + len(index), left : left + index.shape[1]] = cells


def draw_i420(pixels: NDArray[np.uint8], code: Code, place: Place | None = None) -> None:
    """Draw a code into an I420 picture, (H * 3 / 2, W) uint8, in place. Raises ValueError if it does not fit."""
    rows, width = pixels.shape
    height = rows * 2 // 3
    where = place or place_in(width, height)
    draw(pixels[:height], code, where)
    bottom, right = int(where.y + ROWS * where.side) // 2 + 1, int(where.x + COLUMNS * where.side) // 2 + 1
    top, left = int(where.y) // 2, int(where.x) // 2
    for plane in pixels[height:].reshape(2, height // 2, width // 2):
        plane[top:bottom, left:right] = 128


def read(image: NDArray[np.uint8], place: Place | None = None) -> Code | None:
    """Return the code in ``image``, (H, W) or (H, W, 3) uint8, or None if there is none or its check fails.

    Without ``place`` the standard place is tried, then that of a mirrored picture.
    """
    height, width = image.shape[:2]
    where = place or place_in(width, height)
    code = decode(_levels(image, where))
    if code is None and place is None:
        flipped = Place(width - where.x - COLUMNS * where.side, where.y, where.side)
        code = decode(_levels(image, flipped)[:, ::-1])
    return code


def levels_through(grey: Grey, corners: NDArray[Any]) -> NDArray[np.float64]:
    """Return the level of each cell, (8, 20), of a code seen in perspective.

    ``corners`` (4, 2) are the corners of the black ring's outer edge in pixels: top left, top right, bottom right,
    bottom left, in the orientation in which the code is read.
    """
    n = _SAMPLES
    box = np.array([[n, n], [(COLUMNS - 1) * n, n], [(COLUMNS - 1) * n, (ROWS - 1) * n], [n, (ROWS - 1) * n]])
    transform = cv2.getPerspectiveTransform(corners.astype(np.float32), (box - 0.5).astype(np.float32))
    flat = cv2.warpPerspective(grey, transform, (COLUMNS * n, ROWS * n), flags=cv2.INTER_LINEAR)
    return _middles(flat)


def _levels(image: NDArray[np.uint8], place: Place) -> NDArray[np.float64]:
    """Return the level of each cell, (8, 20)."""
    height, width = image.shape[:2]
    left, top = max(0, int(place.x)), max(0, int(place.y))
    right = min(width, int(place.x + COLUMNS * place.side) + 2)
    bottom = min(height, int(place.y + ROWS * place.side) + 2)
    if right <= left or bottom <= top:
        return np.zeros((ROWS, COLUMNS))
    part = image[top:bottom, left:right]
    if part.ndim == 3:
        part = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    step = place.side / _SAMPLES
    to_image = np.array([[step, 0, place.x - left + step / 2 - 0.5], [0, step, place.y - top + step / 2 - 0.5]])
    size = (COLUMNS * _SAMPLES, ROWS * _SAMPLES)
    flat = cv2.warpAffine(
        part, to_image, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return _middles(flat)


def _middles(flat: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of the middle half of each cell."""
    quarter = _SAMPLES // 4
    cells = flat.reshape(ROWS, _SAMPLES, COLUMNS, _SAMPLES)
    middle: NDArray[np.float64] = cells[:, quarter:-quarter, :, quarter:-quarter].mean(axis=(1, 3))
    return middle


@lru_cache(maxsize=1)
def _rings() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return masks of the white ring and of the black ring, (8, 20) bool each."""
    outer = np.ones((ROWS, COLUMNS), bool)
    outer[1:-1, 1:-1] = False
    inner = ~outer
    inner[_DATA] = False
    return outer, inner


@lru_cache(maxsize=16)
def _cell_of_pixels(place: Place, width: int, height: int) -> tuple[NDArray[np.intp], int, int]:
    """Return the index of the cell that each pixel of the code shows, and the code's first row and column."""
    edges_y = np.floor(place.y + place.side * np.arange(ROWS + 1) + 0.5).astype(int)
    edges_x = np.floor(place.x + place.side * np.arange(COLUMNS + 1) + 0.5).astype(int)
    inside = edges_y[0] >= 0 and edges_x[0] >= 0 and edges_y[-1] <= height and edges_x[-1] <= width
    if place.side < 1 or not inside:
        raise ValueError(f"a code at {place} does not fit into {width}x{height}")
    rows, columns = np.repeat(np.arange(ROWS), np.diff(edges_y)), np.repeat(np.arange(COLUMNS), np.diff(edges_x))
    return rows[:, None] * COLUMNS + columns, int(edges_y[0]), int(edges_x[0])
