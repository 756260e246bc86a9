"""The edge of a mouth's inside is as soft at the corners of a round mouth as in its middle."""

from __future__ import annotations

import numpy as np
import pytest

from engines.face.opening import CURVE
from engines.mesh.mouth_raster import draw_model, fill_opening

FEATHER = 4.0


@pytest.mark.parametrize(("kind", "allowed"), [("driver", 1.1), ("painted", 0.85)])
def test_the_sides_of_a_round_mouth_have_no_steps(kind: str, allowed: float) -> None:
    """The sides, which are in the shade, are as soft as the upper and the lower edge."""
    out, box = np.zeros((90, 90, 3), np.uint8), (0, 0, 90, 90)
    ends = np.array([15, 45, 75, 45], np.float32)
    lower = 30 * np.sqrt(np.clip(1 - np.linspace(-1, 1, CURVE) ** 2, 0, 1)).astype(np.float32)
    one, grain = np.ones(3, np.float32), np.zeros((1, 1), np.float32)
    if kind == "driver":
        inside = np.full((48, 128, 3), 250, np.uint8)
        flesh = np.array([1.4, 0.8, 0.8], np.float32)
        edges, span = np.repeat(np.array([[0], [1]], np.float32), 16, axis=1), np.array([0, 1], np.float32)
        fill_opening(
            out, box, ends, -lower, lower, inside, edges, span, one, one, 250.0, flesh, one, 1.0, grain, 1.0,
            FEATHER,
        )  # fmt: skip
    else:
        texture = np.zeros((2, 2, 4), np.uint8)
        maps, depths = np.zeros((3, 90, 90, 2), np.float32), np.full((3, 90, 90), 1e30, np.float32)
        draw_model(
            out, box, ends, -lower, lower, texture, maps, depths, 0.0, 1.0, one, 250.0, one, 1.0, grain, 1.0, FEATHER
        )
    light = out.astype(float).mean(axis=2)
    across, down = (float(np.abs(np.diff(light, axis=axis)).max()) for axis in (1, 0))
    assert across < allowed * down
