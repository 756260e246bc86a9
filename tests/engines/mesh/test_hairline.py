"""Hair over the outline of a face: it is found, the skin ends where it begins, and never at an eye."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.face.topology import ALL_EYE_CORNERS, OVAL
from engines.mesh.hairline import MAX_DEPTH, hair_depths
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


def skin_edge(image: Image, pixels: Points) -> Points:
    """Return the points of the outline, (36, 2), drawn back to where the skin ends."""
    oval = pixels[OVAL, :2]
    inwards = (oval[0] + oval[18]) / 2 - oval
    inwards /= np.linalg.norm(inwards, axis=1, keepdims=True)
    return np.asarray(oval + hair_depths(image, pixels)[:, None] * inwards, np.float32)


def index_of(*landmarks: int) -> list[int]:
    """Return where landmarks are in the outline."""
    return [int(np.flatnonzero(point == OVAL)[0]) for point in landmarks]


def test_a_face_without_hair_over_it_is_skin_to_its_outline(portrait_face: FaceState) -> None:
    assert not hair_depths(painted(portrait_face, 0), portrait_face.pixels()).any()


@pytest.mark.parametrize("side", [-1, 1])
def test_the_skin_ends_where_hair_begins(portrait_face: FaceState, side: int) -> None:
    pixels = portrait_face.pixels()
    image = painted(portrait_face, 0.03, side)
    edge = skin_edge(image, pixels)
    for point in index_of(*{-1: (234, 93, 132), 1: (454, 323, 361)}[side]):
        column, row = np.rint(edge[point]).astype(int)
        assert tuple(image[row, column]) == SKIN, point
    assert not hair_depths(image, pixels)[index_of(*{1: (234, 93), -1: (454, 323)}[side])].any()


def test_under_a_fringe_with_no_skin_in_reach_the_outline_is_the_edge(portrait_face: FaceState) -> None:
    pixels = portrait_face.pixels()
    assert not hair_depths(painted(portrait_face, 0.3), pixels)[index_of(234, 93)].any()


def test_the_default_portrait_has_hair_over_a_cheek(portrait_picture: PortraitPicture) -> None:
    pixels = portrait_picture.face.pixels()
    depths = hair_depths(portrait_picture.image, pixels) / across(pixels)
    assert depths[index_of(234, 454)].max() > 0.01


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(2, 60))
def test_in_any_image_the_eyes_are_skin_and_the_edge_is_near_the_outline(
    portrait_face: FaceState, seed: int, size: float
) -> None:
    rng = np.random.default_rng(seed)
    width, height = portrait_face.size
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    image: Image = cv2.GaussianBlur(noise, (0, 0), size)  # type: ignore[assignment]
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    pixels = portrait_face.pixels()
    depths = hair_depths(image, pixels)
    assert np.isfinite(depths).all()
    assert depths.min() >= 0
    assert depths.max() <= 1.05 * MAX_DEPTH * across(pixels)
    outline = np.ascontiguousarray(skin_edge(image, pixels))
    for corner in pixels[ALL_EYE_CORNERS, :2]:
        assert cv2.pointPolygonTest(outline, corner.tolist(), measureDist=False) > 0
