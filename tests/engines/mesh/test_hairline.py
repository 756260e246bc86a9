"""Hair over the outline of a face: it is found, fetched from skin, and never from an eye."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.face.topology import EYE_CORNERS, LOWER_LIDS, OVAL, UPPER_LIDS
from engines.mesh.hairline import MAX_SHIFT, hairline_shifts
from engines.types import FaceState, Image, Points
from realtime.portraits.portrait import PortraitPicture

SKIN, HAIR = (214, 170, 150), (45, 28, 22)


def painted(face: FaceState, hair: float, side: int = -1) -> Image:
    """Return skin with hair over one side of the face, of a depth in widths of the face."""
    width, height = face.size
    image: Image = np.full((height, width, 3), SKIN, np.uint8)
    oval = face.pixels()[OVAL, :2]
    across = float(np.ptp(oval[:, 0]))
    edge = round(float(oval[:, 0].min() + hair * across if side < 0 else oval[:, 0].max() - hair * across))
    if hair > 0 and side < 0:
        image[:, :edge] = HAIR
    elif hair > 0:
        image[:, edge:] = HAIR
    return image


def across(pixels: Points) -> float:
    return float(np.ptp(pixels[OVAL, 0]))


def test_a_face_without_hair_over_it_is_fetched_from_where_it_is(portrait_face: FaceState) -> None:
    assert not hairline_shifts(painted(portrait_face, 0), portrait_face.pixels()).any()


@pytest.mark.parametrize("side", [-1, 1])
def test_the_outline_under_hair_is_fetched_from_skin(portrait_face: FaceState, side: int) -> None:
    pixels = portrait_face.pixels()
    image = painted(portrait_face, 0.03, side)
    moved = pixels[:, :2] + hairline_shifts(image, pixels)
    cheek = {-1: (234, 93, 132), 1: (454, 323, 361)}[side]
    for point in cheek:
        column, row = np.rint(moved[point]).astype(int)
        assert tuple(image[row, column]) == SKIN, point
    far = {1: (234, 93), -1: (454, 323)}[side]
    np.testing.assert_array_equal(moved[list(far)], pixels[list(far), :2])


def test_a_fringe_with_no_skin_in_reach_is_left_as_it_is(portrait_face: FaceState) -> None:
    pixels = portrait_face.pixels()
    image = painted(portrait_face, 0.3)
    assert np.abs(hairline_shifts(image, pixels)[[234, 93]]).max() == 0


def test_the_default_portrait_has_hair_over_its_cheeks(portrait_picture: PortraitPicture) -> None:
    pixels = portrait_picture.face.pixels()
    moved = np.linalg.norm(hairline_shifts(portrait_picture.image, pixels), axis=1) / across(pixels)
    assert moved[[234, 454]].min() > 0.01
    assert moved.max() < 1.1 * MAX_SHIFT


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(2, 60))
def test_in_any_image_the_eyes_stay_and_no_point_moves_far(portrait_face: FaceState, seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    width, height = portrait_face.size
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    image: Image = cv2.GaussianBlur(noise, (0, 0), size)  # type: ignore[assignment]
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    pixels = portrait_face.pixels()
    moved = hairline_shifts(image, pixels)
    assert np.isfinite(moved).all()
    assert np.linalg.norm(moved, axis=1).max() <= 1.05 * MAX_SHIFT * across(pixels)
    eyes = np.concatenate([*EYE_CORNERS, *UPPER_LIDS, *LOWER_LIDS])
    assert np.abs(moved[eyes]).max() < 0.01 * across(pixels)
