"""The fit of a similarity transform between two sets of points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.face.head import rotation_matrix
from engines.face.procrustes import similarity

POINTS = np.random.default_rng(3).normal(size=(12, 3))
WEIGHTS = np.random.default_rng(4).uniform(0.1, 2, 12)

turns = st.tuples(*[st.floats(-1.8, 1.8)] * 3)


@given(turns, st.floats(0.01, 100), st.tuples(*[st.floats(-50, 50)] * 3))
def test_a_known_transform_is_found(turn: tuple[float, float, float], scale: float, origin: tuple[float, ...]) -> None:
    rotation = rotation_matrix(np.array(turn, np.float32)).astype(np.float64)
    target = scale * POINTS @ rotation.T + origin
    found, size, where = similarity(target, POINTS, WEIGHTS)
    np.testing.assert_allclose(found, rotation, atol=1e-6)
    assert size == pytest.approx(scale, rel=1e-5)
    np.testing.assert_allclose(where, origin, atol=1e-4 * (1 + scale))


@given(st.integers(0, 2**32 - 1))
def test_no_other_similarity_comes_closer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.normal(size=POINTS.shape)
    rotation, scale, origin = similarity(target, POINTS, WEIGHTS)

    def miss(turned: NDArray[np.float64], size: float, where: NDArray[np.float64]) -> float:
        return float((WEIGHTS[:, None] * (size * POINTS @ turned.T + where - target) ** 2).sum())

    best = miss(rotation, scale, origin)
    for _ in range(10):
        nudge = rotation_matrix(rng.normal(scale=0.1, size=3).astype(np.float32))
        assert miss(nudge @ rotation, scale, origin) >= best - 1e-9
        assert miss(rotation, scale * rng.uniform(0.9, 1.1), origin) >= best - 1e-9
        assert miss(rotation, scale, origin + rng.normal(scale=0.1, size=3)) >= best - 1e-9


@given(turns)
def test_the_rotation_of_a_mirrored_face_is_proper(turn: tuple[float, float, float]) -> None:
    flipped = POINTS @ rotation_matrix(np.array(turn, np.float32)).T * np.array([-1, 1, 1])
    rotation = similarity(flipped, POINTS, WEIGHTS)[0]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_coincident_points_give_finite_numbers() -> None:
    rotation, scale, origin = similarity(np.zeros((12, 3)), POINTS, WEIGHTS)
    assert np.isfinite(rotation).all()
    assert scale == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(origin, 0, atol=1e-9)
    rotation, scale, _ = similarity(POINTS, np.zeros((12, 3)), WEIGHTS)
    assert np.isfinite(rotation).all()
    assert np.isfinite(scale)
