"""What lies beside a cheek that turns away, against the cheek: it may come closer, but not fold under it.

Where it folds, the samples of the warp jump from skin to hair, and the edge of the cheek becomes a row of steps.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.face.head import from_turn_angles
from engines.mesh.generator import MeshGenerator
from engines.mesh.surround import RAYS, RINGS, ring_triangles
from engines.types import Points
from realtime.portraits.portrait import PortraitPicture


@pytest.mark.parametrize("degrees", [0.0, -20.0, 20.0])
def test_no_ring_folds_under_the_far_cheek(portrait_picture: PortraitPicture, degrees: float) -> None:
    picture = portrait_picture
    features = MeshGenerator("painted").prepare(picture.name, picture.image, picture.face, picture.matte).features
    own, around = features.pose, features.surround
    turned = replace(own, rotation=from_turn_angles(np.radians([0, degrees, 0]).astype(np.float32)) @ own.rotation)
    placed = np.empty((RINGS * RAYS, 3), np.float32)
    changed = np.zeros((478, 3), np.float32)
    around.place(turned.project(features.rings), turned.project(features.near), changed, placed)
    triangles = ring_triangles()
    beyond = triangles[(triangles >= RAYS).all(axis=1)]

    def areas(points: Points) -> NDArray[np.float32]:
        a, b, c = (points[beyond[:, corner], :2] for corner in range(3))
        first, second = b - a, c - a
        return np.asarray(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0], np.float32)

    assert (areas(placed) * np.sign(areas(around.points)) < 0).sum() <= 2
    if degrees == 0:
        np.testing.assert_allclose(placed, around.points, atol=0.05)
