"""The inner loops of the marks compute what they say."""

from __future__ import annotations

import numpy as np

from engines.marking import mark_raster
from engines.marking.mark_raster import BLOCK
from engines.types import Image


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def test_the_activity_of_a_block_counts_rising_and_falling_edges_alike() -> None:
    image = noise(4 * BLOCK, 5 * BLOCK)
    roots = np.sqrt(np.arange(256, dtype=np.float32))
    found = np.zeros((4, 5), np.float32)
    mark_raster.measure_activity(image, roots, found)
    green = image[..., 1].astype(np.int32)
    for row in range(4):
        for column in range(5):
            rows = np.arange(row * BLOCK, min((row + 1) * BLOCK, image.shape[0] - 2), 4)[:, None]
            columns = np.arange(column * BLOCK, min((column + 1) * BLOCK, image.shape[1] - 2), 4)
            here = green[rows, columns]
            steps = np.abs(np.concatenate([green[rows, columns + 2] - here, green[rows + 2, columns] - here]))
            assert np.isclose(found[row, column], np.sqrt(steps).mean() ** 2, rtol=1e-4)


def test_a_label_is_blended_as_its_alpha_says() -> None:
    image, colours = noise(20, 30), noise(20, 30)[::-1].copy()
    alpha = np.random.default_rng(4).integers(0, 256, (20, 30), np.uint8)
    out = image.copy()
    mark_raster.blend_label(out, colours, alpha, 0, 0)
    share = alpha[..., None] / 255
    assert np.abs(out - (image * (1 - share) + colours * share)).max() <= 0.51
