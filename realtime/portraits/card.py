"""Shows a picture of another shape whole: as a card with round corners over a blurred enlargement of itself."""

from __future__ import annotations

import math

import cv2
import numpy as np

from engines.types import Floats, Image, Mask, Points, Window
from realtime.portraits.head_crop import HeadCrop, choose_crop, resample
from realtime.portraits.mount import Mount

MARGIN = 0.045
"""Room around the card, as all lengths here a share of the shorter side of the frame."""
RADIUS = 0.04
BLUR = 0.1
DARK = 0.5
"""The share of the enlargement's light that is left."""
SUBJECT = 0.04
"""How much a pixel of the subject counts in the enlargement."""
SHADOW, SHADOW_WIDTH, SHADOW_DROP = 0.5, 0.03, 0.012
RIM = 0.12
"""How bright the card's rim is: it separates dark pictures from the background."""
SMALL_CARD = 0.5
"""Cost of a card that covers nothing of the frame; a whole one costs nothing."""


class Card:
    """A picture as a card in a frame of ``size`` (width, height)."""

    def __init__(self, points: Points, image_size: tuple[int, int], size: tuple[int, int]) -> None:
        """Choose the card's shape and place: of the shapes that the picture fills, the one that frames the head best.

        ``points`` are the face's landmarks in pixels of the picture, (478, 2 or 3).
        """
        width, height = size
        margin = 2 * round(MARGIN * min(size) / 2)
        room = (width - 2 * margin, height - 2 * margin)
        aspect = room[0] / room[1]
        best = math.inf
        for shape in np.geomspace(min(aspect, 0.62), max(aspect, 1.3), 9):
            wide, tall = min(room[0], round(room[1] * shape)), min(room[1], round(room[0] / shape))
            rated = choose_crop(points, image_size, (wide, tall), sides=False, above=False)
            cost = rated.cost + SMALL_CARD * (1 - wide * tall / (room[0] * room[1]))
            if cost < best:
                best = cost
                left, top = (width - wide) // 2, (height - tall) // 2
                self.window = Window(left, top, left + wide, top + tall, round(RADIUS * min(size)))
                scale = rated.crop.scale
                self.crop = HeadCrop(rated.crop.left - left / scale, rated.crop.top - top / scale, scale)
        self.cost = best
        """How well the head is framed, as in ``RatedCrop``."""
        self._size = size

    def picture(self, image: Image) -> Image:
        """Return what the card shows of a picture (h, w, 3)."""
        left, top, right, bottom, _ = self.window
        return resample(image, self.crop, (left, top, right, bottom))

    def mount(self, picture: Image, matte: Mask | None) -> Mount:
        """Return the frame that ``picture`` is shown in, of whose subject ``matte`` is the matte."""
        frame = _ground(picture, matte, self._size)
        frame *= (1 - SHADOW * self._shadow())[..., None]
        alpha = self.window.alpha(self._size)[..., None].astype(np.float32) / 255
        rim = self.window.grown(max(1, round(0.0015 * min(self._size)))).alpha(self._size)[..., None] / np.float32(255)
        frame += RIM * (rim - alpha) * (255 - frame)
        return Mount(np.asarray(np.clip(frame + 0.5, 0, 255), np.uint8), self.window)

    def _shadow(self) -> Floats:
        """Return how dark the card's shadow is at each pixel, (H, W) in [0, 1]."""
        unit = min(self._size)
        shape = np.roll(self.window.alpha(self._size), round(SHADOW_DROP * unit), axis=0).astype(np.float32) / 255
        return np.asarray(cv2.GaussianBlur(shape, (0, 0), SHADOW_WIDTH * unit), np.float32)


def _ground(picture: Image, matte: Mask | None, size: tuple[int, int]) -> Floats:
    """Return the picture enlarged until it covers a frame of ``size``, blurred and darkened, (H, W, 3).

    The subject counts little, as its head would be a dark blot behind the card.
    """
    width, height = size
    tall, wide = picture.shape[:2]
    scale = max(width / wide, height / tall)
    part_wide, part_tall = min(wide, round(width / scale)), min(tall, round(height / scale))
    left, top = (wide - part_wide) // 2, (tall - part_tall) // 2
    small = (max(16, width // 8), max(16, height // 8))
    weighted = np.ones((tall, wide, 4), np.float32)
    weighted[..., :3] = picture
    if matte is not None:
        weighted *= (1 - (1 - SUBJECT) * matte.astype(np.float32) / 255)[..., None]
    part = cv2.resize(weighted[top : top + part_tall, left : left + part_wide], small, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(part, (0, 0), BLUR * min(small), borderType=cv2.BORDER_REFLECT)
    ground = cv2.resize(soft[..., :3] / soft[..., 3:], size, interpolation=cv2.INTER_CUBIC) * DARK
    # dark gradients of eight bits show bands without a little noise
    ground += np.random.default_rng(1).normal(0, 0.6, (height, width, 1)).astype(np.float32)
    return np.asarray(ground, np.float32)
