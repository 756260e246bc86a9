"""Drawn pictures, and faces that stand for those of pictures."""

from __future__ import annotations

import cv2
import numpy as np

from engines.face.topology import ALL_EYE_CORNERS
from engines.types import FaceState, Image, Mask, Points


def face(x: float, y: float, height: float) -> Points:
    """Return landmarks of a face of that height with its middle at (x, y) and its eyes at their usual height."""
    spread = np.random.default_rng(0).uniform(-0.5, 0.5, (478, 3)).astype(np.float32)
    spread[0], spread[1], spread[2], spread[3] = (0, -0.5, 0), (0, 0.5, 0), (-0.5, 0, 0), (0.5, 0, 0)
    spread[ALL_EYE_CORNERS, 1] = -0.13
    points: Points = spread * np.array([0.75 * height, height, height], np.float32)
    return points + np.array([x, y, 0], np.float32)


def gradient(width: int, height: int) -> Image:
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.dstack([red, green, 255 - red]).astype(np.uint8)


def in_picture(points: Points, size: tuple[int, int]) -> FaceState:
    """Return a face with those landmarks in pixels of a picture of that width and height."""
    width, height = size
    return FaceState(0, 0, points / np.array([width, height, width], np.float32), size)


def bust(width: int, height: int, *, grain: float = 3.0, slope: float = 0.0) -> tuple[Image, Mask, Points]:
    """Return a head and shoulders before a plain background that darkens to the right, with matte and landmarks.

    ``grain`` is the standard deviation of the background's noise, and ``slope`` how many levels it darkens.
    """
    shade = 150 - slope * np.linspace(0, 1, width)[None, :, None]
    noise = np.random.default_rng(3).normal(0, grain, (height, width, 1))
    image = np.clip(shade * (1.0, 0.95, 0.85) + noise, 0, 255).astype(np.uint8)
    matte = np.zeros((height, width), np.uint8)
    centre, tall = (width // 2, round(height * 0.42)), height * 0.5
    cv2.ellipse(matte, centre, (round(0.33 * tall), round(0.55 * tall)), 0, 0, 360, (255,), -1, cv2.LINE_AA)
    shoulders = (centre[0], height + round(0.2 * tall))
    cv2.ellipse(matte, shoulders, (round(0.62 * width), round(0.6 * tall)), 0, 0, 360, (255,), -1, cv2.LINE_AA)
    cloth = np.array([40, 60, 110], np.float32)
    alpha = matte[..., None].astype(np.float32) / 255
    image = np.asarray(image + alpha * (cloth - image), np.uint8)
    return image, matte, face(float(centre[0]), float(centre[1]), tall * 0.9)


def scenery(size: tuple[int, int], seed: int = 0) -> Image:
    """Return a picture with flat parts, edges, slopes and texture of all lengths, as photographs have them."""
    width, height = size
    random = np.random.default_rng(seed)
    image = np.full((height, width, 3), random.uniform(60, 180, 3), np.float32)
    length = max(size)
    while length >= 2:
        grain = random.normal(0, 1, (max(2, height // length + 1), max(2, width // length + 1), 1)).astype(np.float32)
        image += 0.055 * length**0.75 * cv2.resize(grain, size, interpolation=cv2.INTER_CUBIC)[..., None]
        length //= 2
    for _ in range(14):
        centre = int(random.integers(width)), int(random.integers(height))
        axes = int(random.integers(8, max(9, min(size) // 3))), int(random.integers(8, max(9, min(size) // 3)))
        colour = tuple(float(each) for each in random.uniform(10, 245, 3))
        cv2.ellipse(image, centre, axes, float(random.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return np.clip(image, 0, 255).astype(np.uint8)
