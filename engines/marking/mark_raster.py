"""The inner loops of the watermark and the label, compiled by numba. They release the GIL and allocate nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from engines.jit import compiled

BLOCK = 16
"""Side in pixels of the blocks that have one strength each."""
_STEP, _LAG = 4, 2
"""Distance of the samples that a block's activity is measured at, and of the pixels each is compared with."""


@compiled(fastmath=True)
def measure_activity(image: Any, roots: Any, activity: Any) -> None:
    """Measure how busy each block is: the mean root of differences, squared, so that a single edge counts little.

    image: (H, W, 3) uint8, of which green is read; roots: (256,) float32, the root of each difference;
    activity: (rows, columns) float32, written to.
    """
    height, width = image.shape[0] - _LAG, image.shape[1] - _LAG
    for i in range(activity.shape[0]):
        for j in range(activity.shape[1]):
            total, count = np.float32(0), np.float32(1e-6)
            for y in range(i * BLOCK, min((i + 1) * BLOCK, height), _STEP):
                for x in range(j * BLOCK, min((j + 1) * BLOCK, width), _STEP):
                    # of int() numba makes an unsigned number, whose differences are never below 0
                    here = np.int32(image[y, x, 1])
                    total += roots[abs(np.int32(image[y, x + _LAG, 1]) - here)]
                    total += roots[abs(np.int32(image[y + _LAG, x, 1]) - here)]
                    count += np.float32(2)
            activity[i, j] = (total / count) ** 2


@compiled()
def choose_levels(activity: Any, limits: Any, levels: Any) -> None:
    """Choose each block's strength by the activity around it, so that neighbours differ little.

    activity: (rows, columns) float32; limits: (L - 1,) float32, increasing, above each of which the next level begins;
    levels: (rows, columns) uint8, written to.
    """
    rows, columns = activity.shape
    for i in range(rows):
        for j in range(columns):
            total = np.float32(0)
            up, down = max(i - 1, 0), min(i + 1, rows - 1)
            left, right = max(j - 1, 0), min(j + 1, columns - 1)
            # weights of a Gaussian: 1 2 1
            total += activity[up, left] + 2 * activity[up, j] + activity[up, right]
            total += 2 * activity[i, left] + 4 * activity[i, j] + 2 * activity[i, right]
            total += activity[down, left] + 2 * activity[down, j] + activity[down, right]
            total *= np.float32(1 / 16)
            level = 0
            while level < limits.shape[0] and total > limits[level]:
                level += 1
            levels[i, j] = level


@compiled()
def add_pattern(image: Any, rising: Any, falling: Any, levels: Any, out: Any) -> None:
    """Write ``image`` with the pattern added to all its channels, held to 0 to 255.

    image, out: (H, W * 3) uint8, which do not overlap, so that many bytes are added at once; rising, falling:
    (L, side, (side + BLOCK) * 3) uint8, the tile at each strength where it adds and where it subtracts, continued by a
    block; levels: (rows, columns) uint8.
    """
    height, width = image.shape
    side = rising.shape[1]
    for y in range(height):
        row = y % side
        for j in range(levels.shape[1]):
            first = j * BLOCK
            start = first * 3
            length = min(BLOCK * 3, width - start)
            at = (first % side) * 3
            level = levels[y // BLOCK, j]
            up, down = rising[level, row, at : at + length], falling[level, row, at : at + length]
            source, target = image[y, start : start + length], out[y, start : start + length]
            for x in range(length):
                # of one byte each, so that many fit into a register
                value = source[x]
                more = np.uint8(value + up[x])
                more = np.uint8(255) if more < value else more
                less = np.uint8(more - down[x])
                target[x] = np.uint8(0) if less > more else less


@compiled()
def blend_label(out: Any, colours: Any, alpha: Any, left: int, top: int) -> None:
    """Blend a label into an image. out: (H, W, 3) uint8; colours: (h, w, 3) uint8; alpha: (h, w)."""
    for y in range(alpha.shape[0]):
        for x in range(alpha.shape[1]):
            share = np.int32(alpha[y, x])
            if share == 0:
                continue
            for c in range(3):
                under = np.int32(out[top + y, left + x, c])
                out[top + y, left + x, c] = under + ((np.int32(colours[y, x, c]) - under) * share + 127) // 255


def compile_all() -> None:
    """Compile every function here, or load it from numba's cache, so that the first frame does not wait for it."""
    image = np.zeros((BLOCK, BLOCK, 3), np.uint8)
    activity, levels = np.zeros((1, 1), np.float32), np.zeros((1, 1), np.uint8)
    measure_activity(image, np.zeros(256, np.float32), activity)
    choose_levels(activity, np.zeros(1, np.float32), levels)
    tiles = np.zeros((1, 64, (64 + BLOCK) * 3), np.uint8)
    flat = image.reshape(BLOCK, -1)
    add_pattern(flat, tiles, tiles, levels, flat.copy())
    blend_label(image, np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), 0, 0)
