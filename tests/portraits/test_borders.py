"""Borders of scans: found where they are, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from engines.types import Image
from realtime.portraits.borders import trim_borders


def scene(width: int = 400, height: int = 320) -> Image:
    """Return a picture with smooth shades, grain and a few edges, none of which is a border."""
    random = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    image = np.dstack([120 + 60 * x, 140 - 40 * y, 90 + 30 * x * y]) + random.normal(0, 4, (height, width, 1))
    image[200:260, 40:360] += 40
    image[:, 300:304] -= 30
    return np.asarray(np.clip(image, 0, 255), np.uint8)


def inside(image: Image) -> tuple[int, int, int, int]:
    """Return how many rows and columns are trimmed: left, top, right, bottom."""
    rows, columns = trim_borders(image)
    return columns.start, rows.start, image.shape[1] - columns.stop, image.shape[0] - rows.stop


@pytest.mark.parametrize("width", [1, 2, 3, 6])
@pytest.mark.parametrize("colour", [0, 255, 60])
@pytest.mark.parametrize("side", range(4))
def test_a_border_is_measured_and_trimmed(width: int, colour: int, side: int) -> None:
    image = scene()
    strip = (np.s_[:, :width], np.s_[:width], np.s_[:, -width:], np.s_[-width:])[side]
    image[strip] = colour
    trimmed = inside(image)
    assert width <= trimmed[side] <= width + 2
    assert all(trimmed[other] == 0 for other in range(4) if other != side)


def test_a_soft_border_is_trimmed_whole() -> None:
    image = scene()
    image[:, :2] = 10
    image[:, 2] = (image[:, 2].astype(int) + 10) // 2
    assert 3 <= inside(image)[0] <= 5


def test_a_picture_without_borders_stays_whole() -> None:
    assert inside(scene()) == (0, 0, 0, 0)


def test_noise_is_no_border() -> None:
    image = np.random.default_rng(1).integers(0, 255, (300, 300, 3)).astype(np.uint8)
    assert inside(image) == (0, 0, 0, 0)


def test_an_edge_across_a_part_of_the_side_is_no_border() -> None:
    image = scene()
    image[:120, :5] = 10
    assert inside(image) == (0, 0, 0, 0)
