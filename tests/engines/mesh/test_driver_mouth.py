"""The driver's mouth: what is copied of it, and how long it is shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.face.head import own_pose
from engines.mesh.driver_mouth import DriverMouth
from engines.types import FaceState, Image, Motion, Points
from tests.support.faces import at_pixels, inner_lips, make_motion, polygon_mask, shape_of, with_expression

SKIN, INSIDE = (200, 160, 140), (0, 250, 0)


@pytest.fixture(scope="module")
def speaking(driver_face: FaceState) -> Motion:
    """A driver with the mouth wide open."""
    return at(driver_face, (0, 0))


def at(face: FaceState, shift: tuple[float, float]) -> Motion:
    """Return an open mouth, with the face moved by this many pixels."""
    neutral = shape_of(face)
    expression = with_expression(neutral, jaw=0.45)
    pixels: Points = own_pose(face.pixels()).project(expression) + np.array([*shift, 0], np.float32)
    return make_motion(neutral, expression, face=at_pixels(pixels, size=face.size))


def driving(motion: Motion) -> Image:
    """Return an image of one colour, with another between the lips."""
    assert motion.face is not None
    width, height = motion.face.size
    picture = np.full((height, width, 3), SKIN, np.uint8)
    picture[polygon_mask(inner_lips(motion.face), motion.face.size, grow=2)] = INSIDE
    return picture


def lost(motion: Motion, presence: float = 1.0) -> Motion:
    return replace(motion, face=None, presence=presence)


def test_a_mouth_that_is_seen_is_shown_and_nothing_else_is_copied(speaking: Motion) -> None:
    seen, picture = DriverMouth(), driving(speaking)
    assert seen.update(speaking, picture) == 1
    assert (seen.inside == INSIDE).all()
    np.testing.assert_allclose(seen.skin, SKIN)


def test_a_face_that_is_lost_keeps_its_mouth_as_long_as_its_motion(speaking: Motion) -> None:
    seen, picture = DriverMouth(), driving(speaking)
    seen.update(speaking, picture)
    kept = seen.inside.copy()
    picture[:] = 255
    assert [seen.update(lost(speaking, presence), picture) for presence in (1.0, 0.7, 0.2)] == [1.0, 0.7, 0.2]
    np.testing.assert_array_equal(seen.inside, kept)


def test_a_driver_who_left_leaves_no_mouth(speaking: Motion) -> None:
    seen = DriverMouth()
    seen.update(speaking, driving(speaking))
    assert seen.update(lost(speaking, 0.0), None) == 0
    assert seen.update(lost(speaking, 1.0), None) == 0


def test_before_a_face_and_after_a_flip_there_is_none(speaking: Motion) -> None:
    seen = DriverMouth()
    assert seen.update(lost(speaking), driving(speaking)) == 0
    seen.update(speaking, driving(speaking))
    assert seen.update(replace(lost(speaking), flipped=True), None) == 0


def test_after_a_reset_nothing_is_shown(speaking: Motion) -> None:
    seen = DriverMouth()
    seen.update(speaking, driving(speaking))
    seen.reset()
    assert seen.update(lost(speaking), None) == 0


@given(st.integers(0, 400), st.sampled_from([(-1, 0), (1, 0), (0, -1), (0, 1)]))
def test_lips_that_leave_the_image_fade_without_a_jump(
    driver_face: FaceState, way: int, direction: tuple[int, int]
) -> None:
    seen = DriverMouth()
    shares = []
    for step in (way, way + 1):
        motion = at(driver_face, (direction[0] * step, direction[1] * step))
        shares.append(seen.update(motion, np.zeros((*driver_face.size[::-1], 3), np.uint8)))
        assert motion.face is not None
        lips, size = inner_lips(motion.face)[:, :2], np.array(driver_face.size)
        if (lips < 0).any() or (lips > size - 1).any():
            assert shares[-1] == 0
    assert abs(shares[1] - shares[0]) < 0.3
    assert shares[1] <= shares[0] or way < 200
