"""The structural similarity, against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from tools.support.similarity import ssim_map


def test_it_is_1_for_the_same_picture_and_what_the_definition_says_for_flat_ones() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 50)).astype(np.float32)
    assert ssim_map(noise, noise) == pytest.approx(np.ones((40, 50)), abs=1e-5)
    # of flat pictures only the term of the means is left
    first, second = np.full((30, 30), 100, np.float32), np.full((30, 30), 150, np.float32)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    assert ssim_map(first, second) == pytest.approx(np.full((30, 30), expected), abs=1e-3)
